-- What nobody acts on: by path, by status, by kind. Each has a reason of its own,
-- so `mayday status` tells how much of each there is, and `mayday events --dropped`
-- shows the last of them.
local mayday = require "mayday"

-- the balancer's own questions: it has an alarm of its own
local health_checks = { ["/healthz"] = true, ["/ready"] = true }
-- our storage answers so when it is full, and pages by itself
local known = { [507] = true }

mayday.before_send(function(event, hint)
    local request = event.request or {}
    local response = event.contexts and event.contexts.response or {}
    local path = (request.url or ""):match("^%a+://[^/]+([^?]*)") or ""

    if health_checks[path] then
        return nil, "health check"
    end
    if known[response.status_code] then
        return nil, "known status"
    end
    if hint.kind == "limited" and path:sub(1, 8) == "/search/" then
        return nil, "limited search" -- that is what the limit is for
    end
    return event
end)

-- Failures that only a crawler or a monitor met are not worth waking anybody for.
-- They are dropped and counted under the reason "bot". Uptime checks stay: when
-- one of them fails, somebody is about to ask why.
local mayday, bots = require "mayday", require "mayday.bots"

mayday.before_send(function(event, hint)
    local headers = event.request and event.request.headers or {}

    if bots.is_bot(headers["User-Agent"], { except = { "monitor" } }) then
        return nil, "bot"
    end
    return event
end)

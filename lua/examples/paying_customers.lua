-- A failure that a paying customer met is worth a page: its level is raised, and
-- it is an issue of its own, so that it is not lost among those of free accounts.
-- The gateway tells the plan in a header.
local mayday = require "mayday"

local raised = { error = "fatal", warning = "error" }
local paying = { business = true, enterprise = true }

mayday.add_event_processor(function(event, hint)
    local headers = event.request and event.request.headers or {}
    local plan = (headers["X-Plan"] or ""):lower()

    if paying[plan] then
        event.level = raised[event.level] or event.level
        event.fingerprint = { "{{ default }}", "paying" }
        event.tags = event.tags or {}
        event.tags.plan = plan
    end
    return event
end)

-- Which customer was hit? Makes a tag of a header that the gateway sets, so
-- that issues can be searched by it.
local mayday = require "mayday"

mayday.add_event_processor(function(event, hint)
    local headers = event.request and event.request.headers
    local tenant = headers and headers["x-tenant"]

    if tenant then
        event.tags.tenant = tenant:sub(1, 200)
    end
    return event
end)

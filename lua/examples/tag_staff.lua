-- Did customers see it, or only us? Makes a tag of who was asking, by the user
-- (mayday_user email=...) or by the header that our VPN's gateway adds, so that
-- alerts can leave out what only colleagues met.
local mayday = require "mayday"

mayday.add_event_processor(function(event, hint)
    local headers = event.request and event.request.headers or {}
    local email = event.user and event.user.email or ""
    local staff = email:sub(-12) == "@example.com" or headers["X-Office"] ~= nil

    event.tags = event.tags or {}
    event.tags.visitor = staff and "staff" or "customer"
    return event
end)

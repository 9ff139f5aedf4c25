-- Nobody is woken by what we switched off ourselves. In a window, backends that
-- nobody can reach are no errors: the events still arrive, as "info" and tagged,
-- so that alert rules leave them alone and the history is whole. What else fails
-- in a window is as loud as ever. Times are those of the event, in UTC.
local mayday = require "mayday"

local daily = { { "02:00", "02:20" } } -- from, to
local once = { { "2026-12-05T22:00", "2026-12-06T01:00" } } -- the move to the new database
local switched_off = {
    upstream_refused = true,
    upstream_unreachable = true,
    upstream_connect_timeout = true,
    upstream_unavailable = true,
}

local function within(windows, time)
    for _, window in ipairs(windows) do
        if time >= window[1] and time < window[2] then
            return true
        end
    end
    return false
end

mayday.add_event_processor(function(event, hint)
    local time = event.timestamp or "" -- "2026-12-05T22:13:05.123456Z"

    if switched_off[hint.kind] and (within(daily, time:sub(12, 16)) or within(once, time)) then
        event.level = "info"
        event.tags = event.tags or {}
        event.tags.maintenance = "yes"
    end
    return event
end)

-- Failures that only a crawler met are not worth waking anybody for.
-- They are dropped and counted under the reason "bot".
local mayday = require "mayday"

local bots = { "bot", "crawler", "spider", "slurp" }

mayday.before_send(function(event, hint)
    local headers = event.request and event.request.headers or {}
    local agent = (headers["User-Agent"] or ""):lower()

    for _, bot in ipairs(bots) do
        if agent:find(bot, 1, true) then
            return nil, "bot"
        end
    end
    return event
end)

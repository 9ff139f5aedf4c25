-- Whatever fails in the checkout matters more: a level of its own, and issues
-- of its own beside those of the rest of the shop.
local mayday = require "mayday"

mayday.add_event_processor(function(event, hint)
    if (event.transaction or ""):find("/checkout/", 1, true) then
        event.level = "fatal"
        event.fingerprint = { "checkout", "{{ default }}" }
    end
    return event
end)

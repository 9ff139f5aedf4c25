-- Scanners ask for /wp-login.php and /.env wherever they go. What they break is
-- dropped and counted as "probe"; which kinds there are is in the debug log.
-- For a site that runs PHP say { php = true }: then WordPress is no probe.
local mayday, bots = require "mayday", require "mayday.bots"

mayday.add_event_processor(function(event, hint)
    local probe, why = bots.is_probe(event)

    if probe then
        mayday.log("debug", why .. ": " .. (event.transaction or ""))
        return nil, "probe"
    end
    return event
end)

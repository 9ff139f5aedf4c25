-- Errors that an application wrote to the server's log are grouped by what failed,
-- not by the page that happened to be asked for: every uncaught PDOException is one
-- issue, whichever route met the dead database.
local mayday = require "mayday"

mayday.add_event_processor(function(event, hint)
    for _, line in ipairs(hint.log_lines) do
        local exception = mayday.re.match(line.text, [[Uncaught (?<name>[\w\\]+)]])

        if exception then
            event.fingerprint = { "uncaught", exception.name }
            event.tags = event.tags or {}
            event.tags.exception = exception.name
            break
        end
    end
    return event
end)

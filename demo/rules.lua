-- Nobody wants to be woken by a scanner.
local mayday = require "mayday"

mayday.before_send(function(event, hint)
  local agent = event.request.headers["User-Agent"] or ""
  if agent:find("bot", 1, true) then
    return nil, "bot"
  end
  return event
end)

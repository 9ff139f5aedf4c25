local mayday = require "mayday"

mayday.before_send(function(event, hint)
  if event.request.headers["User-Agent"]:find("bot", 1, true) then
    return nil, "bot"
  end
  return event
end)

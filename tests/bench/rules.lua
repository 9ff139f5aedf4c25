local mayday, bots = require "mayday", require "mayday.bots"

mayday.before_send(function(event, hint)
  if bots.is_bot(event.request.headers["User-Agent"]) then
    return nil, "bot"
  end
  return event
end)

-- One failure, one issue: what the application has reported itself is left to it,
-- unless the visitor waited so long that the server's view is worth an issue, too.
-- The application says so in a header of its answer; the server makes it a tag:
--
--   nginx   mayday_tag app_event_id $upstream_http_x_sentry_event_id;
--   httpd   MaydayTag app_event_id "%{resp:X-Sentry-Event-Id}"
--
-- Without the exception, mayday_ignore does the same and costs less.
local mayday = require "mayday"

local slow_s = 10

mayday.before_send(function(event, hint)
    local reported = event.tags and event.tags.app_event_id

    -- of all other kinds the application knows nothing
    if reported and hint.kind == "upstream_response" and hint.duration < slow_s then
        return nil, "reported by the app"
    end
    return event
end)

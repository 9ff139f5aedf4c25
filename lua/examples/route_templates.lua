-- Which paths are one and the same, where Mayday cannot know: names instead of
-- numbers. Transactions then read "GET /users/{name}", and all users' failures
-- are one issue. The first that fits counts, so the special stands before the
-- general.
local routes = require "mayday.routes"

routes.template("/users/me", "/users/me/**")
routes.template("/users/{name}", "/users/{name}/posts/{title}")
routes.template("/reports/{month}.pdf")
routes.template("/assets/**")

-- Who is affected, and how many, without knowing who they are: addresses become
-- keyed hashes, the same for the same person on this host. Secrets are of no use
-- even as hashes and go first.
local mayday, pii = require "mayday", require "mayday.pii"

local people = { "email", "ip", "phone", "mac" }

mayday.before_send(function(event, hint)
    pii.scrub(event, { except = people })
    return pii.scrub(event, { only = people, mode = "hash" })
end)

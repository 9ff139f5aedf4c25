"""Rules in the agents of real servers: what they may do, and what they cannot."""
import json
import os
import shutil
import subprocess
import tempfile
import time

import pytest

from event_checks import check_event, header, tag
from servers import MAYDAY, SERVERS, wait_for

MODULE = 'local mayday = require "mayday"\n'

# Each is what x-case names; all end in a degraded event.
HARMFUL = {
    "loop": "while true do end",
    "pcall": "while true do pcall(error) end",
    "coroutine": "while true do coroutine.wrap(function() while true do end end)() end",
    "backtracking": "return event.request.headers['x-text']:match('.-.-.-.-;') and event",
    "regex": "return mayday.re.match(event.request.headers['x-text'] .. '!', '^(a+)+$') and event",
    "rep": "local s = ('x'):rep(2 ^ 30) return event",
    "recursion": "local function f() return 1 + f() end return f()",
    "growth": "local t = {} while true do t[#t + 1] = {} end",
    "boolean": "return true",
    "nothing": "",
    "cycle": "event.extra = {} event.extra.me = event.extra return event",
    "error_object": "error(setmetatable({}, {__tostring = function() while true do end end}))",
    "wrong_type": "event.tags = 'x' return event",
    "invalid_sort": "table.sort({3, 2, 1}, function() while true do end end)",
}


def harmful_rules():
    cases = "".join(f"cases.{name} = function(event)\n{body}\nend\n"
                    for name, body in HARMFUL.items())
    return f"""{MODULE}local cases = {{}}
{cases}
mayday.before_send(function(event, hint)
  local case = event.request.headers["X-Case"]
  if case then
    return cases[case](event)
  end
  event.tags.fine = "yes"
  return event
end)
"""


def start(server, up, rules, *options):
    server.rules(rules, *options)
    server.place("/shop/", upstream=up.dead.url)
    server.place("/ok/", upstream=up.by_path.url)
    server.start()
    server.wait_agent()


def program(server, name, text):
    """A program in the place of the agent's, for the servers' user to run."""
    file = server.directory / name
    file.write_text(text, encoding="utf-8")
    file.chmod(0o755)
    server.directive("agent", str(file))


def problems(server):
    return "\n".join(server.status()["problems"])


def test_harmful_rules_harm_nobody(server, up):
    start(server, up, harmful_rules())
    agent = server.agent_pid()
    for name in HARMFUL:
        began = time.monotonic()
        assert server.get(f"/shop/{name}", {"X-Case": name, "X-Text": "a" * 2000}).status >= 500
        assert server.get("/ok/200").status == 200
        assert server.get(f"/shop/after-{name}").status >= 500
        assert time.monotonic() - began < 5
    events = {e["transaction"].rsplit("/", 1)[1]: e for e in server.events(2 * len(HARMFUL), 30)}
    for name in HARMFUL:
        bad, good = events[name], events[f"after-{name}"]
        check_event(bad)
        assert tag(bad, "mayday.rule_error").startswith("rules.lua:"), (name, bad["tags"])
        assert bad["contexts"]["mayday"]["degraded"] is True
        assert header(bad, "X-Text") == [] and "extra" not in bad
        assert tag(good, "fine") == "yes" and tag(good, "mayday.rule_error") is None, name
    assert server.counts()["rule_errors"] == len(HARMFUL)
    assert server.agent_pid() == agent
    # file and line, of a failure that the log was not too busy to tell
    assert "rules.lua:" in server.error_log.read_text()


def test_status_tells_of_rules_that_fail(server, up):
    start(server, up, MODULE + "mayday.before_send(function(event)\n  return event.no.such\nend)\n")
    assert server.status()["healthy"]
    server.get("/shop/x")
    wait_for(lambda: "rules.lua:3:" in problems(server), 10, lambda: problems(server))
    assert "fail on every event" in problems(server)
    assert not server.status()["healthy"]
    assert server.cli("status").returncode == 1
    server.rules(MODULE + "mayday.before_send(function(event) return event end)\n")
    server.reload()
    wait_for(lambda: server.status()["healthy"], 10, lambda: problems(server))


def test_rules_that_hoard_are_loaded_anew(server, up):
    start(server, up, MODULE + """
local kept = {}
mayday.before_send(function(event)
  for i = 1, 60 do kept[#kept + 1] = ("x"):rep(1e5) .. #kept end
  event.tags.kept = #kept
  return event
end)
""")
    for n in range(12):
        server.get(f"/shop/{n}")
        server.events(n + 1)
    events = server.events(12)
    failed = [e for e in events if tag(e, "mayday.rule_error")]
    counts = server.counts()
    # on a busy machine a second restart may have to wait while some more fail
    assert 1 <= counts["rule_restarts"] <= len(failed) == counts["rule_errors"] < 12
    assert "MD0602" in server.error_log.read_text()


def test_observed_rules_harm_nobody_either(server, up):
    start(server, up, harmful_rules(), "mode=observe")
    for name in ("loop", "nothing", "growth"):
        server.get(f"/shop/{name}", {"X-Case": name})
    events = server.events(3)
    assert all(tag(e, "mayday.rule_error") is None and header(e, "X-Case") for e in events)
    wait_for(lambda: server.counts()["observed"].get("error") == 3, 5, server.counts)


def test_rules_that_do_not_load_leave_those_in_force_as_they_were(server, up):
    """Also their mode: what was only observed decides nothing because of a typing error."""
    start(server, up, MODULE + 'mayday.before_send(function() return nil, "all" end)', "mode=observe")
    server.get("/shop/a")
    server.events(1)
    server.rules("oops")
    server.reload()
    wait_for(lambda: "rules.lua:1:" in problems(server), 10, lambda: problems(server))
    server.get("/shop/b")
    assert server.events(2)[1]["transaction"].endswith("/shop/b")
    assert server.counts()["observed"] == {"before_send:all": 2}
    assert not server.counts().get("filtered")


def test_hmac_is_the_hash_of_mayday_user(server, up):
    server.directive("user", f"id=hash:{server.header('X-User')}")
    start(server, up, MODULE + """
mayday.before_send(function(event)
  event.tags.who = mayday.hmac(event.request.headers["X-Who"])
  return event
end)
""")
    server.get("/shop/x", {"X-User": "anna", "X-Who": "anna"})
    event = server.event()
    assert len(tag(event, "who")) == 32
    assert tag(event, "who") == event["user"]["id"]


def test_modules_beside_the_rules_file(server, up):
    module = server.directory / "shop" / "names.lua"
    module.parent.mkdir()
    module.write_text("return { known = 'as it was loaded' }\n", encoding="utf-8")
    start(server, up, MODULE + """
local names = require "shop.names"
mayday.before_send(function(event) event.tags.known = names.known return event end)
""")
    server.get("/shop/a")
    assert tag(server.event(), "known") == "as it was loaded"
    module.write_text("return oops\n", encoding="utf-8")
    server.reload()
    wait_for(lambda: "shop/names.lua:1: undeclared global 'oops'" in problems(server), 10,
             lambda: problems(server))
    server.get("/shop/b")
    assert tag(server.events(2)[1], "known") == "as it was loaded"


# What is told of a request, as far as both servers tell it.
TELLING = MODULE + r"""
local seen = 0
mayday.add_event_processor(function(event, hint)
  local request, about = event.request, event.contexts.mayday
  local parts = {}
  for part in pairs(event) do parts[#parts + 1] = part end
  table.sort(parts)
  local headers = {}
  for name in pairs(request.headers) do headers[#headers + 1] = name:lower() end
  table.sort(headers)
  seen = seen + 1
  event.extra = {
    seen = seen, parts = parts, headers = headers, none = mayday.array {},
    method = request.method, q = request.query_string.q, repeated = request.query_string.r,
    same = request.headers["X-TENANT"] == request.headers["x-tenant"],
    attempts = #hint.attempts, lines = #hint.log_lines > 0, kind = hint.kind == about.kind,
    duration = type(hint.duration), suppressed = hint.suppressed,
    number = mayday.re.match(request.url, [[/shop/(?<id>\d+)]]).id,
    route = mayday.re.gsub(request.url:match("^%w+://[^/]+(.*)$"), [[\d+]], "*"),
    upper = (("a-b"):gsub("%a", string.upper)),
  }
  event.tags.tenant = request.headers["x-tenant"]
  event.message = "for " .. event.tags.tenant
  event.dist, event.modules = "7", { shop = "1.2" }
  event.fingerprint = { "{{ tags.tenant }}", "{{ level }}", 5 }
  request.headers["x-tenant"] = nil
  request.headers["X-Added"] = "yes"
  return event
end)
mayday.before_send(function(event, hint)
  if event.request.headers["user-agent"]:find("bot", 1, true) then return nil, "bot" end
  if event.extra.number == "13" then error("unlucky") end
  return event
end)
"""


def told(name, up):
    """What the rules made of the same requests on that server."""
    directory = tempfile.mkdtemp(prefix="mayday-test-")
    server = SERVERS[name](directory)
    try:
        start(server, up, TELLING)
        # One after the other: those of several processes have no order.
        server.get("/shop/7?q=1&r=2&r=3", {"X-Tenant": "acme", "Accept": "*/*"})
        server.events(1)
        server.get("/shop/8", {"X-Tenant": "acme", "User-Agent": "somebot"})
        wait_for(lambda: server.counts()["filtered"], 5, server.counts)
        server.get("/shop/13", {"X-Tenant": "other"})
        server.events(2)
        server.get("/shop/9", {"X-Tenant": "other"})
        events = server.events(3)
        wanted = ("extra", "message", "dist", "modules", "fingerprint", "level", "transaction")
        issues = [json.loads(row)["issue"] for row in
                  server.cli("events", "--json").stdout.splitlines()]
        return {
            "events": [{part: e.get(part) for part in wanted} for e in events],
            "tags": [{key: tag(e, key) for key in ("tenant", "mayday.rule_error")} for e in events],
            "added": [(header(e, "X-Added"), header(e, "X-Tenant")) for e in events],
            "filtered": server.counts()["filtered"],
            "rule_errors": server.counts()["rule_errors"],
            "issues": len(set(issues)),
        }
    except AssertionError:
        print(server.logs())
        raise
    finally:
        server.stop()
        server.kill_all()
        shutil.rmtree(directory, ignore_errors=True)


def test_the_same_rules_do_the_same_on_every_server(up):
    results = {name: told(name, up) for name in SERVERS}
    first = results["nginx"]
    assert first["filtered"] == {"before_send:bot": 1}
    assert first["rule_errors"] == 1
    assert first["events"][0]["extra"]["repeated"] == "2, 3"
    assert first["events"][0]["extra"]["route"] == "/shop/*"
    assert first["tags"][1]["mayday.rule_error"].startswith("rules.lua:")
    for name, result in results.items():
        assert result == first, name


FAULTY_LIBRARY = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

int pcre2_match_8(const void *code, const unsigned char *subject, size_t len, size_t start,
                  uint32_t options, void *data, void *context)
{
    int (*next)(const void *, const unsigned char *, size_t, size_t, uint32_t, void *, void *) =
        dlsym(RTLD_NEXT, "pcre2_match_8");

    for (volatile unsigned n = 0; memmem(subject, len, "please-hang", 11) != NULL; n++) {
    }
    if (memmem(subject, len, "please-crash", 12) != NULL) {
        __builtin_trap();
    }
    return next(code, subject, len, start, options, data, context);
}
"""


@pytest.mark.parametrize("fault", ["hang", "crash"])
def test_an_event_that_ends_the_agent_does_so_once(server, up, fault):
    """With a library that hangs or crashes where Mayday's own never should."""
    source, library = server.directory / "faulty.c", server.directory / "faulty.so"
    source.write_text(FAULTY_LIBRARY, encoding="ascii")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    preload = f"{os.environ.get('MAYDAY_PRELOAD', '')} {library}".strip()
    program(server, "agent", f'#!/bin/sh\nLD_PRELOAD="{preload}" exec {MAYDAY} "$@"\n')
    start(server, up, MODULE + """
mayday.before_send(function(event)
  event.tags.looked = mayday.re.find(event.request.url, "shop") and "yes"
  return event
end)
""")
    first = server.agent_pid()
    server.get("/shop/before")
    server.events(1)
    server.get(f"/shop/please-{fault}")
    server.get("/shop/after")
    began = time.monotonic()
    while time.monotonic() - began < 3:  # traffic does not notice
        assert server.get("/ok/200").status == 200
        time.sleep(0.1)
    events = {e["transaction"].rsplit("/", 1)[1]: e for e in server.events(3, 30)}
    assert tag(events[f"please-{fault}"], "mayday.rule_error") == "the agent had to be ended"
    assert events[f"please-{fault}"]["contexts"]["mayday"]["degraded"] is True
    assert tag(events["before"], "looked") == tag(events["after"], "looked") == "yes"
    assert server.agent_pid() != first
    assert ("MD0604" in server.error_log.read_text()) == (fault == "hang")
    assert not (server.run_directory() / "rules.hung").exists()


DENIED = """#!/usr/bin/python3
import ctypes, mmap, os, sys
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(65, 1, 0, 0, 0) != 0:  # PR_SET_MDWE
    sys.exit(77)
try:
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    sys.exit(77)
except OSError:
    pass
if len(sys.argv) > 1:
    os.execv({program!r}, [{program!r}, *sys.argv[1:]])
"""


def test_an_agent_without_writable_and_executable_memory(server, up):
    program(server, "agent", DENIED.format(program=str(MAYDAY)))
    if subprocess.run([server.directory / "agent"], check=False).returncode != 0:
        pytest.skip("this kernel has no PR_SET_MDWE")
    start(server, up, harmful_rules().replace(
        'event.tags.fine = "yes"',
        'event.tags.fine = mayday.re.match(event.request.url, "shop(.)") and "yes"'))
    for name in ("loop", "regex", "backtracking", "growth"):
        server.get(f"/shop/{name}", {"X-Case": name, "X-Text": "a" * 2000})
        server.get(f"/shop/after-{name}")
    events = {e["transaction"].rsplit("/", 1)[1]: e for e in server.events(8, 20)}
    for name, event in events.items():
        if name.startswith("after-"):
            assert tag(event, "fine") == "yes", name
        else:
            assert tag(event, "mayday.rule_error").startswith("rules.lua:"), name

"""The directive table, walked on every server: each directive exists, refuses bad values with
file, line, found and expected, has its default, inherits and has an effect.

A new row in the table without a row here fails.
"""
import json
import re
import shutil
import subprocess

import pytest

from event_checks import header, tag
from servers import DIRECTIVES, MAYDAY, WORKER_USER, wait_for

# directive: (good words, [(bad words, what the message must name as expected)])
WORDS = {
    "enable": (["on"], [(["maybe"], "on or off")]),
    "dsn": (["https://0123456789abcdef0123456789abcdef@sentry.example.com/42"],
            [(["ftp://key@host/1"], "http"), (["https://sentry.example.com/42"], "key"),
             (["https://key@host"], "project"), (["env:NO_SUCH_VARIABLE_HERE"], "variable"),
             (["file:/no/such/file"], "file")]),
    "environment": (["staging"], []),
    "release": (["shop@1"], []),
    "failed_status": (["404", "500-599"], [(["60x"], "status"), (["599-500"], "range"),
                                           (["1000"], "status")]),
    "ignore": (["retried", "503"], [(["no_such_kind"], "kind"), (["none", "503"], "none")]),
    "user": (["id=fixed"], [(["id"], "="), (["uid=x"], "id=")]),
    "tag": (["tenant", "acme"], [(["a tag with spaces", "x"], "name"), (["x" * 33, "x"], "32")]),
    "transaction": (["cart"], []),
    "collect": (["headers", "off"], [(["headers", "perhaps"], "on"), (["feet", "on"], "headers"),
                                     (["request_body", "8k"], "headers")]),
    "trace_context": (["propagate"], [(["sometimes"], "extract")]),
    "directory": (None, [(["relative/path"], "absolute")]),
    "agent": (None, [(["perhaps"], "on")]),
    "rules_file": (None, [(["/no/such/rules.lua"], "file"),
                          (["/etc/hostname", "mode=loud"], "enforce")]),
    "lane_size": (["256k"], [(["12"], "64k"), (["1x"], "size"), (["1t"], "size")]),
    "queue_size": (["8m"], [(["many"], "size")]),
    "retention": (["2d"], [(["soon"], "time")]),
    "issue_rate": (["10/m", "burst=3"], [(["10/y"], "/m"), (["10/m", "bust=3"], "burst=")]),
    "send_rate": (["10/s"], [(["fast"], "/s")]),
    "proxy": (["off"], [(["not a url"], "http")]),
    "trusted_certificate": (["/etc/ssl/certs/ca-certificates.crt"], [(["/no/such/file"], "file")]),
    "shutdown_timeout": (["1s"], [(["-1"], "time")]),
    "server_name": (["web-1"], []),
    "socket": (["group=games", "mode=0660"], [(["/tmp/x.sock", "mode=99"], "mode"),
                                              (["mode=99"], "mode"), (["x.sock"], "absolute path"),
                                              (["mode=0660", "/tmp/x.sock"], "path first"),
                                              (["group=no-such-group-here"], "group")]),
    "debug": (["on"], [(["loud"], "on or off")]),
}


def test_the_table_is_covered():
    assert set(WORDS) == set(DIRECTIVES)


def config_line(server, name):
    """The line of the configuration on which the directive stands (the last one of it)."""
    spelled = DIRECTIVES[name][0 if server.name == "nginx" else 1]
    lines = server.conf.read_text(encoding="utf-8").splitlines()
    return max(n for n, line in enumerate(lines, 1) if re.match(rf"\s*{spelled}\s", line))


@pytest.mark.parametrize("name", WORDS)
def test_directive_is_accepted(server, name):
    good, _ = WORDS[name]
    if good is not None:
        server.directive(name, *good)
    done = server.test_conf()
    assert done.returncode == 0, done.stderr


BAD = [(name, bad, expected) for name, (_, rows) in WORDS.items() for bad, expected in rows]


@pytest.mark.parametrize("name,bad,expected", BAD, ids=[f"{n}-{'-'.join(b)[:30]}" for n, b, _ in BAD])
def test_bad_value_is_refused(server, name, bad, expected):
    """With the file, the line, what was found and what was expected; never with a key."""
    server.directive(name, *bad)
    done = server.test_conf()
    assert done.returncode != 0
    message = done.stderr
    spelled = DIRECTIVES[name][0 if server.name == "nginx" else 1]
    assert spelled in message
    assert str(server.conf) in message
    line = config_line(server, name)
    assert re.search(rf"(:{line}\b|line {line}\b)", message), (line, message)
    assert "expected" in message and expected in message.partition("expected")[2], message
    if name == "dsn":
        assert "key@" not in message


@pytest.mark.parametrize("name", [n for n, (_, _, scope) in DIRECTIVES.items()
                                  if scope == "INSTANCE"])
def test_instance_directive_is_refused_in_a_place(server, name):
    good, _ = WORDS[name]
    words = good or {"directory": ["/tmp/x"], "agent": ["on"], "rules_file": ["/etc/hostname"]}[name]
    server.instance = [d for d in server.instance if d[0] != name]
    server.place("/shop/", directives=[(name, *words)])
    done = server.test_conf()
    assert done.returncode != 0
    assert DIRECTIVES[name][0 if server.name == "nginx" else 1] in done.stderr
    assert str(config_line(server, name)) in done.stderr


@pytest.mark.only("httpd-event")
def test_nothing_is_allowed_in_htaccess(server):
    server.page(".htaccess", "Mayday Off\n")
    server.start()
    assert server.get("/index.html").status == 500
    assert "Mayday" in server.logs() and "not allowed" in server.logs()


def test_duplicates_are_refused(server):
    for name, words in (("release", ["a"]), ("debug", ["on"])):
        server.directive(name, *words)
        where = server.instance if DIRECTIVES[name][2] == "INSTANCE" else server.general
        where.append((name, *words))
        done = server.test_conf()
        assert done.returncode != 0 and "duplicate" in done.stderr, done.stderr
        server.without(name)


def failing(server, up):
    server.place("/outer/", upstream=up.dead.url)
    server.place("/inner/", upstream=up.dead.url)
    return server.places[-1]


def events_by_place(server):
    server.start()
    server.wait_agent()
    server.get("/outer/x?token=1&q=2", {"X-Other": "yes"})
    server.get("/inner/x?token=1&q=2", {"X-Other": "yes"})


def collected(server, count=2):
    return {e["request"]["url"].split("/")[3]: e for e in server.events(count)}


def test_values_are_inherited_and_overridden(server, up):
    """What a place does not say it takes from around it; what it says wins."""
    inner = failing(server, up)
    server.directive("environment", "outer-env")
    server.directive("release", "outer@1")
    server.directive("transaction", "outer-name")
    server.directive("tag", "where", "outer")
    server.directive("collect", "headers", "off")
    inner.directives += [("environment", "inner-env"), ("transaction", "inner-name"),
                         ("collect", "headers", "on")]
    events_by_place(server)
    events = collected(server)
    assert events["outer"]["environment"] == "outer-env"
    assert events["inner"]["environment"] == "inner-env"
    assert events["inner"]["release"] == events["outer"]["release"] == "outer@1"
    assert events["outer"]["transaction"] == "outer-name"
    assert events["inner"]["transaction"] == "inner-name"
    assert tag(events["inner"], "where") == tag(events["outer"], "where") == "outer"
    assert header(events["outer"], "X-Other") == []
    assert header(events["inner"], "X-Other") == ["yes"]


def test_lists_are_inherited_as_each_servers_users_expect(server, up):
    """nginx: a list replaces the inherited one; httpd: it adds to it and overrides by name."""
    inner = failing(server, up)
    server.directive("tag", "a", "outer")
    server.directive("tag", "b", "outer")
    inner.directives += [("tag", "b", "inner")]
    events_by_place(server)
    events = collected(server)
    assert (tag(events["outer"], "a"), tag(events["outer"], "b")) == ("outer", "outer")
    assert tag(events["inner"], "b") == "inner"
    assert tag(events["inner"], "a") == (None if server.name == "nginx" else "outer")


def test_a_place_can_be_switched_off(server, up):
    inner = failing(server, up)
    inner.directives += [("enable", "off")]
    events_by_place(server)
    assert set(collected(server, 1)) == {"outer"}


def test_a_place_can_be_switched_on_alone(server, up):
    inner = failing(server, up)
    server.without("enable")
    inner.directives += [("enable", "on")]
    events_by_place(server)
    assert set(collected(server, 1)) == {"inner"}


def test_a_place_can_have_a_dsn_of_its_own(server, up, bugsink):
    one, two = (bugsink.project(f"{name} {server.name}") for name in ("outer", "inner"))
    inner = failing(server, up)
    server.directive("dsn", one.dsn)
    inner.directives += [("dsn", two.dsn)]
    events_by_place(server)
    assert [e["request"]["url"].split("/")[3] for e in one.wait_events(1)] == ["outer"]
    assert [e["request"]["url"].split("/")[3] for e in two.wait_events(1)] == ["inner"]


def test_two_dsns_both_get_the_event(server, up, bugsink):
    one, two = (bugsink.project(f"{name} {server.name}") for name in ("first", "second"))
    failing(server, up)
    server.directive("dsn", one.dsn, two.dsn)
    server.start()
    server.get("/outer/x")
    assert one.wait_events(1)[0]["event_id"] == two.wait_events(1)[0]["event_id"]


def test_dsn_from_environment_and_file(server, up, project):
    failing(server, up)
    server.env["SHOP_DSN"] = project.dsn
    server.directive("dsn", "env:SHOP_DSN")
    server.start()
    server.get("/outer/x")
    project.wait_events(1)
    file = server.directory / "dsn"
    file.write_text(project.dsn + "\n")
    file.chmod(0o600)
    server.directive("dsn", f"file:{file}")
    server.reload()
    wait_for(lambda: server.get("/outer/y").status and len(project.events()) >= 2, 10)


def test_instance_settings_reach_the_agent(server, up):
    """server_name, retention, queue_size …: what was configured is what the agent runs by."""
    failing(server, up)
    server.directive("server_name", "web-7")
    sockets = server.directory / "sockets"
    sockets.mkdir()
    shutil.chown(sockets, WORKER_USER)
    server.directive("socket", str(sockets / "api.sock"), "mode=0600")
    server.start()
    wait_for((sockets / "api.sock").exists, 10, "the socket")
    assert (sockets / "api.sock").stat().st_mode & 0o777 == 0o600
    server.get("/outer/x")

    def event():
        done = subprocess.run(
            [MAYDAY, "--socket", str(sockets / "api.sock"), "events",
             "--json"], capture_output=True, text=True, check=False)
        return [json.loads(line) for line in done.stdout.splitlines()]
    wait_for(event, 10, "an event through the socket")

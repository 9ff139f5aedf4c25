"""The command: what a person on call types."""
import json
import os
import pwd
import re
import subprocess

import pytest

from servers import MAYDAY, wait_for


def failing(server, up, count=1):
    server.place("/shop/", upstream=up.dead.url)
    server.start()
    server.wait_agent()
    for n in range(count):
        server.get(f"/shop/cart{n}")
    server.events(count)


def test_help_of_everything():
    for words in ([], ["status"], ["tail"], ["events"], ["show"], ["send-event"], ["rules"],
                  ["purge"], ["agent"]):
        done = subprocess.run([MAYDAY, *words, "--help"], capture_output=True, text=True, check=False)
        assert done.returncode == 0, (words, done.stderr)
        assert "Example" in done.stdout or words == ["agent"], words
    assert subprocess.run([MAYDAY, "--version"], capture_output=True, text=True,
                          check=True).stdout.startswith("mayday ")
    wrong = subprocess.run([MAYDAY, "no-such-command"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 2 and "no-such-command" in wrong.stderr
    for words, said in ((["rules", "try"], "no rules try"), (["status", "--format"], "--format"),
                        (["status", "--what"], "no option --what"), (["agent"], "usage"),
                        (["events", "--kind", "what"], "upstream_refused, "),
                        (["rules", "test", "/none"], "mayday: /none: No such file")):
        wrong = subprocess.run([MAYDAY, *words], capture_output=True, text=True, check=False)
        assert wrong.returncode == (1 if "/none" in words else 2), words
        assert said in wrong.stderr, (words, wrong.stderr)
    told = subprocess.run([MAYDAY, "help"], capture_output=True, text=True, check=True).stdout
    assert "rules test|check FILE" in told


def test_status_text_json_prometheus(server, up):
    failing(server, up, 3)
    text = server.cli("status")
    assert text.returncode == 0
    assert "upstream_refused" in text.stdout and "\x1b" not in text.stdout
    status = server.status()
    assert status["healthy"] is True
    assert status["counts"]["captured"] == {"upstream_refused": 3}
    prometheus = server.cli("status", "--format=prometheus").stdout
    rows = dict(re.findall(r'^(mayday_[a-z_]+(?:\{[^}]*\})?) (\S+)$', prometheus, re.M))
    assert any("upstream_refused" in k and v == "3" for k, v in rows.items()), prometheus
    assert re.search(r"^# TYPE mayday_\w+ counter$", prometheus, re.M)


def test_status_without_an_agent():
    done = subprocess.run([MAYDAY, "--directory", "/no/such/directory", "status"],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.strip()


def test_degraded_when_the_receiver_is_dead(server, up):
    server.directive("dsn", f"http://{'a' * 32}@{up.dead.peer}/1")
    failing(server, up)
    wait_for(lambda: server.cli("status").returncode == 1, 10, lambda: server.cli("status").stdout)
    text = server.cli("status").stdout
    assert up.dead.peer in text and "refused" in text
    assert "a" * 32 not in text + server.cli("status", "--format=json").stdout
    assert "a" * 32 not in server.error_log.read_text(errors="replace")


def test_events_show_and_prefix(server, up):
    failing(server, up, 2)
    listing = server.cli("events").stdout
    assert len(listing.strip().splitlines()) >= 2
    rows = [json.loads(line) for line in server.cli("events", "--json").stdout.splitlines()]
    shown = server.cli("show", rows[0]["event_id"][:8])
    assert shown.returncode == 0
    assert "UpstreamRefused" in shown.stdout and up.dead.peer in shown.stdout
    assert server.cli("show", "ffffffff").returncode == 1
    assert server.cli("show").returncode == 2
    one = server.cli("events", "--json", "--limit", "1").stdout.splitlines()
    assert len(one) == 1
    assert server.cli("events", "--json", "--kind", "retried").stdout == ""


def test_tail_is_live(server, up):
    failing(server, up)
    tail = subprocess.Popen([MAYDAY, "--directory", str(server.state), "tail", "--json"],
                            stdout=subprocess.PIPE)
    try:
        wait_for(lambda: server.get("/shop/live").status, 5)
        os.set_blocking(tail.stdout.fileno(), False)
        seen = b""

        def arrived():
            nonlocal seen
            server.get("/shop/live")
            seen += tail.stdout.read() or b""
            return seen.count(b"\n") >= 2
        wait_for(arrived, 10, lambda: f"lines of tail: {seen!r}", interval=0.3)
        assert all(json.loads(line)["kind"] == "upstream_refused" for line in seen.splitlines()[:2])
    finally:
        tail.terminate()
        tail.wait()


def test_send_event_proves_the_way(server, up, project):
    server.directive("dsn", project.dsn)
    server.start()
    server.wait_agent()
    done = server.cli("send-event")
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(project.wait_events(1)) == 1


def test_send_event_says_what_is_wrong(server, up, project):
    server.start()
    server.wait_agent()
    key = "0" * 32
    for dsn, words in ((f"http://{key}@{up.dead.peer}/1", "refused"),
                       (f"http://{key}@no-such-host.invalid/1", "no-such-host.invalid"),
                       (re.sub("//[0-9a-f]+@", f"//{key}@", project.dsn), "40"),
                       (f"https://{key}@{up.ok.peer}/1", "TLS"),
                       ("nonsense", "DSN")):
        done = server.cli("send-event", dsn)
        assert done.returncode != 0
        assert words in done.stderr + done.stdout, (dsn, done.stdout, done.stderr)
        assert key not in done.stderr + done.stdout


def test_purge(server, up):
    failing(server, up, 3)
    done = server.cli("purge", "--all", "--yes")
    assert done.returncode == 0, done.stderr
    assert "3" in done.stdout
    assert server.events() == []
    assert b"/shop/cart1" not in b"".join(f.read_bytes() for f in server.state.iterdir())


def test_terminal_output_is_escaped(server, up):
    server.place("/shop/", upstream=up.dead.url)
    server.start()
    server.wait_agent()
    escape = "\x1b[2J" if server.name == "nginx" else ""  # httpd refuses it in a header
    server.get("/shop/x", {"User-Agent": f"evil{escape}\x9b31m\xc2\x9b31m",
                           "X-Bidi": "a\u202eb".encode().decode("latin-1")})
    server.event()
    for words in (("events",), ("show", json.loads(server.cli("events", "--json").stdout)["event_id"])):
        out = subprocess.run([MAYDAY, "--directory", str(server.state), *words],
                             capture_output=True, check=True).stdout
        assert b"\x1b" not in out and b"\xc2\x9b" not in out and "\u202e".encode() not in out


def test_socket_is_for_its_group(server, up):
    if os.getuid() != 0:
        pytest.skip("needs root to become another user")
    server.directive("socket", "group=games", "mode=0660")
    server.place("/shop/", upstream=up.dead.url)
    server.start()
    server.wait_agent()
    words = [str(MAYDAY), "--directory", str(server.state), "status"]
    uid = pwd.getpwnam("nobody").pw_uid
    outside = subprocess.run(words, user=uid, group=65534, extra_groups=[], capture_output=True,
                             text=True, check=False)
    assert outside.returncode == 2 and "games" in outside.stderr, outside.stderr
    inside = subprocess.run(words, user=uid, group="games", extra_groups=[], capture_output=True,
                            text=True, check=False)
    assert inside.returncode == 0, inside.stderr

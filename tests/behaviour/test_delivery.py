"""On the way to the receiver: what goes over the wire, and receivers that misbehave."""
import subprocess
import time

import pytest

from receiver import KEY, Receiver
from servers import wait_for


@pytest.fixture
def receiver():
    instance = Receiver()
    yield instance
    instance.stop()


def failing(server, up, *dsns):
    server.directive("dsn", *dsns)
    server.directive("issue_rate", "off")
    server.place("/shop/", upstream=up.dead.url)
    server.start()
    server.wait_agent()


def arrived(receiver, count, seconds=15):
    wait_for(lambda: len(receiver.items("event")) >= count, seconds,
             lambda: f"{count} events: {len(receiver.items('event'))} arrived")
    return receiver.items("event")


def test_the_wire(server, up, receiver):
    failing(server, up, receiver.dsn)
    server.get("/shop/x")
    event = arrived(receiver, 1)[0]
    record = receiver.records()[0]
    headers = {k.lower(): v for k, v in record["headers"].items()}
    assert record["path"] == "/api/42/envelope/"
    assert headers["content-type"] == "application/x-sentry-envelope"
    assert headers["content-encoding"] == "gzip"
    client = f"mayday.{server.name.partition('-')[0]}/"
    assert f"sentry_key={KEY}" in headers["x-sentry-auth"]
    assert f"sentry_client={client}" in headers["x-sentry-auth"]
    assert "sentry_version=7" in headers["x-sentry-auth"]
    envelope = record["envelope"]
    assert envelope["header"]["event_id"] == event["event_id"]
    assert envelope["header"]["sent_at"].endswith("Z")
    assert envelope["header"]["trace"]["trace_id"] == event["contexts"]["trace"]["trace_id"]
    assert envelope["header"]["trace"]["public_key"] == KEY
    assert [item["header"]["type"] for item in envelope["items"]] == ["event"]


def test_a_connection_is_kept(server, up, receiver):
    failing(server, up, receiver.dsn)
    for n in range(5):
        server.get("/shop/x")
        arrived(receiver, n + 1)
    assert len({record["connection"] for record in receiver.records()}) == 1


def test_a_slow_receiver_does_not_hold_up_another(server, up, receiver):
    slow = Receiver()
    try:
        slow.control({"times": 0, "stall": 20})
        failing(server, up, slow.dsn, receiver.dsn)
        started = time.monotonic()
        for _ in range(30):
            server.get("/shop/x")
        arrived(receiver, 30)
        assert time.monotonic() - started < 5
    finally:
        slow.stop()


def test_a_limited_receiver_does_not_hold_up_another(server, up, receiver):
    limited = Receiver()
    try:
        limited.control({"times": 0, "status": 429, "headers": {"Retry-After": "30"}})
        failing(server, up, limited.dsn, receiver.dsn)
        for _ in range(20):
            server.get("/shop/x")
        arrived(receiver, 20)
        assert 1 <= len(limited.records()) <= 16  # what was in flight when the limit came
        status = server.status()
        target = [d for d in status["delivery"] if str(limited.port) in d["dsn"]][0]
        assert target["limited_until_us"] > time.time() * 1e6
        assert target["queued"] >= 4
    finally:
        limited.stop()


def test_limits_are_obeyed_and_end(server, up, receiver):
    receiver.control({"times": 1, "status": 200,
                      "headers": {"X-Sentry-Rate-Limits": "2:error:organization"}})
    failing(server, up, receiver.dsn)
    server.get("/shop/x")
    arrived(receiver, 1)
    limited = time.monotonic()
    server.get("/shop/y")
    arrived(receiver, 2)
    assert time.monotonic() - limited > 1.5


def test_away_and_back_everything_arrives_in_order(server, up):
    receiver = Receiver()
    port = receiver.port
    try:
        failing(server, up, receiver.dsn)
        server.get("/shop/n0")
        arrived(receiver, 1)
        receiver.stop()
        server.get("/shop/n1")  # alone, for what several processes saw in one moment has no order
        wait_for(lambda: server.status()["queue"]["events"] == 1, 10, lambda: server.status()["queue"])
        for n in range(2, 11):
            server.get(f"/shop/n{n}")
        wait_for(lambda: server.status()["queue"]["events"] == 10, 10, lambda: server.status()["queue"])
        assert server.cli("status").returncode == 1
        receiver = Receiver("--port", str(port))
        events = arrived(receiver, 10, 40)
        order = [int(e["request"]["url"].rsplit("n", 1)[1]) for e in events]
        assert sorted(order) == list(range(1, 11))
        assert order[0] == 1
        wait_for(lambda: server.cli("status").returncode == 0, 10)
    finally:
        receiver.stop()


@pytest.mark.parametrize("status", [400, 403, 413, 500])
def test_what_a_receiver_refuses_is_given_up_and_counted(server, up, receiver, status):
    receiver.control({"times": 1, "status": status})
    failing(server, up, receiver.dsn)
    server.get("/shop/x")
    wait_for(lambda: server.counts()["dropped"] == {"send_error": 1}, 10, lambda: server.counts())
    server.get("/shop/y")
    assert len(arrived(receiver, 1)) == 1
    assert str(status) in server.cli("status").stdout


def test_client_reports_tell_what_was_not_sent(server, up, receiver):
    """At the latest when the server stops."""
    server.rules("""
local mayday = require "mayday"
mayday.before_send(function(event, hint)
  if event.request.headers["X-Bot"] then return nil, "bot" end
  return event
end)
""")
    failing(server, up, receiver.dsn)
    server.get("/shop/x")
    for _ in range(4):
        server.get("/shop/x", {"X-Bot": "yes"})
    arrived(receiver, 1)
    wait_for(lambda: server.counts()["filtered"] == {"before_send:bot": 4}, 5)
    server.stop()
    rows = [row for report in receiver.items("client_report") for row in report["discarded_events"]]
    assert [(r["reason"], r["category"], r["quantity"]) for r in rows] == [("before_send", "error", 4)]


def test_send_rate(server, up, receiver):
    server.directive("send_rate", "5/s", "burst=5")
    failing(server, up, receiver.dsn)
    started = time.monotonic()
    for _ in range(15):
        server.get("/shop/x")
    arrived(receiver, 15)
    assert 1.5 < time.monotonic() - started < 6


def test_tls_is_verified(server, up, tmp_path):
    pem, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
                    "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
                    "-keyout", key, "-out", pem], check=True, capture_output=True)
    tmp_path.chmod(0o755)
    receiver = Receiver("--certificate", str(pem), "--key", str(key))
    try:
        failing(server, up, receiver.dsn)
        server.get("/shop/x")
        wait_for(lambda: "certificate" in server.cli("status").stdout, 10,
                 lambda: server.cli("status").stdout)
        assert receiver.records() == []
        trusted = server.directory / "ca.pem"
        trusted.write_bytes(pem.read_bytes())
        server.directive("trusted_certificate", str(trusted))
        server.reload()
        arrived(receiver, 1, 30)
    finally:
        receiver.stop()

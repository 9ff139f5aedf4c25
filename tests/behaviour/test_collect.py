"""What stands in an event, and what must never."""
import socket
import time

import pytest

from event_checks import check_event, header, tag, texts
from servers import wait_for

SECRET = "hunter2-must-not-be-seen"


def failing(server, up, directives=()):
    server.place("/shop/", upstream=up.dead.url, directives=directives)
    server.start()
    server.wait_agent()


def raw_bytes(server):
    """Everything Mayday has put on disk or into shared memory."""
    data = b""
    for base in (server.state, server.run_directory()):
        for file in base.iterdir():
            if file.is_file() and not file.name.startswith("settings-"):
                data += file.read_bytes()
    return data


def test_secrets_are_replaced_before_the_lane(server, up):
    failing(server, up)
    server.get(f"/shop/x?password={SECRET}&q=shoes&api_key={SECRET}", {
        "Authorization": f"Bearer {SECRET}", "Cookie": f"sessionid={SECRET}; theme=dark",
        "X-Api-Key": SECRET, "X-Plain": "visible", "X-Forwarded-For": "203.0.113.9",
        "Referer": f"https://shop.test/login?token={SECRET}&page=2"})
    event = server.event()
    check_event(event)
    assert SECRET not in "\n".join(texts(event))
    assert "203.0.113.9" not in "\n".join(texts(event))
    assert header(event, "Authorization") == ["[Filtered]"]
    assert header(event, "X-Plain") == ["visible"]
    assert header(event, "Cookie") in ([], ["[Filtered]"])
    assert "page=2" in header(event, "Referer")[0]
    assert "user" not in event or not event["user"].get("ip_address")
    assert SECRET.encode() not in raw_bytes(server)


def test_user_info_and_cookies_on_request(server, up):
    server.directive("collect", "user_info", "on")
    server.directive("collect", "cookies", "on")
    failing(server, up)
    server.get("/shop/x", {"Cookie": f"theme=dark; sessionid={SECRET}"})
    event = server.event()
    assert event["user"]["ip_address"] == "127.0.0.1"
    cookies = event["request"]["cookies"]
    assert ["theme", "dark"] in cookies
    assert ["sessionid", "[Filtered]"] in cookies
    assert SECRET.encode() not in raw_bytes(server)


def test_collect_deny_and_plain(server, up):
    server.directive("collect", "headers", "deny=tenant", "plain=x-key-id")
    failing(server, up)
    server.get("/shop/x", {"X-Tenant": "acme", "X-Key-Id": "17", "X-Other": "yes"})
    event = server.event()
    assert header(event, "X-Tenant") == ["[Filtered]"]
    assert header(event, "X-Key-Id") == ["17"]
    assert header(event, "X-Other") == ["yes"]


def test_headers_and_query_off(server, up):
    server.directive("collect", "headers", "off")
    server.directive("collect", "query", "off")
    failing(server, up)
    server.get("/shop/x?q=1", {"X-Other": "yes"})
    event = server.event()
    assert header(event, "X-Other") == []
    assert not event["request"].get("query_string")


def test_user_tags_release_and_environment(server, up):
    server.directive("user", f"id={server.header('X-User')}",
                     f"email=hash:{server.header('X-Mail')}")
    server.directive("tag", "tenant", server.header("X-Tenant"))
    server.directive("release", "shop@1.4.2")
    server.directive("environment", server.header("X-Env"))
    failing(server, up)
    server.get("/shop/x", {"X-User": "42", "X-Mail": "jane@example.com", "X-Tenant": "acme",
                           "X-Env": "staging"})
    event = server.event()
    assert event["user"]["id"] == "42"
    assert event["user"]["email"] and "jane" not in event["user"]["email"]
    assert tag(event, "tenant") == "acme"
    assert event["release"] == "shop@1.4.2"
    assert event["environment"] == "staging"


def test_defaults_from_the_starting_shell(server, up):
    server.env.update(SENTRY_RELEASE="shop@2.0", SENTRY_ENVIRONMENT="canary")
    failing(server, up)
    server.get("/shop/x")
    event = server.event()
    assert event["release"] == "shop@2.0"
    assert event["environment"] == "canary"


def test_transaction_by_expression(server, up):
    server.directive("transaction", server.header("X-Route"))
    failing(server, up)
    server.get("/shop/x", {"X-Route": "cart.show"})
    event = server.event()
    assert event["transaction"] == "cart.show"
    assert event["transaction_info"]["source"] == "custom"


def test_incoming_trace_is_continued(server, up):
    failing(server, up)
    server.get("/shop/x", {"sentry-trace": "771a43a4192642f0b136d5159a501700-1234567890abcdef-1",
                           "baggage": "other=1,sentry-trace_id=771a43a4192642f0b136d5159a501700,"
                                      "sentry-release=web%401"})
    trace = server.event()["contexts"]["trace"]
    assert trace["trace_id"] == "771a43a4192642f0b136d5159a501700"
    assert trace["parent_span_id"] == "1234567890abcdef"
    assert len(trace["span_id"]) == 16 and trace["span_id"] != "1234567890abcdef"


def test_traceparent_is_continued(server, up):
    failing(server, up)
    server.get("/shop/x", {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"})
    trace = server.event()["contexts"]["trace"]
    assert trace["trace_id"] == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert trace["parent_span_id"] == "00f067aa0ba902b7"


@pytest.mark.parametrize("mode", ["inject", "propagate", "extract"])
def test_trace_given_to_the_upstream(server, up, mode):
    server.directive("trace_context", mode)
    server.place("/shop/", upstream=up.error500.url)
    server.start()
    theirs = "771a43a4192642f0b136d5159a501700"
    server.get("/shop/x", {"sentry-trace": f"{theirs}-1234567890abcdef-1"})
    event = server.event()
    trace = event["contexts"]["trace"]
    sent = [line.split(b":", 1)[1].strip().decode() for line in up.error500.requests[0].split(b"\r\n")
            if line.lower().startswith(b"sentry-trace:")]
    assert len(sent) == 1
    if mode == "extract":
        assert sent == [f"{theirs}-1234567890abcdef-1"]
    else:
        assert sent[0].startswith(f"{trace['trace_id']}-{trace['span_id']}")
        assert (trace["trace_id"] == theirs) is (mode == "propagate")


@pytest.mark.parametrize("mode", ["inject", "propagate", "extract"])
def test_trace_id_by_expression(server, up, mode):
    """In every mode; the caller's span stays the parent where the caller is listened to."""
    server.directive("trace_context", mode, "id=" + server.header("X-Trace"))
    failing(server, up)
    theirs, ours = "771a43a4192642f0b136d5159a501700", "4bf92f3577b34da6a3ce929d0e0e4736"
    caller = {"sentry-trace": f"{theirs}-1234567890abcdef-1"}
    server.get("/shop/a", {"X-Trace": ours, **caller})
    server.get("/shop/b", {"X-Trace": "4bf92f35-77b3-4da6-a3ce-929d0e0e4736", **caller})
    traces = {e["request"]["url"][-1]: e["contexts"]["trace"] for e in server.events(2)}
    first, second = traces["a"], traces["b"]
    assert first["trace_id"] == ours
    assert second["trace_id"] != ours  # 32 digits, nothing else
    assert (second["trace_id"] == theirs) is (mode != "inject")
    parent = None if mode == "inject" else "1234567890abcdef"
    assert first.get("parent_span_id") == second.get("parent_span_id") == parent


def test_event_id_on_the_error_page(server, up):
    if server.name == "nginx":
        server.raw_server += "error_page 502 503 @sorry;\n"
        server.place("@sorry", raw='default_type text/plain; return 502 "id $mayday_event_id";')
    else:
        server.page("sorry.shtml", 'id <!--#echo var="MAYDAY_EVENT_ID" -->')
        server.raw_server += ("ErrorDocument 503 /sorry.shtml\nAddType text/html .shtml\n"
                              "<Directory />\nOptions +Includes\n</Directory>\n"
                              "AddOutputFilter INCLUDES .shtml\n")
    server.place("/shop/", upstream=up.dead.url)
    server.start()
    body = server.get("/shop/x").body.decode()
    event = server.event()
    assert event["event_id"] in body


def test_event_id_in_the_access_log(server, up):
    log = server.directory / "ids.log"
    if server.name == "nginx":
        server.raw_main += "log_format ids $mayday_event_id;\n"
        server.raw_server += f"access_log {log} ids;\n"
    else:
        server.raw_main += f"LogFormat %^ME ids\nCustomLog {log} ids\n"
    failing(server, up)
    server.get("/shop/x")
    event = server.event()
    wait_for(lambda: event["event_id"] in log.read_text(), 5, log.read_text)


def test_ignore_with_a_condition(server, up):
    server.directive("ignore", "upstream_response", f"if={server.upstream_header('X-Sentry-Event-Id')}"
                     if server.name == "nginx" else
                     "if=%{resp:X-Sentry-Event-Id} != ''")
    server.place("/told/", upstream=up.reported500.url)
    server.place("/untold/", upstream=up.error500.url)
    server.start()
    server.wait_agent()
    assert server.get("/told/x").status == 500
    assert server.get("/untold/x").status == 500
    event = server.event()
    assert event["request"]["url"].endswith("/untold/x")
    wait_for(lambda: server.counts()["ignored"] == {"upstream_response": 1}, 5,
             lambda: server.counts())


def test_hostile_bytes_arrive_harmless(server, up):
    failing(server, up)
    server.get("/shop/%ff%1b[31m/x", {"X-Bytes": "a\xff\x80b", "X-Long": "y" * 6000})
    event = server.event()
    check_event(event)
    values = header(event, "X-Long")
    assert values and len(values[0]) < 6000


def test_headers_however_they_are_written(server, up):
    failing(server, up)
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as sock:
        sock.sendall(b"GET /shop/x HTTP/1.1\r\nHost:shop.test\r\naccept:text/html\r\n"
                     b"USER-AGENT:    four spaces  \r\nX-Empty:\r\nTE: trailers\r\nX: y\r\n"
                     b"Accept-Language: de\r\nAccept-Language: en\r\n"
                     b"Authorization:" + SECRET.encode() + b"\r\n"
                     b"X-A-Name-That-Is-Longer-Than-Any-Usual-One: still\r\nConnection: close\r\n\r\n")
        while sock.recv(65536):
            pass
    event = server.event()
    check_event(event)
    names = {"Host": "shop.test", "accept": "text/html", "USER-AGENT": "four spaces", "X-Empty": "",
             "TE": "trailers", "X": "y", "Accept-Language": "de, en", "Authorization": "[Filtered]",
             "X-A-Name-That-Is-Longer-Than-Any-Usual-One": "still", "Connection": "close"}
    assert {name: ", ".join(header(event, name)) for name in names} == names
    assert {name for name, _ in event["request"]["headers"]} == set(names)
    assert SECRET.encode() not in raw_bytes(server)


def test_failed_status_widens_what_is_captured(server, up):
    server.directive("failed_status", "404", "500-599")
    server.place("/ok/", upstream=up.by_path.url)
    server.start()
    server.wait_agent()
    assert server.get("/ok/status/404").status == 404
    assert server.get("/ok/status/403").status == 403
    event = server.event()
    assert tag(event, "http.status_code") == "404"


def test_rules_drop_change_and_fail_safely(server, up):
    server.rules("""
local mayday = require "mayday"
mayday.add_event_processor(function(event, hint)
  event.tags.tenant = event.request.headers["x-tenant"]
  return event
end)
mayday.before_send(function(event, hint)
  local agent = event.request.headers["User-Agent"]
  if agent == "EvilBot/1.0" then return nil, "bot" end
  if agent == "Forgetful/1.0" then return end
  return event
end)
""")
    failing(server, up)
    server.get("/shop/x", {"X-Tenant": "acme", "User-Agent": "Mozilla"})
    server.get("/shop/x", {"User-Agent": "EvilBot/1.0"})
    server.get("/shop/x", {"User-Agent": "Forgetful/1.0", "X-Private": "jane@example.com"})
    events = server.events(2)
    time.sleep(0.3)
    # Those of two processes have no order.
    events = sorted(server.events(2), key=lambda event: tag(event, "mayday.rule_error") or "")
    assert len(events) == 2
    assert tag(events[0], "tenant") == "acme"
    assert "rules.lua" in tag(events[1], "mayday.rule_error")
    assert "jane@example.com" not in "\n".join(texts(events[1]))
    assert server.counts()["filtered"] == {"before_send:bot": 1}


def test_issue_rate_counts_the_rest_exactly(server, up):
    server.directive("issue_rate", "5/m", "burst=5")
    failing(server, up)
    for _ in range(50):
        server.get("/shop/x")
    wait_for(lambda: sum(server.counts()["captured"].values()) == 50, 10)
    counts = server.counts()
    assert len(server.events()) == 5
    assert sum(counts["suppressed"].values()) == 45

"""Every kind of failure arrives at a real Sentry-compatible server as what it is."""
import re

import pytest

from event_checks import check_event, tag, title

# kind: (upstream, status per server family, words of the title)
UPSTREAM_KINDS = {
    "upstream_refused": ("dead", {"nginx": 502, "httpd": 503}, r"refused connections"),
    "upstream_connect_timeout": ("full", {"nginx": 504, "httpd": 503},
                                 r"did not accept a connection in time"),
    "upstream_read_timeout": ("slow", {"nginx": 504, "httpd": 502}, r"did not answer in time"),
    "upstream_closed": ("closes", {"nginx": 502, "httpd": 502}, r"closed the connection"),
    "upstream_response": ("error503", {"nginx": 503, "httpd": 503}, r"answered (with )?503"),
    "upstream_truncated": ("truncates", {"nginx": 200, "httpd": 200}, r"broke off"),
    "upstream_invalid": ("big_header", {"nginx": 502, "httpd": 502}, r"invalid"),
    "upstream_tls": ("not_tls", {"nginx": 502, "httpd": 500}, r"TLS"),
}

TYPES = {
    "upstream_refused": "UpstreamRefused",
    "upstream_unreachable": "UpstreamUnreachable",
    "upstream_connect_timeout": "UpstreamConnectTimeout",
    "upstream_tls": "UpstreamTLS",
    "upstream_dns": "UpstreamDNS",
    "upstream_unavailable": "UpstreamUnavailable",
    "upstream_send_timeout": "UpstreamSendTimeout",
    "upstream_read_timeout": "UpstreamReadTimeout",
    "upstream_closed": "UpstreamClosed",
    "upstream_truncated": "UpstreamTruncated",
    "upstream_invalid": "UpstreamInvalid",
    "upstream_response": "UpstreamResponse",
    "limited": "Limited",
    "server_internal": "ServerInternal",
    "retried": "Retried",
    "client_closed": "ClientClosed",
}


def family(server):
    return server.name.partition("-")[0]


def assert_event(event, server, kind, status):
    """What every event must be, whatever its kind."""
    check_event(event)
    assert tag(event, "mayday.kind") == kind
    value = event["exception"]["values"][-1]
    assert value["type"] == TYPES[kind]
    assert value["mechanism"]["type"] == "auto.http.mayday"
    assert value["mechanism"]["handled"] is (kind == "retried")
    assert event["sdk"]["name"] == f"mayday.{family(server)}"
    assert event["platform"] == "other"
    if status is not None:
        assert tag(event, "http.status_code") == str(status)
        assert event["contexts"]["response"]["status_code"] == status


@pytest.mark.parametrize("kind", UPSTREAM_KINDS)
def test_kind_of_an_upstream_failure(server, up, project, kind):
    name, statuses, words = UPSTREAM_KINDS[kind]
    status = statuses[family(server)]
    upstream = getattr(up, name)
    server.directive("dsn", project.dsn)
    if kind == "upstream_tls":
        server.raw_server += {"nginx": "", "httpd": "SSLProxyEngine on\n"}[family(server)]
    server.place("/shop/", upstream=upstream.url)
    server.start()
    assert server.get_broken("/shop/cart?color=red&token=abc123") == status
    events = project.wait_events(1)
    assert len(events) == 1, server.logs()
    event = events[0]
    assert_event(event, server, kind, status)
    assert re.search(words, title(event)), title(event)
    assert upstream.peer in title(event)
    request = event["request"]
    assert request["method"] == "GET"
    assert request["url"].endswith("/shop/cart")
    assert ["color", "red"] in request["query_string"]
    assert ["token", "[Filtered]"] in request["query_string"]
    attempts = event["contexts"]["mayday"]["attempts"]
    assert len(attempts) == 1
    assert upstream.peer in attempts[0]["peer"]
    crumbs = [c for c in event["breadcrumbs"]["values"] if c["category"] == "upstream"]
    assert len(crumbs) == 1
    # Only an upstream that answered has a status of its own.
    answered = {"upstream_response": [503], "upstream_truncated": [200],
                "upstream_invalid": [None, 200]}.get(kind, [None])
    assert crumbs[0]["data"].get("status_code") in answered
    assert len(project.issues()) == 1


def test_reset_before_the_header_is_closed(server, up, project):
    server.directive("dsn", project.dsn)
    server.place("/shop/", upstream=up.resets.url)
    server.start()
    assert server.get("/shop/cart").status == 502
    assert_event(project.wait_events(1)[0], server, "upstream_closed", 502)


def test_stall_in_the_body_is_truncated(server, up, project):
    server.directive("dsn", project.dsn)
    server.place("/shop/", upstream=up.stalls.url)
    server.start()
    server.get_broken("/shop/cart")
    assert_event(project.wait_events(1)[0], server, "upstream_truncated", 200)


def test_the_upstreams_own_504_is_its_response(server, up, project):
    server.directive("dsn", project.dsn)
    server.place("/shop/", upstream=up.own504.url)
    server.start()
    assert server.get("/shop/cart").status == 504
    assert_event(project.wait_events(1)[0], server, "upstream_response", 504)


def test_name_that_is_not_found(server, project):
    server.directive("dsn", project.dsn)
    raw = {"nginx": "set $where no-such-host.invalid; resolver 127.0.0.1:1 valid=1s; "
                    "resolver_timeout 1s; proxy_pass http://$where;",
           "httpd": "ProxyPass http://no-such-host.invalid/"}
    server.place("/shop/", raw=raw)
    server.start()
    assert server.get("/shop/cart").status in (500, 502, 503)
    event = project.wait_events(1)[0]
    assert_event(event, server, "upstream_dns", None)
    assert "no-such-host.invalid" in title(event)


def test_own_error_is_server_internal(server, project):
    server.directive("dsn", project.dsn)
    raw = {"nginx": "return 500;", "httpd": "Redirect 500 /broken"}
    server.place("/broken", raw=raw)
    server.start()
    assert server.get("/broken").status == 500
    assert_event(project.wait_events(1)[0], server, "server_internal", 500)


def test_retry_that_saved_the_client_is_a_warning(server, up, project):
    server.directive("dsn", project.dsn)
    server.group("shop_backend", up.dead.peer, up.ok.peer)
    server.place("/shop/", group="shop_backend")
    server.start()
    answers = [server.get(f"/shop/cart{n}").status for n in range(4)]
    assert answers == [200] * 4
    event = project.wait_events(1)[0]
    assert_event(event, server, "retried", 200)
    assert event["level"] == "warning"
    assert "shop_backend" in title(event)
    attempts = event["contexts"]["mayday"]["attempts"]
    assert len(attempts) == 2
    assert up.dead.peer in attempts[0]["peer"] and up.ok.peer in attempts[1]["peer"]


def test_no_peer_left_is_the_same_issue_as_refused(server, up, project):
    """A dead host stays one issue, whatever the URL and whatever the server calls it."""
    server.directive("dsn", project.dsn)
    server.group("shop_backend", up.dead.peer, up.new(lambda *_: None).peer)
    dead = type(up.dead)()
    server.groups["shop_backend"] = (up.dead.peer, dead.peer)
    if family(server) == "httpd":  # which else tries peers again at once when none is left
        server.raw_server += "ProxySet balancer://shop_backend forcerecovery=Off\n"
    server.place("/shop/", group="shop_backend")
    server.start()
    for n in range(5):
        assert server.get(f"/shop/{'abc'[n % 3]}/page").status in (502, 503)
    events = project.wait_events(5)
    kinds = {tag(e, "mayday.kind") for e in events}
    assert kinds == {"upstream_refused", "upstream_unavailable"}, kinds
    assert len(project.issues()) == 1, [i for i in project.issues()]
    refused = [e for e in events if tag(e, "mayday.kind") == "upstream_refused"]
    assert any("(2 peers tried)" in title(e) for e in refused), [title(e) for e in events]
    assert all("shop_backend" in title(e) for e in events)
    for event in events:
        check_event(event)


def test_two_kinds_on_one_url_are_two_issues(server, up, project):
    behaviours = []
    upstream = up.new(lambda *a: behaviours[0](*a))
    server.directive("dsn", project.dsn)
    server.place("/shop/", upstream=upstream.url)
    server.start()
    from upstreams import close_before_header, status
    behaviours[:] = [close_before_header]
    assert server.get("/shop/cart").status == 502
    behaviours[:] = [status(502)]
    assert server.get("/shop/cart").status == 502
    events = project.wait_events(2)
    assert sorted(tag(e, "mayday.kind") for e in events) == ["upstream_closed", "upstream_response"]
    assert len(project.issues()) == 2


def test_ids_in_the_path_are_one_issue(server, up, project):
    server.directive("dsn", project.dsn)
    server.place("/users/", upstream=up.error500.url)
    server.start()
    for user in ("17", "4711", "7b25feea-ed2d-4132-bcbd-6232b7922add"):
        assert server.get(f"/users/{user}/orders").status == 500
    events = project.wait_events(3)
    assert {e["transaction"] for e in events} == {"GET /users/*/orders"}
    assert len(project.issues()) == 1


def test_healthy_requests_are_only_counted(server, up):
    server.place("/shop/", upstream=up.ok.url)
    server.start()
    server.wait_agent()
    for _ in range(10):
        assert server.get("/shop/cart").status == 200
    assert server.get("/nothing-there").status == 404
    counts = server.counts()
    assert counts["requests"] >= 11
    assert server.events() == []


def test_limited_is_ignored_by_default_and_counted(server, up):
    if family(server) == "nginx":
        server.raw_main = "limit_req_zone $server_name zone=z:1m rate=1r/m;"
        server.place("/shop/", upstream=up.ok.url, raw="limit_req zone=z;")
        server.start()
        server.wait_agent()
        statuses = [server.get("/shop/a").status for _ in range(3)]
        assert statuses == [200, 503, 503]
        ignored = {"limited": 2}
    else:
        pytest.skip("httpd has no limiter of its own that answers with a failed status")
    assert server.counts()["ignored"] == ignored
    assert server.events() == []


@pytest.mark.only("nginx")
def test_limited_when_asked_for(server, up, project):
    server.directive("dsn", project.dsn)
    server.directive("ignore", "none")
    server.raw_main = "limit_req_zone $server_name zone=z:1m rate=1r/m;"
    server.place("/shop/", upstream=up.ok.url, raw="limit_req zone=z;")
    server.start()
    assert [server.get("/shop/a").status for _ in range(2)] == [200, 503]
    event = project.wait_events(1)[0]
    assert_event(event, server, "limited", 503)
    assert event["level"] == "warning"

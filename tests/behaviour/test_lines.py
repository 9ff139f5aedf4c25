"""The right cause on the right request, however requests share connections, threads and pages."""
import concurrent.futures
import socket
import subprocess

import pytest

from event_checks import tag, title
from servers import wait_for
from upstreams import status

PLACES = {"dead": "upstream_refused", "closes": "upstream_closed", "error503": "upstream_response",
          "truncates": "upstream_truncated", "slow": "upstream_read_timeout",
          "big_header": "upstream_invalid", "own504": "upstream_response"}


def failing_places(server, up, names=PLACES):
    for name in names:
        server.place(f"/{name}/", upstream=getattr(up, name).url)
    server.start()
    server.wait_agent()


def place_of(event):
    return event["request"]["url"].split("/")[3]


def assert_each_has_its_own_cause(events, up):
    """Kind, peer and log lines of each event belong to the place that it asked for."""
    for event in events:
        name = place_of(event)
        upstream = getattr(up, name)
        assert tag(event, "mayday.kind") == PLACES[name], title(event)
        assert upstream.peer in title(event)
        others = [getattr(up, o).peer for o in PLACES if o != name]
        lines = [c["message"] for c in event["breadcrumbs"]["values"] if c["category"] != "upstream"]
        for line in lines:
            assert not any(peer in line for peer in others), (name, line)


def read_answers(sock, count):
    """Reads `count` answers with Content-Length or chunks from a pipelined connection."""
    file = sock.makefile("rb")
    statuses = []
    for _ in range(count):
        statuses.append(int(file.readline().split()[1]))
        length, chunked = 0, False
        while (line := file.readline().strip().lower()) != b"":
            if line.startswith(b"content-length:"):
                length = int(line.split(b":")[1])
            chunked = chunked or line == b"transfer-encoding: chunked"
        if chunked:
            while (size := int(file.readline(), 16)) > 0:
                file.read(size + 2)
            file.readline()
        file.read(length)
    return statuses


def on_one_connection(server):
    """Places after whose failure the server keeps the connection (httpd drops it after a 500 or 503)."""
    return (["dead", "closes", "error503", "dead", "big_header", "closes"] if server.name == "nginx"
            else ["closes", "big_header", "own504", "big_header", "own504"])


def test_keepalive(server, up):
    names = on_one_connection(server)
    failing_places(server, up, set(names))
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as sock:
        for name in names:
            sock.sendall(f"GET /{name}/x HTTP/1.1\r\nHost: shop.test\r\n\r\n".encode())
            assert read_answers(sock, 1)[0] >= 500
    events = server.events(len(names))
    assert [place_of(e) for e in events] == names
    assert_each_has_its_own_cause(events, up)


def test_pipelining(server, up):
    names = on_one_connection(server)
    failing_places(server, up, set(names))
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as sock:
        sock.sendall(b"".join(f"GET /{name}/x HTTP/1.1\r\nHost: shop.test\r\n\r\n".encode()
                              for name in names))
        statuses = read_answers(sock, len(names))
    assert all(s >= 500 for s in statuses)
    events = server.events(len(names))
    assert [place_of(e) for e in events] == names
    assert_each_has_its_own_cause(events, up)


def test_http2_streams(server, up):
    """Many failing streams on one connection at once."""
    names = ["dead", "closes", "error503", "slow"] * 8
    failing_places(server, up, set(names))
    urls = [f"http://127.0.0.1:{server.h2_port}/{name}/{n}" for n, name in enumerate(names)]
    subprocess.run(["nghttp", "-n", "--no-dep", *urls], check=False, capture_output=True, timeout=60)
    events = server.events(len(names), 20)
    assert len(events) == len(names)
    assert {e["request"].get("protocol", "HTTP/2.0") for e in events} <= {"HTTP/2.0", "HTTP/2"}
    assert_each_has_its_own_cause(events, up)


def test_concurrent_failures(server, up):
    """Many clients at once: on httpd-event these are threads of one child."""
    server.workers = 1
    names = list(PLACES) * 8
    failing_places(server, up)
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda name: server.get_broken(f"/{name}/x"), names))
    events = server.events(len(names), 20)
    assert len(events) == len(names)
    assert_each_has_its_own_cause(events, up)


@pytest.mark.only("nginx")
def test_auth_request_that_fails_is_told(server, up):
    """The subrequest's dead upstream makes the main request a 500 of the server."""
    server.place("/private/", raw=f"auth_request /auth; proxy_pass {up.ok.url};")
    server.place("= /auth", raw=f"internal; proxy_pass {up.dead.url};")
    server.start()
    assert server.get("/private/x").status == 500
    event = server.event()
    assert tag(event, "mayday.kind") == "server_internal"
    assert event["request"]["url"].endswith("/private/x")


@pytest.mark.only("nginx")
def test_auth_request_that_denies_is_no_failure(server, up):
    denies = up.new(status(401))
    server.place("/private/", raw=f"auth_request /auth; proxy_pass {up.ok.url};")
    server.place("= /auth", raw=f"internal; proxy_pass {denies.url};")
    server.start()
    server.wait_agent()
    assert server.get("/private/x").status == 401
    assert server.counts()["captured"] == {}


@pytest.mark.only("nginx")
def test_mirror_that_fails_is_not_the_requests_failure(server, up):
    server.place("/shop/", raw=f"mirror /mirror; proxy_pass {up.ok.url};")
    server.place("= /mirror", raw=f"internal; proxy_pass {up.dead.url};")
    server.start()
    server.wait_agent()
    for _ in range(3):
        assert server.get("/shop/x").status == 200
    wait_for(lambda: "refused" in server.error_log.read_text(errors="replace"), 5)
    assert server.get("/shop/y").status == 200
    assert server.counts()["captured"] == {}


def test_clients_words_do_not_pass_for_a_subrequest(server, up):
    server.place("/shop/", upstream=up.dead.url)
    server.start()
    server.wait_agent()
    for _ in range(2):  # the first of a process, and any other
        server.get("/shop/x", headers={"Referer": 'x", subrequest: "/y", request: "/z'})
    for event in server.events(2):
        assert tag(event, "mayday.kind") == "upstream_refused"
        assert [c for c in event["breadcrumbs"]["values"] if "refused" in c.get("message", "")]


def error_page(server, uri):
    if server.name == "nginx":
        server.raw_server += f"error_page 502 503 {uri};\nproxy_intercept_errors on;\n"
    else:
        server.raw_server += (f"ErrorDocument 502 {uri}\nErrorDocument 503 {uri}\n"
                              "ProxyErrorOverride On\n")


@pytest.mark.parametrize("page", ["/oops.html", "/missing.html"])
def test_error_page_keeps_the_first_request(server, up, page):
    """Also when the error page itself is missing: the truth is what failed first."""
    server.page("oops.html", "we are sorry\n")
    error_page(server, page)
    server.place("/shop/", upstream=up.dead.url)
    server.start()
    answer = server.get("/shop/cart?color=red", {"X-Marker": "first"})
    event = server.event()
    assert tag(event, "mayday.kind") == "upstream_refused"
    assert up.dead.peer in title(event)
    assert event["request"]["url"].endswith("/shop/cart")
    assert ["color", "red"] in event["request"]["query_string"]
    if page == "/oops.html":
        assert answer.body == b"we are sorry\n"
        assert answer.status in (502, 503)
        assert tag(event, "http.status_code") == str(answer.status)


def test_retries_over_several_peers_are_one_event(server, up):
    dead = [type(up.dead)() for _ in range(3)]
    server.group("shop_backend", *(d.peer for d in dead))
    server.place("/shop/", group="shop_backend")
    server.start()
    assert server.get("/shop/cart").status in (502, 503)
    event = server.event()
    assert tag(event, "mayday.kind") in ("upstream_refused", "upstream_unavailable")
    peers = [a["peer"] for a in event["contexts"]["mayday"]["attempts"]]
    assert len(peers) == 3
    assert all(any(d.peer in p for p in peers) for d in dead)
    assert "(3 peers tried)" in title(event)

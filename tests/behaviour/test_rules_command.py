"""Seeing what rules do: what they dropped, what they would do, and nothing that they hide."""
import json
import os
import subprocess

import pytest

from servers import MAYDAY, ROOT, wait_for

RULES = """local mayday = require "mayday"

mayday.add_event_processor(function(event, hint)
    event.tags.tenant = event.request.headers["X-Tenant"]
    return event
end)

mayday.before_send(function(event, hint)
    local agent = event.request.headers["User-Agent"] or ""

    if agent:find("bot", 1, true) then
        return nil, "bot"
    end
    if event.tags.tenant == "wrong" then
        return event.nowhere.to_be.found
    end
    return event
end)
"""

CARD, MAIL, PASSWORD, COOKIE, CITY = ("4111111111111111", "jane.roe@example.com", "hunter2hunter2",
                                      "c00kie-of-jane", "jane-of-atlantis")


def failing(server, up, mode=()):
    server.rules(RULES, *mode)
    server.place("/shop/", upstream=up.dead.url)
    server.start()
    server.wait_agent()


def dropped(server, *words):
    return [json.loads(line) for line in
            server.cli("events", "--dropped", "--json", *words).stdout.splitlines()]


def test_dropped_events_are_seen(server, up):
    failing(server, up)
    server.get("/shop/cart", {"User-Agent": "Examplebot/1.0"})
    server.get("/shop/cart", {"User-Agent": "Firefox"})
    rows = wait_for(lambda: dropped(server), 10)
    assert len(rows) == 1
    row = rows[0]
    assert (row["reason"], row["hook"], row["where"]) == ("bot", "before_send", "rules.lua:8")
    assert (row["kind"], row["transaction"]) == ("upstream_refused", "GET /shop/cart")
    assert row["status"] in (502, 503) and row["observed"] is False
    assert dropped(server, "--reason", "bot") == rows == dropped(server, "--reason", "before_send:bot")
    assert dropped(server, "--reason", "other") == [] == dropped(server, "--kind", "limited")
    text = server.cli("events", "--dropped", "--reason", "bot").stdout
    assert "bot, rules.lua:8" in text and "GET /shop/cart" in text
    page = server.cli("show", row["event_id"]).stdout
    assert "dropped     not sent, kept here scrubbed: bot, by before_send at rules.lua:8" in page
    assert "Examplebot" in page
    server.events(1)
    assert [row["event_id"] for row in rows] != [server.newest()["event_id"]]


def test_counts_per_rule(server, up):
    failing(server, up)
    for n in range(12):
        server.get("/shop/cart", {"User-Agent": "Examplebot/1.0"})
    server.get("/shop/cart", {"X-Tenant": "wrong"})
    server.get("/shop/cart")
    server.events(2)
    rules = wait_for(lambda: server.status()["rules"], 10)
    assert [(r["where"], r["outcome"], r["reason"], r["count"], r["observed"]) for r in rules] == [
        ("rules.lua:8", "dropped", "bot", 12, False), ("rules.lua:15", "failed", "", 1, False)]
    text = server.cli("status").stdout
    assert "rules.lua:8   dropped     bot 12" in text
    assert "rules.lua:15  failed      events 1" in text
    metrics = server.cli("status", "--format=prometheus").stdout
    assert ('mayday_rule_results_total{where="rules.lua:8",hook="before_send",outcome="dropped",'
            'reason="bot",observed="false"} 12') in metrics
    # exact, though only some of them are kept
    assert server.counts()["filtered"] == {"before_send:bot": 12}
    assert 5 <= len(dropped(server)) <= 12


def test_observed_rules_show_what_they_would_drop(server, up):
    failing(server, up, ("mode=observe",))
    server.get("/shop/cart", {"User-Agent": "Examplebot/1.0"})
    event = server.event()
    rows = wait_for(lambda: dropped(server), 10)
    assert [(r["event_id"], r["observed"]) for r in rows] == [(event["event_id"], True)]
    assert "(observed)" in server.cli("events", "--dropped").stdout
    assert "rules.lua:8  would drop  bot 1" in server.cli("status").stdout
    assert server.counts()["filtered"] == {}


def test_nothing_that_rules_hide_is_on_disk(server, up):
    server.directive("collect", "user_info", "on")
    server.directive("collect", "cookies", "on")
    server.directive("user", f"username={server.header('X-User')}", f"id={server.header('X-User')}")
    failing(server, up)
    server.get(f"/shop/{MAIL}/{CARD}?email={MAIL}&password={PASSWORD}&q=card+{CARD}",
               {"User-Agent": "Examplebot/1.0", "Cookie": f"basket={COOKIE}",
                "Authorization": f"Bearer {PASSWORD}", "X-Mail": MAIL, "X-User": CITY,
                "Referer": f"https://example.com/?mail={MAIL}"})
    row = wait_for(lambda: dropped(server), 10)[0]
    shown = json.loads(server.cli("show", row["event_id"], "--json").stdout)
    assert "user" not in shown and "cookies" not in shown["request"]
    assert shown["contexts"]["mayday"]["dropped"]["reason"] == "bot"
    on_disk = b"".join(f.read_bytes() for f in server.state.iterdir() if f.is_file())
    assert b"Examplebot" in on_disk
    for secret in (CARD, MAIL, PASSWORD, COOKIE):
        assert secret.encode() not in on_disk, secret
    assert server.cli("purge", "--user", CITY, "--yes").returncode == 0
    on_disk = b"".join(f.read_bytes() for f in server.state.iterdir() if f.is_file())
    assert CITY.encode() not in on_disk


def test_rules_test_over_dropped_events(server, up):
    failing(server, up)
    server.get("/shop/cart", {"User-Agent": "Examplebot/1.0"})
    server.get("/shop/cart", {"User-Agent": "Firefox"})
    wait_for(lambda: dropped(server), 10)
    file = server.directory / "new.lua"
    file.write_text(RULES.replace('"bot", 1', '"Examplebot/2", 1'), encoding="utf-8")
    done = server.cli("rules", "test", str(file), "--dropped", "--reason", "bot")
    assert "1 event: 1 kept" in done.stdout, done.stdout + done.stderr
    done = server.cli("rules", "test", str(server.directory / "rules.lua"), "--dropped")
    assert "1 event: 0 kept, 0 changed, 1 dropped (bot 1)" in done.stdout
    server.stop()
    wait_for(lambda: server.cli("status").returncode == 2, 10)
    done = server.cli("rules", "test", str(file), "--dropped")
    assert "1 event: 1 kept" in done.stdout, done.stdout + done.stderr


def test_purge_erases_dropped_events(server, up):
    failing(server, up)
    server.get("/shop/cart", {"User-Agent": "Examplebot/1.0"})
    wait_for(lambda: dropped(server), 10)
    assert "1 event erased" in server.cli("purge", "--all", "--yes").stdout
    assert dropped(server) == []
    assert b"Examplebot" not in b"".join(f.read_bytes() for f in server.state.iterdir())


def test_rules_test_over_real_events(server, up):
    failing(server, up)
    server.get("/shop/cart", {"User-Agent": "Firefox", "X-Tenant": "acme"})
    server.get("/shop/checkout/7", {"User-Agent": "Firefox"})
    server.events(2)
    file = server.directory / "new.lua"
    file.write_text("""local mayday = require "mayday"
mayday.add_event_processor(function(event, hint)
    if event.transaction:find("checkout", 1, true) then
        event.level = "fatal"
        mayday.log("notice", hint.kind .. ", attempts: " .. #hint.attempts)
    end
    return event
end)
mayday.before_send(function(event)
    if event.tags.tenant == "acme" then return nil, "acme" end
    return event
end)
""", encoding="utf-8")
    before = server.counts()
    done = server.cli("rules", "test", str(file))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "new.lua loads" in done.stdout
    assert "      acme: before_send at new.lua:9" in done.stdout
    assert '      ~ level  "error" ' in done.stdout and '"fatal"' in done.stdout
    assert "log notice  new.lua:5: upstream_refused, attempts: 1" in done.stdout
    assert "2 events: 0 kept, 1 changed, 1 dropped (acme 1), 0 failed" in done.stdout
    assert server.counts() == before
    document = json.loads(server.cli("rules", "test", str(file), "--format=json").stdout)
    outcomes = {e["transaction"]: e for e in document["events"]}
    assert outcomes["GET /shop/cart"]["outcome"] == "dropped"
    changed = outcomes["GET /shop/checkout/*"]
    assert {"path": "level", "old": "error", "now": "fatal"} in changed["changes"]
    assert changed["cpu_us"] > 0 and changed["memory_bytes"] > 0
    assert document["summary"]["events"] == 2
    # one of them alone, out of a file, as in a team's CI: any user, no agent
    event = server.directory / "event.json"
    event.write_text(server.cli("show", changed["event_id"], "--json").stdout, encoding="utf-8")
    lonely = subprocess.run([MAYDAY, "rules", "test", str(file), "--event", str(event)],
                            capture_output=True, text=True, check=False,
                            user="nobody" if os.getuid() == 0 else None)
    assert lonely.returncode == 0 and "1 changed" in lonely.stdout, lonely.stderr


def test_rules_test_when_rules_fail(server, up):
    failing(server, up)
    server.get("/shop/cart")
    server.event()
    file = server.directory / "new.lua"
    file.write_text('local mayday = require "mayday"\n'
                    "mayday.before_send(function(event)\n  event.level = 'fatal'\nend)\n",
                    encoding="utf-8")
    done = server.cli("rules", "test", str(file), "--last", "1")
    assert done.returncode == 1
    assert "new.lua:2: before_send must return the event" in done.stdout
    file.write_text("retrun\n", encoding="utf-8")
    done = server.cli("rules", "test", str(file))
    assert done.returncode == 1 and "new.lua:2:" in done.stderr
    assert server.cli("rules", "test", str(file), "--last", "many").returncode == 2


def test_rules_test_reads_the_store_of_an_agent_that_has_ended(server, up):
    failing(server, up)
    server.get("/shop/cart")
    server.event()
    server.stop()
    wait_for(lambda: server.cli("status").returncode == 2, 10)
    done = server.cli("rules", "test", str(server.directory / "rules.lua"))
    assert done.returncode == 0, done.stderr
    assert "1 event: 1 kept" in done.stdout
    stores = {f.name: f.owner() for f in server.state.glob("store.sqlite*")}
    assert len(set(stores.values())) == 1, stores  # the next agent can use it


@pytest.mark.only("nginx")
@pytest.mark.parametrize("example", sorted(p.name for p in (ROOT / "lua/examples").glob("*.lua")))
def test_examples_on_a_real_event(server, up, example):
    server.place("/shop/", upstream=up.dead.url)
    server.start()
    server.wait_agent()
    server.get("/shop/cart")
    server.event()
    done = server.cli("rules", "test", str(ROOT / "lua/examples" / example))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 failed" in done.stdout

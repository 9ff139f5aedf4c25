"""mayday.pii in the agents of real servers: nothing personal leaves, and what is left makes sense."""
import json

from event_checks import check_event, header, tag, texts, title

RULES = """local mayday, pii = require "mayday", require "mayday.pii"
mayday.before_send(function(event, hint)
  %s
end)
"""

# Header, what it holds, what becomes of it, what must not be found anywhere.
PLANTED = [
    ("X-Mail", "for Jane.Doe@mail.example now", "for [email] now", "Doe@mail"),
    ("X-Card", "4111-1111-1111-1111", "[creditcard]", "4111-1111"),
    ("X-Iban", "DE89370400440532013000", "[iban]", "DE8937"),
    ("X-Social", "123-45-6789", "[us-ssn]", "123-45"),
    ("X-Phone", "+49 30 901820777", "[phone]", "901820"),
    ("X-Address", "198.51.100.77, 2001:db8:85a3::8a2e:370:7334", "[ip], [ip]", "198.51"),
    ("X-Mac", "00:1A:2B:3C:4D:5E", "[mac]", "1A:2B"),
    ("X-Note", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjMifQ.c2lnbmF0dXJlMTIz", "[token]", "eyJzdWIi"),
    ("X-Hook", "with ghp_" + "16C7e42F292c6912E7710c838347Ae178B4a", "with [token]", "16C7e42F"),
    ("X-Database", "pg://jane:hunter22@db.internal/x", None, "hunter22"),
    ("X-Form", "user=1&password=hunter33", "user=1&password=[Filtered]", "hunter33"),
    ("X-Json", '{"a":1,"access_token":"hunter44"}', '{"a":1,"access_token":"[Filtered]"}',
     "hunter44"),
    ("X-File", "/home/janedoe/app.py", "/home/[user]/app.py", "janedoe"),
]

# What a careless pattern would take.
PLAIN = {
    "X-Plain": "User authenticated, keyword author, 12:34:56, nginx/1.22.1.4, order 1234567890",
    "X-Uuid": "550e8400-e29b-41d4-a716-446655440000",
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) Chrome/120.0.0.0 Safari/537.36",
}


def failing(server, up, body):
    server.rules(RULES % body)
    server.directive("collect", "user_info", "on")
    server.directive("collect", "cookies", "on")
    server.directive("tag", "mail", server.header("X-Mail"))
    server.place("/shop/", upstream=up.dead.url)
    server.start()
    server.wait_agent()


def send(server):
    server.get("/shop/u/jane.doe@mail.example/7?who=Jane.Doe%40mail.example&page=2",
               {"Cookie": "note=jane.doe@mail.example; theme=dark", **PLAIN,
                **{name: value for name, value, *_ in PLANTED}})


def stored(server):
    return b"".join(file.read_bytes() for file in server.state.iterdir() if file.is_file())


def test_nothing_personal_leaves(server, up):
    failing(server, up, "return pii.scrub(event)")
    send(server)
    event = server.event()
    check_event(event)
    everything = "\n".join(texts(event)).lower()
    for name, _, wanted, secret in PLANTED:
        assert secret.lower() not in everything, name
        assert wanted is None or header(event, name) == [wanted]
        assert secret.lower().encode() not in stored(server).lower(), name
    for name, value in PLAIN.items():
        assert header(event, name) == [value]
    assert not event["user"].get("ip_address")
    assert ["who", "[email]"] in event["request"]["query_string"]
    assert ["note", "[email]"] in event["request"]["cookies"]
    assert event["request"]["url"].endswith("/shop/u/[email]/7")
    assert tag(event, "mail") == "for [email] now"
    assert tag(event, "mayday.rule_error") is None
    # what failed is still told, by its address
    assert up.dead.url.removeprefix("http://").split("/")[0] in title(event)


def test_what_was_removed_is_told(server, up):
    failing(server, up, "return pii.scrub(event)")
    send(server)
    event = server.event()
    headers = event["_meta"]["request"]["headers"]
    at = [name for name, _ in event["request"]["headers"]].index("X-Mail")
    assert headers[str(at)]["1"][""] == {
        "rem": [["mayday:email", "s", 4, 11]], "len": len("for Jane.Doe@mail.example now")}


def test_parts_that_a_rule_has_read_are_no_other(server, up):
    failing(server, up, "local all = hint and event.request.headers['X-Read'] == 'all'\n"
                        "if all then for _ in pairs(event) do end end return pii.scrub(event)")
    for read in ("none", "all"):
        server.get("/shop/x?who=jane@mail.example", {"X-Read": read, "X-Mail": "jane@mail.example"})
    events = server.events(2)
    for event in events:
        check_event(event)
        for name in ("event_id", "timestamp", "_meta", "breadcrumbs"):
            event.pop(name)
        event["request"]["headers"] = [h for h in event["request"]["headers"] if h[0] != "X-Read"]
        event["user"].pop("ip_address", None)
        event["request"].get("env", {}).pop("REMOTE_ADDR", None)
        for name in ("trace", "mayday"):
            event["contexts"].pop(name)
    first, second = (json.dumps(event, sort_keys=True) for event in events)
    assert first == second


def test_hashes_are_those_of_the_server(server, up):
    """The same key makes mayday_user's hash: and pii's, so that one can be found by the other."""
    server.directive("user", f"id=hash:{server.header('X-Id')}")
    failing(server, up, "return pii.scrub(event, { only = { 'email' }, mode = 'hash' })")
    server.get("/shop/x", {"X-Id": "jane@mail.example", "X-Mail": "jane@mail.example"})
    event = server.event()
    check_event(event)
    assert header(event, "X-Mail") == [event["user"]["id"]] == [tag(event, "mail")]


def test_masks_and_removes(server, up):
    failing(server, up, "if event.request.headers['X-Read'] then "
                        "return pii.scrub(event, { mode = 'remove' }) end "
                        "return pii.scrub(event, { mode = 'mask' })")
    server.get("/shop/a", {"X-Card": "4111-1111-1111-1111"})
    server.get("/shop/b", {"X-Card": "no 4111-1111-1111-1111.", "X-Read": "1"})
    events = {e["request"]["url"][-1]: e for e in server.events(2)}
    for event in events.values():
        check_event(event)
    assert header(events["a"], "X-Card") == ["****-****-****-1111"]
    assert header(events["b"], "X-Card") == ["no ."]


def test_issues_are_the_same_as_without(server, up):
    failing(server, up, "if event.request.headers['X-Read'] then return event end "
                        "return pii.scrub(event)")
    for read in ({}, {"X-Read": "1"}):
        server.get("/shop/u/jane@mail.example", {"X-Mail": "jane@mail.example", **read})
    server.events(2)
    rows = [json.loads(row) for row in server.cli("events", "--json").stdout.splitlines()]
    assert len(rows) == 2 and len({row["issue"] for row in rows}) == 1

#!/usr/bin/env python3
"""What is true of every event that Mayday sends: it has the shape of
event.schema.json, and Relay's own normaliser finds nothing wrong with it.

    check.py FILE ...      each file holds one event a line; exit 1 on any problem

check_event(event) is the same for one event, for the tests.
"""
import json
import pathlib
import re
import sys

import jsonschema
from sentry_relay.processing import StoreNormalizer

SCHEMA = json.loads((pathlib.Path(__file__).parent / "event.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def normalise(event):
    """The event as Relay would store it, trimmed and all."""
    normalizer = StoreNormalizer(
        project_id=1, protocol_version="7", client=f"{event['sdk']['name']}/{event['sdk']['version']}",
        is_renormalize=False, remove_other=True, enable_trimming=True)
    return normalizer.normalize_event(raw_event=json.dumps(event, ensure_ascii=False))


def errors_in(meta, path=""):
    """Paths and errors that the normaliser left in _meta."""
    for key, value in (meta or {}).items():
        if key != "":
            yield from errors_in(value, f"{path}.{key}".lstrip("."))
        elif "err" in value:
            yield f"{path}: {value['err']}"


def rem_in(meta, path=()):
    """Paths in _meta with the ranges that were removed."""
    for key, value in (meta or {}).items():
        if key != "":
            yield from rem_in(value, (*path, key))
        elif "rem" in value:
            yield path, value


# What each rule puts in the place of text. A team's own pattern puts its name in brackets.
PLACEHOLDERS = {
    "!limit": "...", "mayday:denylist": "[Filtered]", "mayday:secret": "[Filtered]",
    "mayday:card": "[creditcard]", "mayday:ssn": "[us-ssn]", "mayday:jwt": "[token]",
    "mayday:bearer": "[token]", "mayday:api_key": "[token]", "mayday:pem": "[pemkey]",
    "mayday:url_auth": "[auth]", "mayday:user_path": "[user]"}


def holds(rule, kind, text):
    """Whether a rule may have left this text: kind is s substituted, m masked, p hashed, x removed."""
    if kind == "s":
        return text == PLACEHOLDERS.get(rule, f"[{rule.removeprefix('mayday:')}]")
    return {"m": "*" in text, "p": re.fullmatch("[0-9a-f]{32}", text) is not None,
            "x": text == ""}[kind]


def wrong_ranges(event):
    """Each range of _meta must hold what its rule puts there. Ranges count bytes."""
    for path, note in rem_in(event.get("_meta")):
        value = event
        for key in path:
            value = value[int(key)] if isinstance(value, list) else value[key]
        behind = 0
        for rule, kind, *span in note["rem"]:
            if not span:
                if value is not None or kind != "x":
                    yield f"_meta.{'.'.join(path)}: {rule} should have removed {value!r}"
                continue
            start, end = span
            found = value.encode()[start:end].decode(errors="replace")
            if not holds(rule, kind, found) or not behind <= start <= end <= len(value.encode()):
                yield f"_meta.{'.'.join(path)}: {found!r} is not what {rule} leaves"
            behind = end


def removed_by_relay(event, normalised):
    """What Relay took out beyond what Mayday had cut and filtered itself. Relay
    sorts tags, so these are told apart by their rules only."""
    def found(meta):
        return sorted((".".join(path) if path[0] != "tags" else "tags", rule)
                      for path, note in rem_in(meta) for rule, *_ in note["rem"])

    ours = found(event.get("_meta"))
    for path, rule in found(normalised.get("_meta")):
        if (path, rule) in ours:
            ours.remove((path, rule))
        else:
            yield f"{path}: {rule}"


def problems(event):
    """All that is wrong, as texts."""
    found = [f"{e.json_path}: {e.message[:300]}" for e in VALIDATOR.iter_errors(event)]
    if found:
        return found
    found = list(wrong_ranges(event))
    normalised = normalise(event)
    found += [f"relay: {e}" for e in errors_in(normalised.get("_meta"))]
    found += [f"relay: {e}" for e in normalised.get("errors") or []]
    found += [f"relay: removes at {e}" for e in removed_by_relay(event, normalised)]
    if normalised.get("type") != "error":
        found.append(f"relay: takes it for {normalised.get('type')!r}, not for an error")
    for part in ("exception", "request", "user", "contexts", "tags", "breadcrumbs"):
        if part in event and not normalised.get(part):
            found.append(f"relay: removed {part}")
    return found


def check_event(event):
    found = problems(event)
    assert not found, "\n".join(found)


def main(files):
    count = bad = 0
    for file in files:
        for number, line in enumerate(pathlib.Path(file).read_text().split("\n"), 1):
            if not line:
                continue
            count += 1
            found = problems(json.loads(line))
            bad += bool(found)
            for problem in found:
                print(f"{file}:{number}: {problem}")
    print(f"{count} events, {bad} with problems")
    return 1 if bad or not count else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

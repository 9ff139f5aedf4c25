"""What is true of every event that Mayday sends."""
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "event_schema"))

from check import check_event  # noqa: E402

__all__ = ["check_event", "header", "tag", "texts", "title"]


def title(event):
    """What a person reads in the list of issues."""
    value = event["exception"]["values"][-1]
    return f"{value['type']}: {value['value']}"


def tag(event, name):
    tags = event.get("tags") or {}
    if isinstance(tags, list):
        tags = dict(tags)
    return tags.get(name)


def header(event, name):
    """The values of a request header, by case-insensitive name."""
    return [v for k, v in event["request"].get("headers", []) if k.lower() == name.lower()]


def texts(value):
    """All strings of an event, keys included."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield key
            yield from texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from texts(each)
    elif isinstance(value, str):
        yield value

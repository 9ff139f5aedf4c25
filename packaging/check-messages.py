#!/usr/bin/env python3
"""Fails unless every message id of the code stands in docs/messages.md once, and no other does."""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
ROOMS = ("core", "ngx_module", "apache_module")
COMMENT = re.compile(r"/\*.*?\*/", re.S)


def ids_of_code():
    """id -> the first file that has it, outside of comments."""
    found = {}
    for room in ROOMS:
        for file in sorted((ROOT / room).rglob("*.[ch]")):
            code = COMMENT.sub("", file.read_text(encoding="utf-8"))
            for message in re.findall(r'"(MD\d{4})\b', code):
                found.setdefault(message, file.relative_to(ROOT))
    return found


def main():
    code = ids_of_code()
    page = (ROOT / "docs/messages.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (MD\d{4}) \|", page, re.M)
    wrong = [f"{code[message]}: {message} is not in docs/messages.md"
             for message in sorted(set(code) - set(rows))]
    wrong += [f"docs/messages.md: no code has {message}" for message in sorted(set(rows) - set(code))]
    wrong += [f"docs/messages.md: {message} stands there twice"
              for message in sorted(set(rows)) if rows.count(message) > 1]
    if not code:
        wrong.append("no message found in the code")
    if wrong:
        sys.exit("\n".join(wrong))
    print("messages: ok")


if __name__ == "__main__":
    main()

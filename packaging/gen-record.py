#!/usr/bin/env python3
"""Rewrites the generated blocks of docs/record.md.

    packaging/gen-record.py          rewrite
    packaging/gen-record.py --check  fail if a block is stale or missing

The facts come from record.def, kinds.def and counters.def in core/capture, so
that the page cannot drift from the writer and the reader. Everything between
the two markers of a block is replaced; the rest is written by hand:

    <!-- generated: fields -->   ...  <!-- end -->
    <!-- generated: kinds -->    ...  <!-- end -->
    <!-- generated: counters --> ...  <!-- end -->
"""

import ast
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "record.md"
BLOCK = re.compile(r"<!-- generated: (?P<name>[^>]*?) -->\n.*?<!-- end -->\n", re.S)


def entries(name, macro):
    """The arguments of each MACRO(...) in an X-macro file, strings unquoted."""
    text = (ROOT / "core" / "capture" / name).read_text(encoding="utf-8")
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.S)
    found = []
    for match in re.finditer(macro + r"\(((?:[^()\"]|\"(?:[^\"\\]|\\.)*\")*)\)", text):
        fields = re.split(r",(?=(?:[^\"]*\"[^\"]*\")*[^\"]*$)", match.group(1))
        found.append(["".join(ast.literal_eval(s)
                              for s in re.findall(r"\"(?:[^\"\\]|\\.)*\"", field))
                      if '"' in field else field.strip() for field in fields])
    if not found:
        sys.exit(f"{name}: no {macro} found")
    return found


def table(heads, rows):
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join("| " + " | ".join(str(cell) for cell in line) + " |\n" for line in lines)


def fields_block():
    rows = []
    for tag, _, name, kind, size, meaning in entries("record.def", "MAYDAY_FIELD"):
        limit = f"{size} exactly" if kind in ("U64", "BYTES") else f"up to {size}"
        rows.append([tag, f"`{name}`", kind, limit, meaning])
    return table(["tag", "name", "type", "bytes of payload", "meaning"], rows)


def kinds_block():
    return table(["number", "kind", "meaning"],
                 [[number, f"`{kind[1]}`", kind[6]]
                  for number, kind in enumerate(entries("kinds.def", "MAYDAY_KIND"))])


def counters_block():
    return table(["counter", "counts"],
                 [[f"`{name}`", meaning]
                  for _, name, meaning in entries("counters.def", "MAYDAY_COUNTER")])


def main():
    check = sys.argv[1:] == ["--check"]
    blocks = {"fields": fields_block, "kinds": kinds_block, "counters": counters_block}
    page = PAGE.read_text(encoding="utf-8")
    seen = set()

    def replace(match):
        name = match.group("name")
        if name not in blocks:
            sys.exit(f"docs/record.md: unknown block {name}")
        seen.add(name)
        return f"<!-- generated: {name} -->\n{blocks[name]()}<!-- end -->\n"

    fresh = BLOCK.sub(replace, page)
    if seen != set(blocks):
        sys.exit("docs/record.md: missing block " + ", ".join(sorted(set(blocks) - seen)))
    if check:
        if fresh != page:
            sys.exit("docs/record.md is stale: run packaging/gen-record.py")
    elif fresh != page:
        PAGE.write_text(fresh, encoding="utf-8")


if __name__ == "__main__":
    main()

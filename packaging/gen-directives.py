#!/usr/bin/env python3
"""Rewrites the generated blocks of docs/directives.md.

    packaging/gen-directives.py          rewrite
    packaging/gen-directives.py --check  fail if a block is stale or missing

The facts come from core/capture/directives.def and kinds.def, so that the page
cannot drift from the parser. Everything between the two markers of a block is
replaced; the rest of the page is written by hand:

    <!-- generated: directive DSN -->  ...  <!-- end -->
    <!-- generated: index -->          ...  <!-- end -->
    <!-- generated: kinds -->          ...  <!-- end -->
"""

import ast
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "directives.md"
BLOCK = re.compile(r"<!-- generated: (?P<name>[^>]*?) -->\n.*?<!-- end -->\n", re.S)

CONTEXTS = {
    "PLACE": ("http, server, location, if in location",
              "server config, virtual host, and sections (Directory, Location, Files, If ...)"),
    "INSTANCE": ("http", "server config"),
}
INHERITANCE = {
    "VALUE": "the innermost place that has it wins. Once per place.",
    "LIST": "on nginx a place that has any replaces what it would inherit; on httpd it adds to it, "
            "its own first. May be repeated.",
    "PART": "each part by itself: the innermost place that speaks of the part wins. "
            "May be repeated.",
    "NONE": "none. Once per server instance.",
}


def entries(path, macro):
    """The arguments of each MACRO(...) in an X-macro file, strings unquoted."""
    text = re.sub(r"/\*.*?\*/", "", path.read_text(encoding="utf-8"), flags=re.S)
    for match in re.finditer(macro + r"\(((?:[^()\"]|\"(?:[^\"\\]|\\.)*\")*)\)", text):
        fields = re.split(r",(?=(?:[^\"]*\"[^\"]*\")*[^\"]*$)", match.group(1))
        yield ["".join(ast.literal_eval(s) for s in re.findall(r"\"(?:[^\"\\]|\\.)*\"", field))
               if '"' in field else field.strip() for field in fields]


def directives():
    names = ("id", "nginx", "httpd", "scope", "args_min", "args_max", "parser", "inherit",
             "default", "syntax", "summary")
    found = [dict(zip(names, fields, strict=True))
             for fields in entries(ROOT / "core/capture/directives.def", "MAYDAY_DIRECTIVE")]
    if not found:
        sys.exit("directives.def: no directive found")
    return {d["id"]: d for d in found}


def directive_block(d):
    nginx, httpd = CONTEXTS[d["scope"]]
    return [
        f"- **nginx:** `{d['nginx']} {d['syntax']};` in {nginx}",
        f"- **httpd:** `{d['httpd']} {d['syntax']}` in {httpd}",
        f"- **Default:** {d['default']}",
        f"- **Inheritance:** {INHERITANCE[d['inherit']]}",
    ]


def index_block(table):
    lines = ["| nginx | httpd | what it sets |", "|---|---|---|"]
    lines += [f"| [`{d['nginx']}`](#{d['nginx']}) | `{d['httpd']}` | {d['summary']} |"
              for d in table.values()]
    return lines


def kinds_block():
    families = {"NOBODY_THERE": "the upstream as configured, one issue for all such kinds",
                "ROUTE": "kind, status, method, route"}
    lines = ["| kind | exception type | level | grouped by | meaning |", "|---|---|---|---|---|"]
    for fields in entries(ROOT / "core/capture/kinds.def", "MAYDAY_KIND"):
        _, name, kind_type, level, family, _, meaning = fields
        lines.append(f"| `{name}` | `{kind_type}` | {level.lower()} | {families[family]} "
                     f"| {meaning} |")
    return lines


def main():
    check = sys.argv[1:] == ["--check"]
    if sys.argv[1:] and not check:
        sys.exit(__doc__)
    table = directives()
    blocks = {f"directive {name}": directive_block(d) for name, d in table.items()}
    blocks["index"] = index_block(table)
    blocks["kinds"] = kinds_block()

    page = PAGE.read_text(encoding="utf-8")
    present = [match["name"] for match in BLOCK.finditer(page)]
    wrong = [f"{name}: no such block" for name in present if name not in blocks]
    wrong += [f"{name}: missing" for name in blocks if name not in present]
    wrong += [f"{name}: twice" for name in set(present) if present.count(name) > 1]
    if wrong:
        sys.exit("docs/directives.md: " + "; ".join(sorted(wrong)))

    def rendered(match):
        name = match["name"]
        return f"<!-- generated: {name} -->\n" + "\n".join(blocks[name]) + "\n<!-- end -->\n"

    fresh = BLOCK.sub(rendered, page)
    if check and fresh != page:
        sys.exit("docs/directives.md is stale: run packaging/gen-directives.py")
    if fresh != page:
        PAGE.write_text(fresh, encoding="utf-8")


if __name__ == "__main__":
    main()

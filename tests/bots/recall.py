#!/usr/bin/env python3
"""How well mayday.bots tells programs from people, by lists that others keep.

    python3 -m venv DIR && DIR/bin/pip install -r tests/bots/requirements.txt
    DIR/bin/python tests/bots/recall.py [--show] [--bots FILE] [--people FILE]

The lists are packages, pinned in requirements.txt, and only measured with: crawler-user-agents (MIT)
has agents of crawlers, libraries and services; device_detector (MIT, its data LGPL) has agents of bots
and of people's devices of all kinds; fake-useragent (Apache-2.0) has browsers as they are seen today.
FILE has an agent a line. --show prints what was missed and who was caught. Exits with 1 where less
than 99.6 % of the crawlers' list is told to be programs, or a person's browser is called a bot.
"""
import argparse
import collections
import importlib.util
import json
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
RECALL_MIN = 0.996
# What of device_detector is people's browsers and apps. Its lists of feed readers, podcast clients,
# media players, mobile apps and unknown agents mix people's programs with servers'.
BROWSERS = ("camera", "car_browser", "console", "desktop", "feature_phone", "peripheral", "phablet",
            "portable_media_player", "smart_display", "smart_speaker", "smartphone", "tablet", "tv",
            "wearable")
# On these lists of people's desktops and phones, but programs: they say so themselves.
NOT_PEOPLE = ("360JK yunjiankong", "Laravel Reaver", "Assetnote/")
BY_DESIGN = ("library", "tool", "webhook", "assistant", "program")


def package(name):
    spec = importlib.util.find_spec(name)
    if spec is None:
        sys.exit(f"no package {name}: pip install -r tests/bots/requirements.txt")
    return pathlib.Path(spec.origin).parent


def crawlers():
    entries = json.loads((package("crawleruseragents") / "crawler-user-agents.json").read_text("utf-8"))
    return [agent for entry in entries for agent in entry["instances"]]


def fixtures(names):
    import yaml  # pylint: disable=import-outside-toplevel
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    agents = []
    for file in sorted((package("device_detector") / "tests/fixtures/upstream").glob("*.yml")):
        if file.stem.rstrip("0123456789").rstrip("-") in names:
            entries = yaml.load(file.read_text("utf-8"), loader)
            agents += [entry["user_agent"] for entry in entries if entry.get("user_agent")]
    return agents


def browsers():
    lines = (package("fake_useragent") / "data/browsers.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line)["useragent"] for line in lines]


def build(directory):
    program = f"{directory}/classify"
    sources = [*ROOT.glob("core/filter/bots*.c"), *ROOT.glob("core/base/*.c")]
    subprocess.run(["cc", "-std=c11", "-D_GNU_SOURCE", "-O2", "-I", ROOT, *sources,
                    ROOT / "tests/bots/classify.c", "-o", program], check=True)
    return program


def classify(program, agents):
    """(is a bot by default, class, agent) of each different agent."""
    text = "\n".join(sorted({" ".join(str(agent).split("\n")) for agent in agents if agent})) + "\n"
    done = subprocess.run([program], input=text, capture_output=True, text=True, check=True,
                          encoding="utf-8", errors="replace")
    for line in done.stdout.splitlines():
        bot, kind, _name, agent = line.split("\t", 3)
        yield bot == "1", kind, agent


def show(options, title, agents):
    if options.show and agents:
        print(f"    {title}:")
        for agent in agents:
            print(f"      {agent[:150]}")


def measure_bots(options, program, name, agents):
    rows = list(classify(program, agents))
    kinds = collections.Counter(kind for _, kind, _ in rows)
    told = len(rows) - kinds["-"]
    caught = sum(bot for bot, _, _ in rows)
    left = sum(kinds[kind] for kind in BY_DESIGN)
    print(f"{name}: {len(rows)} agents, told to be programs {told} = {told / len(rows):.2%}, "
          f"bots by default {caught} = {caught / len(rows):.2%}; not bots by default {left} ("
          + ", ".join(f"{kind} {kinds[kind]}" for kind in BY_DESIGN) + ")")
    show(options, "missed", [agent for _, kind, agent in rows if kind == "-"])
    return told / len(rows)


def measure_people(options, program, name, agents):
    rows = [row for row in classify(program, agents)
            if not any(word in row[2] for word in NOT_PEOPLE)]
    caught = [agent for bot, _, agent in rows if bot]
    other = sum(kind != "-" and not bot for bot, kind, _ in rows)
    print(f"{name}: {len(rows)} agents, called bots {len(caught)}; in a class that is none {other}")
    show(options, "called bots", caught)
    return len(caught)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--show", action="store_true", help="print what was missed and who was caught")
    parser.add_argument("--bots", action="append", default=[], metavar="FILE")
    parser.add_argument("--people", action="append", default=[], metavar="FILE")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mayday-recall-") as directory:
        program = build(directory)
        recall = measure_bots(options, program, "crawlers (crawler-user-agents)", crawlers())
        measure_bots(options, program, "bots (device_detector)", fixtures(("bots",)))
        caught = measure_people(options, program, "people (device_detector)", fixtures(BROWSERS))
        caught += measure_people(options, program, "people (fake-useragent)", browsers())
        for file in options.bots:
            measure_bots(options, program, file, pathlib.Path(file).read_text("utf-8").splitlines())
        for file in options.people:
            measure_people(options, program, file, pathlib.Path(file).read_text("utf-8").splitlines())
    return 0 if recall >= RECALL_MIN and caught == 0 else 1


if __name__ == "__main__":
    sys.exit(main())

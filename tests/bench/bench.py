#!/usr/bin/env python3
"""Measures the budgets and prints each beside its bound.

    bench.py [--only NAME ...] [--server nginx|httpd] [--quick] [--json FILE]

Instructions are counted with callgrind in one process: the difference of two run lengths, divided
by the difference in requests, so that start-up cancels out. Throughput is the ratio of interleaved
runs of the same server with and without the module. Everything is on loopback.
"""
import argparse
import datetime
import gzip
import json
import os
import pathlib
import platform
import re
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "behaviour"))

from servers import (APACHE_MODULES, BUILD, MAYDAY, WORKER_USER, HttpdEvent,  # noqa: E402
                     HttpdPrefork, Nginx, children, wait_for)
from upstreams import Dead, Upstream, free_port  # noqa: E402

HEADERS = "\r\n".join([
    "Host: shop.test", "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0",
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Accept-Language: en-US,en;q=0.5", "Accept-Encoding: gzip, deflate, br",
    "Referer: https://shop.test/cart?page=2", "Cookie: sessionid=0123456789abcdef; theme=dark",
    "X-Forwarded-For: 203.0.113.7", "X-Request-Id: 4f1c2d3e", "Cache-Control: no-cache"])


class Result:
    def __init__(self, name, value, unit, bound=None, better="less", note=""):
        self.name, self.value, self.unit = name, value, unit
        self.bound, self.better, self.note = bound, better, note

    @property
    def met(self):
        if self.bound is None:
            return None
        return self.value <= self.bound if self.better == "less" else self.value >= self.bound

    def row(self):
        bound = "" if self.bound is None else f"{'<=' if self.better == 'less' else '>='} {self.bound:g}"
        verdict = {None: "", True: "ok", False: "MISSED"}[self.met]
        return f"{self.name:<58} {self.value:>11,.2f} {self.unit:<13} {bound:>12}  {verdict:<7}{self.note}"


RESULTS = []


def report(*args, **kwargs):
    result = Result(*args, **kwargs)
    RESULTS.append(result)
    print(result.row(), flush=True)
    return result.value


def progress(text):
    if sys.stderr.isatty():
        print(f"  … {text}", file=sys.stderr, flush=True)


# ---- instructions ------------------------------------------------------------


def request_many(port, path, count):
    """`count` requests one after the other, on one connection as long as the server keeps it."""
    request = f"GET {path} HTTP/1.1\r\n{HEADERS}\r\n\r\n".encode()
    answered = 0
    while answered < count:
        with socket.create_connection(("127.0.0.1", port), timeout=120) as sock, \
                sock.makefile("rb") as file:
            kept = True
            while kept and answered < count:
                sock.sendall(request)
                length = 0
                assert file.readline().startswith(b"HTTP/1.1 "), f"no answer after {answered}"
                while (line := file.readline().strip().lower()) != b"":
                    if line.startswith(b"content-length:"):
                        length = int(line.split(b":")[1])
                    elif line == b"connection: close":  # httpd, after a 503
                        kept = False
                file.read(length)
                answered += 1


def ir_total(file):
    for line in file.read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith(("summary:", "totals:")):
            return int(line.split()[1])
    raise RuntimeError(f"no summary in {file}")


def callgrind(server, path, count):
    """Instructions of the whole life of the one serving process, which answers `count` requests."""
    server.directory.chmod(0o777)  # the serving process, no longer root, writes there
    command = ["valgrind", "--tool=callgrind",
               f"--callgrind-out-file={server.directory}/callgrind.%p", "-q",
               *server.single_process_command()]
    process = subprocess.Popen(command, env=server.env, stderr=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, cwd=server.directory,
                               start_new_session=True)
    server.process = process
    wait_for(server.is_up, 60)
    for file in server.directory.glob("callgrind.*") if os.getuid() == 0 else ():
        shutil.chown(file, WORKER_USER)  # made by root at the start, of httpd -X
    request_many(server.port, path, count)
    serving = children(process.pid, "") or [process.pid]
    end(process)
    return sum(ir_total(server.directory / f"callgrind.{pid}") for pid in serving)


def end(process):
    """A server without a master may miss a signal that arrives just before it sleeps: repeat it."""
    for _ in range(20):
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(3)
            return
        except subprocess.TimeoutExpired:
            pass
    raise RuntimeError("the server does not end")


def instructions(make, path, short=500, long=2500):
    """Per request, by the difference of two run lengths."""
    totals = []
    for count in (short, long):
        with Site(make) as server:
            totals.append(callgrind(server, path, count))
    return (totals[1] - totals[0]) / (long - short)


class BenchNginx(Nginx):
    access_log = "off"
    loaded = True

    def single_process_command(self):
        return self.command()

    def render(self):
        text = super().render().replace("access_log off;", f"access_log {self.access_log};\n"
                                        "  keepalive_requests 1000000;")
        if not self.loaded:
            text = re.sub(r"^load_module.*$", "", text, flags=re.M)
            text = re.sub(r"^\s*mayday.*;$", "", text, flags=re.M)
        return text


class BenchHttpd(HttpdPrefork):
    access_log = "off"
    loaded = True

    def single_process_command(self):
        return ["/usr/sbin/apache2", "-f", str(self.conf), "-X"]

    def render(self):
        text = super().render() + "MaxKeepAliveRequests 0\nKeepAlive On\nKeepAliveTimeout 60\n"
        if self.access_log != "off":
            built_in = subprocess.run(["/usr/sbin/apache2", "-l"], capture_output=True, text=True,
                                      check=True).stdout
            for module in ("logio", "log_config"):
                if f"mod_{module}.c" not in built_in:
                    text = f"LoadModule {module}_module {APACHE_MODULES}/mod_{module}.so\n{text}"
            text += ('LogFormat "%h %l %u %t \\"%r\\" %>s %O \\"%{Referer}i\\" \\"%{User-Agent}i\\""'
                     f" combined\nCustomLog {self.access_log} combined\n")
        if not self.loaded:
            text = re.sub(r"^(LoadModule mayday|Mayday).*$", "", text, flags=re.M)
        return text


class Site:
    """A server made by `make(directory)` in a directory of its own, cleaned up afterwards."""

    def __init__(self, make):
        self.make = make

    def __enter__(self):
        self.directory = tempfile.mkdtemp(prefix="mayday-bench-")
        self.server = self.make(self.directory)
        self.server.write()
        return self.server

    def __exit__(self, *_):
        try:
            self.server.stop()
        finally:
            self.server.kill_all()
            shutil.rmtree(self.directory, ignore_errors=True)


def maker(cls, target=None, loaded=True, on=True, access_log=False, agent="off", **more):
    def make(directory):
        server = cls(directory)
        server.loaded = loaded
        server.workers = 1
        if access_log:
            server.access_log = f"{directory}/access.log" + (
                " combined" if isinstance(server, Nginx) else "")
        server.directive("agent", agent)
        server.directive("lane_size", "16m")
        if not on:
            server.without("enable")
        if target is None:
            server.place("/x/", raw={"nginx": 'return 200 "hello\\n";', "httpd": ""}
                         ["nginx" if isinstance(server, Nginx) else "httpd"])
        else:
            server.place("/x/", upstream=target.url)
        for name, value in more.items():
            setattr(server, name, value)
        return server
    return make


LUA_PACKAGES = ["libnginx-mod-http-lua", "libnginx-mod-http-ndk", "libluajit2-5.1-2",
                "libluajit2-5.1-common", "lua-resty-core", "lua-resty-lrucache"]


def lua_module():
    """The unpacked lua module of Debian's nginx, which cannot be installed beside LuaJIT; or None."""
    tree = BUILD / "cache/lua-module"
    if not tree.exists():
        with tempfile.TemporaryDirectory(prefix="mayday-bench-") as directory:
            got = subprocess.run(["apt-get", "download", *LUA_PACKAGES], cwd=directory,
                                 capture_output=True, check=False)
            if got.returncode != 0:
                return None
            for package in pathlib.Path(directory).glob("*.deb"):
                subprocess.run(["dpkg", "-x", package, f"{directory}/tree"], check=True)
            shutil.copytree(f"{directory}/tree", tree)
    return tree


class BenchLua(BenchNginx):
    """The same status check, written in Lua."""

    loaded = False

    def render(self):
        tree = lua_module()
        modules = f"{tree}/usr/lib/nginx/modules"
        share = f"{tree}/usr/share/lua/5.1"
        self.env["LD_LIBRARY_PATH"] = f"{tree}/usr/lib/x86_64-linux-gnu"
        return (f"load_module {modules}/ndk_http_module.so;\n"
                f"load_module {modules}/ngx_http_lua_module.so;\n" +
                super().render().replace("  access_log", f"""  lua_package_path "{share}/?.lua;;";
  log_by_lua_block {{ if ngx.status >= 500 then ngx.ctx.failed = true end }}
  access_log""", 1))


def bench_instructions(options):
    dead = Dead()
    for cls, word, path, bound, log_path in (
            (BenchNginx, "nginx", "/x/healthy", 60, "return 200"),
            (BenchHttpd, "httpd", "/index.html", 180, "static file")):
        if options.server not in (None, word):
            continue
        progress(f"{word}: healthy requests")
        absent = instructions(maker(cls, loaded=False), path)
        off = instructions(maker(cls, on=False), path)
        on = instructions(maker(cls), path)
        report(f"{word}: healthy request ({log_path}), without the module", absent, "instructions")
        report(f"{word}: … module loaded, mayday off", off - absent, "instr. more")
        report(f"{word}: … mayday on", on - absent, "instr. more", bound)
        if word == "nginx" and lua_module() is not None:
            in_lua = instructions(maker(BenchLua, loaded=False), path)
            report(f"{word}: … instead, a status check by log_by_lua", in_lua - absent, "instr. more")
        progress(f"{word}: failing requests")
        fail = "/x/checkout/17?page=2&token=abcdef"
        absent = instructions(maker(cls, dead, loaded=False), fail)
        logged = instructions(maker(cls, dead, loaded=False, access_log=True), fail)
        on = instructions(maker(cls, dead), fail)
        report(f"{word}: failing request (refused), without the module", absent, "instructions")
        line = report(f"{word}: … access_log line of it", logged - absent, "instr. more")
        report(f"{word}: … captured whole", on - absent, "instr. more", line)


def make_program(program):
    subprocess.run(["make", "-s", "-C", str(HERE.parents[1]), f"BUILD={BUILD}", str(program)],
                   check=True)


RECORD_PARTS = ("lane", "ids", "classify", "fields", "query", "line", "headers")


def bench_record(_options):
    """What core/capture itself takes for one failed request, without a server around it."""
    program = BUILD / "bench/record_cost"
    make_program(program)

    def cost(part, short=100, long=1100):
        totals = []
        for count in (short, long):
            with tempfile.NamedTemporaryFile(prefix="mayday-bench-") as out:
                subprocess.run(["valgrind", "--tool=callgrind", f"--callgrind-out-file={out.name}",
                                "-q", program, part, str(count)], check=True)
                totals.append(ir_total(pathlib.Path(out.name)))
        return (totals[1] - totals[0]) / (long - short)

    progress("record")
    costs = {part: cost(part) for part in RECORD_PARTS}
    report("record: 40 fields, written whole", cost("whole"), "instructions")
    for part in RECORD_PARTS:  # the lane is in all of them
        report(f"record: … {part}", costs[part] - (costs["lane"] if part != "lane" else 0),
               "instructions")


# What rules_cost measures: the budget, and what to call it.
RULES_COSTS = {
    "bots_browser": ("rules: is this agent a bot? a browser's", 2),
    "bots_bot": ("rules: … a bot's", 2),
    "bots_1k": ("rules: … one of 1 KB", 2),
    "bots_hostile_8k": ("rules: … one of 8 KB, made to be slow", 2),
    "probe": ("rules: is this request a probe?", None),
    "rule_empty": ("rules: a rule that returns the event", None),
    "rule_headers": ("rules: … that reads a header", None),
    "rule_is_bot": ("rules: … that asks bots.is_bot of it", None),
    "rule_scrub": ("rules: … that scrubs an event which is only counted", None),
    "sent": ("an event from its record to JSON, no rules", None),
}


def bench_rules(_options):
    """The least of many runs, in CPU time; the second time where memory may not be executable."""
    program = BUILD / "bench/rules_cost"
    make_program(program)
    for mode, words in (((), ""), (("--mdwe",), ", no JIT anywhere")):
        progress(f"rules{words}")
        done = subprocess.run([program, *mode], cwd=HERE.parents[1], stdout=subprocess.PIPE,
                              text=True, check=False)
        if done.returncode == 3:  # a kernel that does not know it
            continue
        done.check_returncode()
        costs = {row["case"]: row["us"] for row in map(json.loads, done.stdout.splitlines())}
        for case, (name, bound) in RULES_COSTS.items():
            report(name + words, costs[case], "us", bound)
        for case, name, bound in (("sent_scrubbed", "rules: pii.scrub on a 3 KB event", None),
                                  ("sent_by_default_rules", "rules: the default rules on a 3 KB event", 15)):
            report(name + words, costs[case] - costs["sent"], "us", bound)


# ---- throughput --------------------------------------------------------------


def wrk(port, path, seconds):
    done = subprocess.run(["wrk", "-t1", "-c16", f"-d{seconds}s", f"http://127.0.0.1:{port}{path}"],
                          capture_output=True, text=True, check=True)
    return float(re.search(r"Requests/sec:\s+([\d.]+)", done.stdout).group(1))


def bench_throughput(options):
    dead = Dead()
    seconds, rounds = (1, 5) if options.quick else (2, 11)
    for cls, word in ((BenchNginx, "nginx"), (BenchHttpdEvent, "httpd")):
        if options.server not in (None, word):
            continue
        for target, path, bound, what in ((None, "/x/a" if word == "nginx" else "/index.html", 0.99, "200"),
                                          (dead, "/x/a", 0.97, "502")):
            progress(f"{word}: throughput, all {what}")
            make = maker(cls, target, agent=str(MAYDAY))
            plain = maker(cls, target, loaded=False)
            with Site(make) as with_module, Site(plain) as without:
                for server in (with_module, without):
                    server.start()
                    wrk(server.port, path, 1)
                ratios, rates = [], []
                for n in range(rounds):
                    pair = {}
                    for server in ((with_module, without) if n % 2 else (without, with_module)):
                        pair[server] = wrk(server.port, path, seconds)
                    ratios.append(pair[with_module] / pair[without])
                    rates.append(pair[without])
                report(f"{word}: throughput with/without, all {what}", statistics.median(ratios),
                       "ratio", bound, "more",
                       f" ({min(ratios):.3f}–{max(ratios):.3f}; {statistics.median(rates):,.0f}/s without)")


class BenchHttpdEvent(BenchHttpd, HttpdEvent):
    name = "httpd-event"
    mpm = "event"


# ---- the agent ---------------------------------------------------------------


def bench_latency(options):
    """From the response's last byte at the client to the event's first byte at the receiver."""
    seen = {}

    def receive(_upstream, conn, request):
        now = time.monotonic()
        body = request.partition(b"\r\n\r\n")[2]
        head = request.partition(b"\r\n\r\n")[0].lower()
        length = int(re.search(rb"content-length: *(\d+)", head).group(1))
        while len(body) < length:
            body += conn.recv(65536)
        text = gzip.decompress(body) if b"content-encoding: gzip" in head else body
        for number in re.findall(rb'/x/n(\d+)', text)[:1]:
            seen.setdefault(int(number), now)
        conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
        conn.close()

    count = 100 if options.quick else 300
    for cls, word in ((Nginx, "nginx"), (HttpdEvent, "httpd")):
        if options.server not in (None, word):
            continue
        progress(f"{word}: latency")
        receiver, dead = Upstream(receive), Dead()

        def make(directory, cls=cls, receiver=receiver, dead=dead):
            server = cls(directory)
            server.directive("dsn", f"http://{'a' * 32}@{receiver.peer}/1")
            server.directive("issue_rate", "off")
            server.directive("send_rate", "off")
            server.place("/x/", upstream=dead.url)
            return server
        seen.clear()
        with Site(make) as server:
            server.start()
            server.wait_agent()
            sent = {}
            for n in range(count):
                server.get(f"/x/n{n}")
                sent[n] = time.monotonic()
                time.sleep(0.01)
            wait_for(lambda: len(seen) == count, 10, lambda: f"{len(seen)} of {count} arrived")
        times = sorted((seen[n] - sent[n]) * 1000 for n in sent)
        report(f"{word}: response -> event at the receiver, p50", times[len(times) // 2], "ms", 50)
        report(f"{word}: response -> event at the receiver, p99", times[int(len(times) * 0.99)], "ms", 250)
        receiver.stop()


def feed(*args):
    done = subprocess.run([BUILD / "bench/feed", MAYDAY, *map(str, args)], capture_output=True,
                          text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"feed {args}: {done.stdout}{done.stderr}")
    return json.loads(done.stdout)


def cpu_seconds(pids):
    """CPU time of the whole machine, and of these processes and of our children that have ended."""
    tick = os.sysconf("SC_CLK_TCK")
    fields = pathlib.Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:]
    busy = sum(int(fields[i]) for i in (0, 1, 2, 5, 6, 7)) / tick  # all but idle and iowait
    ours = resource.getrusage(resource.RUSAGE_CHILDREN)
    own = ours.ru_utime + ours.ru_stime
    for pid in pids:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        own += (int(stat[11]) + int(stat[12])) / tick
    return busy, own


def report_forwarded(options, dsn, receiver):
    """
    The budget is end to end, on the clock: the median of the rounds, fed as fast as the agent reads,
    so that a backlog forms and part of it goes by the disk. Receiver and feeder share the cores with
    the agent; so beside it stands each thread's CPU time, which is what one core a thread would allow,
    and how much of the cores went to programs that are none of ours.
    """
    progress("agent: forwarded whole")
    count, rounds = (20000, 3) if options.quick else (40000, 7)
    started, before = time.monotonic(), cpu_seconds(receiver)
    runs = [feed("--count", count, "--dsn", dsn) for _ in range(rounds)]
    after = cpu_seconds(receiver)
    others = ((after[0] - before[0]) - (after[1] - before[1])) / (time.monotonic() - started)
    rates = [run["per_second"] for run in runs]
    report("agent: forwarded whole to a local receiver", statistics.median(rates), "events/s", 10000,
           "more", f" ({min(rates):,.0f}–{max(rates):,.0f}; others took {max(others, 0):.1f} of "
           f"{os.cpu_count()} cores)")
    for thread in ("pipeline", "delivery"):
        report(f"agent: … CPU of {thread}", statistics.median(run[f"{thread}_us"] for run in runs),
               "us/event", 100)
    report("agent: … memory, at most", max(run["peak_kib"] for run in runs) / 1024, "MiB", 32)
    got = feed("--count", count, "--rate", 8000, "--dsn", dsn)
    report("agent: … offered at 8,000 events/s, arrived", got["per_second"], "events/s",
           note=f" (CPU {got['pipeline_us']:.0f} + {got['delivery_us']:.0f} us/event)")


def bench_agent(options):
    make_program(BUILD / "bench/feed")
    rules = HERE / "rules.lua"
    count = 100000 if options.quick else 400000
    progress("agent: counted")
    got = feed("--count", count, "--rules", rules)
    report("agent: counted through rules and grouping", got["per_cpu_second"], "events/s/core", 50000,
           "more", f" ({got['per_second']:,.0f}/s on the clock)")
    report("agent: … memory, at most", got["peak_kib"] / 1024, "MiB", 32)
    with tempfile.TemporaryDirectory(prefix="mayday-bench-") as directory:
        port = free_port()
        conf = pathlib.Path(directory) / "nginx.conf"
        conf.write_text(f"""worker_processes 1; pid {directory}/pid; error_log {directory}/e;
events {{ worker_connections 1024; }}
http {{ access_log off; keepalive_requests 10000000; client_max_body_size 10m;
  client_body_buffer_size 1m; client_body_temp_path {directory}/b; proxy_temp_path {directory}/p;
  fastcgi_temp_path {directory}/f; uwsgi_temp_path {directory}/u; scgi_temp_path {directory}/s;
  server {{ listen 127.0.0.1:{port}; location / {{ return 200 '{{}}'; }} }} }}
""", encoding="ascii")
        receiver = subprocess.Popen(["nginx", "-e", f"{directory}/e", "-c", str(conf), "-g", "daemon off;"])
        try:
            time.sleep(0.5)
            report_forwarded(options, f"http://{'a' * 32}@127.0.0.1:{port}/1",
                             children(receiver.pid, ""))
        finally:
            receiver.terminate()
            receiver.wait()


BENCHES = {"instructions": bench_instructions, "record": bench_record, "rules": bench_rules,
           "throughput": bench_throughput, "latency": bench_latency, "agent": bench_agent}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", choices=list(BENCHES))
    parser.add_argument("--server", choices=["nginx", "httpd"], help="of the servers only this one")
    parser.add_argument("--quick", action="store_true", help="shorter runs, wider error")
    parser.add_argument("--json", help="also write the numbers to this file")
    options = parser.parse_args()
    print(f"{datetime.date.today()}  {platform.platform()}  {os.cpu_count()} cores")
    for name in options.only or BENCHES:
        BENCHES[name](options)
    if options.json:
        rows = [{"name": r.name, "value": r.value, "unit": r.unit, "bound": r.bound, "met": r.met}
                for r in RESULTS]
        pathlib.Path(options.json).write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    missed = [r.name for r in RESULTS if r.met is False]
    print(f"{len(missed)} of {sum(r.bound is not None for r in RESULTS)} budgets missed"
          + "".join(f"\n  {name}" for name in missed))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())

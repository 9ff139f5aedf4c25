"""Real web servers with the module, from one description of a site.

A test describes places, upstream groups and Mayday directives once, in nginx's
spelling without the prefix; each server renders them in its own words:

    server.place("/shop/", upstream=up.dead.url)
    server.directive("tag", "tenant", server.header("X-Tenant"))
    server.start()
    server.get("/shop/basket")
"""
import atexit
import grp
import http.client
import json
import os
import pathlib
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
import time

from upstreams import free_port

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("MAYDAY_BUILD", ROOT / "build")).resolve()


def reachable_program():
    """A copy of the command that the servers' user can run, wherever the repository lies."""
    directory = pathlib.Path(tempfile.mkdtemp(prefix="mayday-test-bin-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    directory.chmod(0o755)
    program = directory / "mayday"
    shutil.copy(BUILD / "mayday", program)
    program.chmod(0o755)
    return program


MAYDAY = reachable_program()
APACHE_MODULES = pathlib.Path("/usr/lib/apache2/modules")
# src/ is nginx's own source, which loads and stores unaligned on purpose.
SANITIZER = re.compile(r"==\d+==\s*ERROR|^(?!src/).*runtime error: ")
WORKER_USER = "www-data" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name
WORKER_GROUP = grp.getgrgid(pwd.getpwnam(WORKER_USER).pw_gid).gr_name


def directive_names():
    """name without prefix -> (nginx's, httpd's), out of the directive table."""
    table = (ROOT / "core/capture/directives.def").read_text(encoding="utf-8")
    rows = re.findall(r'^MAYDAY_DIRECTIVE\(\w+,\s*"(\w+)",\s*"(\w+)",\s*(\w+)', table, re.M)
    return {nginx.removeprefix("mayday").lstrip("_") or "enable": (nginx, httpd, scope)
            for nginx, httpd, scope in rows}


DIRECTIVES = directive_names()


def wait_for(condition, seconds=10, what="condition", interval=0.05):
    """Polls until `condition()` is true and returns its value; fails with `what` otherwise."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            what = what() if callable(what) else what
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(interval)


def quote(word):
    """A word of either server's configuration."""
    if word != "" and not re.search(r"[\s;{}\"'\\#<>]", word):
        return word
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'


class Answer:
    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()


class Place:
    def __init__(self, path, upstream=None, group=None, directives=(), raw="", timeout=1):
        self.path = path
        self.upstream = upstream
        self.group = group
        self.directives = list(directives)
        self.raw = raw
        self.timeout = timeout


class Server:
    """What both servers share; `directory` is the instance's own and world-readable."""

    name = ""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.directory.chmod(0o755)
        self.port = free_port()
        self.h2_port = free_port()
        self.state = self.directory / "state"
        self.htdocs = self.directory / "htdocs"
        self.htdocs.mkdir()
        (self.htdocs / "index.html").write_text("hello\n", encoding="ascii")
        self.error_log = self.directory / "error.log"
        self.places = []
        self.groups = {}
        self.instance = [("directory", str(self.state)), ("agent", str(MAYDAY))]
        self.general = [("enable", "on")]
        self.raw_main = ""
        self.raw_server = ""
        self.workers = 2
        self.process = None
        self.env = dict(os.environ)
        for name in ("SENTRY_DSN", "SENTRY_RELEASE", "SENTRY_ENVIRONMENT"):
            self.env.pop(name, None)
        if "MAYDAY_PRELOAD" in os.environ:
            self.env["LD_PRELOAD"] = os.environ["MAYDAY_PRELOAD"]
            self.env["ASAN_OPTIONS"] = "detect_leaks=0"  # the servers' own

    # ---- the description ----

    def directive(self, name, *args):
        """A directive for the whole server (once per instance or inherited by all places)."""
        where = self.instance if DIRECTIVES[name][2] == "INSTANCE" else self.general
        where[:] = [d for d in where if d[0] != name or name in ("tag", "ignore", "collect")]
        where.append((name, *args))

    def without(self, name):
        self.instance = [d for d in self.instance if d[0] != name]
        self.general = [d for d in self.general if d[0] != name]

    def place(self, path, **how):
        self.places.append(Place(path, **how))

    def group(self, name, *peers):
        self.groups[name] = peers

    def page(self, name, text):
        (self.htdocs / name).write_text(text, encoding="utf-8")

    def rules(self, text, *options):
        file = self.directory / "rules.lua"
        file.write_text(text, encoding="utf-8")
        self.directive("rules_file", str(file), *options)

    # ---- expressions, in the server's words ----

    def header(self, name):
        raise NotImplementedError

    def upstream_header(self, name):
        raise NotImplementedError

    def cookie(self, name):
        raise NotImplementedError

    # ---- life ----

    def write(self):
        self.conf.write_text(self.render(), encoding="utf-8")

    def start(self):
        self.write()
        stderr = open(self.directory / "stderr.log", "ab")
        # A session of its own: httpd's parent signals its whole process group at its end.
        self.process = subprocess.Popen(self.command(), env=self.env, stderr=stderr, stdout=stderr,
                                        cwd=self.directory, start_new_session=True)
        stderr.close()
        wait_for(self.is_up, 15, lambda: f"{self.name} did not start\n{self.logs()}")
        return self

    def is_up(self):
        if self.process.poll() is not None:
            raise AssertionError(f"{self.name} ended with {self.process.returncode}\n{self.logs()}")
        try:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
            connection.connect()
            connection.close()
            return True
        except OSError:
            return False

    def wait_agent(self, seconds=10):
        wait_for(lambda: self.cli("status").returncode != 2, seconds,
                 lambda: f"no agent: {self.cli('status').stderr}\n{self.logs()}")

    def stop(self, seconds=15):
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(self.stop_signal)
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def kill_all(self):
        """Last resort, at the end of a test: whatever is left of the instance."""
        for pid in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        run = self.run_directory()
        if run is not None:
            shutil.rmtree(run, ignore_errors=True)

    def processes(self):
        """Pids of every living process of the instance: those whose command line or log names it."""
        found = []
        for proc in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                command = (proc / "cmdline").read_bytes()
                files = [os.readlink(f) for f in (proc / "fd").iterdir()]
                state = (proc / "stat").read_text().rsplit(")", 1)[1].split()[0]
            except OSError:
                continue
            mine = str(self.directory).encode() in command or any(
                f.startswith(str(self.directory)) for f in files)
            if mine and state != "Z" and int(proc.name) != os.getpid():
                found.append(int(proc.name))
        return found

    def agent_pid(self):
        done = self.cli("status", "--format=json")
        return json.loads(done.stdout)["agent"]["pid"] if done.stdout else None

    def run_directory(self):
        """The instance's run directory, as its agent tells or, without one, by its `current`."""
        done = self.cli("status", "--format=json")
        if done.stdout:
            return pathlib.Path(json.loads(done.stdout)["agent"]["run_directory"])
        for parent in ("/run/mayday", "/dev/shm/mayday-0", f"/dev/shm/mayday-{os.getuid()}"):
            for current in pathlib.Path(parent).glob("*/current"):
                try:
                    if str(self.directory) in current.read_text(errors="replace"):
                        return current.parent
                except OSError:
                    continue  # of another test that ends just now
        return None

    def logs(self):
        text = ""
        for name in ("stderr.log", "error.log"):
            file = self.directory / name
            if file.exists():
                text += f"--- {name}\n{file.read_text(errors='replace')[-6000:]}\n"
        return text

    def sanitizer_findings(self):
        """What a sanitizer said in the logs, with the lines that follow it."""
        lines = [line for name in ("stderr.log", "error.log") if (self.directory / name).exists()
                 for line in (self.directory / name).read_text(errors="replace").splitlines()]
        first = next((i for i, line in enumerate(lines) if SANITIZER.search(line)), None)
        return "" if first is None else "\n".join(lines[first:first + 60])

    # ---- use ----

    def get(self, path, headers=None, method="GET", body=None, timeout=15):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, path, body=body,
                               headers={"User-Agent": "behaviour-test", **(headers or {})})
            return Answer(connection.getresponse())
        finally:
            connection.close()

    def get_broken(self, path, headers=None):
        """For answers that break off: the status, if there was one."""
        try:
            return self.get(path, headers).status
        except http.client.IncompleteRead:
            return 200
        except (http.client.HTTPException, OSError):
            return None

    def cli(self, *args, timeout=30):
        return subprocess.run([MAYDAY, "--directory", str(self.state), *args],
                              capture_output=True, text=True, check=False, timeout=timeout,
                              env=dict(os.environ, NO_COLOR="1"))

    def status(self):
        done = self.cli("status", "--format=json")
        assert done.stdout, f"mayday status: {done.stderr}\n{self.logs()}"
        return json.loads(done.stdout)

    def counts(self):
        return self.status()["counts"]

    def events(self, count=None, seconds=10):
        """The stored events' JSON, oldest first; waits until there are `count`."""
        def rows():
            done = self.cli("events", "--json", "--limit", "1000")
            found = [json.loads(line) for line in done.stdout.splitlines()]
            return found if count is None or len(found) >= count else None
        found = wait_for(lambda: rows() is not None, seconds,
                         lambda: f"{count} events: {self.cli('events').stdout}\n{self.logs()}") \
            and rows()
        return [json.loads(self.cli("show", row["event_id"], "--json").stdout)
                for row in reversed(found)]

    def newest(self):
        row = json.loads(self.cli("events", "--json", "--limit", "1").stdout)
        return json.loads(self.cli("show", row["event_id"], "--json").stdout)

    def event(self, seconds=10):
        events = self.events(1, seconds)
        assert len(events) == 1, [e["exception"] for e in events]
        return events[0]


class Nginx(Server):
    name = "nginx"
    stop_signal = signal.SIGQUIT
    error_page_words = 'error_page {status} {uri};'

    def __init__(self, directory):
        super().__init__(directory)
        self.conf = self.directory / "nginx.conf"
        self.binary = os.environ.get("MAYDAY_NGINX", shutil.which("nginx") or "/usr/sbin/nginx")
        self.module = os.environ.get("MAYDAY_NGINX_MODULE",
                                     str(BUILD / "nginx/ngx_http_mayday_module.so"))
        self.log_level = "error"
        self.master = True

    def header(self, name):
        return "$http_" + name.lower().replace("-", "_")

    def upstream_header(self, name):
        return "$upstream_http_" + name.lower().replace("-", "_")

    def cookie(self, name):
        return f"$cookie_{name}"

    def query(self, name):
        return f"$arg_{name}"

    def command(self):
        return [self.binary, "-p", str(self.directory), "-c", str(self.conf),
                "-e", str(self.error_log), "-g", "daemon off;"]

    def words(self, directive):
        name, *args = directive
        return " ".join([DIRECTIVES[name][0], *map(quote, args)]) + ";"

    def lines(self, directives, indent):
        return "".join(f"{' ' * indent}{self.words(d)}\n" for d in directives)

    def render_place(self, place):
        target = place.upstream or f"http://{place.group}"
        text = f"    location {place.path} {{\n"
        if place.upstream or place.group:
            text += f"""        proxy_pass {target};
        proxy_connect_timeout {place.timeout}s;
        proxy_send_timeout {place.timeout}s;
        proxy_read_timeout {place.timeout}s;
"""
        raw = place.raw.get("nginx", "") if isinstance(place.raw, dict) else place.raw
        return text + self.lines(place.directives, 8) + f"        {raw}\n    }}\n"

    def render(self):
        groups = "".join(
            f"  upstream {name} {{\n" + "".join(f"    server {p};\n" for p in peers) + "  }\n"
            for name, peers in self.groups.items())
        user = f"user {WORKER_USER};" if os.getuid() == 0 else ""
        version = subprocess.run([self.binary, "-v"], capture_output=True, text=True,
                                 check=True).stderr
        new_http2 = tuple(map(int, re.search(r"(\d+)\.(\d+)", version).groups())) >= (1, 25)
        return f"""{user}
load_module {self.module};
worker_processes {self.workers};
pid {self.directory}/server.pid;
error_log {self.error_log} {self.log_level};
{"" if self.master else "master_process off;"}
events {{ worker_connections 512; }}
http {{
  access_log off;
  client_body_temp_path {self.directory}/t1;
  proxy_temp_path {self.directory}/t2;
  fastcgi_temp_path {self.directory}/t3;
  uwsgi_temp_path {self.directory}/t4;
  scgi_temp_path {self.directory}/t5;
{self.lines(self.instance, 2)}{self.lines(self.general, 2)}{self.raw_main}
{groups}
  server {{
    listen 127.0.0.1:{self.port};
    listen 127.0.0.1:{self.h2_port}{"" if new_http2 else " http2"};
    {"http2 on;" if new_http2 else ""}
    server_name shop.test;
    root {self.htdocs};
    {self.raw_server}
{"".join(self.render_place(p) for p in self.places)}
  }}
}}
"""

    def test_conf(self):
        self.write()
        return subprocess.run([*self.command()[:-2], "-t"], capture_output=True, text=True,
                              check=False, env=self.env)

    def reload(self):
        self.write()
        os.kill(self.process.pid, signal.SIGHUP)

    def workers_pids(self):
        return children(self.process.pid, "worker process")


class Httpd(Server):
    stop_signal = signal.SIGTERM
    mpm = ""

    def __init__(self, directory):
        super().__init__(directory)
        self.conf = self.directory / "httpd.conf"
        self.log_level = "warn"

    def header(self, name):
        return f"%{{req:{name}}}"

    def upstream_header(self, name):
        return f"%{{resp:{name}}}"

    def cookie(self, name):
        return f"%{{req_cookie:{name}}}"

    def query(self, name):
        return "%{QUERY_STRING}"

    def command(self):
        return ["/usr/sbin/apache2", "-f", str(self.conf), "-DFOREGROUND"]

    def words(self, directive):
        name, *args = directive
        return " ".join([DIRECTIVES[name][1], *map(quote, args)])

    def lines(self, directives, indent):
        return "".join(f"{' ' * indent}{self.words(d)}\n" for d in directives)

    def render_place(self, place):
        base = place.path.rstrip("/") or "/"
        text = ""
        slash = "/" if place.path.endswith("/") else ""
        if place.upstream:
            text += (f"ProxyPass {place.path} {place.upstream}{slash} connectiontimeout={place.timeout} "
                     f"timeout={place.timeout} retry=0 disablereuse=on\n")
        elif place.group:
            text += f"ProxyPass {place.path} balancer://{place.group}{slash}\n"
        raw = place.raw.get("httpd", "") if isinstance(place.raw, dict) else place.raw
        return (text + f"<Location {base}>\n{self.lines(place.directives, 2)}  {raw}\n</Location>\n")

    def render(self):
        modules = ["authz_core", "authz_host", "proxy", "proxy_http", "proxy_balancer", "proxy_fcgi",
                   "slotmem_shm", "lbmethod_byrequests", "alias", "dir", "mime", "headers", "env",
                   "setenvif", "rewrite", "http2", "include", "ssl", "socache_shmcb", "proxy_uwsgi",
                   "filter", "cgid" if self.mpm == "event" else "cgi", "auth_basic", "authn_file",
                   "authz_user"]
        load = f"LoadModule mpm_{self.mpm}_module {APACHE_MODULES}/mod_mpm_{self.mpm}.so\n" + "".join(
            f"LoadModule {m}_module {APACHE_MODULES}/mod_{m}.so\n" for m in modules)
        groups = "".join(
            f"<Proxy balancer://{name}>\n" +
            "".join(f"  BalancerMember http://{p} retry=60 connectiontimeout=1 timeout=1\n"
                    for p in peers) + "  ProxySet forcerecovery=Off\n</Proxy>\n" for name, peers in self.groups.items())
        user = f"User {WORKER_USER}\nGroup {WORKER_GROUP}\n" if os.getuid() == 0 else ""
        processes = (f"StartServers {self.workers}\nServerLimit 4\nThreadsPerChild 25\n"
                     "MaxRequestWorkers 100\nMinSpareThreads 25\nMaxSpareThreads 100\n"
                     if self.mpm == "event" else
                     f"StartServers {self.workers + 2}\nMinSpareServers 2\nMaxSpareServers 8\n"
                     "ServerLimit 16\nMaxRequestWorkers 16\n")
        return f"""ServerRoot {self.directory}
ServerName shop.test
PidFile {self.directory}/server.pid
DefaultRuntimeDir {self.directory}
Mutex file:{self.directory} default
{load}LoadModule mayday_module {BUILD}/apache/mod_mayday.so
{user}{processes}Listen 127.0.0.1:{self.port}
Listen 127.0.0.1:{self.h2_port}
Protocols h2c http/1.1
ErrorLog {self.error_log}
LogLevel {self.log_level}
TypesConfig /dev/null
DocumentRoot {self.htdocs}
{"ScriptSock " + str(self.directory) + "/cgisock" if self.mpm == "event" else ""}
<Directory />
  Require all granted
  AllowOverride All
</Directory>
{self.lines(self.instance, 0)}{self.lines(self.general, 0)}{self.raw_main}
{groups}{self.raw_server}
{"".join(self.render_place(p) for p in self.places)}"""

    def test_conf(self):
        self.write()
        return subprocess.run(["/usr/sbin/apache2", "-f", str(self.conf), "-t"],
                              capture_output=True, text=True, check=False, env=self.env)

    def reload(self):
        self.write()
        os.kill(self.process.pid, signal.SIGUSR1)

    def workers_pids(self):
        return children(self.process.pid, "apache2")


class HttpdEvent(Httpd):
    name = "httpd-event"
    mpm = "event"


class HttpdPrefork(Httpd):
    name = "httpd-prefork"
    mpm = "prefork"


SERVERS = {"nginx": Nginx, "httpd-event": HttpdEvent, "httpd-prefork": HttpdPrefork}


def children(pid, word):
    """Children of pid whose command line holds the word."""
    found = []
    for proc in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            parent = int((proc / "stat").read_text().rsplit(")", 1)[1].split()[1])
            command = (proc / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if parent == pid and word in command:
            found.append(int(proc.name))
    return found

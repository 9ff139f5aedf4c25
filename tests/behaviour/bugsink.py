"""A real Sentry-compatible server, Bugsink, on loopback, and its API."""
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

from upstreams import free_port

BIN = pathlib.Path(sys.executable).parent


class Bugsink:
    """Starts in `directory`; its empty, migrated database is kept in `cache` for the next run."""

    def __init__(self, directory, cache):
        self.directory = pathlib.Path(directory)
        self.projects = 0
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.env = dict(os.environ, PYTHONPATH=str(self.directory), HOME=str(self.directory),
                        DJANGO_SETTINGS_MODULE="bugsink_conf")
        self.write_conf()
        self.prepare(pathlib.Path(cache))
        self.token = self.manage("create_auth_token").split()[-1]
        self.log = open(self.directory / "bugsink.log", "wb")
        self.process = subprocess.Popen(
            [BIN / "gunicorn", "--bind", f"127.0.0.1:{self.port}", "--workers", "1",
             "--threads", "4", "--no-control-socket", "bugsink.wsgi"],
            env=self.env, cwd=self.directory, stdout=self.log, stderr=self.log,
            start_new_session=True)
        self.wait()
        self.team = self.call("POST", "/teams/", {"name": "tests"})["id"]

    def write_conf(self):
        conf = self.directory / "bugsink_conf.py"
        subprocess.run([BIN / "bugsink-create-conf", "--template", "local", "--host", "127.0.0.1",
                        "--port", str(self.port), "-o", conf],
                       check=True, stdout=subprocess.DEVNULL)
        with open(conf, "a", encoding="utf-8") as f:
            f.write(f"""
DATABASES["default"]["NAME"] = "{self.directory}/db.sqlite3"
DATABASES["snappea"]["NAME"] = "{self.directory}/snappea.sqlite3"
# Loopback only, and no quota in the way of a test.
BUGSINK.update({{
    "PHONEHOME": False,
    "MAX_EVENTS_PER_PROJECT_PER_5_MINUTES": 10**9,
    "MAX_EVENTS_PER_PROJECT_PER_HOUR": 10**9,
    "MAX_EVENTS_PER_5_MINUTES": 10**9,
    "MAX_EVENTS_PER_HOUR": 10**9,
}})
""")

    def prepare(self, cache):
        version = subprocess.run([BIN / "bugsink-show-version"], env=self.env, check=True,
                                 capture_output=True, text=True).stdout.split()[-1]
        kept = cache / f"bugsink-{version}"
        if not kept.exists():
            self.manage("migrate")
            self.manage("migrate", "snappea", "--database=snappea")
            fresh = cache / f"bugsink-{version}.{os.getpid()}"
            fresh.mkdir(parents=True)
            for name in ("db.sqlite3", "snappea.sqlite3"):
                shutil.copy(self.directory / name, fresh / name)
            fresh.rename(kept)
        for name in ("db.sqlite3", "snappea.sqlite3"):
            shutil.copy(kept / name, self.directory / name)

    def manage(self, *args):
        done = subprocess.run([BIN / "bugsink-manage", *args], env=self.env, cwd=self.directory,
                              capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"bugsink-manage {' '.join(args)}:\n{done.stdout}{done.stderr}")
        return done.stdout

    def wait(self, seconds=60):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                self.call("GET", "/teams/")
                return
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.1)
        raise RuntimeError("Bugsink did not start:\n" +
                           (self.directory / "bugsink.log").read_text(errors="replace"))

    def call(self, method, path, body=None):
        request = urllib.request.Request(
            f"{self.url}/api/canonical/0{path}", method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def list(self, path):
        """All pages of a listing."""
        rows = []
        while path:
            page = self.call("GET", path)
            rows += page["results"]
            path = (page["next"] or "").partition("/api/canonical/0")[2]
        return rows

    def project(self, name):
        self.projects += 1
        made = self.call("POST", "/projects/", {"name": f"{name} {self.projects}", "team": self.team,
                                                "visibility": "joinable"})
        return Project(self, made["id"])

    def stop(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(20)
        self.log.close()


class Project:
    """One project of the server: what arrived for one DSN."""

    def __init__(self, bugsink, project_id):
        self.bugsink = bugsink
        self.id = project_id
        self.dsn = bugsink.call("GET", f"/projects/{project_id}/")["dsn"]

    def issues(self):
        return self.bugsink.list(f"/issues/?project={self.id}&sort=last_seen")

    def events(self, issue=None):
        """The events' own JSON, as it was stored."""
        rows = []
        for each in self.issues():
            if issue is None or each["id"] == issue["id"]:
                rows += self.bugsink.list(f"/events/?issue={each['id']}")
        return [self.bugsink.call("GET", f"/events/{row['id']}/")["data"] for row in rows]

    def wait_events(self, count, seconds=15):
        """Waits until `count` events have arrived and returns them."""
        deadline = time.monotonic() + seconds
        while True:
            events = self.events()
            if len(events) >= count or time.monotonic() > deadline:
                return events
            time.sleep(0.1)

"""The server starts, keeps, reloads and ends the agent, and traffic never notices."""
import os
import pwd
import signal
import socket
import subprocess
import threading
import time

from event_checks import tag
from servers import MAYDAY, WORKER_USER, wait_for


class Load:
    """Steady traffic of one client in a thread: counts statuses and transport errors."""

    def __init__(self, server, path):
        self.server, self.path = server, path
        self.statuses, self.errors = [], []
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self):
        while not self.stopped.is_set():
            try:
                self.statuses.append(self.server.get(self.path).status)
            except OSError as error:
                self.errors.append(error)
            time.sleep(0.002)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        self.thread.join(20)


def captured(server):
    return sum(server.counts()["captured"].values())


def test_enabling_it_is_all(server, up):
    server.place("/shop/", upstream=up.dead.url)
    server.start()
    server.wait_agent()
    server.get("/shop/x")
    assert tag(server.event(), "mayday.kind") == "upstream_refused"
    status = server.cli("status")
    assert status.returncode == 0, status.stdout + status.stderr


def test_stop_leaves_no_process(server, up):
    server.place("/shop/", upstream=up.dead.url)
    server.start()
    server.wait_agent()
    agent = server.agent_pid()
    server.get("/shop/x")
    started = time.monotonic()
    server.stop()
    assert time.monotonic() - started < 8
    wait_for(lambda: not os.path.exists(f"/proc/{agent}"), 3, "the agent has ended")
    wait_for(lambda: server.processes() == [], 3, lambda: f"processes left: {server.processes()}")


def test_events_of_the_last_moment_are_kept(server, up):
    server.place("/shop/", upstream=up.dead.url)
    server.start()
    server.wait_agent()
    for _ in range(20):
        server.get("/shop/x")
    server.stop()
    server.start()
    server.wait_agent()
    wait_for(lambda: captured(server) == 20, 10, lambda: server.counts())


def test_killed_agent_is_back_within_a_second(server, up):
    server.place("/shop/", upstream=up.dead.url)
    server.start()
    server.wait_agent()
    for _ in range(3):
        first = server.agent_pid()
        os.kill(first, signal.SIGKILL)
        started = time.monotonic()
        server.get("/shop/x")

        def replaced():
            done = server.cli("status", "--format=json")
            return done.stdout and f'"pid":{first}' not in done.stdout.replace(" ", "")
        wait_for(replaced, 5, "a new agent")
        assert time.monotonic() - started < 1.5
        time.sleep(1.1)  # a crash loop would be backed off from; these are single deaths
    wait_for(lambda: captured(server) == 3, 5, lambda: server.counts())


def test_traffic_goes_on_without_an_agent(server, up):
    server.directive("agent", "off")
    server.place("/shop/", upstream=up.dead.url)
    server.place("/ok/", upstream=up.ok.url)
    server.start()
    for _ in range(50):
        assert server.get("/shop/x").status in (502, 503)
        assert server.get("/ok/x").status == 200
    assert server.cli("status").returncode == 2


def test_reload_under_load_loses_nothing(server, up):
    server.directive("issue_rate", "off")
    server.place("/shop/", upstream=up.dead.url)
    server.start()
    server.wait_agent()
    agent = server.agent_pid()
    with Load(server, "/shop/x") as load:
        for n in range(4):
            time.sleep(0.7)
            server.directive("server_name", f"web-{n}")
            server.reload()
        time.sleep(1)
    assert load.errors == []
    assert set(load.statuses) <= {502, 503}
    wait_for(lambda: captured(server) == len(load.statuses), 10,
             lambda: f"{len(load.statuses)} failed, {server.counts()}")
    assert server.agent_pid() == agent
    assert server.newest()["server_name"] == "web-3"


def test_configuration_test_beside_a_live_server_changes_nothing(server, up):
    server.place("/shop/", upstream=up.dead.url)
    server.start()
    server.wait_agent()
    server.get("/shop/x")
    server.event()
    run = server.run_directory()

    def snapshot():
        return sorted((str(f), f.stat().st_mtime_ns, f.stat().st_ino)
                      for base in (server.state, run) for f in base.iterdir()
                      if f.suffix not in (".sqlite", ".sqlite-wal", ".sqlite-shm"))
    before, agent = snapshot(), server.agent_pid()
    server.directive("server_name", "another")
    done = server.test_conf()
    assert done.returncode == 0, done.stderr
    assert snapshot() == before
    assert server.agent_pid() == agent
    server.get("/shop/x")
    assert len(server.events(2)) == 2


def test_nothing_is_made_when_it_is_off(server, up):
    server.without("enable")
    server.place("/shop/", upstream=up.dead.url)
    server.start()
    server.get("/shop/x")
    assert not server.state.exists()
    assert server.cli("status").returncode == 2


def test_killed_worker_loses_only_itself(server, up):
    server.place("/shop/", upstream=up.dead.url)
    server.start()
    server.wait_agent()
    for _ in range(5):
        server.get("/shop/x")
    # an answer is out before the worker logs it
    wait_for(lambda: server.counts()["requests"] == 5, 10, lambda: server.counts())
    for pid in server.workers_pids():
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    wait_for(server.is_up, 5)

    def answers():
        try:
            return server.get("/shop/x").status in (502, 503)
        except OSError:
            return False
    wait_for(answers, 10, "new workers")
    wait_for(lambda: captured(server) >= 6, 10, lambda: server.counts())


def test_removed_from_the_configuration_at_reload_the_agent_ends(server, up):
    server.place("/shop/", upstream=up.dead.url)
    server.start()
    server.wait_agent()
    agent = server.agent_pid()
    server.without("enable")
    server.reload()
    wait_for(lambda: not os.path.exists(f"/proc/{agent}"), 10, "the agent has ended")
    assert server.get("/shop/x").status in (502, 503)


def test_directory_that_cannot_be_made_does_not_stop_the_server(server, up):
    file = server.directory / "file"
    file.write_text("in the way")
    server.directive("directory", str(file / "state"))
    server.place("/ok/", upstream=up.ok.url)
    server.start()
    assert server.get("/ok/x").status == 200
    assert "mayday" in server.logs() and str(file / "state") in server.logs()


def test_what_orphans_capture_waits_for_the_next_start(server, up):
    """kill -9 of the master: its agent ends, its workers go on, nobody starts another agent."""
    server.place("/shop/", upstream=up.dead.url)
    server.start()
    server.wait_agent()
    agent, workers = server.agent_pid(), server.workers_pids()
    server.get("/shop/before")
    server.process.kill()
    server.process.wait()
    wait_for(lambda: not os.path.exists(f"/proc/{agent}"), 10, "the agent has ended")
    assert server.get("/shop/orphaned").status in (502, 503)
    time.sleep(1)  # three looks of a starter
    assert server.cli("status").returncode == 2
    for pid in set(workers) | set(server.processes()):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    wait_for(lambda: server.processes() == [], 5, lambda: f"processes left: {server.processes()}")
    (server.directory / "server.pid").unlink(missing_ok=True)
    server.start()
    server.wait_agent()
    wait_for(lambda: captured(server) == 2, 10, lambda: server.counts())


def test_agent_of_its_own_outlives_the_server(server, up):
    """mayday_agent off and a sidecar, which may come before the server and stays when it goes."""
    server.place("/shop/", upstream=up.dead.url)
    server.directive("agent", "off")
    server.start()
    server.get("/shop/before")
    run = server.run_directory()
    user = pwd.getpwnam(WORKER_USER)
    with open(server.directory / "sidecar.log", "wb") as log:
        sidecar = subprocess.Popen([MAYDAY, "agent", "--run", str(run)], stderr=log,
                                   user=user.pw_uid, group=user.pw_gid, extra_groups=[])
    try:
        wait_for(lambda: server.cli("status").returncode == 0, 10,
                 lambda: (server.directory / "sidecar.log").read_text())
        wait_for(lambda: captured(server) == 1, 10, lambda: server.counts())
        server.stop()
        assert sidecar.poll() is None
        server.directive("server_name", "again")
        server.start()
        server.get("/shop/after")
        wait_for(lambda: captured(server) == 2, 10, lambda: server.counts())
        assert server.newest()["server_name"] == "again"
        assert server.agent_pid() == sidecar.pid
    finally:
        sidecar.terminate()
        assert sidecar.wait(10) == 0


def test_second_server_on_the_directory_serves_and_captures_nothing(server, up):
    server.place("/shop/", upstream=up.dead.url)
    server.start()
    server.wait_agent()
    directory = server.directory / "second"
    directory.mkdir()
    second = type(server)(directory)
    second.directive("directory", str(server.state))
    second.place("/shop/", upstream=up.dead.url)
    try:
        second.start()
        assert second.get("/shop/x").status in (502, 503)
        assert "MD0084" in second.logs() and str(server.conf) in second.logs()
        second.stop()
    finally:
        second.kill_all()
    server.get("/shop/x")
    wait_for(lambda: captured(server) == 1, 10, lambda: server.counts())


def test_stalled_clients_hold_up_neither_the_agent_nor_its_end(server, up):
    """Sixteen connections are all that the API takes; the rest is turned away, the agent works on."""
    server.place("/shop/", upstream=up.dead.url)
    server.start()
    server.wait_agent()
    path, agent = str(server.run_directory() / "mayday.sock"), server.agent_pid()
    clients = [socket.socket(socket.AF_UNIX) for _ in range(100)]
    try:
        for client in clients:
            client.setblocking(False)
            if client.connect_ex(path) == 0:
                try:
                    client.send(b"GET /v1/sta")
                except BrokenPipeError:
                    pass  # turned away
        server.get("/shop/x")
        time.sleep(0.5)
        server.stop()
        wait_for(lambda: not os.path.exists(f"/proc/{agent}"), 3, "the agent has ended")
    finally:
        for client in clients:
            client.close()
    server.start()
    server.wait_agent()
    wait_for(lambda: captured(server) == 1, 10, lambda: server.counts())

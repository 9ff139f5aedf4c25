"""Behind the servers runs a real application with a real SDK: one failure, one issue."""
import os
import signal
import socket
import subprocess
import sys

import pytest

from event_checks import tag
from servers import wait_for
from upstreams import free_port

APP = '''
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
import sentry_sdk

sentry_sdk.init(dsn=sys.argv[2], default_integrations=False)

class Shop(BaseHTTPRequestHandler):
    def do_GET(self):
        try:
            if self.path.endswith("/raise"):
                raise KeyError("basket")
            self.answer(200, {})
        except KeyError as error:
            event_id = sentry_sdk.capture_exception(error)
            sentry_sdk.flush(5)
            self.answer(500, {"X-Sentry-Event-Id": event_id})

    def answer(self, status, headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass

ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Shop).serve_forever()
'''


@pytest.fixture
def app(project, tmp_path):
    (tmp_path / "app.py").write_text(APP)
    port = free_port()
    process = subprocess.Popen([sys.executable, tmp_path / "app.py", str(port), project.dsn])
    process.port = port

    def listens():
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", port)) == 0
    wait_for(listens, 15, "the application")
    yield process
    process.kill()
    process.wait()


def test_one_failure_is_one_issue(server, project, app):
    condition = (server.upstream_header("X-Sentry-Event-Id") if server.name == "nginx" else
                 "%{resp:X-Sentry-Event-Id} != ''")
    server.directive("dsn", project.dsn)
    server.directive("ignore", "upstream_response", f"if={condition}")
    server.place("/shop/", upstream=f"http://127.0.0.1:{app.port}")
    server.start()
    server.wait_agent()
    assert server.get("/shop/raise").status == 500
    wait_for(lambda: server.counts()["ignored"] == {"upstream_response": 1}, 5)
    events = project.wait_events(1)
    assert [e["sdk"]["name"].partition(".")[0] for e in events] == ["sentry"]
    assert len(project.issues()) == 1

    os.kill(app.pid, signal.SIGKILL)
    app.wait()
    for n in range(3):
        assert server.get(f"/shop/page{n}").status in (502, 503)
    events = project.wait_events(4)
    ours = [e for e in events if tag(e, "mayday.kind") == "upstream_refused"]
    assert len(ours) == 3
    assert len(project.issues()) == 2

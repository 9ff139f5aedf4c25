"""A real PHP-FPM behind both servers: it raises, it is too slow, it is gone."""
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile

import pytest

from event_checks import check_event, tag, title
from servers import WORKER_GROUP, WORKER_USER, wait_for

APP = """<?php
if (str_contains($_SERVER['REQUEST_URI'], 'slow')) { sleep(20); }
if (str_contains($_SERVER['REQUEST_URI'], 'raise')) { throw new RuntimeException('basket is empty'); }
echo "welcome\\n";
"""


class Fpm:
    def __init__(self):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="mayday-php-"))
        self.directory.chmod(0o755)
        self.socket = self.directory / "php.sock"
        self.app = self.directory / "app.php"
        self.app.write_text(APP)
        user = f"user = {WORKER_USER}\ngroup = {WORKER_GROUP}\n" if os.getuid() == 0 else ""
        conf = self.directory / "fpm.conf"
        conf.write_text(f"""[global]
error_log = {self.directory}/fpm.log
daemonize = no
[shop]
{user}listen = {self.socket}
listen.mode = 0666
pm = static
pm.max_children = 3
php_admin_flag[log_errors] = on
""")
        program = sorted(pathlib.Path("/usr/sbin").glob("php-fpm*"))[-1]
        self.process = subprocess.Popen([program, "-y", conf], start_new_session=True,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(self.socket.exists, 10, "PHP-FPM")

    def stop(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            wait_for(lambda: not self.listens(), 5, "the end of PHP-FPM's children")

    def listens(self):
        with socket.socket(socket.AF_UNIX) as s:
            return s.connect_ex(str(self.socket)) == 0

    def clean(self):
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)


@pytest.fixture
def fpm():
    instance = Fpm()
    yield instance
    instance.clean()


@pytest.fixture
def shop(server, fpm, project):
    """A server whose /shop/ is the application."""
    server.directive("dsn", project.dsn)
    if server.name == "nginx":
        server.place("/shop/", raw=f"""fastcgi_pass unix:{fpm.socket};
        fastcgi_read_timeout 1s;
        fastcgi_param SCRIPT_FILENAME {fpm.app};
        fastcgi_param REQUEST_METHOD $request_method;
        fastcgi_param REQUEST_URI $request_uri;""")
    else:
        server.raw_server += (f'RewriteEngine On\nRewriteRule ^/shop/ '
                              f'"unix:{fpm.socket}|fcgi://php{fpm.app}" [P]\nProxyTimeout 1\n')
    server.start()
    server.wait_agent()
    assert server.get("/shop/").body == b"welcome\n"
    return server


def test_exception(shop, project):
    assert shop.get("/shop/raise").status == 500
    event = project.wait_events(1)[0]
    check_event(event)
    assert tag(event, "mayday.kind") == "upstream_response"
    assert "php.sock" in title(event) and "500" in title(event)
    lines = " ".join(c["message"] for c in event["breadcrumbs"]["values"])
    assert "basket is empty" in lines


def test_too_slow(shop, project):
    assert shop.get("/shop/slow").status in (502, 503, 504)
    event = project.wait_events(1)[0]
    check_event(event)
    assert tag(event, "mayday.kind") == "upstream_read_timeout"


def test_gone_is_one_issue(shop, fpm, project):
    fpm.stop()
    for page in ("a", "b/c", "d", "e"):
        assert shop.get(f"/shop/{page}").status in (502, 503)
    events = project.wait_events(4)
    gone = [e for e in events if tag(e, "mayday.kind") in ("upstream_refused", "upstream_unreachable")]
    # httpd may find out on a connection that it had kept: that request was hung up on.
    assert len(gone) >= 3 and len(events) == 4
    for event in gone:
        check_event(event)
    assert len({tuple(e["fingerprint"]) for e in gone}) == 1

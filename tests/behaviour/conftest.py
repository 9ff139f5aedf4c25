"""The fixtures of the behaviour suite: one suite, three servers."""
import pathlib
import shutil
import sys
import tempfile

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

from bugsink import Bugsink  # noqa: E402
from servers import BUILD, SERVERS  # noqa: E402
from upstreams import Upstreams  # noqa: E402


def pytest_addoption(parser):
    parser.addoption("--server", action="append", choices=list(SERVERS),
                     help="only these servers (default: all)")


def pytest_generate_tests(metafunc):
    if "server" in metafunc.fixturenames:
        chosen = metafunc.config.getoption("--server") or list(SERVERS)
        marker = metafunc.definition.get_closest_marker("only")
        if marker:
            chosen = [name for name in chosen if name in marker.args]
        metafunc.parametrize("server", chosen, indirect=True)


def pytest_configure(config):
    config.addinivalue_line("markers", "only(*servers): a test that makes sense there only")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    setattr(item, f"report_{call.when}", outcome.get_result())


@pytest.fixture
def server(request):
    """A server of each kind, not started; its logs are shown if the test fails."""
    directory = tempfile.mkdtemp(prefix="mayday-test-")
    instance = SERVERS[request.param](directory)
    try:
        yield instance
        report = getattr(request.node, "report_call", None)
        if report is not None and report.failed:
            print(instance.logs())
            if instance.conf.exists():
                print("--- configuration\n" + instance.conf.read_text(encoding="utf-8"))
        instance.stop()
        findings = instance.sanitizer_findings()
        assert not findings, findings
    finally:
        instance.kill_all()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def up():
    with Upstreams() as upstreams:
        yield upstreams


@pytest.fixture(scope="session")
def bugsink():
    directory = tempfile.mkdtemp(prefix="mayday-bugsink-")
    cache = BUILD / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    instance = Bugsink(directory, cache)
    try:
        yield instance
    finally:
        instance.stop()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def project(bugsink, request):
    """A project of its own in Bugsink for this test."""
    return bugsink.project(request.node.name[:100])

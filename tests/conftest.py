"""Fixtures: the broker (embedded, or the one that BOOTSTRAP_SERVERS names) and the scripts as processes."""

import os
import signal

import pytest
from broker import Broker
from harness import Cluster, Script

EXTERNAL = os.environ.get("BOOTSTRAP_SERVERS")


@pytest.fixture(scope="session")
def address():
    """The address of the broker that most tests share."""
    if EXTERNAL:
        yield EXTERNAL
    else:
        with Broker() as broker:
            yield broker.address


@pytest.fixture
def cluster(address):
    """The shared broker. What a test makes on it is removed."""
    cluster = Cluster(address)
    yield cluster
    cluster.delete_topics()


@pytest.fixture
def own_broker():
    """A broker of the test's own: empty, and free to be killed, frozen and started again."""
    if EXTERNAL:
        pytest.skip("needs a broker of its own, to stop it or to have its topics to itself; BOOTSTRAP_SERVERS is set")
    with Broker() as broker:
        yield broker


@pytest.fixture
def start():
    """start(name, address, **settings) runs a script; all that it started are ended with the test."""
    scripts = []

    def start(name, address, **settings):
        scripts.append(Script(name, address, **settings))
        return scripts[-1]

    yield start
    for script in scripts:
        script.end()


@pytest.fixture
def topic(cluster):
    """A new topic with one partition. Its name serves as the name of the test's group too."""
    return cluster.create_topic()


@pytest.fixture
def work(start, address, topic):
    """work(name, **settings) runs a worker on the test's topic, in the test's group."""
    return lambda name, **settings: start(name, address, TOPIC=topic, GROUP_ID=topic, **settings)


@pytest.fixture(params=[signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def stop_signal(request):
    """A test that asks for this runs with each of the two signals that end a script."""
    return request.param

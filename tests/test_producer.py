"""The producer in normal running, and what holds for each of the three scripts before it has reached a broker."""

import json
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest
from harness import ROOT, Cluster, on_this_machine, wait_until
from kafka import KafkaAdminClient

EMAILS = [f"user{i}@gmail.com" for i in range(10)]
PUBLISHED = [f"Published message to message broker. User email: {email}" for email in EMAILS]
SCRIPTS = ["producer", "streaming_worker", "batch_worker"]



@pytest.fixture
def new_topic(cluster):
    """The name of a topic that does not exist yet; it is removed if the test makes it."""
    cluster.topics.append(cluster.new_name())
    return cluster.topics[-1]


def test_creates_the_topic_and_publishes_ten_signups_in_order(start, cluster, new_topic):
    producer = start("producer", cluster.address, TOPIC=new_topic)
    assert producer.wait() == 0
    assert (producer.out, producer.err) == (PUBLISHED, [])
    assert [message.value for message in cluster.stored(new_topic)] == [email.encode() for email in EMAILS]
    with KafkaAdminClient(**cluster.settings) as admin:
        [partition] = admin.describe_topics([new_topic])[0]["partitions"]
    assert len(partition["replica_nodes"]) == 1


def test_an_existing_topic_is_said_and_used(start, cluster, topic):
    cluster.publish(topic, ["earlier@gmail.com"])
    producer = start("producer", cluster.address, TOPIC=topic)
    assert producer.wait() == 0
    assert (producer.out, producer.err) == ([f"Topic {topic} is already created", *PUBLISHED], [])
    assert [message.value.decode() for message in cluster.stored(topic)] == ["earlier@gmail.com", *EMAILS]


def test_no_other_failure_is_taken_for_an_existing_topic(start, address):
    producer = start("producer", address, TOPIC="no/topic")
    assert producer.wait() == 1
    assert producer.out == []
    [line] = producer.err
    assert "no/topic" in line


def test_prints_at_once_and_a_tenth_of_a_second_apart(start, cluster, new_topic, monkeypatch):
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    producer = start("producer", cluster.address, TOPIC=new_topic)
    first = producer.wait_for("Published")
    assert producer.process.poll() is None, "the lines came when it was over"
    assert producer.wait_for("Published", count=10) - first > 0.8


def test_a_message_is_reported_only_after_the_broker_has_acknowledged_it(start, own_broker):
    producer = start("producer", own_broker.address)
    producer.wait_for("Published", count=3)
    own_broker.freeze()
    time.sleep(0.5)  # for what was on its way
    reported = producer.out
    time.sleep(1.5)  # long enough for all ten, if it did not wait for the broker
    assert producer.out == reported and len(reported) < 10
    own_broker.thaw()
    assert producer.wait() == 0
    assert (producer.out, producer.err) == (PUBLISHED, [])
    assert [message.value.decode() for message in Cluster(own_broker.address).stored("user_signups")] == EMAILS


def test_a_signal_ends_the_producer_without_a_word_and_what_it_reported_is_stored(start, cluster, new_topic, stop_signal):
    producer = start("producer", cluster.address, TOPIC=new_topic)
    producer.wait_for("Published", count=3)
    producer.signal(stop_signal)
    assert producer.wait() == -stop_signal
    assert producer.out == PUBLISHED[: len(producer.out)] and producer.err == []
    stored = [message.value.decode() for message in cluster.stored(new_topic)]
    assert stored[: len(producer.out)] == EMAILS[: len(producer.out)]


# What holds for each of the three scripts


@pytest.fixture(params=SCRIPTS)
def script(request):
    return request.param


@pytest.fixture
def silent():
    """A port of this machine where somebody listens and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(30)
        yield server


def address_of(server):
    return f"127.0.0.1:{server.getsockname()[1]}"


def test_a_signal_during_the_imports_ends_it_without_a_word(start, script, silent, stop_signal, monkeypatch):
    monkeypatch.setenv("PYTHONVERBOSE", "1")  # each import is a line on standard error
    process = start(script, address_of(silent))
    wait_until(lambda: any(line.startswith("import 'kafka.") for line in process.err), shown=process.__str__)
    process.signal(stop_signal)
    assert process.wait() == -stop_signal
    assert process.out == []
    assert not [line for line in process.err if "Traceback" in line or "KeyboardInterrupt" in line]


def test_a_signal_while_it_waits_for_a_broker_ends_it_within_a_second(start, script, silent, stop_signal):
    process = start(script, address_of(silent))
    connection, _ = silent.accept()
    with connection:
        process.signal(stop_signal)
        assert process.wait(on_this_machine(1)) == -stop_signal
        assert (process.out, process.err) == ([], [])


HANDLERS = "[signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]"


def imported(script, expression, folder):
    """The value of the expression after `import SCRIPT as script`, in a folder where that file is alone."""
    shutil.copy(ROOT / f"{script}.py", folder)
    code = [
        "import json, signal, sys, threading",
        f"handlers_before = {HANDLERS}",
        f"import {script} as script",
        f"print(json.dumps({expression}))",
    ]
    done = subprocess.run([sys.executable, "-c", "\n".join(code)], cwd=folder, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)  # fails if the import has printed anything


def test_importing_it_does_nothing_and_needs_none_of_the_others(script, tmp_path):
    same_handlers = f"handlers_before == {HANDLERS}"
    scripts = f"[name for name in {SCRIPTS} if name in sys.modules]"
    assert imported(script, f"[threading.active_count(), {same_handlers}, {scripts}]", tmp_path) == [1, True, [script]]


WORKER = {"TOPIC": "user_signups", "GROUP_ID": "group1", "WORK_SECONDS": 0.5}


@pytest.mark.parametrize(
    "script, constants",
    [
        ("producer", {"TOPIC": "user_signups"}),
        ("streaming_worker", WORKER),
        ("batch_worker", {**WORKER, "BATCH_SECONDS": 5, "BUFFER_SIZE": 10_000}),
    ],
)
def test_constants_have_the_names_and_values_that_readers_look_for(script, constants, tmp_path):
    found = imported(script, f"[{{name: getattr(script, name) for name in {[*constants]}}}, callable(script.sleep)]", tmp_path)
    assert found == [constants, True]


@pytest.mark.parametrize("script, handler", [("streaming_worker", "graceful_exit"), ("batch_worker", "exit_gracefully")])
def test_the_signal_handler_only_sets_the_flag(script, handler, tmp_path):
    calls = f"[script.is_shutting_down, script.{handler}(signal.SIGINT, None), script.is_shutting_down, callable(script.main)]"
    assert imported(script, calls, tmp_path) == [False, None, True, True]


def test_the_batch_workers_consumer_is_a_thread(tmp_path):
    wanted = "[issubclass(script.Consumer, threading.Thread), callable(script.process_messages)]"
    assert imported("batch_worker", wanted, tmp_path) == [True, True]

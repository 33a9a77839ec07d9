"""The batch worker in normal running: its rhythm, its buffer and its last batch. What it has in common with the
streaming worker is in test_streaming_worker.py.
"""

import signal
import threading
import time
from contextlib import contextmanager

import pytest
from harness import GOODBYE, Cluster, wait_until
from kafka import KafkaProducer

START = "starting batch consumer worker"
NEVER = 600  # seconds, longer than any test


def received(number):
    return f"received {number} messages, inserting into the queue buffer"


def handled(emails):
    """The lines for one batch."""
    return [
        "processing message in queue buffer",
        f"sending email to user {emails}",
        f"updating status to Waiting Confirmation for users {emails}",
        "finished processing messages",
    ]


def signups(number):
    return [f"user{i}@example.com" for i in range(number)]


@contextmanager
def traffic(cluster, topic, per_second):
    """So many sign-ups a second, as long as the block lasts."""
    over = threading.Event()

    def publish():
        number = 0
        with KafkaProducer(**cluster.settings) as producer:
            while not over.wait(1 / per_second):
                producer.send(topic, f"user{number}@example.com".encode())
                number += 1

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_an_empty_buffer_prints_nothing(work, cluster, topic):
    worker = work("batch_worker", BATCH_SECONDS=0.1)
    wait_until(lambda: cluster.members(topic), what="the worker is in its group", shown=worker.__str__)
    time.sleep(1)
    assert (worker.out, worker.err) == ([START], [])


def test_a_batch_is_all_that_has_come_within_the_batch_seconds(work, cluster, topic):
    with traffic(cluster, topic, per_second=10):
        worker = work("batch_worker", BATCH_SECONDS=2, WORK_SECONDS=0.1)
        begun = [worker.wait_for(START)] + [worker.wait_for("processing message in", count=i) for i in (1, 2, 3)]
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
    for earlier, later in zip(begun, begun[1:]):
        assert 1.9 < later - earlier < 4.5, f"the batches began at {begun}\n{worker}"
    sizes = [line.count("@") for line in worker.out if line.startswith("sending")]
    assert min(sizes[1:3]) > 10, f"two seconds of ten sign-ups a second each\n{worker}"


def test_a_full_buffer_is_drained_at_once_and_never_exceeded(work, cluster, topic):
    emails = signups(12)
    cluster.publish(topic, emails)
    worker = work("batch_worker", BATCH_SECONDS=NEVER, BUFFER_SIZE=5, WORK_SECONDS=0.3)
    worker.wait_for("sending email")
    worker.wait_for("received", count=2)
    time.sleep(0.3)  # the first batch is still in hand, and the buffer is full again: no room for the third
    assert [line for line in worker.out if "received" in line] == [received(5)] * 2
    worker.wait_for("finished", count=2)
    worker.wait_for("received", count=3)
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    others = [line for line in worker.out if "received" not in line]
    assert others == [START, *handled(emails[:5]), *handled(emails[5:10]), *handled(emails[10:]), GOODBYE]
    assert [line for line in worker.out if "received" in line] == [received(5), received(5), received(2)]
    assert worker.err == []
    assert cluster.lag(topic, topic) == 0


def test_what_is_in_the_buffer_when_the_signal_comes_is_the_last_batch(work, cluster, topic, stop_signal):
    cluster.publish(topic, signups(3))
    worker = work("batch_worker", BATCH_SECONDS=NEVER)
    worker.wait_for("received")
    worker.signal(stop_signal)
    worker.wait_for("sending email")
    cluster.publish(topic, ["late@example.com"])  # it must leave that one to the next worker
    assert worker.wait() == 0
    assert (worker.out, worker.err) == ([START, received(3), *handled(signups(3)), GOODBYE], [])
    assert cluster.committed(topic, topic) == {0: 3}


def test_finished_batches_are_committed_while_traffic_never_pauses(work, cluster, topic):
    def finished(until):
        """How many messages were finished by that time."""
        batches = len([line for at, line in list(worker.lines) if at <= until and line == handled([])[-1]])
        sizes = [line.count("@") for line in worker.out if line.startswith("sending")]
        return sum(sizes[:batches])

    with traffic(cluster, topic, per_second=50):  # so many that the buffer is empty only for a moment
        worker = work("batch_worker", BATCH_SECONDS=1, WORK_SECONDS=0.1)
        while finished(time.monotonic() - 3) < 150:
            due = finished(time.monotonic() - 3)
            assert cluster.committed(topic, topic).get(0, 0) >= due, f"{due} were finished 3 s ago\n{worker}"
            assert time.monotonic() - worker.started < 60, f"too slow\n{worker}"


def test_the_unchanged_scripts_pass_the_ten_signups_on(start, own_broker):
    emails = [f"user{i}@gmail.com" for i in range(10)]
    assert start("producer", own_broker.address).wait() == 0

    streaming = start("streaming_worker", own_broker.address)
    streaming.wait_for("updating user user1@")
    streaming.signal(signal.SIGINT)
    assert streaming.wait() == 0
    assert (streaming.begun(), streaming.err) == (emails[:2], [])

    batch = start("batch_worker", own_broker.address)
    assert 4.5 < batch.wait_for("processing message in") - batch.wait_for(START) < 8
    batch.wait_for("updating")
    batch.signal(signal.SIGINT)
    assert batch.wait() == 0
    assert (batch.out, batch.err) == ([START, received(8), *handled(emails[2:]), GOODBYE], [])
    assert Cluster(own_broker.address).committed("group1", "user_signups") == {0: 10}

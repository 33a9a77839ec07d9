"""The batch worker; what it shares with the streaming worker is in test_scripts.py and test_promises.py."""

import signal
import time
from itertools import pairwise

from harness import GOODBYE, wait_until

START = "starting batch consumer worker"
NEVER = 600  # seconds, longer than any test


def received(number):
    return f"received {number} message{'s' * (number > 1)}, inserting into the queue buffer"


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


def test_an_empty_buffer_prints_nothing(work, cluster, topic):
    worker = work("batch_worker", BATCH_SECONDS=0.1)
    wait_until(lambda: cluster.members(topic), what="the worker is in its group")
    time.sleep(1)
    assert (worker.out, worker.err) == ([START], [])


def test_a_batch_is_all_that_has_come_within_the_batch_seconds(service):
    job = service(BATCH_SECONDS=2, WORK_SECONDS=0.1)
    with job.traffic():
        worker = job.hire("batch_worker")
        begun = [worker.wait_for(START)] + [
            worker.wait_for("processing message in", count=i) for i in (1, 2, 3)
        ]
    for earlier, later in pairwise(begun):
        assert 1.9 < later - earlier < 4.5, f"the batches began at {begun}"
    sizes = [line.count("@") for line in worker.out if line.startswith("sending")]
    assert min(sizes[1:3]) > 10, "two seconds of ten sign-ups a second each"


def test_a_full_buffer_is_a_batch_at_once_and_holds_no_more(work, cluster, topic):
    emails = signups(11)
    cluster.publish(topic, emails)
    worker = work("batch_worker", BATCH_SECONDS=NEVER, BUFFER_SIZE=5, WORK_SECONDS=0.1)
    worker.wait_for(received(1))
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    batches = [[received(len(batch)), *handled(batch)] for batch in (emails[:5], emails[5:10], emails[10:])]
    assert (worker.out, worker.err) == ([START, *sum(batches, []), GOODBYE], [])
    assert cluster.committed(topic, topic) == {0: 11}


def test_it_pulls_nothing_while_a_batch_is_in_hand(work, cluster, topic):
    cluster.publish(topic, signups(2))
    worker = work("batch_worker", BATCH_SECONDS=0.1, WORK_SECONDS=1)
    worker.wait_for("sending email")
    cluster.publish(topic, ["later@example.com"])
    worker.wait_for("finished", count=2)
    lines = worker.out
    in_hand = lines[
        lines.index("processing message in queue buffer") : lines.index("finished processing messages")
    ]
    assert len(in_hand) == 3


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


def test_each_batch_is_committed_also_while_traffic_never_pauses(service):
    job = service(WORK_SECONDS=0.2)
    with job.traffic(per_second=50):  # so many that the buffer is empty only for a moment
        worker = job.hire("batch_worker")
        for number in range(1, 9):
            finished_at = worker.wait_for("^finished", count=number)
            due = len(worker.finished(until=finished_at + 0.001))
            wait_until(lambda due=due: job.committed() >= due, 3, f"the commit of the first {due}")


def test_the_unchanged_scripts_pass_the_ten_signups_on(start, broker, cluster):
    cluster.topics.append("user_signups")
    emails = [f"user{i}@gmail.com" for i in range(10)]
    assert start("producer", broker.address).wait() == 0

    streaming = start("streaming_worker", broker.address)
    streaming.wait_for("updating user user1@")
    streaming.signal(signal.SIGINT)
    assert streaming.wait() == 0
    assert (streaming.begun(), streaming.err) == (emails[:2], [])

    batch = start("batch_worker", broker.address)
    assert 4.5 < batch.wait_for("processing message in") - batch.wait_for(START) < 8
    batch.wait_for("updating")
    batch.signal(signal.SIGINT)
    assert batch.wait() == 0
    assert (batch.out, batch.err) == ([START, received(8), *handled(emails[2:]), GOODBYE], [])
    assert cluster.committed("group1", "user_signups") == {0: 10}

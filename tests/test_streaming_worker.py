"""The streaming worker; what it shares with the batch worker is in test_scripts.py and test_promises.py."""

import signal

import pytest
from harness import GOODBYE

START = "starting streaming consumer worker"
EMAILS = [f"user{i}@example.com" for i in range(6)]


def handled(emails):
    """The lines for these emails."""
    lines = [
        "sending email to {}",
        "updating user {} status to Waiting Confirmation",
        "finished processing message",
    ]
    return [line.format(email) for email in emails for line in lines]


def test_it_prints_three_lines_for_each_message_and_no_others(work, cluster, topic):
    cluster.publish(topic, EMAILS)
    worker = work("streaming_worker", WORK_SECONDS=0.01)
    worker.wait_for("finished", count=6)
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    assert (worker.out, worker.err) == ([START, *handled(EMAILS), GOODBYE], [])


@pytest.mark.parametrize("line", ["sending", "updating"])
def test_a_signal_lets_it_finish_the_message_in_hand_and_no_other(work, cluster, topic, stop_signal, line):
    cluster.publish(topic, EMAILS)
    worker = work("streaming_worker", WORK_SECONDS=0.2)
    worker.wait_for(line, count=2)
    worker.signal(stop_signal)
    assert worker.wait() == 0
    assert (worker.out, worker.err) == ([START, *handled(EMAILS[:2]), GOODBYE], [])
    assert cluster.committed(topic, topic) == {0: 2}

"""The streaming worker in normal operation."""

import signal

import pytest
from support.processes import GOODBYE, STREAMING, stop_and_check

START = "starting streaming consumer worker"


def lines_for(emails):
    lines = [
        "sending email to {}",
        "updating user {} status to Waiting Confirmation",
        "finished processing message",
    ]
    return [line.format(email) for email in emails for line in lines]


def test_it_prints_three_lines_for_each_message_and_no_others(new_workload):
    workload = new_workload()
    workload.publish(6)
    worker = workload.start(STREAMING)
    worker.wait_for("finished", count=6)
    stop_and_check(worker)
    assert (worker.out, worker.err) == ([START, *lines_for(workload.published), GOODBYE], [])


@pytest.mark.parametrize(
    ("signal_number", "line"),
    [(signal.SIGINT, "sending"), (signal.SIGTERM, "updating")],
    ids=["SIGINT while sending", "SIGTERM while updating"],
)
def test_a_signal_lets_it_finish_the_message_in_progress_and_no_other(new_workload, signal_number, line):
    workload = new_workload(WORK_SECONDS=0.2)
    workload.publish(6)
    worker = workload.start(STREAMING)
    worker.wait_for(line, count=2)
    stop_and_check(worker, signal_number=signal_number)
    assert (worker.out, worker.err) == ([START, *lines_for(workload.published[:2]), GOODBYE], [])
    assert workload.committed() == 2

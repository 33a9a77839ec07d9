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


@pytest.mark.parametrize(
    ("signal_number", "line"),
    [(signal.SIGINT, "sending"), (signal.SIGTERM, "updating")],
    ids=["SIGINT while sending", "SIGTERM while updating"],
)
def test_it_prints_three_lines_for_each_message_up_to_the_one_in_progress_at_a_signal(
    new_workload, signal_number, line
):
    workload = new_workload(WORK_SECONDS=0.2)
    workload.publish(6)
    worker = workload.start(STREAMING)
    worker.wait_for(line, count=2)
    stop_and_check(worker, signal_number=signal_number)
    assert (worker.out, worker.err) == ([START, *lines_for(workload.published[:2]), GOODBYE], [])
    assert workload.committed() == 2

"""The streaming worker in normal operation."""

import signal

from support.processes import GOODBYE, SENDING, STREAMING, stop_and_check

START = "starting streaming consumer worker"


def lines_for_messages(emails):
    lines = [
        "sending email to {}",
        "updating user {} status to Waiting Confirmation",
        "finished processing message",
    ]
    return [line.format(email) for email in emails for line in lines]


def test_it_prints_three_lines_for_each_message_up_to_the_one_in_progress_at_a_signal(new_workload):
    workload = new_workload(WORK_SECONDS=0.2)
    workload.publish(6)
    worker = workload.start(STREAMING)
    worker.wait_for(SENDING, count=2)
    stop_and_check(worker, signal_number=signal.SIGINT)
    assert (worker.out, worker.err) == ([START, *lines_for_messages(workload.published[:2]), GOODBYE], [])
    assert workload.committed() == 2

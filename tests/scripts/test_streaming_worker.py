"""The streaming worker in normal operation."""

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

"""A worker is killed, or its work raises an exception."""

import time

from support import limits, output
from support.processes import BATCH, STREAMING
from support.waiting import wait_until
from support.workload import NEVER, SHORT_SESSION


def test_sigkill_after_any_line_loses_nothing_and_repeats_only_what_was_in_progress(
    worker_name, new_workload
):
    """SIGKILL comes with a line about the second message, or about the second batch of three."""
    size = 1 if worker_name == STREAMING else 3
    workloads = {line: new_workload(BUFFER_SIZE=3) for line in output.WORK_PATTERNS[worker_name]}
    for line, workload in workloads.items():
        workload.publish(6)
        workload.start(worker_name, signal_at=["SIGKILL", line, 2])
    for workload in workloads.values():
        workload.workers[0].wait_for_exit(-9)
        workload.start(worker_name)
    for line, workload in workloads.items():
        killed, successor = workload.workers
        successor.wait_for(output.SENDING, seconds=limits.TAKEOVER_SECONDS)
        workload.wait_until_processed()
        successor.stop_and_check()
        assert successor.err == []  # waiting for the killed worker's session to expire is not an error
        assert workload.repeated() == dict.fromkeys(killed.begun()[size:], 1), line


def test_sigkill_with_19_messages_buffered_loses_and_repeats_nothing(new_workload):
    workload = new_workload(BATCH_SECONDS=NEVER, BUFFER_SIZE=20)
    # a commit timer, if there were one, would fire ten times a second
    first = workload.start(BATCH, auto_commit_interval_ms=100)
    workload.publish(20)  # a full buffer is a batch at once
    workload.wait_until_done()
    workload.publish(19)

    wait_until(lambda: first.received() == 39, what="19 are in the buffer")
    time.sleep(1)  # some more polls, in which such a timer would fire
    first.kill()
    second = workload.start(BATCH, BATCH_SECONDS=0.5)
    second.wait_for(output.SENDING, seconds=limits.TAKEOVER_SECONDS)
    workload.drain_and_check()
    assert len(second.begun()) == 19


def test_a_worker_exits_on_an_exception_and_its_messages_are_redelivered(worker_name, new_workload):
    is_streaming = worker_name == STREAMING
    workload = new_workload(**SHORT_SESSION)
    step = 5 if is_streaming else 3  # there are two for each message, or for each batch
    workload.publish(2)
    first = workload.start(worker_name, fail_at_sleep=step)
    workload.wait_until_done()
    workload.publish(3)
    first.wait_for_exit(1)
    assert "the mail server is down" in first.err[-1]
    assert workload.committed() == 2
    second = workload.start(worker_name, session_timeout_ms=30_000)
    # the streaming worker leaves its group; the batch worker's session has to end first
    second.wait_for(output.SENDING, seconds=6 if is_streaming else limits.TAKEOVER_SECONDS)
    repeated = workload.published[2:3] if is_streaming else workload.published[2:]
    workload.wait_until_done()
    second.stop_and_check()
    assert workload.repeated() == dict.fromkeys(repeated, 1)


def test_a_worker_exits_on_an_exception_during_a_rebalance_and_its_messages_are_redelivered(new_workload):
    workload = new_workload(partitions=2, BATCH_SECONDS=NEVER, **SHORT_SESSION)
    first = workload.start(BATCH, fail_at_sleep=2)
    workload.publish(4)
    wait_until(lambda: first.received(), what="something is in the buffer")
    second = workload.start(BATCH, BATCH_SECONDS=0.5)
    first.wait_for_exit(1)
    assert "the mail server is down" in first.err[-1]
    workload.wait_until_done()
    second.stop_and_check()
    assert set(second.begun()) == set(workload.published)

"""A worker is stopped by SIGTERM or SIGINT, at any moment."""

import signal
import time

import pytest
from support.processes import (
    BATCH,
    GOODBYE,
    LINES,
    SENDING,
    STARTING,
    STREAMING,
    signal_until_exit,
    stop_and_check,
)

MOMENTS = 8


def check_handover(workload):
    """Check that the next worker will begin with the first email that is not processed."""
    begun = workload.begun()
    assert begun == workload.finished() == workload.published[: len(begun)]
    assert workload.committed() == len(begun)


def finish_with(name, workload):
    """Have a last worker process the rest, and check that every email was processed exactly once."""
    workload.start(name).wait_for(STARTING)
    workload.finish()
    check_handover(workload)
    assert workload.errors == []


@pytest.mark.long(60)
def test_a_signal_at_any_moment_leaves_each_message_processed_exactly_once(new_workload):
    """Alternate the workers; spread the signals evenly over joining and working."""
    workload = new_workload()
    for i in range(MOMENTS):
        workload.publish(4)
        worker = workload.start((STREAMING, BATCH)[i % 2])
        worker.wait_for(STARTING)
        time.sleep(1.2 * i / MOMENTS)
        stop_and_check(worker, signal_number=(signal.SIGINT, signal.SIGTERM)[i // 2 % 2])
        check_handover(workload)
    finish_with(STREAMING, workload)


def test_a_signal_after_any_line_leaves_each_message_processed_exactly_once(worker_name, new_workload):
    workload = new_workload()
    for line in [STARTING, *LINES[worker_name]]:
        workload.publish(2)
        worker = workload.start(worker_name, sigterm_at=line)
        assert worker.wait() == 0
        check_handover(workload)
    finish_with(worker_name, workload)


def test_an_idle_worker_exits_within_a_second_and_leaves_its_group(worker_name, new_workload, stop_signal):
    workload = new_workload(BATCH_SECONDS=0.1)
    worker = workload.start(worker_name)
    workload.wait_for_members(1)
    time.sleep(0.5)  # for some batches, all of them empty
    stop_and_check(worker, signal_number=stop_signal, seconds=1)
    assert len(worker.out) == 2 and worker.err == []
    assert workload.members() == 0


def test_repeated_signals_change_nothing_until_the_process_has_exited(worker_name, new_workload):
    workload = new_workload(WORK_SECONDS=0.6)
    workload.publish(1)
    worker = workload.start(worker_name)
    worker.wait_for(SENDING)
    assert signal_until_exit(worker, [signal.SIGINT, signal.SIGTERM]) > 100
    assert worker.wait() == 0
    assert [line for line in worker.out if "finished" in line or line == GOODBYE] == worker.out[-2:]
    assert (worker.begun(), worker.err) == (workload.published, [])
    assert workload.committed() == 1

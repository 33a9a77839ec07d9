"""A worker is stopped by SIGTERM or SIGINT, at any moment."""

import re
import signal
import time

import pytest
from support import limits, output
from support.processes import BATCH, STREAMING
from support.workload import NEVER

MOMENTS = 8


def check_handover(workload):
    """Check that the next worker will begin with the first email that is not processed."""
    begun = workload.begun()
    assert begun == workload.finished() == workload.published[: len(begun)]
    assert workload.committed() == len(begun)


def drain_with(name, workload):
    """Have a last worker process the rest, and check that every email was processed exactly once."""
    workload.start(name).wait_for(output.STARTING)
    workload.drain_and_check()
    check_handover(workload)
    assert workload.errors == []


@pytest.mark.long(60)
def test_a_signal_at_any_moment_leaves_each_message_processed_exactly_once(new_workload):
    """Alternate the workers; spread the signals evenly over joining and working."""
    workload = new_workload()
    for i in range(MOMENTS):
        workload.publish(4)
        worker = workload.start((STREAMING, BATCH)[i % 2])
        worker.wait_for(output.STARTING)
        time.sleep(1.2 * i / MOMENTS)
        worker.stop_and_check(signal_number=(signal.SIGINT, signal.SIGTERM)[i // 2 % 2])
        check_handover(workload)
    drain_with(STREAMING, workload)


def test_a_signal_after_any_line_leaves_each_message_processed_exactly_once(worker_name, new_workload):
    workload = new_workload()
    for line in [output.STARTING, *output.WORK_PATTERNS[worker_name]]:
        workload.publish(2)
        worker = workload.start(worker_name, signal_at=["SIGTERM", line, 1])
        worker.wait_for_exit()
        check_handover(workload)
    drain_with(worker_name, workload)


def test_an_idle_worker_exits_within_a_second_and_leaves_its_group(worker_name, new_workload, stop_signal):
    workload = new_workload(BATCH_SECONDS=0.1)
    worker = workload.start(worker_name)
    workload.wait_for_members(1)
    time.sleep(0.5)  # for some batches, all of them empty
    worker.stop_and_check(signal_number=stop_signal, seconds=limits.IDLE_EXIT_SECONDS)
    assert len(worker.out) == 2 and worker.err == []
    assert workload.members() == 0


def test_repeated_signals_change_nothing_until_the_process_has_exited(worker_name, new_workload):
    workload = new_workload(WORK_SECONDS=0.6)
    workload.publish(1)
    worker = workload.start(worker_name)
    worker.wait_for(output.SENDING)
    assert worker.signal_until_exit([signal.SIGINT, signal.SIGTERM]) > 100
    worker.wait_for_exit()
    last = [line for line in worker.out if re.search(f"{output.FINISHED}|{output.GOODBYE_LINE}", line)]
    assert last == worker.out[-2:]
    assert (worker.begun(), worker.err) == (workload.published, [])
    assert workload.committed() == 1


def test_after_a_signal_the_buffer_is_the_last_batch(new_workload):
    workload = new_workload(BATCH_SECONDS=NEVER, WORK_SECONDS=0.5)
    workload.publish(3)
    worker = workload.start(BATCH)
    worker.wait_for(output.RECEIVED)
    worker.signal(signal.SIGINT)
    worker.wait_for(output.SENDING)
    workload.publish(1)  # it must leave this one to the next worker
    worker.wait_for_exit()
    lines = output.lines_for_batch(workload.published[:3])
    assert (worker.out, worker.err) == ([output.STARTING_LINES[BATCH], *lines, output.GOODBYE_LINE], [])
    assert workload.committed() == 3

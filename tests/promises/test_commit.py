"""Messages are committed when they are processed, not before and not much later."""

import time

from support import output
from support.processes import BATCH
from support.waiting import wait_until


def test_a_message_is_committed_when_it_is_processed_and_not_before(worker_name, new_workload):
    workload = new_workload(WORK_SECONDS=1, BATCH_SECONDS=0.1, BUFFER_SIZE=1)
    workload.publish(3)
    worker = workload.start(worker_name)
    for number in range(2):
        worker.wait_for(output.SENDING, count=number + 1)
        time.sleep(0.7)  # for the commit of the one before, and for one that comes too early
        assert workload.committed() == number
        assert len(worker.begun()) == number + 1, "too slow to tell"


def test_each_batch_is_committed_even_if_traffic_never_pauses(new_workload):
    workload = new_workload(WORK_SECONDS=0.2)
    with workload.traffic(per_second=50):  # so much that the buffer is empty only for a moment
        worker = workload.start(BATCH)
        for number in range(1, 9):
            finished_at = worker.wait_for(output.FINISHED, count=number)
            due = len(worker.finished(until=finished_at + 0.001))
            wait_until(lambda due=due: workload.committed() >= due, 3, f"the first {due} are committed")

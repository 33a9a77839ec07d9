"""The batch worker in normal operation."""

from itertools import pairwise

from support import output
from support.processes import BATCH
from support.workload import NEVER


def test_a_batch_is_what_arrives_within_batch_seconds(new_workload):
    workload = new_workload(BATCH_SECONDS=2, WORK_SECONDS=0.1)
    with workload.traffic():
        worker = workload.start(BATCH)
        begun = [worker.wait_for(output.STARTING)]
        begun += [worker.wait_for(output.PROCESSING, count=i) for i in (1, 2, 3)]
    for earlier, later in pairwise(begun):
        assert 1.9 < later - earlier < 4.5, f"the batches began at {begun}"
    sizes = [len(batch) for line in worker.out if (batch := output.emails_begun(line))]
    assert min(sizes[1:3]) > 10, "two seconds of ten emails a second each"


def test_a_full_buffer_is_processed_at_once_and_never_exceeds_its_size(new_workload):
    workload = new_workload(BATCH_SECONDS=NEVER, BUFFER_SIZE=5)
    workload.publish(11)
    worker = workload.start(BATCH)
    worker.wait_for(output.RECEIVED, count=3)
    worker.stop_and_check()
    batches = [workload.published[:5], workload.published[5:10], workload.published[10:]]
    lines = [line for batch in batches for line in output.lines_for_batch(batch)]
    assert (worker.out, worker.err) == ([output.STARTING_LINE[BATCH], *lines, output.GOODBYE_LINE], [])
    assert workload.committed() == 11


def test_it_polls_nothing_while_it_processes_a_batch(new_workload):
    workload = new_workload(BATCH_SECONDS=0.1, WORK_SECONDS=1)
    workload.publish(2)
    worker = workload.start(BATCH)
    worker.wait_for(output.SENDING)
    workload.publish(1)
    worker.wait_for(output.FINISHED, count=2)
    lines = output.lines_for_batch(workload.published[:2])
    assert worker.out[1 : len(lines) + 1] == lines

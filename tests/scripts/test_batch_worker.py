"""The batch worker in normal operation."""

import signal
from itertools import pairwise

from support.processes import BATCH, FINISHED, GOODBYE, PROCESSING, RECEIVED, SENDING, stop_and_check
from support.workload import NEVER

START = "starting batch consumer worker"


def received(number):
    return f"received {number} message{'s' * (number > 1)}, inserting into the queue buffer"


def lines_for_batch(batch):
    return [
        "processing message in queue buffer",
        f"sending email to user {batch}",
        f"updating status to Waiting Confirmation for users {batch}",
        "finished processing messages",
    ]


def test_a_batch_is_what_arrives_within_batch_seconds(new_workload):
    workload = new_workload(BATCH_SECONDS=2, WORK_SECONDS=0.1)
    with workload.traffic():
        worker = workload.start(BATCH)
        begun = [worker.wait_for(START)] + [worker.wait_for(PROCESSING, count=i) for i in (1, 2, 3)]
    for earlier, later in pairwise(begun):
        assert 1.9 < later - earlier < 4.5, f"the batches began at {begun}"
    sizes = [line.count("@") for line in worker.out if line.startswith("sending")]
    assert min(sizes[1:3]) > 10, "two seconds of ten sign-ups a second each"


def test_a_full_buffer_is_processed_at_once_and_never_exceeds_its_size(new_workload):
    workload = new_workload(BATCH_SECONDS=NEVER, BUFFER_SIZE=5)
    workload.publish(11)
    worker = workload.start(BATCH)
    worker.wait_for(received(1))
    stop_and_check(worker)
    batches = [workload.published[:5], workload.published[5:10], workload.published[10:]]
    lines = [line for batch in batches for line in [received(len(batch)), *lines_for_batch(batch)]]
    assert (worker.out, worker.err) == ([START, *lines, GOODBYE], [])
    assert workload.committed() == 11


def test_it_polls_nothing_while_it_processes_a_batch(new_workload):
    workload = new_workload(BATCH_SECONDS=0.1, WORK_SECONDS=1)
    workload.publish(2)
    worker = workload.start(BATCH)
    worker.wait_for(SENDING)
    workload.publish(1)
    worker.wait_for(FINISHED, count=2)
    lines = worker.out
    assert (
        lines.index("finished processing messages") - lines.index("processing message in queue buffer") == 3
    )


def test_after_a_signal_the_buffer_is_the_last_batch(new_workload):
    workload = new_workload(BATCH_SECONDS=NEVER, WORK_SECONDS=0.5)
    workload.publish(3)
    worker = workload.start(BATCH)
    worker.wait_for(RECEIVED)
    worker.signal(signal.SIGINT)
    worker.wait_for(SENDING)
    workload.publish(1)  # it must leave this one to the next worker
    assert worker.wait() == 0
    batch = workload.published[:3]
    assert (worker.out, worker.err) == ([START, received(3), *lines_for_batch(batch), GOODBYE], [])
    assert workload.committed() == 3

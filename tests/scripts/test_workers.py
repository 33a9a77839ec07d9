"""The workers in normal operation."""

import signal
from itertools import pairwise

import pytest
from support import limits, output
from support.processes import BATCH, PRODUCER, STREAMING
from support.waiting import wait_until
from support.workload import NEVER


@pytest.mark.not_on_external_broker
@pytest.mark.long(20)
def test_ten_emails_pass_through_the_unchanged_scripts(start_script, cluster):
    cluster.topics.add("user_signups")
    start_script(PRODUCER, cluster.address).wait_for_exit()

    streaming = start_script(STREAMING, cluster.address)
    streaming.wait_for(output.UPDATING, count=2)
    streaming.stop_and_check(signal_number=signal.SIGINT)
    lines = [line for email in output.PRODUCER_EMAILS[:2] for line in output.lines_for_message(email)]
    assert streaming.out == [output.STARTING_LINES[STREAMING], *lines, output.GOODBYE_LINE]
    assert streaming.err == []

    batch = start_script(BATCH, cluster.address)
    waited = batch.wait_for(output.PROCESSING) - batch.wait_for(output.STARTING)
    assert -0.5 < waited - limits.BATCH_SECONDS < 3
    batch.wait_for(output.UPDATING)
    batch.stop_and_check(signal_number=signal.SIGINT)
    assert (batch.received(), batch.begun(), batch.err) == (8, output.PRODUCER_EMAILS[2:], [])
    assert cluster.committed_offsets("group1", "user_signups") == {0: 10}


def test_ascii_stdout_does_not_crash_the_worker(worker_name, new_workload, monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    workload = new_workload()
    workload.cluster.publish(workload.topic, ["jürgen@example.com"])
    worker = workload.start(worker_name)
    worker.wait_for(r"sending email to .*j\\xfcrgen@example.com")
    worker.wait_for(output.FINISHED)


def test_a_batch_is_what_arrives_within_batch_seconds(new_workload):
    workload = new_workload(BATCH_SECONDS=2, WORK_SECONDS=0.1)
    with workload.traffic():
        worker = workload.start(BATCH)
        begun = [worker.wait_for(output.STARTING)]
        begun += [worker.wait_for(output.PROCESSING, count=i) for i in (1, 2, 3)]
    for earlier, later in pairwise(begun):
        assert 1.9 < later - earlier < 4.5, f"the batches began at {begun}"
    assert min(map(len, worker.batches()[1:3])) > 10, "two seconds of ten emails a second each"


def test_a_full_buffer_is_processed_at_once_and_never_exceeds_its_size(new_workload):
    workload = new_workload(BATCH_SECONDS=NEVER, BUFFER_SIZE=5)
    workload.publish(3)
    worker = workload.start(BATCH)
    worker.wait_for(output.RECEIVED)
    workload.publish(8)  # two of them still fit into the buffer
    wait_until(lambda: worker.received() == 11, what="all are received")
    worker.stop_and_check()
    assert worker.batches() == [workload.published[:5], workload.published[5:10], workload.published[10:]]
    assert worker.err == [] and workload.committed() == 11


def test_nothing_is_polled_while_a_batch_is_processed(new_workload):
    workload = new_workload(BATCH_SECONDS=0.1, WORK_SECONDS=1)
    workload.publish(2)
    worker = workload.start(BATCH)
    worker.wait_for(output.SENDING)
    workload.publish(1)
    worker.wait_for(output.FINISHED, count=2)
    lines = output.lines_for_batch(workload.published[:2])
    assert worker.out[1 : len(lines) + 1] == lines

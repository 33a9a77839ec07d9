"""The three scripts, or the two workers, in normal operation."""

import signal

import pytest
from support import limits, output
from support.processes import BATCH, PRODUCER, STREAMING


@pytest.mark.not_on_external_broker
@pytest.mark.long(20)
def test_ten_emails_pass_through_the_unchanged_scripts(start, cluster):
    cluster.topics.add("user_signups")
    assert start(PRODUCER, cluster.address).wait() == 0

    streaming = start(STREAMING, cluster.address)
    streaming.wait_for(output.UPDATING, count=2)
    streaming.signal(signal.SIGINT)
    assert streaming.wait() == 0
    assert (streaming.begun(), streaming.err) == (output.PRODUCER_EMAILS[:2], [])

    batch = start(BATCH, cluster.address)
    waited = batch.wait_for(output.PROCESSING) - batch.wait_for(output.STARTING)
    assert -0.5 < waited - limits.BATCH_SECONDS < 3
    batch.wait_for(output.UPDATING)
    batch.signal(signal.SIGINT)
    assert batch.wait() == 0
    assert (batch.received(), batch.begun(), batch.err) == (8, output.PRODUCER_EMAILS[2:], [])
    assert cluster.committed("group1", "user_signups") == {0: 10}


def test_ascii_stdout_does_not_crash_the_worker(worker_name, new_workload, monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    workload = new_workload()
    workload.cluster.publish(workload.topic, ["jürgen@example.com"])
    worker = workload.start(worker_name)
    worker.wait_for(r"sending email to .*j\\xfcrgen@example.com")
    worker.wait_for(output.FINISHED)

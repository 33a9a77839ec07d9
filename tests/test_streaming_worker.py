"""The streaming worker in normal running.

What holds for both workers stands here too and is tried with each of them in turn (`worker`); what only the batch
worker does is in test_batch_worker.py.
"""

import signal
import time

import pytest
from harness import GOODBYE, hammer, on_this_machine, wait_until

WORKERS = ["streaming_worker", "batch_worker"]
EMAILS = [f"user{i}@example.com" for i in range(6)]


def handled(*emails):
    """The lines that the streaming worker prints for these emails."""
    lines = ["sending email to {}", "updating user {} status to Waiting Confirmation", "finished processing message"]
    return [line.format(email) for email in emails for line in lines]


def test_prints_these_lines_for_each_message_and_no_others(work, cluster, topic):
    cluster.publish(topic, EMAILS)
    worker = work("streaming_worker", WORK_SECONDS=0.01)
    worker.wait_for("finished", count=6)
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    assert (worker.out, worker.err) == (["starting streaming consumer worker", *handled(*EMAILS), GOODBYE], [])


@pytest.mark.parametrize("line", ["sending", "updating"])
def test_a_busy_streaming_worker_finishes_the_message_in_hand_and_no_other(work, cluster, topic, stop_signal, line):
    cluster.publish(topic, EMAILS)
    worker = work("streaming_worker", WORK_SECONDS=0.2)
    worker.wait_for(line, count=2)
    worker.signal(stop_signal)
    assert worker.wait() == 0
    assert (worker.out, worker.err) == (["starting streaming consumer worker", *handled(*EMAILS[:2]), GOODBYE], [])
    assert cluster.committed(topic, topic) == {0: 2}


# What holds for both workers


@pytest.fixture(params=WORKERS)
def worker(request):
    return request.param


def test_an_idle_worker_obeys_within_a_second(worker, work, cluster, topic, stop_signal):
    script = work(worker)
    wait_until(lambda: cluster.members(topic), what="the worker is in its group", shown=script.__str__)
    begun = time.monotonic()
    script.signal(stop_signal)
    assert script.wait() == 0
    assert time.monotonic() - begun < on_this_machine(1), script
    assert (script.out, script.err) == ([f"starting {worker.removesuffix('_worker')} consumer worker", GOODBYE], [])
    assert cluster.members(topic) == 0, "it did not leave the group"


@pytest.mark.parametrize(
    "order",
    [("worker", "topic", "messages"), ("topic", "worker", "messages"), ("topic", "messages", "worker")],
    ids="-".join,
)
def test_every_message_is_handled_whenever_the_worker_starts(worker, start, cluster, order):
    name = cluster.new_name()
    for step in order:
        if step == "topic":
            cluster.create_topic(name)
        elif step == "messages":
            cluster.publish(name, EMAILS)
        else:
            script = start(worker, cluster.address, TOPIC=name, GROUP_ID=name, WORK_SECONDS=0.01, BATCH_SECONDS=0.3)
            wait_until(lambda: cluster.members(name), what="the worker is in its group", shown=script.__str__)
    wait_until(lambda: script.begun() == EMAILS, what="all are handled", shown=script.__str__)
    script.signal(signal.SIGTERM)
    assert script.wait() == 0
    assert script.begun() == EMAILS and script.err == []
    assert cluster.lag(name, name) == 0


@pytest.mark.parametrize("next_worker", WORKERS)
def test_the_next_worker_goes_on_exactly_where_a_busy_one_was_stopped(worker, next_worker, work, cluster, topic, stop_signal):
    cluster.publish(topic, EMAILS)
    settings = {"WORK_SECONDS": 0.2, "BATCH_SECONDS": 0.2, "BUFFER_SIZE": 2}
    first = work(worker, **settings)
    first.wait_for("sending email")
    first.signal(stop_signal)
    assert first.wait() == 0
    before = first.begun()
    assert 0 < len(before) < 6
    assert first.out[-2:] == [f"finished processing message{'s' * (worker == 'batch_worker')}", GOODBYE]
    assert cluster.committed(topic, topic) == {0: len(before)}

    second = work(next_worker, **{**settings, "WORK_SECONDS": 0.02})
    second.wait_for("sending email", seconds=8)  # less than the session of a worker that did not leave the group
    wait_until(lambda: len(before + second.begun()) >= 6, what="the rest is handled", shown=second.__str__)
    second.signal(stop_signal)
    assert second.wait() == 0
    assert before + second.begun() == EMAILS
    assert first.err + second.err == []
    assert cluster.lag(topic, topic) == 0


def test_signals_every_few_milliseconds_until_the_process_is_gone_change_nothing(worker, work, cluster, topic):
    cluster.publish(topic, ["one@example.com"])
    script = work(worker, WORK_SECONDS=0.6, BATCH_SECONDS=0.1)
    script.wait_for("sending email")
    sent = hammer(script, [signal.SIGINT, signal.SIGTERM])
    assert sent > 100
    assert script.wait() == 0
    assert [line for line in script.out if "finished" in line or line == GOODBYE] == script.out[-2:]
    assert (script.begun(), script.err) == (["one@example.com"], [])
    assert cluster.lag(topic, topic) == 0


def test_each_line_is_out_at_once_into_a_pipe_as_well(worker, work, cluster, topic, monkeypatch):
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    cluster.publish(topic, ["one@example.com"])
    script = work(worker, WORK_SECONDS=0.5, BATCH_SECONDS=0.1)
    script.wait_for("finished")
    times = [script.wait_for(begin) for begin in ("sending", "updating", "finished")]
    assert times[1] - times[0] > 0.4 and times[2] - times[1] > 0.4, f"one of the steps takes 0.5 s\n{script}"


def test_a_message_is_committed_when_it_is_finished_and_not_before(worker, work, cluster, topic):
    cluster.publish(topic, EMAILS)
    script = work(worker, WORK_SECONDS=1, BATCH_SECONDS=0.1, BUFFER_SIZE=1)
    for number in range(2):
        script.wait_for("sending email", count=number + 1)
        wait_until(lambda: cluster.committed(topic, topic).get(0, 0) == number, shown=script.__str__)
        time.sleep(0.5)  # a commit that comes too early comes soon
        assert cluster.committed(topic, topic).get(0, 0) == number
        assert len(script.begun()) == number + 1, "too slow to tell"

"""Workers join their group, leave it, or are evicted from it."""

import signal
import time

import pytest
from support import limits, output
from support.processes import BATCH, STREAMING
from support.waiting import wait_until, with_slack
from support.workload import NEVER, SHORT_SESSION


@pytest.mark.parametrize(
    "names",
    [[STREAMING] * 3, [BATCH] * 3, [STREAMING, BATCH, STREAMING]],
    ids=["streaming", "batch", "both"],
)
def test_workers_that_join_and_leave_lose_and_repeat_nothing(names, new_workload):
    workload = new_workload(partitions=4, **SHORT_SESSION)
    with workload.traffic():
        for name in names:
            workload.start(name).wait_for(output.SENDING, seconds=60)
        *leaving, last = workload.workers
        for worker in leaving:
            worker.stop_and_check()
            more = len(last.finished()) + 8  # from every partition, when it is the only one left
            wait_until(lambda more=more: len(last.finished()) >= more, 60, "the last worker goes on")
    workload.drain_and_check(seconds=60)
    assert workload.errors == []


def test_a_worker_that_joins_while_another_finishes_its_message_repeats_nothing(new_workload):
    workload = new_workload(partitions=3)
    workload.start(STREAMING, WORK_SECONDS=1)
    workload.start(BATCH)
    with workload.traffic(per_second=4):  # more than the first one can process
        wait_until(lambda: all(worker.begun() for worker in workload.workers), what="both are at work")
        workload.start(STREAMING).wait_for(output.SENDING)
    workload.drain_and_check(seconds=60)
    assert workload.errors == []


def test_a_buffer_is_processed_and_committed_before_its_partitions_move(new_workload):
    workload = new_workload(partitions=2, BATCH_SECONDS=NEVER)
    workload.publish(4)
    first = workload.start(BATCH)
    wait_until(lambda: first.received() == 4, what="all are in the buffer")
    second = workload.start(STREAMING)
    workload.wait_until_done()
    assert len(first.begun()) == 4 and not second.begun()
    workload.drain_and_check()


@pytest.mark.long(45)
def test_a_worker_that_waits_for_a_slow_one_says_so_and_blames_nobody_else(worker_name, new_workload):
    workload = new_workload(partitions=2)
    workload.publish(1)
    slow = workload.start(STREAMING, WORK_SECONDS=15)
    slow.wait_for(output.SENDING)
    waiting = workload.start(worker_name)  # the group waits for the slow worker's next poll()
    waiting.wait_for_error(seconds=with_slack(limits.REPORT_SECONDS))
    slow.stop_and_check()  # when it has finished its message
    workload.publish(2)
    workload.drain_and_check()
    assert set(workload.errors) == {output.WAITING_LINE.format(workload.topic)}


def evict_during_batch(new_workload, **settings):
    """Start a worker that is evicted while it processes a batch, since a rebalance outlasts its session."""
    workload = new_workload(partitions=2, WORK_SECONDS=4, **SHORT_SESSION)
    workload.publish(4)
    first = workload.start(BATCH, BATCH_SECONDS=10, **settings)
    first.wait_for(output.RECEIVED)
    workload.start(STREAMING)  # the first one learns of it within 3 s, and then works for 8 s
    first.wait_for_error(output.COMMIT_FAILED)
    return workload


def test_a_batch_that_outlasts_the_session_during_a_rebalance_may_be_repeated_but_is_not_lost(new_workload):
    workload = evict_during_batch(new_workload)
    workload.drain_and_check(repeated=4)


def test_a_worker_signalled_right_after_an_eviction_exits_with_code_1(new_workload):
    workload = evict_during_batch(new_workload, signal_at=["SIGTERM", output.COMMIT_FAILED, 1])
    first = workload.workers[0]
    first.wait_for_exit(1, seconds=with_slack(limits.EXIT_SECONDS))
    assert output.REDELIVERED_TEXT in first.err[-1]


def freeze_at_work(workload, worker_name):
    """Freeze a worker while it processes a message, or three in a batch, until another one has taken over."""
    workload.publish(3)
    first = workload.start(worker_name)
    first.wait_for(output.SENDING)
    first.freeze()
    second = workload.start(worker_name)
    second.wait_for(output.SENDING, seconds=limits.TAKEOVER_SECONDS)
    return first, second


def test_a_worker_frozen_past_its_session_reports_it_rejoins_and_repeats_only_what_was_in_progress(
    worker_name, new_workload
):
    workload = new_workload(**SHORT_SESSION, WORK_SECONDS=1, BUFFER_SIZE=3)
    first, second = freeze_at_work(workload, worker_name)
    first.thaw()
    workload.wait_until_processed()
    first.wait_for_error()
    assert first.err[0] == output.EVICTED_LINE.format(workload.topic)
    workload.wait_for_members(2)  # it has rejoined
    second.stop_and_check()
    workload.publish(2)
    wait_until(lambda: workload.published[-1] in first.finished(), what="the first worker goes on")
    workload.drain_and_check(repeated=1 if worker_name == STREAMING else 3)


def test_a_worker_signalled_while_frozen_past_its_session_exits_with_code_1(worker_name, new_workload):
    workload = new_workload(**SHORT_SESSION, WORK_SECONDS=1, BUFFER_SIZE=3)
    first, _ = freeze_at_work(workload, worker_name)
    first.signal(signal.SIGTERM)
    first.thaw()
    first.wait_for_exit(1)
    assert output.REDELIVERED_TEXT in first.err[-1]
    workload.drain_and_check(repeated=1 if worker_name == STREAMING else 3)


def test_a_worker_frozen_past_its_session_drops_its_buffer(new_workload):
    workload = new_workload(BATCH_SECONDS=NEVER, BUFFER_SIZE=4, **SHORT_SESSION)
    workload.publish(3)
    first = workload.start(BATCH)
    first.wait_for(output.RECEIVED)
    first.freeze()
    second = workload.start(BATCH, BATCH_SECONDS=0.5)
    workload.wait_until_done()
    first.thaw()
    workload.wait_for_members(2)
    second.stop_and_check()
    workload.publish(2)
    wait_until(lambda: first.received() == 5, what="the first worker goes on")
    assert not first.begun()  # two messages don't fill the buffer, so it was empty again
    first.stop_and_check()
    workload.check()


def test_a_backlog_longer_than_max_poll_interval_causes_no_eviction_and_no_repeats(worker_name, new_workload):
    workload = new_workload(WORK_SECONDS=0.4, BUFFER_SIZE=2, max_poll_interval_ms=3000)
    workload.publish(8 if worker_name == STREAMING else 16)  # 8 times 0.8 s
    workload.start(worker_name)
    workload.drain_and_check()
    assert workload.errors == []


def test_new_partitions_are_discovered_within_ten_seconds(worker_name, new_workload):
    workload = new_workload()
    worker = workload.start(worker_name)
    workload.publish(1)
    worker.wait_for("user0@")
    time.sleep(1)  # it may still be asking for the partitions
    with workload.cluster.admin() as admin:
        admin.create_partitions({workload.topic: 2})
    workload.partitions = 2
    workload.publish(2)
    worker.wait_for("user2@", seconds=with_slack(limits.METADATA_SECONDS + 2))

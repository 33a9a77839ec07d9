"""The broker is killed, frozen, restarted or emptied."""

import itertools
import re
import shutil
import time

import pytest
from support import limits, output
from support.network import closing_connections
from support.processes import BATCH, STREAMING, WORKERS
from support.waiting import in_parallel, wait_until, with_slack
from support.workload import NEVER


@pytest.mark.long(40)
def test_workers_survive_a_broker_that_is_killed_and_restarted(breakable_broker, new_workload):
    idle = [new_workload(name) for name in WORKERS]
    streaming = new_workload(STREAMING, WORK_SECONDS=0.2)
    batch = new_workload(BATCH, WORK_SECONDS=1.5, BUFFER_SIZE=10)
    for workload in [*idle, streaming, batch]:
        workload.publish(3 if workload in idle else 20)
        workload.start().wait_for(output.SENDING)
    for workload in idle:
        workload.wait_until_done()
    breakable_broker.kill()
    time.sleep(3)
    with closing_connections(breakable_broker.port):
        time.sleep(3)
    breakable_broker.start()
    for workload in idle:
        workload.publish(3)
    for workload in idle:
        workload.drain_and_check(seconds=60)
    streaming.drain_and_check(repeated=1, seconds=60)
    batch.drain_and_check(repeated=10, seconds=60)


@pytest.mark.long(50)
@pytest.mark.parametrize("action", ["kill", "freeze"])
def test_a_worker_exits_within_10_s_of_a_signal_while_the_broker_is_unavailable(
    breakable_broker, new_workload, action
):
    idle = [new_workload(name) for name in WORKERS]
    retrying = [new_workload(name, WORK_SECONDS=1) for name in WORKERS]  # to commit, when the signal comes
    at_work = [new_workload(name, WORK_SECONDS=3) for name in WORKERS]
    buffering = new_workload(BATCH, BATCH_SECONDS=NEVER)
    busy = [*retrying, *at_work, buffering]
    for workload in idle + busy:
        workload.start()
    for workload in idle:
        workload.publish(3)
        workload.wait_until_done()
    for workload in busy:
        workload.wait_for_members(1)
    in_parallel(lambda workload: workload.publish(3), busy)  # now, so that all begin at the same time
    for workload in busy:
        workload.workers[0].wait_for(output.DELIVERED)
    getattr(breakable_broker, action)()

    def stop(workload):
        [worker] = workload.workers
        if workload in retrying:
            worker.wait_for_error(output.COMMIT_FAILED, seconds=20)
        worker.stop_and_check(exit_code=0 if workload in idle else 1)

    in_parallel(stop, idle + busy)
    breakable_broker.restore()
    for workload in busy:
        workload.start(BATCH_SECONDS=0.5)
        workload.wait_until_processed()
        workload.check(repeated=1 if workload.worker_name == STREAMING else 3)
    for workload in idle:
        workload.check()


@pytest.mark.long(40)
def test_a_worker_exits_within_35_s_of_a_signal_during_a_rebalance_on_a_frozen_broker(
    breakable_broker, new_workload
):
    workload = new_workload(BATCH, partitions=2, BATCH_SECONDS=NEVER, WORK_SECONDS=1)
    workload.publish(2)
    first = workload.start()
    first.wait_for(output.RECEIVED)
    workload.start()  # the first one has to hand over a partition, so its batch is due
    first.wait_for(output.SENDING)
    breakable_broker.freeze()
    first.wait_for(output.FINISHED)
    time.sleep(0.5)  # by now it waits in the rebalance listener
    first.stop_and_check(exit_code=1, seconds=limits.REBALANCE_EXIT_SECONDS)


@pytest.mark.long(40)
def test_a_long_outage_is_reported_periodically_and_uses_little_cpu_time(breakable_broker, new_workload):
    seconds = 12
    workloads = [new_workload(name, WORK_SECONDS=2, BATCH_SECONDS=5) for name in WORKERS]
    for workload in workloads:
        workload.publish(1)
        workload.start().wait_for(output.DELIVERED)
    workers = [*workloads[0].workers, *workloads[1].workers]
    breakable_broker.kill()
    # the harder case: when connections are refused instead, poll() raises nothing
    with closing_connections(breakable_broker.port):
        for worker in workers:
            worker.wait_for_error(output.COMMIT_FAILED)
        lines_before = [len(worker.err) for worker in workers]
        cpu_before = [sum(worker.popen.cpu_times()) for worker in workers]
        time.sleep(seconds)
        for worker, lines, cpu in zip(workers, lines_before, cpu_before, strict=True):
            assert 1 <= len(worker.err) - lines <= seconds / limits.RETRY_SECONDS + 1
            assert sum(worker.popen.cpu_times()) - cpu < 0.1 * seconds
        in_parallel(lambda worker: worker.stop_and_check(exit_code=1), workers)
    expected = f"Is {breakable_broker.address} up\\?$|^Waiting for group|{output.REDELIVERED_TEXT}"
    for worker in workers:
        assert all(re.search(expected, line) for line in worker.err)


@pytest.mark.long(60)
def test_an_idle_worker_reports_within_30_s_that_its_broker_is_gone_and_again(breakable_broker, new_workload):
    workloads = [new_workload(name) for name in WORKERS]
    for workload in workloads:
        workload.start()
        workload.publish(1)
        workload.wait_until_done()
    breakable_broker.kill()
    gone = time.monotonic()
    for workload in workloads:
        [worker] = workload.workers
        reported = worker.wait_for_error(seconds=with_slack(limits.REPORT_SECONDS))
        assert reported - gone > 10, "too early: a restart can take this long"
        worker.wait_for_error(count=2, seconds=with_slack(limits.REPORT_SECONDS))
        worker.stop_and_check(seconds=limits.IDLE_EXIT_SECONDS + 0.5)
        assert set(worker.err) == {output.WAITING_LINE.format(workload.topic)}


def wait_for_new_log(workload):
    """Publish to a topic that has been created again until a message arrives.

    The first ones may not: kafka-python can mistake the new log for a truncated old one, and seek to its end.
    """
    numbers = itertools.count()

    def is_found():
        workload.cluster.publish(workload.topic, [f"found{next(numbers)}@gmail.com"])
        return "found" in " ".join(workload.workers[0].begun())

    wait_until(is_found, 60, "a message in the new topic arrives")


@pytest.mark.parametrize("cause", ["topic deleted", "data lost"])
def test_workers_carry_on_when_their_topic_is_recreated(new_workload, breakable_broker, cluster, cause):
    workloads = [new_workload(name) for name in WORKERS]
    topics = {workload.topic for workload in workloads}
    for workload in workloads:
        workload.publish(5)
        workload.start()
    for workload in workloads:
        workload.wait_until_done()
    if cause == "topic deleted":
        with cluster.admin() as admin:
            admin.delete_topics(list(topics))
            wait_until(lambda: not topics & set(admin.list_topics()), what="the topics are deleted")
    else:
        breakable_broker.kill()
        shutil.rmtree(breakable_broker.data)
        breakable_broker.start()
    for workload in workloads:
        cluster.create_topic(workload.topic)
    for workload in workloads:
        wait_for_new_log(workload)
        workload.publish(3)
        workload.wait_until_done(60)
        workload.workers[0].stop_and_check()
        assert cause == "data lost" or not workload.repeated()  # the group is lost with the data

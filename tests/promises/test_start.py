"""A script starts: before its topic exists, long after the messages, without a broker, with a bad address."""

import signal
import time
from itertools import pairwise

import pytest
from broker import Broker
from support import limits, output
from support.network import address_of, free_port, silent_server
from support.processes import PRODUCER, SCRIPTS, WORKERS
from support.waiting import with_slack


@pytest.fixture
def server():
    with silent_server() as server:
        yield server


def test_a_worker_that_starts_before_its_topic_exists_processes_every_message(worker_name, new_workload):
    workload = new_workload(topic_exists=False)
    workload.start(worker_name, limit_poll_ms=2)  # the join for the new topic outlasts a poll()
    workload.wait_for_members(1)
    time.sleep(1)  # a first join may take a while
    workload.cluster.create_topic(workload.topic)
    workload.publish(3)
    workload.drain_and_check()


def test_messages_published_before_and_after_a_worker_starts_are_processed(worker_name, new_workload):
    workload = new_workload()
    workload.publish(3)
    worker = workload.start(worker_name)
    workload.wait_until_done()
    workload.publish(3)
    workload.drain_and_check()
    assert worker.begun() == workload.published and workload.committed() == 6


def check_reported_address(script, address, seconds):
    line = script.wait_for_failure(60)
    assert script.out == [] and time.monotonic() - script.started < with_slack(seconds)
    assert repr(address) in line and (output.HINT_TEXT in line or script.name == PRODUCER)


def test_an_invalid_address_is_reported_at_once(start_script):
    for name, address in zip(SCRIPTS, ["localhost:port", "localhost:", "localhost:port"], strict=True):
        check_reported_address(start_script(name, address), address, 10)


@pytest.mark.long(50)
def test_an_unavailable_broker_is_reported_within_30_s(start_script, server):
    nobody = f"127.0.0.1:{free_port()}"
    cases = [(name, nobody) for name in SCRIPTS]
    cases += zip(SCRIPTS, [address_of(server), "no-such-host.invalid:9092", ""], strict=True)
    for script, address in [(start_script(name, address), address) for name, address in cases]:
        check_reported_address(script, address, limits.REPORT_SECONDS)


def test_connecting_is_retried_every_second(script_name, start_script, server):
    start_script(script_name, address_of(server))
    attempts = []
    while not attempts or attempts[-1] < attempts[0] + 9:
        connection, _ = server.accept()
        connection.close()
        attempts.append(time.monotonic())
    gaps = [later - earlier for earlier, later in pairwise(attempts)]
    assert max(gaps) < with_slack(1.5), gaps
    assert min(gaps[-4:]) > 0.7, gaps  # at first kafka-python retries sooner


def test_a_script_exits_within_a_second_of_ctrl_c_while_connecting(script_name, start_script, server):
    script = start_script(script_name, address_of(server))
    connection, _ = server.accept()
    with connection:
        script.signal(signal.SIGINT)
        script.wait_for_exit(-signal.SIGINT, seconds=with_slack(limits.IDLE_EXIT_SECONDS))
        assert (script.out, script.err) == ([], [])


def check_reported_failure_to_join(broker, start_script):
    workers = [start_script(name, broker.address) for name in WORKERS]
    for worker in workers:
        worker.wait_for_error(seconds=with_slack(limits.REPORT_SECONDS))
        worker.wait_for_error(count=2, seconds=with_slack(limits.REPORT_SECONDS))
    for worker in workers:
        worker.stop_and_check(seconds=limits.IDLE_EXIT_SECONDS)
        assert set(worker.err) == {output.WAITING_LINE.format("group1")}


@pytest.mark.long(50)
@pytest.mark.not_on_external_broker
def test_an_advertised_address_that_cannot_be_reached_is_reported_within_30_s_and_again(start_script):
    broker = Broker()
    listeners = broker.properties["advertised.listeners"]
    broker.properties["advertised.listeners"] = listeners.replace(broker.address, f"127.0.0.1:{free_port()}")
    with broker:
        producer = start_script(PRODUCER, broker.address)
        line = producer.wait_for_failure()
        assert "KafkaConnectionError" in line and output.BLAMES_BROKER_TEXT not in line
        check_reported_failure_to_join(broker, start_script)


@pytest.mark.long(50)
@pytest.mark.not_on_external_broker
def test_a_missing_group_coordinator_is_reported_within_30_s_and_again(start_script):
    with Broker(properties={"offsets.topic.replication.factor": 3}) as broker:
        check_reported_failure_to_join(broker, start_script)

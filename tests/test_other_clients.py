"""What other people's clients and brokers do to the scripts: codecs, transactions, brokers set up badly."""

import shutil
import time

import psutil
import pytest
from broker import Broker, free_port
from confluent_kafka import Producer
from conftest import EXTERNAL
from harness import GOODBYE, Cluster, hanging_up, on_this_machine, wait_until
from kafka import KafkaAdminClient

WORKERS = ["streaming_worker", "batch_worker"]
SENDING = "^sending email to"


def stop(script, code=0):
    """Send SIGTERM; return the seconds until it has exited with this code."""
    asked = time.monotonic()
    script.signal(15)
    assert script.wait() == code
    return time.monotonic() - asked


def publish_with_librdkafka(address, topic, values, **settings):
    producer = Producer({"bootstrap.servers": address, "linger.ms": 50, **settings})
    for value in values:
        producer.produce(topic, value)
    assert producer.flush(30) == 0


def test_messages_compressed_by_another_client_are_processed_like_any_others(worker, service):
    job = service(WORK_SECONDS=0.01)
    for codec in ("gzip", "snappy", "lz4", "zstd"):
        job.publish(1)
        emails = [f"{codec}{i}@gmail.com" for i in range(30)]  # a batch of one would be left uncompressed
        publish_with_librdkafka(job.cluster.address, job.topic, emails, **{"compression.type": codec})
        job.sent += emails
    job.publish(1)
    script = job.hire(worker)
    job.wait_handled()
    job.wait_committed()
    stop(script)
    job.check()
    assert script.begun() == job.sent and script.err == []


def test_messages_of_an_aborted_transaction_are_never_processed(worker, service):
    job = service()
    producer = Producer({"bootstrap.servers": job.cluster.address, "transactional.id": job.topic})
    producer.init_transactions()
    for email in ("aborted@gmail.com", "committed@gmail.com"):
        producer.begin_transaction()
        producer.produce(job.topic, email)
        producer.flush()
        producer.abort_transaction() if email == "aborted@gmail.com" else producer.commit_transaction()
    job.publish(1)
    job.sent = ["committed@gmail.com", *job.sent]
    script = job.hire(worker)
    job.wait_handled()
    stop(script)
    assert script.begun() == job.sent


own_broker = pytest.mark.skipif(bool(EXTERNAL), reason="needs a broker that is set up badly")


def unreachable_address(broker):
    broker.properties["advertised.listeners"] = broker.properties["advertised.listeners"].replace(
        broker.address, f"127.0.0.1:{free_port()}"
    )


def no_coordinator(broker):
    broker.properties["offsets.topic.replication.factor"] = 3


@own_broker
@pytest.mark.long
@pytest.mark.parametrize("fault", [unreachable_address, no_coordinator])
def test_a_worker_that_gets_no_place_in_its_group_says_so_within_30_s_and_again(start, fault):
    broker = Broker()
    fault(broker)
    with broker:
        scripts = [start(name, broker.address) for name in WORKERS]
        for script in scripts:
            wait_until(lambda script=script: script.err, on_this_machine(30), "it says so")
            wait_until(lambda script=script: len(script.err) == 2, on_this_machine(30), "it says so again")
        for script in scripts:
            assert stop(script) < on_this_machine(1)
            assert set(script.err) == {
                "Not in group group1, retrying. Check the broker's log and advertised address."
            }
            assert script.out[-1] == GOODBYE


@own_broker
def test_the_producer_blames_the_advertised_address_not_the_broker(start):
    broker = Broker()
    unreachable_address(broker)
    with broker:
        producer = start("producer", broker.address)
        assert producer.wait() == 1
        [line] = producer.err
        assert "KafkaConnectionError" in line and "up?" not in line


@own_broker
@pytest.mark.long
def test_a_producer_that_gets_no_producer_id_gives_up_after_30_s(start):
    """The broker asks its controller, a process of its own here, for a block of producer ids."""
    controller, broker = Broker(), Broker()
    address = controller.properties["controller.quorum.bootstrap.servers"]
    controller.properties |= {
        "process.roles": "controller",
        "node.id": 2,
        "listeners": f"CONTROLLER://{address}",
        "advertised.listeners": f"CONTROLLER://{address}",
    }
    del controller.properties["inter.broker.listener.name"]
    broker.properties |= {
        "process.roles": "broker",
        "listeners": f"BROKER://{broker.address}",
        "advertised.listeners": f"BROKER://{broker.address}",
        "controller.quorum.bootstrap.servers": address,
    }
    with controller, broker:
        topic = Cluster(broker.address).create_topic()
        producer = start(
            "producer",
            broker.address,
            TOPIC=topic,
            on_line=lambda line: controller.freeze() if "already created" in line else None,
        )
        assert producer.wait(60) == 1
        assert time.monotonic() - producer.started < on_this_machine(33)
        [line] = producer.err
        assert "KafkaTimeoutError" in line and producer.out == [f"Topic {topic} is already created"]


@pytest.mark.long
def test_a_long_outage_is_reported_every_now_and_then_while_the_processor_rests(broker, service):
    idle = [service().hire(name) for name in WORKERS]
    jobs = [service(WORK_SECONDS=2, BATCH_SECONDS=5) for _ in WORKERS]
    busy = [job.hire(name) for name, job in zip(WORKERS, jobs, strict=True)]
    time.sleep(5)  # for the first heartbeats
    for job in jobs:
        job.publish(1)
    for script in busy:
        script.wait_for("^sending|^received")
    broker.kill()
    with hanging_up(broker.port):  # refused connections are the easier case: poll() raises nothing then
        for script in busy:
            wait_until(lambda script=script: script.err, what="a commit failed")
        lines = [len(script.err) for script in busy]
        processes = [psutil.Process(script.process.pid) for script in idle + busy]
        before = [sum(process.cpu_times()[:2]) for process in processes]
        time.sleep(12)
        after = [sum(process.cpu_times()[:2]) for process in processes]
        assert all(len(script.err) - seen <= 7 for script, seen in zip(busy, lines, strict=True))
        assert max(now - then for now, then in zip(after, before, strict=True)) < 12 * 0.1
        for script in idle:
            wait_until(lambda script=script: script.err, 50, "the outage is reported")
            assert f"Is {broker.address} up?" in script.err[0]
            assert stop(script) < on_this_machine(1.5)
        for script in busy:
            assert all(f"Is {broker.address} up?" in line for line in script.err)
            stop(script, code=1)
            assert "will be delivered again" in script.err[-1]


@pytest.mark.parametrize("is_deleted", [True, False], ids=["topic deleted", "data lost"])
def test_workers_go_on_when_the_topic_is_made_again(service, broker, is_deleted):
    jobs = [service() for _ in WORKERS]
    for name, job in zip(WORKERS, jobs, strict=True):
        job.publish(5)
        job.hire(name)
    for job in jobs:
        job.wait_handled()
        job.wait_committed()
    if is_deleted:
        with KafkaAdminClient(**jobs[0].cluster.settings) as admin:
            admin.delete_topics([job.topic for job in jobs])
            wait_until(
                lambda: not {job.topic for job in jobs} & set(admin.list_topics()), what="they are gone"
            )
    else:
        broker.kill()
        shutil.rmtree(broker.data)
        broker.start()
    for job in jobs:
        job.cluster.create_topic(job.topic)
        job.publish(3)
    for job in jobs:
        job.wait_handled(60)
        job.wait_committed()
        stop(job.workers[0])
        job.check(repeated=0 if is_deleted else 3)  # the group, too, is lost with the data


def test_a_worker_says_that_its_group_has_evicted_it(worker, service):
    job = service(WORK_SECONDS=2, session_timeout_ms=6000)
    job.publish(1)
    first = job.hire(worker)
    first.wait_for(SENDING)
    first.freeze()
    wait_until(lambda: job.cluster.members(job.topic) == 0, what="the group has evicted it")
    first.thaw()
    wait_until(lambda: first.err, what="it says so")
    stop(first)
    assert "Group" in first.err[0] and "up?" not in first.err[0]

"""What the producer reports as published is stored, whatever happens to it or to the broker."""

import time

import pytest
from broker import Broker
from support import limits, output
from support.cluster import Cluster
from support.network import closing_connections
from support.processes import PRODUCER
from support.waiting import wait_until, with_slack


def test_what_was_reported_before_a_signal_is_stored(start_script, cluster, stop_signal):
    topic = cluster.new_name()
    producer = start_script(PRODUCER, cluster.address, TOPIC=topic)
    producer.wait_for(output.PUBLISHED, count=3)
    producer.signal(stop_signal)
    producer.wait_for_exit(-stop_signal)
    assert producer.out == output.PRODUCER_LINES[: len(producer.out)] and producer.err == []
    count = len(producer.out)
    assert cluster.stored_values(topic)[:count] == output.PRODUCER_EMAILS[:count]


def test_a_broker_restart_loses_no_message(start_script, breakable_broker, cluster):
    topic = cluster.new_name()
    producer = start_script(PRODUCER, breakable_broker.address, TOPIC=topic)
    producer.wait_for(output.PUBLISHED, count=3)
    breakable_broker.kill()
    with closing_connections(breakable_broker.port):
        time.sleep(3)
    breakable_broker.start()
    producer.wait_for_exit()
    assert (producer.out, producer.err) == (output.PRODUCER_LINES, [])
    assert cluster.stored_values(topic) == output.PRODUCER_EMAILS


@pytest.mark.long(40)
def test_a_topic_deleted_before_the_first_message_is_an_error_within_30_s(start_script, cluster, topic):
    exists = output.TOPIC_EXISTS_LINE.format(topic)
    producer = start_script(PRODUCER, cluster.address, TOPIC=topic, signal_at=["SIGSTOP", f"^{exists}", 1])
    producer.wait_for(exists)
    cluster.delete_topics()
    producer.thaw()
    line = producer.wait_for_failure(with_slack(limits.STORE_SECONDS + 2))
    assert cluster.address in line and producer.out == [exists]


@pytest.mark.long(40)
def test_a_message_not_stored_within_30_s_is_an_error(start_script, breakable_broker, cluster):
    topic = cluster.new_name()
    producer = start_script(PRODUCER, breakable_broker.address, TOPIC=topic)
    producer.wait_for(output.PUBLISHED, count=3)
    breakable_broker.freeze()
    line = producer.wait_for_failure(with_slack(limits.STORE_SECONDS + 5))
    assert breakable_broker.address in line and f"Is the broker {output.BLAMES_BROKER_TEXT}" in line
    breakable_broker.thaw()
    count = len(producer.out)
    assert producer.out == output.PRODUCER_LINES[:count]
    stored = wait_until(lambda: cluster.stored_values(topic), what="the thawed broker answers")
    assert len(stored) in (count, count + 1)  # one was in flight
    assert stored == output.PRODUCER_EMAILS[: len(stored)]


@pytest.mark.long(40)
@pytest.mark.not_on_external_broker
def test_a_producer_that_gets_no_producer_id_gives_up_after_30_s(start_script):
    """The broker asks its controller, here a process of its own, for a block of producer ids.

    Only get() has a limit here: kafka-python's delivery_timeout_ms does not begin before there is an id.
    """
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
        # by default, the broker would ask the frozen controller again and again, without a pause
        "controller.quorum.fetch.timeout.ms": 60_000,
        "controller.quorum.request.timeout.ms": 60_000,
    }
    with controller, broker:
        topic = Cluster(broker.address).create_topic()
        line_about_topic = output.TOPIC_EXISTS_LINE.format(topic)
        producer = start_script(PRODUCER, broker.address, TOPIC=topic, on_line=lambda _: controller.freeze())
        began = producer.wait_for(line_about_topic)
        line = producer.wait_for_failure(60)
        assert -1 < time.monotonic() - began - limits.STORE_SECONDS < with_slack(2)
        assert "KafkaTimeoutError" in line and producer.out == [line_about_topic]

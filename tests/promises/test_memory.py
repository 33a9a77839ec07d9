"""The batch worker's memory stays flat, whatever is waiting in the topic."""

import time

import psutil
import pytest
from confluent_kafka import Producer
from support import output
from support.processes import BATCH
from support.workload import NEVER


def watch_memory(worker, is_over):
    """Check until is_over() that the worker's memory stays under 80 MiB."""
    process = psutil.Process(worker.pid)
    while not is_over():
        resident = process.memory_info().rss / 2**20
        assert resident < 80, f"{resident:.0f} MiB"
        assert time.monotonic() < worker.started + 90, "too slow"
        time.sleep(0.1)


@pytest.mark.long(25)
def test_memory_stays_flat_with_a_million_messages_waiting(new_workload):
    workload = new_workload(WORK_SECONDS=0.2, BATCH_SECONDS=NEVER)
    settings = {"bootstrap.servers": workload.cluster.address, "queue.buffering.max.messages": 0}
    producer = Producer(settings)  # librdkafka, since kafka-python takes ten times as long
    for _ in range(1_000_000):
        producer.produce(workload.topic, b"user@gmail.com")
    assert producer.flush(60) == 0
    worker = workload.start(BATCH)
    watch_memory(worker, lambda: len(worker.times(output.FINISHED)) >= 12)
    assert len(worker.begun()) >= 100_000
    worker.stop_and_check()


def test_memory_stays_flat_with_300_messages_of_900_kb(new_workload):
    workload = new_workload()
    workload.cluster.publish(workload.topic, [b"x" * 900_000 + b"@gmail.com"] * 300)
    worker = workload.start(BATCH)
    watch_memory(worker, lambda: len(worker.err) == 300)
    workload.wait_until_done()
    worker.stop_and_check()
    assert not worker.begun()

"""The batch worker's memory stays flat, whatever is waiting in the topic."""

import subprocess
import sys
import time

import psutil
from support.workload import NEVER, stop


def watch(worker, is_over):
    """Check until is_over() that the worker's memory stays under 80 MiB."""
    process = psutil.Process(worker.process.pid)
    while not is_over():
        resident = process.memory_info().rss / 2**20
        assert resident < 80, f"{resident:.0f} MiB"
        assert time.monotonic() < worker.started + 90, "too slow"
        time.sleep(0.1)


def test_memory_stays_flat_with_a_million_messages_waiting(new_workload):
    workload = new_workload(WORK_SECONDS=0.2, BATCH_SECONDS=NEVER)
    code = """if True:
        import sys
        from kafka import KafkaProducer
        with KafkaProducer(bootstrap_servers=sys.argv[1], linger_ms=50, batch_size=500_000) as producer:
            for _ in range(1_000_000):
                producer.send(sys.argv[2], b"user@gmail.com")"""
    subprocess.run(
        [sys.executable, "-c", code, workload.cluster.address, workload.topic], check=True, timeout=120
    )
    worker = workload.start("batch_worker")
    watch(worker, lambda: worker.out.count("finished processing messages") >= 12)
    assert len(worker.begun()) >= 100_000
    stop(worker)


def test_memory_stays_flat_with_300_messages_of_900_kb_with_an_at_in_them(new_workload):
    workload = new_workload()
    workload.cluster.publish(workload.topic, [b"x" * 900_000 + b"@gmail.com"] * 300)
    worker = workload.start("batch_worker")
    watch(worker, lambda: len(worker.err) == 300)
    workload.wait_until_committed()
    stop(worker)
    assert not any("process" in line for line in worker.out)  # there was nothing to process

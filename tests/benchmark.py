"""Measures the workers' speed beside a bare kafka-python loop, their memory, and how they scale.

    python tests/benchmark.py           some three minutes: progress, then one table
    python tests/benchmark.py 0.1       a tenth of the messages, to try this program (at least 0.01)

It starts a broker of its own and runs the workers' own code; their work takes no time unless stated. The bare
loop, child/bare_loop.py, reads the same messages in a process of its own. What a row compares is measured in
turn, three times each; the table shows medians.
"""

import argparse
import os
import platform
import time
import uuid
from contextlib import ExitStack, contextmanager
from functools import cache
from importlib.metadata import version
from statistics import median

from broker import KAFKA_VERSION, Broker, BrokerError
from rich.console import Console
from rich.table import Table
from support.cluster import Cluster
from support.output import UPDATING
from support.processes import BATCH, STREAMING, Script
from support.signals import exiting_cleanly
from support.waiting import wait_until

ROUNDS = 3
BARE_LOOP = "bare_loop"
PROGRESS = f"{UPDATING}|^read"  # what a worker, or the bare loop, prints about messages


class Benchmark:
    """The measurements, on the broker at address, with that fraction (scale) of the messages."""

    def __init__(self, address, scale):
        self.cluster = Cluster(address)
        self.few, self.many = int(10_000 * scale), int(1_000_000 * scale)
        self.batch_size = min(10_000, self.many // 4)
        self.scaling_seconds = max(0.2, 5 * min(1, scale))
        self.shared_topic = cache(self.new_topic)  # the same topic for the same number of messages

    def rows(self):
        """Yield [what is measured, its figure, the figure that it is compared with, ratio]."""
        memory = f"batch worker: peak MiB, {self.many:,} / {self.few:,} waiting"
        scaling = "streaming worker, 5 ms of work: messages/s, 4 workers / 1 worker"
        for what, measure, subject, reference in [
            ("streaming worker: messages/s, worker / bare loop", self.commit_rate, STREAMING, BARE_LOOP),
            ("batch worker: messages/s, worker / bare loop", self.poll_rate, BATCH, BARE_LOOP),
            (memory, self.peak_mib, self.many, self.few),
            (scaling, self.several_rate, 4, 1),
        ]:
            figures = {subject: [], reference: []}
            for number in range(1, ROUNDS + 1):
                for argument, values in figures.items():
                    values.append(measure(argument))
                    print(f"{what}, round {number} of {ROUNDS}, {argument}: {values[-1]:,.1f}", flush=True)
            figure, compared = map(median, figures.values())
            yield [what, f"{figure:,.1f}", f"{compared:,.1f}", f"{figure / compared:.2f}"]

    def new_topic(self, messages, partitions=1):
        """Create a topic with that many messages waiting; return its name."""
        topic = self.cluster.create_topic(partitions=partitions)
        with self.cluster.producer(linger_ms=50, batch_size=65_536) as producer:
            for i in range(messages):
                last = producer.send(topic, b"user%06d@gmail.com" % i, partition=i % partitions)
            last.get()
        return topic

    @contextmanager
    def running(self, name, topic, **settings):
        """Run a worker, whose work takes no time unless set, or the bare loop; end it after the block."""
        work = {} if name == BARE_LOOP else {"WORK_SECONDS": 0}
        settings = {"TOPIC": topic, "GROUP_ID": uuid.uuid4().hex, **work, **settings}
        run = Script(name, self.cluster.address, **settings)
        try:
            yield run
        finally:
            run.end()

    def line_rate(self, name, waiting, lines, **settings):
        """Return the PROGRESS lines per second, from the first one to number `lines`.

        waiting: how many messages are in the topic.
        """
        with self.running(name, self.shared_topic(waiting), **settings) as run:
            return (lines - 1) / (run.wait_for(PROGRESS, lines, 60) - run.wait_for(PROGRESS))

    def poll_rate(self, name):
        """Return the messages a second when each poll() returns many; a line is about a full batch."""
        full_batches = {"BUFFER_SIZE": self.batch_size, "BATCH_SECONDS": 60}
        settings = {"MESSAGES_PER_LINE": self.batch_size} if name == BARE_LOOP else full_batches
        lines = self.many // 2 // self.batch_size
        return self.batch_size * self.line_rate(name, self.many, lines, **settings)

    def commit_rate(self, name):
        """Return the messages a second when each one is polled and committed by itself."""
        settings = {"IS_COMMITTING": True, "max_poll_records": 1} if name == BARE_LOOP else {}
        return self.line_rate(name, self.few, self.few, **settings)

    def peak_mib(self, count):
        """Return the highest resident memory of a batch worker until it has processed count messages."""
        batches, sizes = max(1, count // self.batch_size), []
        with self.running(BATCH, self.shared_topic(count), BUFFER_SIZE=self.batch_size) as worker:

            def is_done():
                sizes.append(worker.popen.memory_info().rss)
                return len(worker.times(PROGRESS)) >= batches

            wait_until(is_done, 60, f"{count} messages are processed")
        return max(sizes) / 2**20

    def several_rate(self, count):
        """Return how many messages a second `count` streaming workers process on four partitions."""
        topic = self.new_topic(4000, partitions=4)
        settings = {"GROUP_ID": topic, "WORK_SECONDS": 0.005}
        with ExitStack() as stack:
            workers = [stack.enter_context(self.running(STREAMING, topic, **settings)) for _ in range(count)]
            for worker in workers:
                worker.wait_for(PROGRESS)
            time.sleep(0.5)  # until the group has settled
            before = sum(len(worker.times(PROGRESS)) for worker in workers)
            time.sleep(self.scaling_seconds)
            after = sum(len(worker.times(PROGRESS)) for worker in workers)
            return (after - before) / self.scaling_seconds


def main():
    parser = argparse.ArgumentParser(description="Measure the workers beside a bare kafka-python loop.")
    parser.add_argument("scale", nargs="?", type=float, default=1, help="fraction of the messages")
    scale = parser.parse_args().scale
    load = os.getloadavg()[0]
    table = Table("measured", "median", "compared with", "ratio", box=None)
    print("starting a broker (Apache Kafka)", flush=True)
    with exiting_cleanly((BrokerError, AssertionError)), Broker() as broker:
        benchmark = Benchmark(broker.address, scale)
        benchmark.commit_rate(BARE_LOOP)  # not measured: a broker's first commits are slower
        for row in benchmark.rows():
            table.add_row(*row)
    Console(highlight=False, width=150).print(table)
    versions = [f"{name} {version(name)}" for name in ("kafka-python", "crc32c")]
    print(f"\nPython {platform.python_version()}, {', '.join(versions)}, Apache Kafka {KAFKA_VERSION}")
    print(f"{platform.platform()}, {os.cpu_count()} processors; load average at the start {load:.2f}")
    print("Absolute figures are those of this machine; ratios carry over better.")


if __name__ == "__main__":
    main()

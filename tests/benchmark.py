"""Measures what the workers add to kafka-python: speed, latency, start and exit, memory, CPU, scaling.

    python tests/benchmark.py           about five minutes: progress, then one table
    python tests/benchmark.py 0.1       a tenth of the messages, to try this program

It starts a broker of its own and runs the workers' own code; the pretend work takes no time unless stated.
The loop they are compared with, child/bare_loop.py, reads the same messages in a process of its own, in turn
with the worker, three times each; the table shows medians and ranges. Times are those at which a process's
lines arrive through a pipe. The exit code is 0 whether the bounds are met or not.
"""

import argparse
import os
import platform
import signal
import sys
import time
import uuid
from collections import namedtuple
from contextlib import ExitStack, contextmanager
from functools import cache
from importlib.metadata import version
from operator import sub, truediv
from statistics import median, quantiles

import psutil
from broker import KAFKA_VERSION, Broker, BrokerError
from rich.console import Console
from rich.progress import track
from rich.table import Table
from support.cluster import Cluster
from support.output import FINISHED, UPDATING, email_of
from support.processes import BATCH, STREAMING, Script
from support.signals import exiting_cleanly
from support.waiting import wait_until

BARE_LOOP = "bare_loop"
PROCESSED = f"{UPDATING}|^read"  # what a worker, or the bare loop, prints about messages

# measure(argument) returns a figure; arguments: the subject and, unless the bound is for the subject's own
# median, the reference; compare(the subject's median, the reference's) returns the value that has the bound,
# "<= 2", say.
Measurement = namedtuple("Measurement", "what measure arguments compare bound")


class Benchmark:
    """The measurements, on the broker at address, with that fraction (scale) of the messages."""

    def __init__(self, address, scale):
        self.cluster = Cluster(address)
        self.scale = scale
        self.few, self.many = int(10_000 * scale), int(1_000_000 * scale)
        self.batch_size = min(10_000, self.many // 4)
        self.shared_topic = cache(self.new_topic)  # the same topic for the same number of messages

    def measurements(self):
        memory = f"peak MiB, {self.many:,} waiting - {self.few:,} waiting"
        batch, streaming = [BATCH, BARE_LOOP], [STREAMING, BARE_LOOP]
        rows = [
            ("batch / bare poll() loop, messages/s", self.poll_rate, batch, truediv, ">= 0.9"),
            (memory, self.peak_mib, [self.many, self.few], sub, "<= 10"),
            ("streaming / committing bare loop, messages/s", self.commit_rate, streaming, truediv, ">= 0.9"),
            ("latency - bare loop's, ms", self.latency, streaming, sub, "<= 2"),
            ("start - bare loop's, s", self.start_seconds, streaming, sub, "<= 0.1"),
            (f"idle exit, s: {STREAMING}", self.idle_exit_seconds, [STREAMING], None, "<= 0.6"),
            (f"idle CPU, %: {STREAMING}", self.idle_cpu_percent, [STREAMING], None, "<= 1"),
            (f"idle exit, s: {BATCH}", self.idle_exit_seconds, [BATCH], None, "<= 0.6"),
            (f"idle CPU, %: {BATCH}", self.idle_cpu_percent, [BATCH], None, "<= 1"),
            ("4 workers / 1 worker, 5 ms of work, messages/s", self.several_rate, [4, 1], truediv, ">= 3.5"),
        ]
        return [Measurement(*values) for values in rows]

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
        except AssertionError as error:
            raise AssertionError(f"{error}\n{run}") from None
        finally:
            run.end()

    def line_rate(self, name, waiting, lines, **settings):
        """Return the PROCESSED lines per second, from the first one to number `lines`.

        waiting: how many messages are in the topic.
        """
        with self.running(name, self.shared_topic(waiting), **settings) as run:
            return (lines - 1) / (run.wait_for(PROCESSED, lines, 60) - run.wait_for(PROCESSED))

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

    def several_rate(self, count):
        """Return how many messages a second `count` streaming workers process on four partitions."""
        topic = self.new_topic(4000, partitions=4)
        settings = {"GROUP_ID": topic, "WORK_SECONDS": 0.005}
        seconds = max(0.2, 5 * min(1, self.scale))
        with ExitStack() as stack:
            workers = [stack.enter_context(self.running(STREAMING, topic, **settings)) for _ in range(count)]
            for worker in workers:
                worker.wait_for(PROCESSED)
            time.sleep(0.5)  # until the group has settled
            before = sum(len(worker.times(PROCESSED)) for worker in workers)
            time.sleep(seconds)
            return (sum(len(worker.times(PROCESSED)) for worker in workers) - before) / seconds

    def peak_mib(self, count):
        """Return the highest resident memory of a batch worker until it has processed count messages."""
        batches, sizes = max(1, count // self.batch_size), []
        with self.running(BATCH, self.shared_topic(count), BUFFER_SIZE=self.batch_size) as worker:

            def is_done():
                sizes.append(psutil.Process(worker.pid).memory_info().rss)
                return len(worker.times(PROCESSED)) >= batches

            wait_until(is_done, 60, f"{count} messages are processed")
        return max(sizes) / 2**20

    def latency(self, name):
        """Return the 99th percentile of milliseconds from a message's acknowledgement to its line."""
        topic, delays = self.new_topic(1), []
        with self.running(name, topic) as run, self.cluster.producer() as producer:
            run.wait_for(PROCESSED)
            for number in range(max(20, int(300 * self.scale))):
                producer.send(topic, email_of(number).encode()).get()
                acknowledged = time.monotonic()
                time.sleep(0.01)
                delays.append((run.wait_for(PROCESSED, number + 2) - acknowledged) * 1000)
        return quantiles(delays, n=100)[98]

    def start_seconds(self, name):
        """Return the seconds from the start of the process to its first line about a message."""
        with self.running(name, self.shared_topic(1)) as run:
            return run.wait_for(PROCESSED) - run.started

    @contextmanager
    def idle(self, name):
        """Run a worker; the block begins when it has committed its only message."""
        settings = {"BATCH_SECONDS": 0.2} if name == BATCH else {}
        with self.running(name, self.new_topic(1), **settings) as worker:
            worker.wait_for(FINISHED)
            time.sleep(0.05)
            yield worker

    def idle_exit_seconds(self, name):
        """Return the seconds from SIGTERM to the exit of an idle worker."""
        with self.idle(name) as worker:
            signalled = time.monotonic()
            worker.signal(signal.SIGTERM)
            wait_until(lambda: not worker.is_running, what=f"{name} exits")
            return time.monotonic() - signalled

    def idle_cpu_percent(self, name):
        """Return the percentage of a processor that an idle worker uses."""
        with self.idle(name) as worker:
            seconds, before = 15 * min(1, self.scale), worker.cpu_seconds()
            time.sleep(seconds)
            return (worker.cpu_seconds() - before) / seconds * 100


def measure_in_turn(measurement, rounds):
    """Return the figures of the subject, and of the reference if there is one, as a list of lists."""
    figures = {argument: [] for argument in measurement.arguments}
    for number in range(1, rounds + 1):
        for argument, values in figures.items():
            values.append(measurement.measure(argument))
            line = f"{measurement.what}, round {number} of {rounds}, {argument}: {short(values[-1])}"
            print(line, flush=True)
    return list(figures.values())


def row(measurement, subject, reference=()):
    """Return the row of the table for these figures."""
    value = measurement.compare(median(subject), median(reference)) if reference else median(subject)
    relation, bound = measurement.bound.split()
    is_met = value >= float(bound) if relation == ">=" else value <= float(bound)
    cells = spread(subject), spread(reference), f"{value:.2f}", measurement.bound
    return measurement.what, *cells, "yes" if is_met else "NO"


def short(number):
    return f"{number:,.0f}" if number >= 1000 else f"{number:.1f}" if number >= 10 else f"{number:.2f}"


def spread(numbers):
    return f"{short(median(numbers))} ({short(min(numbers))} to {short(max(numbers))})" if numbers else ""


def main():
    parser = argparse.ArgumentParser(description="Measure what the workers add to kafka-python.")
    parser.add_argument("scale", nargs="?", type=float, default=1, help="fraction of the messages")
    parser.add_argument("--rounds", type=int, default=3, help="how many times each is measured (default: 3)")
    args = parser.parse_args()
    if not 0.01 <= args.scale <= 10 or args.rounds < 1:
        parser.error("the scale must be from 0.01 to 10, and --rounds at least 1")
    load = psutil.getloadavg()[0]
    table = Table("measured", "median (range)", "compared with", "value", "bound", "met", box=None)
    print("starting a broker (Apache Kafka)", flush=True)
    with exiting_cleanly((BrokerError, AssertionError)), Broker() as broker:
        benchmark = Benchmark(broker.address, args.scale)
        benchmark.commit_rate(BARE_LOOP)  # not measured: a broker's first commits are slower
        for measurement in track(benchmark.measurements(), "measuring", disable=not sys.stdout.isatty()):
            table.add_row(*row(measurement, *measure_in_turn(measurement, args.rounds)))
    Console(highlight=False, width=150).print(table)
    versions = [f"{name} {version(name)}" for name in ("kafka-python", "crc32c")]
    print(f"\nPython {platform.python_version()}, {', '.join(versions)}, Apache Kafka {KAFKA_VERSION}")
    print(f"{platform.platform()}, {os.cpu_count()} processors; load average at the start {load:.2f}")
    print("Absolute figures are those of this machine; ratios carry over better.")


if __name__ == "__main__":
    main()

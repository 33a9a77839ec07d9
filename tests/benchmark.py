"""Measures what the workers add to kafka-python: speed, latency, start and exit, memory, CPU, scaling.

    python tests/benchmark.py           about five minutes: progress, then one table
    python tests/benchmark.py 0.1       a tenth of the messages, to try this program

It starts a broker of its own and runs the workers' own code; the pretend work takes no time unless stated.
The loop they are compared with, support/bare_loop.py, reads the same messages in a process of its own, in
turn with the worker, three times each; the table shows medians and ranges. Times are those at which a
process's lines arrive through a pipe. The exit code is 0 whether the bounds are met or not.
"""

import argparse
import os
import platform
import re
import signal
import sys
import time
import uuid
from collections import namedtuple
from functools import cache
from importlib.metadata import version
from operator import sub, truediv
from statistics import median, quantiles

import psutil
from broker import KAFKA_VERSION, Broker, BrokerError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from support.cluster import Cluster
from support.output import FINISHED, READ, RECEIVED, SENDING, UPDATING, email_of, message_count
from support.processes import BATCH, STREAMING, Script
from support.signals import ending_cleanly
from support.waiting import wait_until

BARE_LOOP = "bare_loop"
LINES = {  # the first about a message, and the one that says that it is processed
    STREAMING: (SENDING, FINISHED),
    BATCH: (RECEIVED, UPDATING),
    BARE_LOOP: (READ, READ),
}

# measure: called with subject, then with reference, measures once. Without a reference, the bound is for the
# subject's own median. compare: makes the value that has the bound from the two medians. bound: "<= 2", say.
Measurement = namedtuple("Measurement", "what bound measure subject reference compare", defaults=(None, None))


class Run(Script):
    """A worker or the bare loop as a process, and a count of the messages that its lines are about.

    first, last: the patterns of its lines in LINES.
    marks: {pattern: [(time.monotonic() when a line matched, messages in such lines so far)]}
    """

    def __init__(self, name, address, **settings):
        self.first, self.last = LINES[name]
        self.marks = {pattern: [(0, 0)] for pattern in LINES[name]}
        super().__init__(name, address, self.add, **settings)

    def add(self, line):
        for pattern, marks in self.marks.items():
            if re.match(pattern, line):  # re.search() would search all of a long line in Python 3.10
                marks.append((time.monotonic(), self.count(pattern) + message_count(line)))

    def count(self, pattern):
        """Return how many messages the lines are about that match the pattern."""
        return self.marks[pattern][-1][1]

    def when(self, pattern, count=1):
        """Wait for lines that match to be about count messages; return (time, messages) at the last one."""
        wait_until(lambda: self.count(pattern) >= count, 60, f"{self.name} prints {count} x {pattern!r}")
        return next(mark for mark in self.marks[pattern] if mark[1] >= count)


class Benchmark:
    """The measurements, on the broker at address, with that fraction (scale) of the messages.

    name, below: of a worker, or BARE_LOOP.
    shared_topic: as new_topic(), but returns the same topic for the same number of messages.
    running: each Run that was started and not stopped.
    """

    def __init__(self, address, scale):
        self.cluster = Cluster(address)
        self.scale = scale
        self.few, self.many = int(10_000 * scale), int(1_000_000 * scale)
        self.shared_topic = cache(self.new_topic)
        self.running = []

    def measurements(self):
        """Return a list of every Measurement; the broker is needed only when one is measured."""
        polls = "batch / bare poll() loop, messages/s"
        memory = f"peak MiB, {self.many:,} waiting - {self.few:,} waiting"
        commits = "streaming / bare loop with its commits, messages/s"
        scaling = "4 workers / 1 worker, 5 ms of work, messages/s"
        return [
            Measurement(polls, ">= 0.9", self.rate_of_polls, BATCH, BARE_LOOP, truediv),
            Measurement(memory, "<= 10", self.peak_mib, self.many, self.few, sub),
            Measurement(commits, ">= 0.9", self.rate_of_commits, STREAMING, BARE_LOOP, truediv),
            Measurement("latency - bare loop's, ms", "<= 2", self.latency, STREAMING, BARE_LOOP, sub),
            Measurement("start - bare loop's, s", "<= 0.1", self.start_seconds, STREAMING, BARE_LOOP, sub),
            Measurement(f"idle exit, s: {STREAMING}", "<= 0.6", self.idle_exit_seconds, STREAMING),
            Measurement(f"idle CPU, %: {STREAMING}", "<= 1", self.idle_cpu_percent, STREAMING),
            Measurement(f"idle exit, s: {BATCH}", "<= 0.6", self.idle_exit_seconds, BATCH),
            Measurement(f"idle CPU, %: {BATCH}", "<= 1", self.idle_cpu_percent, BATCH),
            Measurement(scaling, ">= 3.5", self.rate_of_several, 4, 1, truediv),
        ]

    def new_topic(self, messages, partitions=1):
        """Create a topic with that many sign-ups waiting; return its name."""
        topic = self.cluster.create_topic(partitions=partitions)
        with self.cluster.producer(linger_ms=50, batch_size=65_536) as producer:
            for i in range(messages):
                last = producer.send(topic, b"user%06d@gmail.com" % i, partition=i % partitions)
            last.get()
        return topic

    def start(self, name, topic, **settings):
        """Start that script, in a group of its own and with work of no time unless set; return its Run."""
        work = {} if name == BARE_LOOP else {"WORK_SECONDS": 0}
        settings = {"TOPIC": topic, "GROUP_ID": uuid.uuid4().hex, **work, **settings}
        self.running.append(Run(name, self.cluster.address, **settings))
        return self.running[-1]

    def stop(self, run):
        """End it by SIGTERM; return the seconds that this took."""
        asked = time.monotonic()
        run.signal(signal.SIGTERM)
        while run.popen.poll() is None:  # wait(60) would look only every 50 ms
            assert time.monotonic() < asked + 60, f"{run.name} does not exit"
            time.sleep(0.001)
        self.running.remove(run)
        return time.monotonic() - asked

    def rate(self, name, waiting, count, **loop_settings):
        """Return messages a second, from the first line about one until count of those waiting are processed.

        loop_settings: of the bare loop only.
        """
        settings = {"COUNT": count, **loop_settings} if name == BARE_LOOP else {}
        run = self.start(name, self.shared_topic(waiting), **settings)
        start, _ = run.when(run.first)
        end, messages = run.when(run.last, count)
        self.stop(run)
        return messages / (end - start)

    def rate_of_polls(self, name):
        """Return messages a second when each poll() returns many."""
        return self.rate(name, self.many, self.many // 2)

    def rate_of_commits(self, name):
        """Return messages a second when each one is polled and committed by itself."""
        return self.rate(name, self.few, self.few, IS_COMMITTING=True, max_poll_records=1)

    def rate_of_several(self, workers):
        """Return the messages a second of that many streaming workers on four partitions."""
        topic = self.new_topic(4000, partitions=4)
        runs = [self.start(STREAMING, topic, GROUP_ID=topic, WORK_SECONDS=0.005) for _ in range(workers)]
        for run in runs:
            run.when(run.first)
        counts = []
        for seconds in (0.5, max(0.2, 5 * min(1, self.scale))):  # by half a second the group has settled
            time.sleep(seconds)
            counts.append((time.monotonic(), sum(run.count(run.last) for run in runs)))
        for run in runs:
            self.stop(run)
        [(start, before), (end, after)] = counts
        return (after - before) / (end - start)

    def peak_mib(self, count):
        """Return the highest resident memory of a batch worker until it has processed count messages."""
        run, sizes = self.start(BATCH, self.shared_topic(count)), []
        process = psutil.Process(run.pid)

        def is_done():
            sizes.append(process.memory_info().rss)
            return run.count(run.last) >= count

        wait_until(is_done, 60, f"{count} messages are processed")
        self.stop(run)
        return max(sizes) / 2**20

    def latency(self, name):
        """Return the 99th percentile of milliseconds from a message's acknowledgement to its first line."""
        topic = self.new_topic(1)
        run = self.start(name, topic)
        run.when(run.first)
        count = max(20, int(300 * self.scale))
        acknowledged = []
        with self.cluster.producer() as producer:
            for i in range(count):
                producer.send(topic, email_of(i).encode()).get()
                acknowledged.append(time.monotonic())
                time.sleep(0.01)
        seen = [run.when(run.first, number)[0] for number in range(2, count + 2)]
        self.stop(run)
        delays = [(at - sent) * 1000 for at, sent in zip(seen, acknowledged, strict=True)]
        return quantiles(delays, n=100)[98]

    def start_seconds(self, name):
        """Return the seconds from the start of the process to its first line about a message."""
        run = self.start(name, self.shared_topic(1))
        seconds = run.when(run.first)[0] - run.started
        self.stop(run)
        return seconds

    def idle_worker(self, name):
        """Start a worker with one message; return its Run when it has committed that and waits for more."""
        run = self.start(name, self.new_topic(1), **({"BATCH_SECONDS": 0.2} if name == BATCH else {}))
        run.wait_for(FINISHED, seconds=60)
        time.sleep(0.05)
        return run

    def idle_exit_seconds(self, name):
        """Return the seconds that an idle worker takes to exit."""
        return self.stop(self.idle_worker(name))

    def idle_cpu_percent(self, name):
        """Return the percentage of a processor that an idle worker uses."""
        run = self.idle_worker(name)
        seconds, before = 15 * min(1, self.scale), run.cpu_seconds()
        time.sleep(seconds)
        percent = (run.cpu_seconds() - before) / seconds * 100
        self.stop(run)
        return percent


def measure_in_turn(measurement, rounds, progress):
    """Return the figures of the subject, and those of the reference."""
    figures = {"subject": [], "reference": []}
    for number in range(1, rounds + 1):
        for name, values in figures.items():
            if (argument := getattr(measurement, name)) is not None:
                values.append(measurement.measure(argument))
                line = f"{measurement.what}, round {number} of {rounds}, {name}: {short(values[-1])}"
                progress.console.print(line, soft_wrap=True)
    return figures.values()


def row(measurement, subject, reference):
    """Return the row of the table."""
    value = median(subject)
    if reference:
        value = measurement.compare(value, median(reference))
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
    parser.add_argument(
        "scale", nargs="?", type=float, default=1, help="fraction of the messages (default: 1)"
    )
    parser.add_argument("--rounds", type=int, default=3, help="how many times each is measured (default: 3)")
    args = parser.parse_args()
    if not 0 < args.scale <= 10 or args.rounds < 1:
        parser.error("the scale must be more than 0 and at most 10, and there must be a round")
    began, load = time.monotonic(), psutil.getloadavg()[0]
    table = Table("measured", "median (range)", "compared with", "value", "bound", "met", box=None)
    console = Console(highlight=False)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    progress = Progress(*columns, console=console, disable=not console.is_terminal)
    with ending_cleanly("Stopped; nothing that the benchmark started is still running.", BrokerError):
        print("starting a broker (Apache Kafka)", flush=True)
        with Broker() as broker, progress:
            benchmark = Benchmark(broker.address, args.scale)
            try:
                benchmark.rate_of_commits(BARE_LOOP)  # not measured: a broker's first commits are slower
                for measurement in progress.track(benchmark.measurements()):
                    table.add_row(*row(measurement, *measure_in_turn(measurement, args.rounds, progress)))
            except AssertionError as error:
                sys.exit("\n".join(map(str, [error, *benchmark.running])))
            finally:
                for run in benchmark.running:
                    run.end()
    Console(highlight=False, width=150).print(table)
    print(f"\n{args.rounds} rounds in {time.monotonic() - began:.0f} s; load average at the start {load:.2f}")
    versions = [f"{name} {version(name)}" for name in ("kafka-python", "crc32c")]
    print(f"Python {platform.python_version()}, {', '.join(versions)}, Apache Kafka {KAFKA_VERSION}")
    memory = psutil.virtual_memory().total / 2**30
    print(f"{platform.platform()}, {os.cpu_count()} processors, {memory:.0f} GiB")
    print("Absolute figures are those of this machine; ratios carry over better.")


if __name__ == "__main__":
    main()

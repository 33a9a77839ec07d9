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
import signal
import sys
import time
import uuid
from collections import defaultdict, namedtuple
from functools import partial
from importlib.metadata import version
from operator import sub, truediv
from statistics import median, quantiles

import psutil
from broker import KAFKA_VERSION, Broker, BrokerError
from kafka import KafkaProducer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from support.cluster import Cluster
from support.processes import BATCH, STREAMING, Script
from support.signals import ending_cleanly
from support.waiting import wait_until

# worker, baseline: functions that measure once; without a baseline, the bound is for the worker's own median.
# compare: makes the value that has the bound from the two medians. bound: "<= 2", say.
Measurement = namedtuple("Measurement", "what bound worker baseline compare", defaults=(None, None))


class Run(Script):
    """A worker or the bare loop as a process, in a group of its own, and a count of the messages it names.

    counts: first word of a line -> [(time.monotonic() when it came, messages in such lines so far)]
    """

    running = []

    def __init__(self, address, name, topic, **settings):
        self.counts = defaultdict(list)
        settings = {"TOPIC": topic, "GROUP_ID": uuid.uuid4().hex, **settings}
        super().__init__(name, address, self.add, **settings)
        self.running.append(self)

    def add(self, line):
        word, second = (line[:40] + " - -").split()[:2]
        messages = int(second) if second.isdecimal() else line.count("@") or 1
        self.counts[word].append((time.monotonic(), self.count(word) + messages))

    def count(self, word):
        return self.counts[word][-1][1] if self.counts[word] else 0

    def when(self, word, count=1):
        """Wait for count messages in lines that begin with word; return (time, messages) at the last one."""
        wait_until(lambda: self.count(word) >= count, 60, f"{self.name} prints {count} x {word!r}")
        return next(mark for mark in self.counts[word] if mark[1] >= count)

    def rate(self, first, last, count):
        """Return messages a second, from the first line with one word until lines with another name count.

        Then end it.
        """
        start, _ = self.when(first)
        end, messages = self.when(last, count)
        self.stop_and_time()
        return messages / (end - start)

    def stop_and_time(self):
        """End it by SIGTERM; return the seconds that this took."""
        asked = time.monotonic()
        self.signal(signal.SIGTERM)
        self.popen.wait()
        self.running.remove(self)
        return time.monotonic() - asked


class Benchmark:
    """The measurements, on the broker at address, with that fraction (scale) of the messages."""

    def __init__(self, address, scale):
        self.address = address
        self.scale = scale
        self.cluster = Cluster(address)

    def measurements(self):
        """Yield every Measurement; what it needs in the broker is there by then."""
        few, many = int(10_000 * self.scale), int(1_000_000 * self.scale)
        topic, count = self.topic_with(many), many // 2
        yield Measurement(
            "batch / bare poll() loop, messages/s",
            ">= 0.9",
            lambda: self.worker(BATCH, topic).rate("received", "updating", count),
            lambda: self.bare_loop(topic, COUNT=count).rate("read", "read", count),
            truediv,
        )
        small = self.topic_with(few)
        yield Measurement(
            f"peak MiB, {many:,} waiting - {few:,} waiting",
            "<= 10",
            lambda: self.peak_mib(topic, many),
            lambda: self.peak_mib(small, few),
            sub,
        )
        settings = {"COUNT": few, "IS_COMMITTING": True, "max_poll_records": 1}
        self.bare_loop(small, **settings).rate("read", "read", few)  # the first commits are slower
        yield Measurement(
            "streaming / bare loop with its commits, messages/s",
            ">= 0.9",
            lambda: self.worker(STREAMING, small).rate("sending", "finished", few),
            lambda: self.bare_loop(small, **settings).rate("read", "read", few),
            truediv,
        )
        one = self.topic_with(1)
        yield Measurement(
            "latency - bare loop's, ms",
            "<= 2",
            lambda: self.latency(lambda topic: self.worker(STREAMING, topic), "sending"),
            lambda: self.latency(self.bare_loop, "read"),
            sub,
        )
        yield Measurement(
            "start - bare loop's, s",
            "<= 0.1",
            lambda: self.start_seconds(self.worker(STREAMING, one), "sending"),
            lambda: self.start_seconds(self.bare_loop(one), "read"),
            sub,
        )
        for name in STREAMING, BATCH:
            yield Measurement(f"idle exit, s: {name}", "<= 0.6", partial(self.idle_exit_seconds, name))
            yield Measurement(f"idle CPU, %: {name}", "<= 1", partial(self.idle_cpu_percent, name))
        yield Measurement(
            "4 workers / 1 worker, 5 ms of work, messages/s",
            ">= 3.5",
            lambda: self.rate_of_several(4),
            lambda: self.rate_of_several(1),
            truediv,
        )

    def worker(self, name, topic, WORK_SECONDS=0, **settings):
        return Run(self.address, name, topic, WORK_SECONDS=WORK_SECONDS, **settings)

    def bare_loop(self, topic, **settings):
        return Run(self.address, "bare_loop", topic, **settings)

    def topic_with(self, messages, partitions=1):
        """Create a topic with that many sign-ups waiting; return its name."""
        topic = self.cluster.create_topic(partitions=partitions)
        with KafkaProducer(bootstrap_servers=self.address, linger_ms=50, batch_size=65_536) as producer:
            for i in range(messages):
                last = producer.send(topic, b"user%06d@gmail.com" % i, partition=i % partitions)
            last.get()
        return topic

    def idle_worker(self, name):
        """Start a worker with one message; return it when it has committed that and waits for more."""
        run = self.worker(name, self.topic_with(1), **({"BATCH_SECONDS": 0.2} if name == BATCH else {}))
        run.when("finished")
        time.sleep(0.05)
        return run

    def start_seconds(self, run, word):
        """Return the seconds from the start of the process to its first line of work."""
        seconds = run.when(word)[0] - run.started
        run.stop_and_time()
        return seconds

    def idle_exit_seconds(self, name):
        return self.idle_worker(name).stop_and_time()

    def idle_cpu_percent(self, name):
        run = self.idle_worker(name)
        seconds, before = max(2, 15 * min(1, self.scale)), run.cpu_seconds()
        time.sleep(seconds)
        percent = (run.cpu_seconds() - before) / seconds * 100
        run.stop_and_time()
        return percent

    def latency(self, start, word):
        """Return the 99th percentile of milliseconds from a message's acknowledgement to its first line."""
        topic = self.topic_with(1)
        run = start(topic)
        run.when(word)
        count = max(20, int(300 * self.scale))
        acknowledged = []
        with KafkaProducer(bootstrap_servers=self.address) as producer:
            for i in range(count):
                producer.send(topic, b"user%d@gmail.com" % i).get()
                acknowledged.append(time.monotonic())
                time.sleep(0.01)
        seen = [run.when(word, number)[0] for number in range(2, count + 2)]
        run.stop_and_time()
        delays = [(at - sent) * 1000 for at, sent in zip(seen, acknowledged, strict=True)]
        return quantiles(delays, n=100)[98]

    def peak_mib(self, topic, count):
        """Return the highest resident memory of a batch worker until it has processed count messages."""
        run, sizes = self.worker(BATCH, topic), []
        process = psutil.Process(run.pid)

        def is_done():
            sizes.append(process.memory_info().rss)
            return run.count("updating") >= count

        wait_until(is_done, 60, f"{count} messages are processed")
        run.stop_and_time()
        return max(sizes) / 2**20

    def rate_of_several(self, workers):
        """Return the messages a second of that many streaming workers on four partitions."""
        topic = self.topic_with(4000, partitions=4)
        settings = {"GROUP_ID": topic, "WORK_SECONDS": 0.005}
        runs = [self.worker(STREAMING, topic, **settings) for _ in range(workers)]
        for run in runs:
            run.when("sending")
        counts = []
        for seconds in (0.5, max(2, 5 * min(1, self.scale))):  # by half a second the group has settled
            time.sleep(seconds)
            counts.append((time.monotonic(), sum(run.count("finished") for run in runs)))
        for run in runs:
            run.stop_and_time()
        [(start, before), (end, after)] = counts
        return (after - before) / (end - start)


def measure_in_turn(measurement, rounds, progress):
    """Return the figures of the worker, and those of what it is compared with."""
    figures = {"worker": [], "baseline": []}
    for number in range(1, rounds + 1):
        for name, values in figures.items():
            if measure := getattr(measurement, name):
                values.append(measure())
                line = f"{measurement.what}, round {number} of {rounds}, {name}: {short(values[-1])}"
                progress.console.print(line, soft_wrap=True)
    return figures.values()


def row(measurement, worker, baseline):
    """Return the row of the table."""
    value = median(worker)
    if baseline:
        value = measurement.compare(value, median(baseline))
    relation, bound = measurement.bound.split()
    is_met = value >= float(bound) if relation == ">=" else value <= float(bound)
    cells = spread(worker), spread(baseline), f"{value:.2f}", measurement.bound
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
    table = Table("measured", "worker: median (range)", "baseline", "value", "bound", "met", box=None)
    console = Console(highlight=False)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    progress = Progress(*columns, console=console, disable=not console.is_terminal)
    with ending_cleanly("Stopped; nothing that the benchmark started is still running.", BrokerError):
        print("starting a broker (Apache Kafka)", flush=True)
        with Broker() as broker, progress:
            try:
                for measurement in progress.track(
                    Benchmark(broker.address, args.scale).measurements(), total=10
                ):
                    table.add_row(*row(measurement, *measure_in_turn(measurement, args.rounds, progress)))
            except AssertionError as error:
                sys.exit("\n".join(map(str, [error, *Run.running])))
            finally:
                for run in Run.running:
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

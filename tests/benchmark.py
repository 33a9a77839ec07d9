"""Measures what the workers add to kafka-python: speed, latency, start and exit, memory, CPU, scaling.

    python tests/benchmark.py           about six minutes: progress, then one table
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
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path
from statistics import median, quantiles

import psutil
from broker import KAFKA_VERSION, Broker, ending_cleanly
from kafka import KafkaProducer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from support.cluster import Cluster
from support.processes import BATCH, STREAMING, Script
from support.waiting import wait_until


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
    """The measurements, on the broker at address, with that fraction (scale) of the messages.

    rows: those of the table.
    """

    def __init__(self, address, scale, rounds, progress):
        self.address = address
        self.scale = scale
        self.rounds = rounds
        self.cluster = Cluster(address)
        self.rows = []
        self.progress = progress
        self.task = progress.add_task("starting", total=7)

    def run(self):
        topic = self.measure_batch()
        self.measure_streaming()
        self.measure_latency()
        self.measure_idle_exit()
        self.measure_idle_cpu()
        self.measure_memory(topic)
        self.measure_scaling()

    def worker(self, name, topic, WORK_SECONDS=0, **settings):
        return Run(self.address, name, topic, WORK_SECONDS=WORK_SECONDS, **settings)

    def bare(self, topic, **settings):
        return Run(self.address, "bare_loop", topic, **settings)

    def topic(self, messages, partitions=1):
        """Create a topic with that many sign-ups waiting; return its name."""
        topic = self.cluster.create_topic(partitions=partitions)
        self.publish(topic, messages, partitions)
        return topic

    def publish(self, topic, messages, partitions=1):
        with KafkaProducer(bootstrap_servers=self.address, linger_ms=50, batch_size=65_536) as producer:
            for i in range(messages):
                last = producer.send(topic, b"user%06d@gmail.com" % i, partition=i % partitions)
            producer.flush()
            last.get()

    def in_turn(self, what, **functions):
        """Call the functions in turn, in every round; return for each, in order, what it returned."""
        self.progress.update(self.task, description=what)
        numbers = {name: [] for name in functions}
        for i in range(self.rounds):
            for name, function in functions.items():
                try:
                    number = function()
                except AssertionError as error:
                    # kafka-python can forget to join, and the bare loop has no workaround
                    self.progress.console.print(f"{name}: {str(error).splitlines()[0]}; once more")
                    number = function()
                numbers[name].append(number)
                self.progress.console.print(
                    f"{what}, round {i + 1} of {self.rounds}, {name}: {short(number)}"
                )
        self.progress.advance(self.task)
        return numbers.values()

    def row(self, what, ours, theirs, value, at_least=None, at_most=None):
        """Add a row: figures of the worker and of what it is compared with, and a value that has a bound."""
        bound = f">= {at_least}" if at_least else f"<= {at_most}"
        is_met = value >= at_least if at_least else value <= at_most
        self.rows.append(
            (what, spread(ours), spread(theirs), f"{value:.2f}", bound, "yes" if is_met else "NO")
        )

    def measure_batch(self):
        waiting = int(500_000 * self.scale)
        topic, count = self.topic(waiting), int(waiting * 0.9)
        ours, bare = self.in_turn(
            "batch worker, messages a second",
            worker=lambda: self.worker(BATCH, topic).rate("received", "updating", count),
            bare=lambda: self.bare(topic, COUNT=count).rate("read", "read", count),
        )
        self.row(
            "batch / bare poll() loop, messages/s", ours, bare, median(ours) / median(bare), at_least=0.9
        )
        return topic

    def measure_streaming(self):
        count = int(10_000 * self.scale)
        topic = self.topic(count)
        settings = {"COUNT": count, "IS_COMMITTING": True, "max_poll_records": 1}
        self.bare(topic, **settings).rate("read", "read", count)  # a new broker's first commits are slower
        ours, bare = self.in_turn(
            "streaming worker, messages a second",
            worker=lambda: self.worker(STREAMING, topic).rate("sending", "finished", count),
            bare=lambda: self.bare(topic, **settings).rate("read", "read", count),
        )
        what = "streaming / bare loop with its commits, messages/s"
        self.row(what, ours, bare, median(ours) / median(bare), at_least=0.9)

    def measure_latency(self):
        """Measure how fast a process starts, and then how fast it is."""
        count = max(20, int(300 * self.scale))
        starts = {"sending": [], "read": []}  # seconds from the start to the first line of work

        def measured(start, word):
            topic = self.topic(1)
            run = start(topic)
            starts[word].append(run.when(word)[0] - run.started)
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

        ours, bare = self.in_turn(
            "from acknowledgement to first line, 99th percentile of milliseconds",
            worker=lambda: measured(lambda topic: self.worker(STREAMING, topic), "sending"),
            bare=lambda: measured(self.bare, "read"),
        )
        self.row("latency - bare loop's, ms", ours, bare, median(ours) - median(bare), at_most=2)
        ours, bare = starts.values()
        self.row("start - bare loop's, s", ours, bare, median(ours) - median(bare), at_most=0.1)

    def measure_idle_exit(self):
        def measured(run):
            run.when("finished")
            time.sleep(0.05)  # it has committed, and has just begun to wait for messages: the longest way out
            return run.stop_and_time()

        topic = self.topic(1)
        streaming, batch = self.in_turn(
            "seconds from SIGTERM to exit when idle",
            streaming=lambda: measured(self.worker(STREAMING, topic)),
            batch=lambda: measured(self.worker(BATCH, topic, BATCH_SECONDS=0.2)),
        )
        self.row("idle exit, s: streaming", streaming, [], median(streaming), at_most=0.6)
        self.row("idle exit, s: batch", batch, [], median(batch), at_most=0.6)

    def measure_idle_cpu(self):
        def measured(name):
            run = self.worker(name, self.topic(1))
            run.when("finished")
            time.sleep(1)  # it commits, and starts to wait for messages
            seconds, before = max(2, 15 * min(1, self.scale)), run.cpu_seconds()
            time.sleep(seconds)
            percent = (run.cpu_seconds() - before) / seconds * 100
            run.stop_and_time()
            return percent

        streaming, batch = self.in_turn(
            "CPU percent of an idle worker",
            streaming=lambda: measured(STREAMING),
            batch=lambda: measured(BATCH),
        )
        self.row("idle CPU, percent: streaming", streaming, [], median(streaming), at_most=1)
        self.row("idle CPU, percent: batch", batch, [], median(batch), at_most=1)

    def measure_memory(self, topic):
        """topic: the one from measure_batch(), which already holds half of the messages."""
        few, many = int(10_000 * self.scale), int(1_000_000 * self.scale)
        self.publish(topic, many - many // 2)
        small = self.topic(few)

        def peak(topic, count):
            run, sizes = self.worker(BATCH, topic), []
            process = psutil.Process(run.pid)

            def is_done():
                sizes.append(process.memory_info().rss)
                return run.count("updating") >= count

            wait_until(is_done, 60, f"{count} messages are processed")
            run.stop_and_time()
            return max(sizes) / 2**20

        large, little = self.in_turn(
            "batch worker, peak resident MiB", many=lambda: peak(topic, many), few=lambda: peak(small, few)
        )
        self.row(f"peak MiB, {many:,} messages waiting", large, [], median(large), at_most=80)
        # Few fill the buffer once; with more, the next ones wait behind it, and after that it stays the same.
        what = f"the same - with {few:,} waiting"
        self.row(what, large, little, median(large) - median(little), at_most=10)

    def measure_scaling(self):
        def measured(workers):
            topic = self.topic(4000, partitions=4)
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

        four, one = self.in_turn(
            "streaming workers on 4 partitions, WORK_SECONDS = 0.005, messages a second",
            four=lambda: measured(4),
            one=lambda: measured(1),
        )
        self.row("4 workers / 1 worker, messages/s", four, one, median(four) / median(one), at_least=3.5)


def short(number):
    return f"{number:,.0f}" if number >= 1000 else f"{number:.1f}" if number >= 10 else f"{number:.2f}"


def spread(numbers):
    return f"{short(median(numbers))} ({short(min(numbers))} to {short(max(numbers))})" if numbers else ""


def machine():
    """This machine in a few words."""
    try:
        name = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())[1]
    except (OSError, TypeError):  # no Linux, or a processor without a name
        name = platform.processor()
    memory = psutil.virtual_memory().total / 2**30
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} x {name}, {memory:.0f} GiB"


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
    console = Console(highlight=False)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    progress = Progress(*columns, console=console, disable=not console.is_terminal)
    with ending_cleanly("Stopped; nothing that the benchmark started is still running."):
        print("starting a broker (Apache Kafka)", flush=True)
        with Broker() as broker, progress:
            benchmark = Benchmark(broker.address, args.scale, args.rounds, progress)
            try:
                benchmark.run()
            except AssertionError as error:
                sys.exit("\n".join(map(str, [error, *Run.running])))
            finally:
                for run in Run.running:
                    run.end()
    table = Table("measured", "worker: median (range)", "compared with", "value", "bound", "met", box=None)
    for row in benchmark.rows:
        table.add_row(*row)
    Console(highlight=False, width=150).print(table)
    versions = [f"{name} {version(name)}" for name in ("kafka-python", "crc32c")]
    print(f"\n{args.rounds} rounds in {time.monotonic() - began:.0f} s")
    print(f"Python {platform.python_version()}, {', '.join(versions)}, Apache Kafka {KAFKA_VERSION}")
    print(f"{machine()}; load average at the start {load:.2f}")
    print("Absolute figures are those of this machine; ratios carry over better.")


if __name__ == "__main__":
    main()

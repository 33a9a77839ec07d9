"""Measures what the workers add to kafka-python: speed, latency, memory, start, exit, and how they scale out.

    python tests/benchmark.py           some six minutes: progress, then one table
    python tests/benchmark.py 0.05      a twentieth of the messages, to try this program

On a broker of its own, with the workers' own code; run_script.py sets TOPIC, GROUP_ID and WORK_SECONDS. A bare loop of
kafka-python, to compare with, runs over the same messages as a process of its own, in turn with the worker, three times
each; the table has medians, ranges and ratios. What a process prints goes into a pipe that is read at once; times
are those at which its lines arrive. The exit code is 0 whether the bounds are met or not.
"""

import json
import os
import platform
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path
from queue import Queue
from statistics import median, quantiles

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until there is something to clean up, Ctrl+C just ends it

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, OffsetAndMetadata

ROUNDS = 3
RUN_SCRIPT = str(Path(__file__).with_name("run_script.py"))


# The bare loops, each started as `python tests/benchmark.py bare_poll '{"topic": ..., "group": ..., "count": ...}'`.


def say(line):
    print(f"{line}\n", end="", flush=True)  # in one piece: two threads print


def polled(topic, group, count=float("inf"), **settings):
    """Poll until count messages are read; yields (consumer, partition, messages)."""
    seen = 0
    with KafkaConsumer(
        topic,
        group_id=group,
        bootstrap_servers=os.environ["BOOTSTRAP_SERVERS"],
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        **settings,
    ) as consumer:
        while seen < count:
            for partition, messages in consumer.poll(timeout_ms=5000).items():
                if not seen:
                    say("first")
                yield consumer, partition, messages
                seen += len(messages)
        say(f"last {count}")


def bare_poll(**arguments):
    for _ in polled(**arguments):
        pass


def bare_queue(**arguments):
    """The loop with a second thread behind a bounded queue, one put() and get() for each message."""
    buffer = Queue(maxsize=10_000)

    def fill():
        for _, _, messages in polled(**arguments):
            for message in messages:
                buffer.put(message)

    threading.Thread(target=fill).start()
    for _ in range(arguments["count"]):
        buffer.get()
    say(f"taken {arguments['count']}")


def bare_commit(**arguments):
    """One message at a time, and a commit after each that is waited for: the streaming worker's promise."""
    for consumer, partition, [message] in polled(max_poll_records=1, **arguments):
        consumer.commit({partition: OffsetAndMetadata(message.offset + 1, "", -1)})


def bare_commit_async(**arguments):
    """The same, with commits that are only sent; the last is waited for, and so are those before it."""
    for consumer, partition, [message] in polled(max_poll_records=1, **arguments):
        commit = consumer.commit if message.offset + 1 == arguments["count"] else consumer.commit_async
        commit({partition: OffsetAndMetadata(message.offset + 1, "", -1)})


def bare_print(**arguments):
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        for _, _, messages in polled(**arguments):
            for message in messages:
                say(f"sending {message.value.decode()}")
    except KeyboardInterrupt:
        pass


# The measuring.


class Run:
    """A worker or a bare loop as a process.

    arguments: what comes after `python`.
    marks: first word of its lines -> [(time.monotonic() when a line came, messages in such lines so far)].
    """

    running = []

    def __init__(self, address, *arguments):
        self.marks = defaultdict(list)
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, *arguments],
            env={**os.environ, "BOOTSTRAP_SERVERS": address, "PYTHONDONTWRITEBYTECODE": "1"},
            stdout=subprocess.PIPE,
        )
        self.running.append(self)
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            now = time.monotonic()
            word, second = (line[:40].decode().split() + [""])[:2]
            messages = int(second) if second.isdecimal() else line.count(b"@") or 1
            self.marks[word].append((now, self.count(word) + messages))

    def count(self, word):
        return self.marks[word][-1][1] if self.marks[word] else 0

    def when(self, word, count=1):
        """Wait for count messages in lines that begin with word; returns (time, messages) of the line that reaches it.

        Raises RuntimeError if it ends before that, or has not come that far after a minute.
        """
        while self.count(word) < count:
            if not self.reader.is_alive() and self.count(word) < count:
                raise RuntimeError(f"{self.process.args} has ended, exit code {self.process.wait()}")
            if time.monotonic() > self.started + 60:
                raise RuntimeError(f"{self.process.args} hangs: {self.count(word)} of {count} x {word!r} in a minute")
            time.sleep(0.02)
        return next(mark for mark in self.marks[word] if mark[1] >= count)

    def rate(self, first, last, count):
        """Messages a second, from its first line with one word until count of them are in lines with another."""
        start, _ = self.when(first)
        end, messages = self.when(last, count)
        self.stop()
        return (messages / (end - start),)

    def stop(self):
        """End it by SIGTERM; returns the seconds that this took."""
        asked = time.monotonic()
        self.process.terminate()
        self.process.wait()
        self.running.remove(self)
        return time.monotonic() - asked


class Benchmark:
    """The measurements on the broker at address, with that fraction (scale) of the messages. rows: the table's."""

    def __init__(self, address, scale):
        self.address = address
        self.scale = scale
        self.rows = []

    def worker(self, name, topic, group=None, **settings):
        settings = {"TOPIC": topic, "GROUP_ID": group or uuid.uuid4().hex, "WORK_SECONDS": 0, **settings}
        return Run(self.address, RUN_SCRIPT, name, json.dumps(settings))

    def bare(self, name, topic, **arguments):
        arguments = {"topic": topic, "group": uuid.uuid4().hex, **arguments}
        return Run(self.address, __file__, name, json.dumps(arguments))

    def topic(self, messages, partitions=1):
        """A new topic with so many sign-ups waiting; returns its name."""
        name = uuid.uuid4().hex
        with KafkaAdminClient(bootstrap_servers=self.address) as admin:
            wanted = {name: {"num_partitions": partitions, "replication_factor": 1}}
            admin.create_topics(wanted, wait_for_metadata=True)
        self.publish(name, messages, partitions)
        return name

    def publish(self, topic, messages, partitions=1):
        with KafkaProducer(bootstrap_servers=self.address, linger_ms=50, batch_size=65_536) as producer:
            for i in range(messages):
                last = producer.send(topic, b"user%06d@gmail.com" % i, partition=i % partitions)
            producer.flush()
            last.get()

    def measure(self, what, **functions):
        """Call the functions in turn, ROUNDS times each; a function returns one number or more, as a tuple.

        Returns for each function, in order, a list for each of its numbers.
        """
        print(f"\n{what}", flush=True)
        results = defaultdict(list)
        for i in range(ROUNDS):
            for name, function in functions.items():
                try:
                    results[name].append(function())
                except RuntimeError as error:  # say it, and measure again; what fails twice ends the program
                    print(f"  {error}; once more", flush=True)
                    results[name].append(function())
                print(f"  round {i + 1} of {ROUNDS}  {name:12} {', '.join(map(short, results[name][-1]))}", flush=True)
        return [list(zip(*rounds)) for rounds in results.values()]

    def row(self, what, ours, against="", theirs=(), compare="ratio", at_least=None, at_most=None):
        """Add a row: numbers of the worker (ours) and of what it is compared with, by "ratio" or "difference" of their
        medians, or not at all (None: the bound is for our median)."""
        value = median(ours)
        if compare:
            value = value / median(theirs) if compare == "ratio" else value - median(theirs)
        bound = f">= {at_least}" if at_least else f"<= {at_most}" if at_most else ""
        is_met = value >= at_least if at_least else value <= at_most if at_most else None
        shown = "" if not compare else f"{value:.2f}" if compare == "ratio" else f"{value:+.2f}"
        met = {True: "yes", False: "NO", None: ""}[is_met]
        self.rows.append((what, spread(ours), against, spread(theirs) if theirs else "", shown, bound, met))

    def batch(self):
        waiting = int(500_000 * self.scale)
        print(f"publishing {waiting:,} messages", flush=True)
        topic, count = self.topic(waiting), int(waiting * 0.9)
        [ours], [poll], [queue] = self.measure(
            "batch worker, messages a second",
            worker=lambda: self.worker("batch_worker", topic).rate("received", "updating", count),
            poll=lambda: self.bare("bare_poll", topic, count=count).rate("first", "last", count),
            queue=lambda: self.bare("bare_queue", topic, count=count).rate("first", "taken", count),
        )
        self.row("batch, messages/s", ours, "bare poll() loop", poll, at_least=0.75)
        self.row("", ours, "poll() loop, Queue, thread", queue)
        return topic

    def streaming(self):
        count = int(10_000 * self.scale)
        topic = self.topic(count)
        [ours], [commit], [unwaited] = self.measure(
            "streaming worker, messages a second",
            worker=lambda: self.worker("streaming_worker", topic).rate("sending", "finished", count),
            commit=lambda: self.bare("bare_commit", topic, count=count).rate("first", "last", count),
            unwaited=lambda: self.bare("bare_commit_async", topic, count=count).rate("first", "last", count),
        )
        self.row("streaming, messages/s", ours, "bare loop, commit after each", commit, at_least=1.5)
        self.row("", ours, "the same, commits not awaited", unwaited)

    def latency(self):
        def measured(start):
            topic = self.topic(1)
            run = start(topic)
            run.when("sending")  # it has joined its group
            acknowledged = []
            with KafkaProducer(bootstrap_servers=self.address) as producer:
                for i in range(300):
                    producer.send(topic, b"user%d@gmail.com" % i).get()
                    acknowledged.append(time.monotonic())
                    time.sleep(0.01)
            run.when("sending", 301)
            run.stop()
            delays = [(at - sent) * 1000 for (at, _), sent in zip(run.marks["sending"][1:], acknowledged)]
            return median(delays), quantiles(delays, n=100)[98]

        ours, bare = self.measure(
            "from acknowledgement to first line, ms: median, 99th percentile",
            worker=lambda: measured(lambda topic: self.worker("streaming_worker", topic)),
            bare=lambda: measured(lambda topic: self.bare("bare_print", topic)),
        )
        self.row("latency, median, ms", ours[0], "bare consumer that prints", bare[0], "difference", at_most=2)
        self.row("latency, 99th percentile, ms", ours[1], "bare consumer that prints", bare[1], "difference", at_most=2)

    def start_and_exit(self):
        def measured(run, word):
            start = run.when(word)[0] - run.started
            time.sleep(1)
            return start, run.stop()

        topic = self.topic(1)
        streaming, batch, bare = self.measure(
            "seconds from start to first message handled, and from SIGTERM to exit when idle",
            streaming=lambda: measured(self.worker("streaming_worker", topic), "finished"),
            batch=lambda: measured(self.worker("batch_worker", topic, BATCH_SECONDS=0.2), "finished"),
            bare=lambda: measured(self.bare("bare_print", topic), "sending"),
        )
        self.row("start to first handled, s", streaming[0], "bare consumer that prints", bare[0])
        for name, ours in (("streaming", streaming), ("batch", batch)):
            what = f"idle, signal to exit, s: {name}"
            self.row(what, ours[1], "bare consumer that prints", bare[1], None, at_most=0.6)

    def memory(self, topic):
        """topic: the one of batch(), which is half full for this."""
        few, many = int(10_000 * self.scale), int(1_000_000 * self.scale)
        print(f"\npublishing {many - many // 2:,} messages more", flush=True)
        self.publish(topic, many - many // 2)
        small = self.topic(few)

        def peak(topic, count):
            run = self.worker("batch_worker", topic)
            process, highest = psutil.Process(run.process.pid), 0
            while run.count("updating") < count:
                highest = max(highest, process.memory_info().rss)
                time.sleep(0.005)
            run.stop()
            return (highest / 2**20,)

        [large], [little] = self.measure(
            "batch worker, peak resident MiB", many=lambda: peak(topic, many), few=lambda: peak(small, few)
        )
        self.row(f"peak MiB, {many:,} waiting", large, compare=None, at_most=80)
        # Few fill the buffer once. With more there is a second buffer's worth in hand, and after that no more.
        self.row("", large, f"{few:,} waiting", little, "difference", at_most=10)

    def scaling(self):
        def measured(workers):
            topic, group = self.topic(6000, partitions=4), uuid.uuid4().hex
            runs = [self.worker("streaming_worker", topic, group, WORK_SECONDS=0.005) for _ in range(workers)]
            for run in runs:
                run.when("sending")
            counts = []
            for seconds in (0.5, 5):  # by half a second the group has settled
                time.sleep(seconds)
                counts.append((time.monotonic(), sum(run.count("finished") for run in runs)))
            for run in runs:
                run.stop()
            [(start, before), (end, after)] = counts
            return ((after - before) / (end - start),)

        [one], [two], [four] = self.measure(
            "streaming workers on 4 partitions, WORK_SECONDS = 0.005, messages a second",
            one=lambda: measured(1),
            two=lambda: measured(2),
            four=lambda: measured(4),
        )
        self.row("2 workers, messages/s", two, "1 worker", one)
        self.row("4 workers, messages/s", four, "1 worker", one, at_least=3.5)


def short(number):
    return f"{number:,.0f}" if number >= 1000 else f"{number:.1f}" if number >= 10 else f"{number:.2f}"


def spread(numbers):
    return f"{short(median(numbers))} ({short(min(numbers))} to {short(max(numbers))})"


def machine():
    """This machine in a few words."""
    try:
        name = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())[1]
    except (OSError, TypeError):  # no Linux, or a processor without a name
        name = platform.processor()
    memory = psutil.virtual_memory().total / 2**30
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} x {name}, {memory:.0f} GiB"


def print_table(rows):
    table = [("measured", "worker: median (range)", "against", "median (range)", "compared", "bound", "met"), *rows]
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    table.insert(1, ["-" * width for width in widths])
    print()
    for row in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


def main():
    endings = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]

    def interrupt(signum, frame):
        for number in endings:
            signal.signal(number, signal.SIG_IGN)  # once is enough; what follows is cleaning up
        raise KeyboardInterrupt

    for number in endings:
        signal.signal(number, interrupt)
    began, load = time.monotonic(), psutil.getloadavg()[0]
    try:
        print("starting a broker (Apache Kafka)", flush=True)
        with Broker() as broker:
            benchmark = Benchmark(broker.address, float(sys.argv[1]) if sys.argv[1:] else 1)
            try:
                topic = benchmark.batch()
                benchmark.streaming()
                benchmark.latency()
                benchmark.start_and_exit()
                benchmark.memory(topic)
                benchmark.scaling()
            finally:
                for run in Run.running:
                    run.process.kill()
                    run.process.wait()
    except KeyboardInterrupt:
        print("\nStopped; nothing that the benchmark started is left running.", flush=True)
        sys.exit(130)
    except (BrokerError, RuntimeError) as error:
        sys.exit(str(error))
    print_table(benchmark.rows)
    versions = [f"{name} {version(name)}" for name in ("kafka-python", "crc32c")]
    print(f"\n{ROUNDS} rounds in {time.monotonic() - began:.0f} s")
    print(f"Python {platform.python_version()}, {', '.join(versions)}, {KAFKA.split('+')[0]}")
    print(f"{machine()}; load average at the start {load:.2f}")
    print("Absolute figures are this machine's own; the ratios travel better.")


if __name__ == "__main__":
    if sys.argv[1:] and sys.argv[1].startswith("bare_"):
        globals()[sys.argv[1]](**json.loads(sys.argv[2]))
    else:
        import psutil  # these not for the bare loops, whose start they would slow down
        from broker import KAFKA, Broker, BrokerError

        main()

"""What the tests, the soak and the demo share: the scripts as processes, and a look into the broker."""

import ast
import json
import os
import re
import socketserver
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from broker import suspend
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ACL, ACLOperation, ACLPermissionType, ResourcePattern
from kafka.errors import CoordinatorNotAvailableError, KafkaError, UnknownTopicOrPartitionError

ROOT = Path(__file__).parent.parent
GOODBYE = "End of the program. I was killed gracefully"


def wait_until(condition, seconds=30, what="condition"):
    """Wait for condition() to be true and return its value. Raises AssertionError after so many seconds."""
    deadline = time.monotonic() + seconds
    while True:
        why = "not so"
        try:
            if value := condition():
                return value
        except KafkaError as error:  # a broker that comes back does not answer each question at once
            why = repr(error)
        assert time.monotonic() < deadline, f"not within {seconds} s: {what} ({why})"
        time.sleep(0.02)


def on_this_machine(seconds):
    """A time limit that holds on a machine of our own; up to two seconds more while others keep it busy."""
    return seconds + min(2, max(0, os.getloadavg()[0] / os.cpu_count() - 1))


def emails_sent(line):
    """The emails that a worker names in this line of its output as it begins its work on them."""
    if match := re.fullmatch(r"sending email to user (\[.*\])", line):
        return ast.literal_eval(match[1])
    match = re.fullmatch(r"sending email to (.*)", line)
    return [match[1]] if match else []


class Script:
    """One of the three scripts as a process, its output read line by line.

    name: producer, streaming_worker or batch_worker.
    address: what BOOTSTRAP_SERVERS is set to; None leaves it unset.
    settings: as for run_script.py; without any, it is `python NAME.py` itself.
    on_line: called on a thread with each line of output or error as it comes, before lines or errors has it.
    lines, errors: [(time.monotonic(), line)] of standard output and standard error so far.
    """

    def __init__(self, name, address, on_line=None, **settings):
        command = [f"{name}.py"] if not settings else ["tests/run_script.py", name, json.dumps(settings)]
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "BOOTSTRAP_SERVERS": address}
        if address is None:
            del environment["BOOTSTRAP_SERVERS"]
        self.name = name
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, *command],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="backslashreplace",
        )
        self.lines, self.errors = [], []
        self._readers = [
            threading.Thread(target=self._read, args=(*pair, on_line), daemon=True)
            for pair in ((self.process.stdout, self.lines), (self.process.stderr, self.errors))
        ]
        for reader in self._readers:
            reader.start()

    @staticmethod
    def _read(pipe, lines, on_line):
        for line in pipe:
            if on_line:
                on_line(line.removesuffix("\n"))
            lines.append((time.monotonic(), line.removesuffix("\n")))

    @property
    def out(self):
        return [line for _, line in list(self.lines)]

    @property
    def err(self):
        return [line for _, line in list(self.errors)]

    def __str__(self):
        pipes = (("out", self.lines), ("ERR", self.errors))
        everything = sorted((at, kind, line) for kind, lines in pipes for at, line in list(lines))
        shown = [f"{at - self.started:7.2f} {kind} {line[:300]}" for at, kind, line in everything]
        if len(shown) > 120:
            shown[40:-80] = [f"... {len(shown) - 120} lines ..."]
        return "\n".join([f"--- {self.name}, exit code {self.process.poll()}", *shown])

    def wait_for(self, pattern, count=1, seconds=30):
        """Wait for so many lines of output that the expression matches; returns the last one's time."""

        def times():
            has_ended = not any(reader.is_alive() for reader in self._readers)
            found = [at for at, line in list(self.lines) if re.search(pattern, line)][count - 1 : count]
            assert found or not has_ended, f"{self.name} ended before {count} x {pattern!r}"
            return found

        return wait_until(times, seconds, f"{self.name} prints {count} x {pattern!r}")[0]

    def signal(self, number):
        self.process.send_signal(number)

    def kill(self):
        self.process.kill()
        self.wait()

    def freeze(self):
        suspend(self.process.pid)

    def thaw(self):
        psutil.Process(self.process.pid).resume()

    def wait(self, seconds=30):
        """Wait for it to end, and for all its output; returns the exit code (-9 after SIGKILL)."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} still runs after {seconds} s") from None
        for reader in self._readers:
            reader.join()
        return self.process.returncode

    def end(self):
        """Make sure that it is gone."""
        if self.process.poll() is None:
            self.kill()

    def begun(self):
        """The emails on which work was begun, in order; an email that was sent twice is there twice."""
        return [email for line in self.out for email in emails_sent(line)]

    def received(self):
        """How many messages the batch worker has pulled."""
        return sum(int(line.split()[1]) for line in self.out if line.startswith("received"))

    def finished(self, until=float("inf")):
        """The emails of which the work was finished too, by that time.monotonic()."""
        found, begun = [], []
        for line in [line for at, line in list(self.lines) if at < until]:
            if line.startswith("finished processing"):
                found += begun
                begun = []
            begun += emails_sent(line)
        return found


def hammer(script, signals):
    """Send the signals in turn, one every 4 ms, until the process is gone; returns how many were sent."""
    sent = 0
    while script.process.poll() is None:
        script.signal(signals[sent % len(signals)])
        sent += 1
        assert sent < 5000, "it does not end"
        time.sleep(0.004)
    return sent


@contextmanager
def hanging_up(port):
    """Connections to the port are accepted and closed, as by a proxy whose broker is away."""

    class Proxy(socketserver.TCPServer):
        allow_reuse_address = True

    with Proxy(("127.0.0.1", port), socketserver.BaseRequestHandler) as proxy, ThreadPoolExecutor(1) as pool:
        pool.submit(proxy.serve_forever, poll_interval=0.05)
        try:
            yield
        finally:
            proxy.shutdown()


class Cluster:
    """A broker as the tests see it from outside, through kafka-python."""

    def __init__(self, address):
        self.address = address
        self.settings = {"bootstrap_servers": address.split(","), "reconnect_backoff_max_ms": 500}
        self.topics = []

    def new_name(self):
        """A name that no topic and no group has."""
        return f"tutorial-test-{uuid.uuid4().hex[:12]}"

    def create_topic(self, name=None, partitions=1):
        name = name or self.new_name()
        self.topics.append(name)
        with KafkaAdminClient(**self.settings) as admin:
            wanted = {name: {"num_partitions": partitions, "replication_factor": 1}}
            admin.create_topics(wanted, wait_for_metadata=True)
        return name

    def delete_topics(self):
        """Delete every topic made by create_topic or named in topics."""
        with KafkaAdminClient(**self.settings) as admin:
            for topic in self.topics:
                with suppress(UnknownTopicOrPartitionError):
                    admin.delete_topics([topic])

    def publish(self, topic, values, partitions=1):
        """Store the values (str or bytes; None is a message without value), in turn on each partition."""
        with KafkaProducer(**self.settings, linger_ms=5) as producer:
            futures = [
                producer.send(
                    topic,
                    value.encode() if isinstance(value, str) else value,
                    key=b"key" if value is None else None,
                    partition=i % partitions,
                )
                for i, value in enumerate(values)
            ]
            return [future.get(timeout=30) for future in futures]

    def stored(self, topic):
        """All messages of the topic, partition by partition."""
        with KafkaConsumer(
            **self.settings, auto_offset_reset="earliest", enable_auto_commit=False
        ) as consumer:
            partitions = [
                TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic))
            ]
            consumer.assign(partitions)
            consumer.seek_to_beginning(*partitions)
            ends = consumer.end_offsets(partitions)
            messages = []
            deadline = time.monotonic() + 30
            while any(consumer.position(partition) < end for partition, end in ends.items()):
                assert time.monotonic() < deadline, f"only {len(messages)} messages of {ends} arrive"
                for polled in consumer.poll(timeout_ms=200).values():
                    messages += polled
            return sorted(messages, key=lambda message: (message.partition, message.offset))

    def committed(self, group, topic):
        """The group's committed offsets on the topic: {partition number: offset}."""
        with KafkaAdminClient(**self.settings) as admin:
            offsets = admin.list_group_offsets([group])[group]
        return {place.partition: offset.offset for place, offset in offsets.items() if place.topic == topic}

    def refuse(self, operation, kind, name):
        """Everybody may look at the topic or the group, and nobody may do this (an ACLOperation) with it.

        kind: a ResourceType.
        """
        rules = [(operation, ACLPermissionType.DENY), (ACLOperation.DESCRIBE, ACLPermissionType.ALLOW)]
        with KafkaAdminClient(**self.settings) as admin:
            admin.create_acls([ACL("User:*", "*", *rule, ResourcePattern(kind, name)) for rule in rules])

    def lag(self, group, topic):
        """How many stored messages the group has not committed."""
        committed = self.committed(group, topic)
        with KafkaConsumer(**self.settings) as consumer:
            partitions = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic)]
            ends = consumer.end_offsets(partitions)
        return sum(end - committed.get(partition.partition, 0) for partition, end in ends.items())

    def members(self, group):
        """How many workers the group has now."""
        with KafkaAdminClient(**self.settings) as admin:
            try:
                return len(admin.describe_groups([group])[group]["members"])
            except CoordinatorNotAvailableError:  # the broker has never had a group yet
                return 0


class Service:
    """Workers on a topic and in a group of their own, and what was published for them.

    start: as the fixture of this name. settings: of its workers, whose work is short if nothing else is said.
    """

    def __init__(self, start, cluster, partitions=1, topic_exists=True, **settings):
        self.start = start
        self.cluster = cluster
        self.partitions = partitions
        self.topic = cluster.create_topic(partitions=partitions) if topic_exists else cluster.new_name()
        self.settings = {
            "TOPIC": self.topic,
            "GROUP_ID": self.topic,
            "WORK_SECONDS": 0.05,
            "BATCH_SECONDS": 0.5,
            **settings,
        }
        self.sent, self.workers = [], []

    def new_emails(self, count):
        return [f"user{number}@gmail.com" for number in range(len(self.sent), len(self.sent) + count)]

    def publish(self, count):
        emails = self.new_emails(count)
        self.cluster.publish(self.topic, emails, self.partitions)
        self.sent += emails

    @contextmanager
    def traffic(self, per_second=10):
        """So many sign-ups a second, as long as the block lasts."""
        is_over = threading.Event()

        def publish():
            with KafkaProducer(**self.cluster.settings) as producer:
                while not is_over.wait(1 / per_second):
                    [email] = self.new_emails(1)
                    producer.send(self.topic, email.encode(), partition=len(self.sent) % self.partitions).get(
                        30
                    )
                    self.sent.append(email)

        with ThreadPoolExecutor(1) as pool:
            publisher = pool.submit(publish)
            try:
                yield
            finally:
                is_over.set()
            publisher.result()

    def hire(self, name, **settings):
        self.workers.append(self.start(name, self.cluster.address, **{**self.settings, **settings}))
        return self.workers[-1]

    def lost(self):
        return set(self.sent) - {email for worker in self.workers for email in worker.finished()}

    def repeated(self):
        """{email: how many times too often work on it was begun}"""
        begun = Counter(email for worker in self.workers for email in worker.begun())
        return {email: times - 1 for email, times in begun.items() if times > 1}

    def wait_handled(self, seconds=30):
        wait_until(lambda: not self.lost(), seconds, f"all {len(self.sent)} are handled")

    def committed(self):
        """How many messages the group has committed."""
        return sum(self.cluster.committed(self.topic, self.topic).values())

    def wait_committed(self):
        """Wait for all that is stored to be committed, be it an address or not."""
        wait_until(lambda: self.cluster.lag(self.topic, self.topic) == 0, what="all are committed")

    def wait_for_members(self, count=1):
        wait_until(
            lambda: self.cluster.members(self.topic) == count, what=f"{count} workers are in the group"
        )

    def check(self, repeated=0):
        """Nothing is lost, no more than this is repeated, and nobody saw a traceback."""
        assert not self.lost(), f"lost {self.lost()}"
        assert sum(self.repeated().values()) <= repeated, f"repeated {self.repeated()}"
        assert not any("Traceback" in line for worker in self.workers for line in worker.err)

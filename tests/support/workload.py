"""A topic with its group of workers, and a record of what happened to the emails published to it."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from support.output import email_of
from support.processes import STREAMING, Script
from support.waiting import in_parallel, wait_until

NEVER = 1000  # as BATCH_SECONDS: a batch is due when the buffer is full, at a rebalance, or at shutdown
SHORT_SESSION = {"session_timeout_ms": 6000}  # the shortest that brokers allow
BATCH_SETTINGS = "BATCH_SECONDS", "BUFFER_SIZE"


class Record:
    """What happened to the emails that were published.

    published: the emails that the broker has acknowledged.
    workers: all that were started, including those that have exited.
    """

    def __init__(self):
        self.published, self.workers = [], []

    def begun(self):
        """Return the emails whose processing has begun, worker by worker."""
        return [email for worker in self.workers for email in worker.begun()]

    def finished(self):
        """Return the emails whose processing has finished, worker by worker."""
        return [email for worker in self.workers for email in worker.finished()]

    def lost(self):
        """Return a Counter of the emails that were published, but not processed, or not as many times."""
        return Counter(self.published) - Counter(self.finished())

    def repeated(self):
        """Return a Counter of the emails whose processing began more often than they were published.

        An email published without acknowledgement may have been stored: processing it once is no repeat.
        """
        begun = Counter(self.begun())
        return begun - (Counter(self.published) | Counter(set(begun)))


class Workload(Record):
    """A topic, the group of the same name, its workers, and the emails published for them, each once.

    worker_name: the worker to start unless start() names another.
    settings: of the workers, as for Script. Processing takes them little time unless set otherwise.
    start_script: starts a worker; called as Script is.
    """

    def __init__(
        self, cluster, worker_name=None, partitions=1, topic_exists=True, start_script=Script, **settings
    ):
        super().__init__()
        self.cluster = cluster
        self.worker_name = worker_name
        self.partitions = partitions
        self.topic = cluster.create_topic(partitions=partitions) if topic_exists else cluster.new_name()
        self.settings = {"TOPIC": self.topic, "WORK_SECONDS": 0.05, "BATCH_SECONDS": 0.5, **settings}
        self.start_script = start_script

    def start(self, worker_name=None, **settings):
        """Start a worker of that name or the workload's. A streaming worker ignores settings for batches."""
        name = worker_name or self.worker_name
        settings = {**self.settings, **settings}
        if name == STREAMING:
            settings = {key: value for key, value in settings.items() if key not in BATCH_SETTINGS}
        self.workers.append(self.start_script(name, self.cluster.address, **settings))
        return self.workers[-1]

    def end(self):
        """Kill the workers that are still running."""
        for worker in self.workers:
            worker.end()

    def publish(self, count):
        first = len(self.published)
        emails = [email_of(number) for number in range(first, first + count)]
        self.cluster.publish(self.topic, emails, self.partitions)
        self.published += emails

    def send(self, producer, number):
        """Send the email of that number, and return the future; it is in published once acknowledged."""
        email = email_of(number)
        future = producer.send(self.topic, email.encode(), partition=number % self.partitions)
        return future.add_callback(lambda _: self.published.append(email))

    @contextmanager
    def traffic(self, per_second=10):
        """Publish that many emails a second while the block runs; re-raise any publishing error."""
        is_over = threading.Event()
        futures = send_steadily([self], per_second, is_over)
        with ThreadPoolExecutor(1) as pool:
            publisher = pool.submit(lambda: [future.get(30) for future in futures])
            try:
                yield
            finally:
                is_over.set()
            publisher.result()

    def committed(self):
        """Return how many messages the group has committed."""
        return sum(self.committed_offsets().values())

    def committed_offsets(self):
        """Return the group's committed offsets: {partition number: offset}."""
        return self.cluster.committed_offsets(self.topic, self.topic)

    def lag(self):
        """Return how many messages the group has not committed, whether or not they are emails."""
        return self.cluster.lag(self.topic, self.topic)

    @property
    def errors(self):
        """The lines that the workers have printed to standard error."""
        return [line for worker in self.workers for line in worker.err]

    def wait_until_processed(self, seconds=30):
        wait_until(lambda: not self.lost(), seconds, f"all {len(self.published)} emails are processed")

    def wait_until_done(self, seconds=30):
        """Wait until all emails are processed and all messages committed."""
        self.wait_until_processed(seconds)
        wait_until(lambda: self.lag() == 0, what="all messages are committed")

    def members(self):
        """Return how many workers are in the group."""
        return self.cluster.members(self.topic)

    def wait_for_members(self, count):
        wait_until(lambda: self.members() == count, what=f"the group has {count} members")

    def check(self, repeated=0):
        """Check that there are no losses, no more repeats than that, and no traceback."""
        assert not self.lost(), f"lost: {self.lost()}"
        assert self.repeated().total() <= repeated, f"repeated: {self.repeated()}"
        assert "Traceback" not in "".join(self.errors)

    def drain_and_check(self, repeated=0, seconds=30):
        """Wait until all messages are processed and committed, stop the workers, and check()."""
        self.wait_until_done(seconds)
        running = [worker for worker in self.workers if worker.is_running]
        in_parallel(Script.stop_and_check, running)
        self.check(repeated)


def send_steadily(workloads, per_second, is_over):
    """Send that many emails a second to each workload until is_over is set; yield their futures.

    The caller may wait for each future or not; when it is over, up to 60 s are spent on waiting for the rest.
    """
    number = len(workloads[0].published)
    with workloads[0].cluster.producer() as producer:
        while not is_over.wait(1 / per_second):
            for workload in workloads:
                yield workload.send(producer, number)
            number += 1
        producer.flush(timeout=60)

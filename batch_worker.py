"""Handles sign-ups in batches: a child thread fills a buffer, the main thread drains it every five seconds."""

import os
import signal
import sys
import threading
from queue import Empty, Queue
from time import monotonic, sleep

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until there is a consumer, Ctrl+C just ends the program

from kafka import AsyncConsumerRebalanceListener, KafkaConsumer, OffsetAndMetadata, TopicPartition
from kafka.errors import AuthorizationError, KafkaError, SaslAuthenticationFailedError
from kafka.structs import MemberState

BOOTSTRAP_SERVERS = os.environ.get("BOOTSTRAP_SERVERS", "localhost:9092")
TOPIC = "user_signups"
GROUP_ID = "group1"
WORK_SECONDS = 0.5
BATCH_SECONDS = 5
BUFFER_SIZE = 10_000

is_shutting_down = False


def exit_gracefully(signum, frame):
    global is_shutting_down
    is_shutting_down = True


def say(line, file=None):
    print(f"{line}\n", end="", file=file, flush=True)  # in one piece: two threads write to the same terminal


def connect():
    """A consumer, or the end of the program with a line that says why there is none."""
    for server in BOOTSTRAP_SERVERS.split(","):
        host, _, port = server.strip().rpartition(":")
        if not (host and port.isdecimal() and 0 < int(port) < 65536):
            sys.exit(f"BOOTSTRAP_SERVERS: {server!r} is no address. Write it like localhost:9092")
    try:
        return KafkaConsumer(
            group_id=GROUP_ID,
            bootstrap_servers=BOOTSTRAP_SERVERS.split(","),
            bootstrap_timeout_ms=20_000,
            reconnect_backoff_max_ms=1000,  # while the broker is away, knock every second
            metadata_max_age_ms=10_000,  # partitions that are added are found within 10 s
            session_timeout_ms=10_000,  # a killed worker's partitions go to another one after 10 s
            auto_offset_reset="earliest",  # a group's first worker begins with the oldest message
            enable_auto_commit=False,  # a timer would commit what is still in the buffer
        )
    except (KafkaError, ValueError) as error:
        sys.exit(f"No broker at {BOOTSTRAP_SERVERS!r} ({error}). Start it, or set BOOTSTRAP_SERVERS to its address")


class Consumer(threading.Thread, AsyncConsumerRebalanceListener):
    """Pulls messages into the buffer, and commits the offsets of the batches that the main thread has finished.

    Only this thread touches the KafkaConsumer, which is not thread-safe.
    """

    def __init__(self, consumer, emails):
        super().__init__(daemon=True)
        self.consumer = consumer
        self.emails = emails
        self.drain = threading.Event()  # asks the main thread to drain the buffer now
        self.finished = Queue()  # what the main thread hands back: the offsets of each finished batch
        self.to_commit = {}
        self.pulled = {}  # partition -> the offset to commit when all that was pulled from it is finished
        self.abandoned = False  # set by the main thread when it will finish nothing more

    def run(self):
        self.consumer.subscribe([TOPIC], listener=self)
        try:
            while not is_shutting_down:
                try:
                    self.collect(0.1 if self.emails.full() else 0)
                    if self.to_commit:
                        self.consumer.commit(self.to_commit, timeout_ms=4000)
                        self.committed()
                    self.pull()
                except (AuthorizationError, SaslAuthenticationFailedError) as error:
                    say(f"The broker refuses: {error}. Correct the permissions and start again", sys.stderr)
                    break
                except KafkaError as error:
                    if not error.retriable:
                        self.to_commit = {}  # out of the group: poll() joins again, and these come again
                    say(f"{type(error).__name__} with {BOOTSTRAP_SERVERS}, trying again. Is it up?", sys.stderr)
                    sleep(1)
        finally:
            self.consumer.close(timeout_ms=3000)  # calls on_partitions_revoked, then leaves the group

    def pull(self):
        if self.consumer.group_metadata().state != MemberState.STABLE:
            self.consumer._coordinator.request_rejoin()  # kafka-python forgets a join that outlasts one poll()
        room = self.emails.maxsize - self.emails.qsize()
        polled = self.consumer.poll(timeout_ms=200, max_records=room) if room else {}
        for partition, messages in polled.items():
            say(f"received {len(messages)} messages, inserting into the queue buffer")
            with self.emails.mutex:  # once for all of them; put() would lock it for each
                self.emails.queue.extend(messages)
            self.pulled[partition] = OffsetAndMetadata(messages[-1].offset + 1, "", -1)
        if self.emails.full():
            self.drain.set()

    def collect(self, seconds):
        """Take the offsets of a finished batch, if there is one within that time."""
        try:
            offsets = self.finished.get(timeout=seconds)
        except Empty:
            return
        self.to_commit.update((partition, offset) for partition, offset in offsets.items() if partition in self.pulled)

    def committed(self):
        self.pulled = dict(self.pulled.items() - self.to_commit.items())
        self.to_commit = {}

    async def on_partitions_revoked(self, revoked):
        """Before partitions go to another worker, or this one ends: finish what was pulled from them, and commit it."""
        while self.pulled:
            self.drain.set()
            self.collect(0.1)
            try:
                await self.consumer.commit_async({})  # commits nothing: lets heartbeats pass, finds the coordinator
                await self.consumer.commit_async(self.to_commit)
                self.committed()
            except KafkaError as error:
                say(f"{type(error).__name__} with {BOOTSTRAP_SERVERS}. Is it up?", sys.stderr)
                if not error.retriable:
                    return
                sleep(1)
            if self.abandoned:
                return

    async def on_partitions_assigned(self, assigned):
        """Reading goes on after what is committed. What could not be committed comes again, so forget it."""
        take_all(self.emails)
        self.pulled, self.to_commit = {}, {}

    async def on_partitions_lost(self, lost):
        """The group has given them to another worker already: nothing can be committed any more."""
        if not is_shutting_down:  # at the end, main() reports it
            await self.on_partitions_assigned(lost)


def take_all(emails):
    with emails.mutex:  # once; get() would lock it for every message
        messages = list(emails.queue)
        emails.queue.clear()
    return messages


def email_in(message):
    """The email address that a message carries, or None."""
    try:
        email = (message.value or b"").decode()
    except UnicodeDecodeError:
        return None
    return email if "@" in email and email.isprintable() else None  # no control characters for the terminal


def process_messages(messages):
    """Handle a batch. Returns what to commit then: partition -> the offset after its last message."""
    emails = []
    for message in messages:
        if email := email_in(message):
            emails.append(email)
        else:
            place = f"{message.topic}, partition {message.partition}, offset {message.offset}"
            say(f"skipping what is no email address: {place}", sys.stderr)
    if emails:
        say("processing message in queue buffer")
        say(f"sending email to user {emails}")
        sleep(WORK_SECONDS)
        say(f"updating status to Waiting Confirmation for users {emails}")
        sleep(WORK_SECONDS)
        say("finished processing messages")
    last = {(message.topic, message.partition): message.offset for message in messages}
    return {TopicPartition(*place): OffsetAndMetadata(offset + 1, "", -1) for place, offset in last.items()}


def main():
    global is_shutting_down
    emails = Queue(maxsize=BUFFER_SIZE)
    consumer = Consumer(connect(), emails)
    signal.signal(signal.SIGINT, exit_gracefully)
    signal.signal(signal.SIGTERM, exit_gracefully)
    sys.stdout.reconfigure(errors="backslashreplace")  # for a terminal that cannot show every address
    say("starting batch consumer worker")
    consumer.start()

    busy = monotonic()
    due = busy + BATCH_SECONDS
    try:
        while consumer.is_alive() and monotonic() < busy + 6:  # a broker that is gone delays the end by 6 s at most
            if consumer.drain.wait(0.1) or monotonic() >= due:
                consumer.drain.clear()
                if messages := take_all(emails):
                    consumer.finished.put(process_messages(messages))
                    busy = monotonic()
                due = monotonic() + BATCH_SECONDS
            if not is_shutting_down:
                busy = monotonic()
        asked = is_shutting_down
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Python itself would die of a late Ctrl+C
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        is_shutting_down = consumer.abandoned = True
        consumer.join(timeout=1)
    if consumer.pulled:
        sys.exit("The last batch is not committed and will be delivered again")
    if not asked:
        sys.exit("The consumer thread has died")
    say("End of the program. I was killed gracefully")


if __name__ == "__main__":
    main()

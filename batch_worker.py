"""Handles sign-ups in batches, at least once each: one thread fills a buffer, the other one empties it."""

import os
import signal
import sys
import threading
from contextlib import suppress
from queue import Queue
from time import monotonic, sleep

from kafka import AsyncConsumerRebalanceListener, KafkaConsumer
from kafka.errors import CommitFailedError, KafkaError, RebalanceInProgressError, RetriableError
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


class Consumer(threading.Thread, AsyncConsumerRebalanceListener):
    """The child thread: pulls messages into the buffer, commits them when main() has handled them."""

    def __init__(self):
        super().__init__(daemon=True)
        self.emails = Queue()  # the buffer; each entry is a list: the addresses that one poll() has brought
        self.batch_is_due = threading.Event()  # wakes main()
        self.uncommitted = 0  # how many messages were pulled since the last commit
        self.failure = None  # why this thread has ended, if it wasn't asked to
        self.kafka = KafkaConsumer(
            group_id=GROUP_ID,
            bootstrap_servers=BOOTSTRAP_SERVERS.split(","),
            bootstrap_timeout_ms=20_000,
            reconnect_backoff_max_ms=1000,  # while the broker is away, knock every second
            metadata_max_age_ms=10_000,  # partitions that are added are found within 10 s
            session_timeout_ms=10_000,  # a killed worker's partitions go to another one after 10 s
            auto_offset_reset="earliest",  # a group's first worker begins with the oldest message
            enable_auto_commit=False,  # a timer would commit what is still in the buffer
        )

    def run(self):
        try:
            self.kafka.subscribe([TOPIC], listener=self)
            while self.uncommitted or not is_shutting_down:
                self.fill_buffer()
                self.finish_batch()
        except Exception as error:
            self.failure = f"Ended by {error!r}. A batch that is not committed will be delivered again"
        self.kafka.close(timeout_ms=3000)

    def fill_buffer(self):
        """Pull messages for BATCH_SECONDS, or until the buffer is full, or until the flag is set."""
        end = monotonic() + BATCH_SECONDS
        while monotonic() < end and self.uncommitted < BUFFER_SIZE and not is_shutting_down:
            # kafka-python 3.0.12 can forget that it is joining the group; only this private call reminds it
            if self.kafka.group_metadata().state != MemberState.STABLE:
                self.kafka._coordinator.request_rejoin()
            try:
                polled = self.kafka.poll(timeout_ms=500, max_records=BUFFER_SIZE - self.uncommitted)
            except RetriableError:
                continue  # the broker went away: knock again
            messages = [message for partition in polled.values() for message in partition]
            if count := len(messages):
                print(f"received {count} message{'s' if count > 1 else ''}, inserting into the queue buffer")
                self.emails.put([email for message in messages if (email := email_in(message))])
                self.uncommitted += count

    def have_batch_handled(self):
        self.batch_is_due.set()  # wakes main(), which calls process_messages()
        self.emails.join()  # waits until all that was in the buffer is handled: task_done()

    def finish_batch(self):
        """Have the batch handled, and commit it. If we die before the commit, it is delivered again."""
        while self.uncommitted:
            self.have_batch_handled()  # when a commit is tried again, there is nothing left to do here
            try:
                self.kafka.commit(timeout_ms=4000)  # commits all that poll() has returned
                self.uncommitted = 0
            except (CommitFailedError, RebalanceInProgressError, RetriableError) as error:
                if is_shutting_down:
                    raise  # to run(), for main() to say so
                print(f"Cannot commit ({error}), going on. Is {BOOTSTRAP_SERVERS} up?", file=sys.stderr)
                if not error.retriable:  # first, poll() has to join the group again
                    self.uncommitted = 1  # then, commit what is still ours; the rest is delivered again
                    return

    # A thread of kafka-python's calls these, but only while the child waits for it in poll(), or in close().
    async def on_partitions_revoked(self, revoked):
        """Other workers may get our partitions: finish what was pulled from them, or they will repeat it."""
        if self.uncommitted and not self.failure:
            self.have_batch_handled()
            with suppress(KafkaError):  # if one left this method, kafka-python would never join again
                await self.kafka.commit_async()
                self.uncommitted = 0

    async def on_partitions_lost(self, lost):
        """The group took us for dead: what was pulled is delivered again, to others. So drop the buffer."""
        self.emails, self.uncommitted = Queue(), 0

    async def on_partitions_assigned(self, assigned): ...  # a listener must have it


def email_in(message):
    """The email address that a message carries. Anything else is reported, and gives None."""
    email = (message.value or b"").decode(errors="surrogateescape")  # what is not UTF-8 becomes unprintable
    if "@" in email and len(email) <= 254 and email.isprintable():  # 254: the longest that SMTP takes
        return email
    place = f"{TOPIC}, partition {message.partition}, offset {message.offset}"
    print(f"skipping what is no email address: {place}", file=sys.stderr)


def process_messages(emails):
    """Handle all that is in the buffer as one batch."""
    entries = [emails.get() for _ in range(emails.qsize())]
    batch = [email for entry in entries for email in entry]
    if batch:
        print("processing message in queue buffer")
        print(f"sending email to user {batch}")
        sleep(WORK_SECONDS)
        print(f"updating status to Waiting Confirmation for users {batch}")
        sleep(WORK_SECONDS)
        print("finished processing messages")
    for _ in entries:
        emails.task_done()  # with the last of them have_batch_handled() goes on, and the batch is committed


def main():
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until there is a consumer, Ctrl+C just ends the program
    try:
        child = Consumer()
    except (KafkaError, ValueError) as error:
        sys.exit(f"No broker at {BOOTSTRAP_SERVERS!r} ({error}). Start it, or correct BOOTSTRAP_SERVERS")
    signal.signal(signal.SIGINT, exit_gracefully)
    signal.signal(signal.SIGTERM, exit_gracefully)
    sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")  # each line at once, in a pipe too
    print("starting batch consumer worker")
    child.start()
    waited = 0  # seconds since the signal, without those of the work
    while child.is_alive() and waited < 9:  # a broker that does not answer delays the end no longer
        waited = waited + 0.05 if is_shutting_down else 0
        if child.batch_is_due.wait(0.05):
            child.batch_is_due.clear()
            process_messages(child.emails)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Python itself would die of a late Ctrl+C
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if child.failure or child.is_alive():
        sys.exit(child.failure or "No answer from the broker. The last batch will be delivered again")
    print("End of the program. I was killed gracefully")


if __name__ == "__main__":
    main()

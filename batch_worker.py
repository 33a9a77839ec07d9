"""Process sign-ups in batches, at least once: a failure may repeat a batch, but never loses one."""

import os
import signal
import sys
import threading
from queue import SimpleQueue
from time import monotonic, sleep

from kafka import AsyncConsumerRebalanceListener, KafkaConsumer, errors, structs

BOOTSTRAP_SERVERS = os.environ.get("BOOTSTRAP_SERVERS", "localhost:9092")
TOPIC = "user_signups"
GROUP_ID = "group1"
WORK_SECONDS = 0.5
BATCH_SECONDS = 5
BUFFER_SIZE = 10_000
is_shutting_down = False
silent_polls = 0  # empty polls since the last recent heartbeat


def exit_gracefully(signum, frame):
    global is_shutting_down
    is_shutting_down = True


def main():
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until connected, Ctrl+C and SIGTERM end the worker at once
    try:
        child = Consumer()
    except (errors.KafkaError, ValueError) as error:  # ValueError: a malformed address
        sys.exit(f"Cannot start: {error}. Check BOOTSTRAP_SERVERS={BOOTSTRAP_SERVERS!r}, broker, settings.")
    signal.signal(signal.SIGINT, exit_gracefully)
    signal.signal(signal.SIGTERM, exit_gracefully)
    sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")  # flush lines, escape odd text
    print("starting batch consumer worker")
    child.start()
    while child.is_alive():
        if child.batch_is_due.wait(timeout=0.1):  # set by hand_over_buffer(), which waits for the next event
            child.batch_is_due.clear()
            process_messages(child.emails)
            child.batch_is_done.set()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ignore further signals at exit
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if child.failure:
        sys.exit(child.failure)
    print("End of the program. I was killed gracefully")


def process_messages(emails):
    batch = [emails.get() for _ in range(emails.qsize())]
    if batch:
        print("processing message in queue buffer")
        print(f"sending email to user {batch}")
        sleep(WORK_SECONDS)
        print(f"updating status to Waiting Confirmation for users {batch}")
        sleep(WORK_SECONDS)
        print("finished processing messages")


class Consumer(threading.Thread, AsyncConsumerRebalanceListener):
    """The child thread: fill the buffer for five seconds, wait while main() processes it, then commit.

    commit() marks everything polled as done, so main() must process the whole buffer first. In a rebalance,
    kafka-python's own thread runs the on_partitions methods; the child waits for them in poll() or close().
    """

    def __init__(self):
        super().__init__(daemon=True)  # if main() fails, the child must not keep the program alive
        self.emails = SimpleQueue()  # the buffer: at most BUFFER_SIZE addresses
        self.batch_is_due = threading.Event()  # set by hand_over_buffer(), wakes main()
        self.batch_is_done = threading.Event()  # set by main(), wakes hand_over_buffer()
        self.has_uncommitted = False  # whether anything polled is not committed yet
        self.failure = None  # why the child ended, or None after a clean shutdown
        self.consumer = KafkaConsumer(
            group_id=GROUP_ID,
            bootstrap_servers=BOOTSTRAP_SERVERS.split(","),
            bootstrap_timeout_ms=20_000,  # give up if no broker answers within 20 s
            reconnect_backoff_max_ms=1000,  # wait at most a second between connection attempts
            metadata_max_age_ms=10_000,  # discover new partitions within 10 s
            isolation_level="read_committed",  # skip messages of aborted transactions
            session_timeout_ms=10_000,  # reassign a crashed worker's partitions after 10 s
            auto_offset_reset="earliest",  # without a valid committed offset, start at the oldest message
            enable_auto_commit=False,  # a timer would commit what is still in the buffer
        )

    def run(self):
        try:
            self.consumer.subscribe([TOPIC], listener=self)
            while not is_shutting_down:
                self.fill_buffer()
                self.hand_over_buffer()  # also after a signal, for the last batch
                self.commit()
            if self.has_uncommitted:
                self.failure = "The last batch is not committed. It will be delivered again."
        except Exception as error:
            self.failure = f"Stopped by {error!r}. Uncommitted messages will be delivered again."
        self.consumer.close(timeout_ms=1000)  # leave the group; all is committed, or self.failure is set

    def fill_buffer(self):
        """Poll for BATCH_SECONDS, or until the buffer is full or a signal arrives."""
        deadline = monotonic() + BATCH_SECONDS
        while monotonic() < deadline and self.emails.qsize() < BUFFER_SIZE and not is_shutting_down:
            try:
                polled = self.consumer.poll(timeout_ms=500, max_records=BUFFER_SIZE - self.emails.qsize())
            except errors.RetriableError:  # rare: poll() retries most temporary errors itself
                polled = {}
            messages = [message for records in polled.values() for message in records]
            if count := len(messages):
                print(f"received {count} message{'s' * (count > 1)}, inserting into the queue buffer")
                self.has_uncommitted = True
            else:
                check_group(self.consumer)  # idle, or not in the group
            for message in messages:
                if email := email_in(message):
                    self.emails.put(email)

    def hand_over_buffer(self):
        self.batch_is_due.set()  # main() now processes everything in the buffer
        self.batch_is_done.wait()  # until main() has finished; meanwhile, nothing is polled
        self.batch_is_done.clear()

    def commit(self):
        """Commit everything polled. If that fails, a later commit covers it, or Kafka delivers it again."""
        try:
            if self.has_uncommitted:
                self.consumer.commit(timeout_ms=2000)
                self.has_uncommitted = False
        except errors.RetriableError as error:
            print(f"Commit failed ({error!r}), retrying. Is {BOOTSTRAP_SERVERS} up?", file=sys.stderr)
        except (errors.CommitFailedError, errors.RebalanceInProgressError):
            pass  # the next poll() or close() calls on_partitions_lost() or on_partitions_revoked()

    async def on_partitions_revoked(self, revoked):
        """A rebalance begins: process and commit the buffer, or the partitions' next owner repeats it."""
        if self.has_uncommitted and not self.failure:  # after a failure, the buffer may be incomplete
            self.hand_over_buffer()  # blocks heartbeats, so a batch must take less than session_timeout_ms
            try:
                await self.consumer.commit_async()  # commit() would wait for this very thread, which sends it
                self.has_uncommitted = False
            except errors.KafkaError as error:
                print(f"Commit failed ({error!r}) in a rebalance. Expect a redelivery.", file=sys.stderr)

    async def on_partitions_lost(self, lost):
        """The group has evicted this worker: drop the buffer, because its messages are redelivered."""
        print(f"Evicted from group {GROUP_ID}, rejoining. Expect a redelivery.", file=sys.stderr)
        self.emails = SimpleQueue()  # safe: the child waits in poll() or close(), and main() has no batch
        self.has_uncommitted = False

    async def on_partitions_assigned(self, assigned): ...  # required by the interface


def email_in(message):
    """Return the email address in the message. If there is no valid one, report that and return None."""
    email = (message.value or b"").decode(errors="surrogateescape")  # invalid bytes fail isprintable() below
    if "@" in email and len(email) <= 254 and email.isprintable():  # 254: SMTP's limit
        return email
    place = f"{message.topic}, partition {message.partition}, offset {message.offset}"
    print(f"skipping invalid email address: {place}", file=sys.stderr)


def check_group(consumer):
    """Nothing was polled: rejoin the group if necessary, and warn if there have long been no heartbeats."""
    global silent_polls
    if consumer.group_metadata().state != structs.MemberState.STABLE:  # joining, rebalancing or evicted
        # poll() may forget to (a kafka-python 3.0.12 bug). This only sets a flag: repeating it is harmless.
        consumer._coordinator.request_rejoin()  # there is no public call for it
    heartbeat_age = consumer.metrics()["consumer-coordinator-metrics"]["last-heartbeat-seconds-ago"]
    silent_polls = silent_polls + 1 if heartbeat_age > 5 else 0  # a heartbeat is due every 3 s
    if silent_polls and silent_polls % 40 == 0:  # 40 polls of half a second: about every 20 s
        print(f"Waiting for group {GROUP_ID}. Check the broker, its address, slow workers.", file=sys.stderr)


if __name__ == "__main__":
    main()

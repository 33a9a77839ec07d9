"""Process each sign-up at least once: send an email, update the user's status, then commit the offset."""

import os
import signal
import sys
from time import monotonic, sleep

from kafka import KafkaConsumer
from kafka.errors import CommitFailedError, KafkaError, RetriableError
from kafka.structs import MemberState

BOOTSTRAP_SERVERS = os.environ.get("BOOTSTRAP_SERVERS", "localhost:9092")
TOPIC = "user_signups"
GROUP_ID = "group1"
WORK_SECONDS = 0.5
is_shutting_down = False


def graceful_exit(signum, frame):
    global is_shutting_down
    is_shutting_down = True


def main():
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until connected, Ctrl+C ends the program at once
    try:
        consumer = KafkaConsumer(
            TOPIC,
            group_id=GROUP_ID,
            bootstrap_servers=BOOTSTRAP_SERVERS.split(","),
            bootstrap_timeout_ms=20_000,  # give up if no broker answers within 20 s
            reconnect_backoff_max_ms=1000,  # wait at most a second between connection attempts
            metadata_max_age_ms=10_000,  # discover new partitions within 10 s
            session_timeout_ms=10_000,  # reassign a crashed worker's partitions after 10 s
            auto_offset_reset="earliest",  # no valid committed offset: start with the oldest message
            isolation_level="read_committed",  # skip messages of aborted transactions
            enable_auto_commit=False,  # commit when the work is done, not by a timer
            max_poll_records=1,  # keep this at 1: commit() covers every message that poll() returned
        )
    except (KafkaError, ValueError) as error:
        sys.exit(f"Cannot connect to {BOOTSTRAP_SERVERS!r}: {error}. Check BOOTSTRAP_SERVERS and the broker.")
    signal.signal(signal.SIGINT, graceful_exit)
    signal.signal(signal.SIGTERM, graceful_exit)
    sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")  # flush lines; any encoding
    print("starting streaming consumer worker")
    try:
        for message in messages(consumer):
            process_message(message)
            commit(consumer)
    except KafkaError as error:
        sys.exit(f"Stopped by {error!r} at {BOOTSTRAP_SERVERS}. Uncommitted work will be delivered again.")
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # ignore further signals during the exit
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        consumer.close(timeout_ms=3000)  # leave the group
    print("End of the program. I was killed gracefully")


def messages(consumer):
    """Yield messages until a signal arrives. If the last heartbeat is over 20 s old, warn every 20 s."""
    check_at = monotonic() + 20
    while not is_shutting_down:
        try:
            for batch in consumer.poll(timeout_ms=500).values():
                yield from batch
        except RetriableError:  # for example, a proxy in front of a dead broker; try again
            sleep(0.5)
        warning = f"Lost contact with the broker, retrying. Is {BOOTSTRAP_SERVERS} up?"
        if consumer.group_metadata().state != MemberState.STABLE:
            warning = f"Not in group {GROUP_ID}, retrying. Check the broker's log and advertised address."
            consumer._coordinator.request_rejoin()  # kafka-python 3.0.12 bug: a join can get lost
        if monotonic() > check_at:
            check_at = monotonic() + 20
            if consumer.metrics()["consumer-coordinator-metrics"]["last-heartbeat-seconds-ago"] > 20:
                print(warning, file=sys.stderr)


def process_message(message):
    email = (message.value or b"").decode(errors="surrogateescape")  # invalid UTF-8 becomes unprintable
    if "@" not in email or len(email) > 254 or not email.isprintable():  # 254: SMTP's limit
        place = f"{message.topic}, partition {message.partition}, offset {message.offset}"
        print(f"skipping invalid email address: {place}", file=sys.stderr)
        return
    print(f"sending email to {email}")
    sleep(WORK_SECONDS)
    print(f"updating user {email} status to Waiting Confirmation")
    sleep(WORK_SECONDS)
    print("finished processing message")


def commit(consumer):
    """Commit the message, retrying on failure. Once a signal has arrived, try only once."""
    while not is_shutting_down:
        try:
            return consumer.commit(timeout_ms=2000)
        except RetriableError as error:
            print(f"Commit failed ({error!r}), retrying. Is {BOOTSTRAP_SERVERS} up?", file=sys.stderr)
            sleep(2)
        except CommitFailedError:  # too long between polls, or presumed dead
            return print(f"Group {GROUP_ID} has evicted this worker. Expect a redelivery.", file=sys.stderr)
    consumer.commit(timeout_ms=2000)  # shutting down: main() reports a failure


if __name__ == "__main__":
    main()

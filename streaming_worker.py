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
    is_shutting_down = True  # main() first finishes the message in progress, if any


def main():
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until connected, Ctrl+C exits at once, without a traceback
    try:
        consumer = KafkaConsumer(
            TOPIC,
            group_id=GROUP_ID,
            bootstrap_servers=BOOTSTRAP_SERVERS.split(","),
            bootstrap_timeout_ms=20_000,  # give up if no broker answers within 20 s
            reconnect_backoff_max_ms=1000,  # wait at most a second between connection attempts
            metadata_max_age_ms=10_000,  # discover new partitions within 10 s
            isolation_level="read_committed",  # skip messages of aborted transactions
            session_timeout_ms=10_000,  # reassign a crashed worker's partitions after 10 s
            auto_offset_reset="earliest",  # no valid committed offset: start with the oldest message
            enable_auto_commit=False,  # commit when the work is done, not by a timer
            max_poll_records=1,  # keep this at 1: commit() commits all that poll() has returned
        )
    except (KafkaError, ValueError) as error:  # ValueError: malformed BOOTSTRAP_SERVERS
        sys.exit(f"Cannot connect to {BOOTSTRAP_SERVERS!r}: {error}. Check BOOTSTRAP_SERVERS and the broker.")
    signal.signal(signal.SIGINT, graceful_exit)
    signal.signal(signal.SIGTERM, graceful_exit)
    sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")  # flush lines, escape odd text
    print("starting streaming consumer worker")
    try:
        for message in messages(consumer):
            process_message(message)  # an exception here ends the worker; the message will be redelivered
            commit(consumer)  # consumer.commit(), retried while the broker is down
    except KafkaError as error:
        sys.exit(f"Stopped by {error!r}. Uncommitted messages will be delivered again.")
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # ignore further signals in close() and at exit
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        consumer.close(timeout_ms=3000)  # leave the group
    print("End of the program. I was killed gracefully")


def messages(consumer):
    """Yield messages until a signal arrives. Unless evicted, the worker loses partitions only in poll()."""
    check_at = monotonic() + 20
    while not is_shutting_down:
        try:
            for records in consumer.poll(timeout_ms=500).values():
                yield from records  # one message: main() processes and commits it before this goes on
        except RetriableError:  # rare: poll() retries most temporary errors itself
            sleep(0.5)
        joined = consumer.group_metadata().state == MemberState.STABLE  # stays True while the broker is down
        if not joined:  # still joining, rebalancing or evicted
            consumer._coordinator.request_rejoin()  # workaround: kafka-python 3.0.12 can forget to rejoin
        if monotonic() > check_at:  # every 20 s, check the last heartbeat (infinitely old before joining)
            check_at = monotonic() + 20
            if consumer.metrics()["consumer-coordinator-metrics"]["last-heartbeat-seconds-ago"] > 20:
                hint = f"Is {BOOTSTRAP_SERVERS} up?" if joined else "See broker log and advertised address."
                print(f"Group {GROUP_ID}: no heartbeat for over 20 s, retrying. {hint}", file=sys.stderr)


def process_message(message):
    email = (message.value or b"").decode(errors="surrogateescape")  # invalid bytes become unprintable
    if "@" not in email or len(email) > 254 or not email.isprintable():  # 254: SMTP's limit
        place = f"{message.topic}, partition {message.partition}, offset {message.offset}"
        print(f"skipping invalid email address: {place}", file=sys.stderr)
        return  # main() commits it, so it is skipped for good
    print(f"sending email to {email}")
    sleep(WORK_SECONDS)
    print(f"updating user {email} status to Waiting Confirmation")
    sleep(WORK_SECONDS)
    print("finished processing message")


def commit(consumer):
    """Commit, retrying while the broker is unavailable. Once a signal has arrived, make one last attempt."""
    while not is_shutting_down:
        try:
            return consumer.commit(timeout_ms=2000)
        except RetriableError as error:  # broker down or slow
            print(f"Commit failed ({error!r}), retrying. Is {BOOTSTRAP_SERVERS} up?", file=sys.stderr)
            sleep(2)
        except CommitFailedError:  # evicted: no heartbeat for 10 s, or no poll() for 5 min
            return print(f"Evicted from group {GROUP_ID}, rejoining. Expect a redelivery.", file=sys.stderr)
    consumer.commit(timeout_ms=2000)  # a signal arrived: one last attempt; if it fails, exit code 1


if __name__ == "__main__":
    main()

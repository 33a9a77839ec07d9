"""Handles each sign-up when it arrives, at least once: sends an email, updates the user's status, commits."""

import os
import signal
import sys
from time import sleep

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


def process_message(message):
    email = (message.value or b"").decode(errors="surrogateescape")  # what is not UTF-8 becomes unprintable
    if "@" not in email or len(email) > 254 or not email.isprintable():  # 254: the longest that SMTP takes
        place = f"{TOPIC}, partition {message.partition}, offset {message.offset}"
        print(f"skipping what is no email address: {place}", file=sys.stderr)
        return
    print(f"sending email to {email}")
    sleep(WORK_SECONDS)
    print(f"updating user {email} status to Waiting Confirmation")
    sleep(WORK_SECONDS)
    print("finished processing message")


def commit(consumer):
    """Commit what poll() has returned, the finished message. If we die before that, it is delivered again."""
    while True:
        try:
            return consumer.commit(timeout_ms=4000)  # with close(), less than 10 s after the signal
        except (CommitFailedError, RetriableError) as error:
            if is_shutting_down:
                raise  # main() says so, and exits with code 1
            print(f"Cannot commit ({error}), going on. Is {BOOTSTRAP_SERVERS} up?", file=sys.stderr)
            if isinstance(error, CommitFailedError):
                return  # the group took us for dead: poll() joins it, and the message is delivered again


def main():
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until there is a consumer, Ctrl+C just ends the program
    try:
        consumer = KafkaConsumer(
            TOPIC,
            group_id=GROUP_ID,
            bootstrap_servers=BOOTSTRAP_SERVERS.split(","),
            bootstrap_timeout_ms=20_000,
            reconnect_backoff_max_ms=1000,  # while the broker is away, knock every second
            metadata_max_age_ms=10_000,  # partitions that are added are found within 10 s
            session_timeout_ms=10_000,  # a killed worker's partitions go to another one after 10 s
            auto_offset_reset="earliest",  # a group's first worker begins with the oldest message
            enable_auto_commit=False,  # commit() when a message is finished, not when a timer says so
            max_poll_records=1,  # one message: commit() is for it alone, and so is max_poll_interval_ms
        )
    except (KafkaError, ValueError) as error:
        sys.exit(f"No broker at {BOOTSTRAP_SERVERS!r} ({error}). Start it, or correct BOOTSTRAP_SERVERS")
    signal.signal(signal.SIGINT, graceful_exit)
    signal.signal(signal.SIGTERM, graceful_exit)
    sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")  # each line at once, in a pipe too
    print("starting streaming consumer worker")
    try:
        while not is_shutting_down:
            # kafka-python 3.0.12 can forget that it is joining the group; only this private call reminds it
            if consumer.group_metadata().state != MemberState.STABLE:
                consumer._coordinator.request_rejoin()
            try:
                polled = consumer.poll(timeout_ms=500)
            except RetriableError:
                continue  # the broker went away: knock again
            for [message] in polled.values():  # nothing, or one partition with one message
                process_message(message)
                commit(consumer)
    except KafkaError as error:
        sys.exit(f"Ended by {error!r}. A message that is not committed will be delivered again")
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Python itself would die of a late Ctrl+C
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        consumer.close(timeout_ms=3000)
    print("End of the program. I was killed gracefully")


if __name__ == "__main__":
    main()

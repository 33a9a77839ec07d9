"""Handles each sign-up the moment it arrives: sends the welcome email, updates the user's status, commits."""

import os
import signal
import sys
from time import sleep

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until there is a consumer, Ctrl+C just ends the program

from kafka import KafkaConsumer, OffsetAndMetadata
from kafka.errors import AuthorizationError, KafkaError, SaslAuthenticationFailedError
from kafka.structs import MemberState

BOOTSTRAP_SERVERS = os.environ.get("BOOTSTRAP_SERVERS", "localhost:9092")
TOPIC = "user_signups"
GROUP_ID = "group1"
WORK_SECONDS = 0.5

is_shutting_down = False


def graceful_exit(signum, frame):
    global is_shutting_down
    is_shutting_down = True


def connect():
    """A consumer, or the end of the program with a line that says why there is none."""
    for server in BOOTSTRAP_SERVERS.split(","):
        host, _, port = server.strip().rpartition(":")
        if not (host and port.isdecimal() and 0 < int(port) < 65536):
            sys.exit(f"BOOTSTRAP_SERVERS: {server!r} is no address. Write it like localhost:9092")
    try:
        return KafkaConsumer(
            TOPIC,
            group_id=GROUP_ID,
            bootstrap_servers=BOOTSTRAP_SERVERS.split(","),
            bootstrap_timeout_ms=20_000,
            reconnect_backoff_max_ms=1000,  # while the broker is away, knock every second
            metadata_max_age_ms=10_000,  # partitions that are added are found within 10 s
            session_timeout_ms=10_000,  # a killed worker's partitions go to another one after 10 s
            auto_offset_reset="earliest",  # a group's first worker begins with the oldest message
            enable_auto_commit=False,  # a timer would commit the message that is still in hand
            max_poll_records=1,  # so max_poll_interval_ms is the limit for one message, not for 500
        )
    except (KafkaError, ValueError) as error:
        sys.exit(f"No broker at {BOOTSTRAP_SERVERS!r} ({error}). Start it, or set BOOTSTRAP_SERVERS to its address")


def email_in(message):
    """The email address that a message carries, or None."""
    try:
        email = (message.value or b"").decode()
    except UnicodeDecodeError:
        return None
    return email if "@" in email and email.isprintable() else None  # no control characters for the terminal


def process_message(message):
    email = email_in(message)
    if not email:
        place = f"{message.topic}, partition {message.partition}, offset {message.offset}"
        print(f"skipping what is no email address: {place}", file=sys.stderr)
        return
    print(f"sending email to {email}")
    sleep(WORK_SECONDS)
    print(f"updating user {email} status to Waiting Confirmation")
    sleep(WORK_SECONDS)
    print("finished processing message")


def main():
    consumer = connect()
    signal.signal(signal.SIGINT, graceful_exit)
    signal.signal(signal.SIGTERM, graceful_exit)
    sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")  # each line at once, into a pipe as well
    print("starting streaming consumer worker")

    finished = {}  # what to commit: partition -> the offset after the finished message
    try:
        while finished or not is_shutting_down:
            try:
                if finished:
                    consumer.commit(finished, timeout_ms=4000)
                    finished = {}
                if consumer.group_metadata().state != MemberState.STABLE:
                    consumer._coordinator.request_rejoin()  # kafka-python forgets a join that outlasts one poll()
                polled = {} if is_shutting_down else consumer.poll(timeout_ms=200)
            except KafkaError as error:
                if isinstance(error, (AuthorizationError, SaslAuthenticationFailedError)):
                    sys.exit(f"The broker refuses: {error}. Correct the permissions and start again")
                if finished and is_shutting_down:
                    sys.exit(f"The last message is not committed ({type(error).__name__}) and will be delivered again")
                if not error.retriable:
                    finished = {}  # out of the group: poll() joins again, and the message comes again
                print(f"{type(error).__name__} with {BOOTSTRAP_SERVERS}, trying again. Is it up?", file=sys.stderr)
                sleep(1)
                continue
            for partition, [message] in polled.items():
                process_message(message)
                finished = {partition: OffsetAndMetadata(message.offset + 1, "", -1)}
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Python itself would die of a late Ctrl+C
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        consumer.close(timeout_ms=3000)
    print("End of the program. I was killed gracefully")


if __name__ == "__main__":
    main()

"""Process each sign-up at least once: send an email, update the user's status, then commit the offset."""

import os
import signal
import sys
from time import sleep

from kafka import KafkaConsumer, errors, structs

BOOTSTRAP_SERVERS = os.environ.get("BOOTSTRAP_SERVERS", "localhost:9092")
TOPIC = "user_signups"
GROUP_ID = "group1"
WORK_SECONDS = 0.5
is_shutting_down = False
silent_polls = 0  # empty polls since the last recent heartbeat


def graceful_exit(signum, frame):
    global is_shutting_down
    is_shutting_down = True  # main() first finishes the message in progress, if any


def main():
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until connected, Ctrl+C and SIGTERM end the worker at once
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
            auto_offset_reset="earliest",  # without a valid committed offset, start at the oldest message
            enable_auto_commit=False,  # commit when the work is done, not by a timer
        )
    except (errors.KafkaError, ValueError) as error:  # ValueError: a malformed address
        sys.exit(f"Cannot start: {error}. Check BOOTSTRAP_SERVERS={BOOTSTRAP_SERVERS!r}, broker, settings.")
    signal.signal(signal.SIGINT, graceful_exit)
    signal.signal(signal.SIGTERM, graceful_exit)
    sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")  # flush lines, escape odd text
    print("starting streaming consumer worker")
    try:
        while not is_shutting_down:  # checked after each message, and every half second when idle
            try:
                polled = consumer.poll(timeout_ms=500, max_records=1)  # {partition: [message]}, or {}
            except errors.RetriableError:  # rare: poll() retries most temporary errors itself
                polled = {}
            for [message] in polled.values():  # at most one list, of one message
                process_message(message)  # an exception ends the worker; the next one gets this message
                commit(consumer)  # retried in an outage; given up after an eviction
            if not polled:  # idle, or not in the group
                check_group(consumer)
    except errors.KafkaError as error:
        sys.exit(f"Stopped by {error!r}. Uncommitted messages will be delivered again.")
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # ignore further signals in close() and at exit
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        consumer.close(timeout_ms=1000)  # leave the group
    print("End of the program. I was killed gracefully")


def process_message(message):
    email = (message.value or b"").decode(errors="surrogateescape")  # invalid bytes fail isprintable() below
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
    while True:
        try:
            consumer.commit(timeout_ms=2000)  # everything polled is done, up to the message just processed
            return
        except (errors.RetriableError, errors.CommitFailedError) as error:
            if is_shutting_down:
                raise  # main() reports it, and the message is redelivered
            if isinstance(error, errors.CommitFailedError):  # no heartbeat for 10 s, or no poll() for 5 min
                print(f"Evicted from group {GROUP_ID}, rejoining. Expect a redelivery.", file=sys.stderr)
                return  # not committed: poll() rejoins, and the message is delivered again
            print(f"Commit failed ({error!r}), retrying. Is {BOOTSTRAP_SERVERS} up?", file=sys.stderr)
            sleep(2)


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

"""Stand in for a web application: create the topic, then publish ten sign-ups."""

import os
import signal
import sys
from time import sleep

from kafka import KafkaAdminClient, KafkaProducer
from kafka.errors import KafkaError, KafkaTimeoutError, TopicAlreadyExistsError

BOOTSTRAP_SERVERS = os.environ.get("BOOTSTRAP_SERVERS", "localhost:9092")
TOPIC = "user_signups"
CONNECTION = {
    "bootstrap_servers": BOOTSTRAP_SERVERS.split(","),  # the brokers to contact first
    "bootstrap_timeout_ms": 20_000,  # give up if no broker answers within 20 s
    "reconnect_backoff_max_ms": 1_000,  # wait at most a second between connection attempts
}


def main():
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl+C ends the process at once, without a traceback
    sys.stdout.reconfigure(line_buffering=True)  # Ctrl+C and os._exit() would discard buffered output
    try:
        create_topic()
        publish_signups()
    except (KafkaError, ValueError) as error:  # ValueError: malformed BOOTSTRAP_SERVERS
        reason = str(error)[:200]  # some error messages are very long
        hint = " (Is the broker up?)" if isinstance(error, KafkaTimeoutError) else ""  # no answer in time
        print(f"Publishing to {BOOTSTRAP_SERVERS!r} failed: {reason}{hint}", file=sys.stderr)
        os._exit(1)  # not sys.exit(): after a timeout, kafka-python's exit cleanup would print a traceback


def create_topic():
    with KafkaAdminClient(**CONNECTION) as admin:
        try:
            # One partition (an ordered log) and one copy of it (replica) are enough for a single broker.
            admin.create_topics({TOPIC: {"num_partitions": 1, "replication_factor": 1}})
        except TopicAlreadyExistsError:
            print(f"Topic {TOPIC} is already created")


def publish_signups():
    producer = KafkaProducer(
        **CONNECTION,
        acks="all",  # the broker acknowledges once every in-sync replica has the message; here there is one
        enable_idempotence=True,  # a retry by the client stores no duplicate (running this script again does)
        max_block_ms=5_000,  # send() may wait up to 5 s to learn which broker has the topic
    )
    for i in range(10):
        email = f"user{i}@gmail.com"
        future = producer.send(TOPIC, email.encode())  # queue it; a background thread sends it
        # Wait for the acknowledgement. If none comes in 30 s, the message may or may not have been stored.
        future.get(timeout=30)
        print(f"Published message to message broker. User email: {email}")
        sleep(0.1)
    producer.close()  # on success only: after a timeout, it would wait for the unsent message


if __name__ == "__main__":
    main()

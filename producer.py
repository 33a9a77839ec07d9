"""Play the web application: create the topic, then publish ten sign-ups."""

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
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl+C ends the process at once: no traceback, no cleanup
    try:
        create_topic()
        publish_signups()
    except (KafkaError, ValueError) as error:  # ValueError: malformed BOOTSTRAP_SERVERS
        reason = str(error)[:200]  # some error messages are very long
        if isinstance(error, KafkaTimeoutError):  # bootstrap, send() or get() ran out of time
            reason += " (Is the broker up?)"
        print(f"Publishing to {BOOTSTRAP_SERVERS!r} failed: {reason}", file=sys.stderr)
        os._exit(1)  # not sys.exit(): kafka-python's exit hook would retry the send and print a traceback


def create_topic():
    with KafkaAdminClient(**CONNECTION) as admin:
        try:
            # One partition (an ordered log) and one copy of it (replica) are enough for a single broker.
            admin.create_topics({TOPIC: {"num_partitions": 1, "replication_factor": 1}})
        except TopicAlreadyExistsError:
            print(f"Topic {TOPIC} is already created", flush=True)


def publish_signups():
    producer = KafkaProducer(
        **CONNECTION,
        acks="all",  # acknowledge once all up-to-date copies (in-sync replicas; here one) have it
        enable_idempotence=True,  # the client's retries store no duplicates (but rerunning the script does)
        max_block_ms=5_000,  # send() first looks up the topic's broker: wait at most 5 s for that
    )
    for i in range(10):
        email = f"user{i}@gmail.com"
        future = producer.send(TOPIC, email.encode())  # queue it; a background thread sends it
        # Wait for the acknowledgement. After 30 s, get() raises; the message may still have been stored.
        future.get(timeout=30)
        print(f"Published message to message broker. User email: {email}", flush=True)
        sleep(0.1)
    producer.close()  # no "with": after an error, closing would wait for the unsent message


if __name__ == "__main__":
    main()

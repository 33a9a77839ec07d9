"""Create the topic, then publish ten sign-ups, standing in for a web application."""

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
    # Let Ctrl+C end the process at once, without a traceback. A message being sent may or may not be stored.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        create_topic()
        publish_signups()
    except (KafkaError, ValueError) as error:  # ValueError: e.g. malformed BOOTSTRAP_SERVERS
        reason = str(error)[:200]  # some are very long
        hint = " (Is the broker up?)" if isinstance(error, KafkaTimeoutError) else ""
        print(f"Publishing to {BOOTSTRAP_SERVERS!r} failed: {reason}{hint}", file=sys.stderr)
        os._exit(1)  # skips kafka-python's cleanup at exit, which prints a traceback after a timeout


def create_topic():
    with KafkaAdminClient(**CONNECTION) as admin:
        try:
            # One partition and one copy (replica) are enough for a single broker.
            admin.create_topics({TOPIC: {"num_partitions": 1, "replication_factor": 1}})
        except TopicAlreadyExistsError:
            print(f"Topic {TOPIC} is already created", flush=True)


def publish_signups():
    producer = KafkaProducer(
        **CONNECTION,
        acks="all",  # acknowledge once all in-sync replicas have the message (here there is just one)
        enable_idempotence=True,  # the client's retries store no duplicates; a second run of this script does
        max_block_ms=5_000,  # send() may wait up to 5 s to learn which broker has the topic
    )
    for i in range(10):
        email = f"user{i}@gmail.com"
        future = producer.send(TOPIC, email.encode())  # only queues the message
        future.get(timeout=30)  # wait for the acknowledgement; without it, the message may still be stored
        # flush=True, since neither Ctrl+C nor os._exit() flushes
        print(f"Published message to message broker. User email: {email}", flush=True)
        sleep(0.1)
    producer.close()  # no "with": after an error, main() ends the process without closing the producer


if __name__ == "__main__":
    main()

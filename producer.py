"""Create the topic and publish ten sign-ups, as a web application would when users register."""

import os
import signal
import sys
from time import sleep

from kafka import KafkaAdminClient, KafkaProducer
from kafka.errors import KafkaError, KafkaTimeoutError, TopicAlreadyExistsError

BOOTSTRAP_SERVERS = os.environ.get("BOOTSTRAP_SERVERS", "localhost:9092")
TOPIC = "user_signups"
CONNECTION = {
    "bootstrap_timeout_ms": 20_000,  # give up if no broker answers within 20 s
    "reconnect_backoff_max_ms": 1000,  # wait at most a second between connection attempts
}


def main():
    # Ctrl+C ends the process at once, without a traceback; the current message may or may not be stored.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        create_topic()
        publish_signups()
    except (KafkaError, ValueError) as error:  # ValueError: e.g. malformed BOOTSTRAP_SERVERS
        hint = " (Is the broker up?)" if isinstance(error, KafkaTimeoutError) else ""  # no answer in time
        print(f"Publishing to {BOOTSTRAP_SERVERS!r} failed: {str(error)[:200]}{hint}", file=sys.stderr)
        # Not sys.exit(): after a timeout, kafka-python's cleanup at exit would print a traceback.
        os._exit(1)


def create_topic():
    with KafkaAdminClient(bootstrap_servers=BOOTSTRAP_SERVERS.split(","), **CONNECTION) as admin:
        try:
            # One partition and one copy are enough for a single broker.
            admin.create_topics({TOPIC: {"num_partitions": 1, "replication_factor": 1}})
        except TopicAlreadyExistsError:
            print(f"Topic {TOPIC} is already created", flush=True)


def publish_signups():
    producer = KafkaProducer(
        bootstrap_servers=BOOTSTRAP_SERVERS.split(","),
        **CONNECTION,
        acks="all",  # acknowledge once every in-sync replica has the message (here: the only one)
        enable_idempotence=True,  # automatic retries store no duplicates (running the script again does)
        max_block_ms=5000,  # send() may wait up to 5 s to learn which broker has the topic
    )
    for i in range(10):
        email = f"user{i}@gmail.com"
        future = producer.send(TOPIC, email.encode())  # queue the message
        future.get(timeout=30)  # wait until it is stored; after a timeout, it may be stored nevertheless
        print(f"Published message to message broker. User email: {email}", flush=True)
        sleep(0.1)
    producer.close()  # after an error, main() ends the process instead


if __name__ == "__main__":
    main()

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
    "bootstrap_servers": BOOTSTRAP_SERVERS.split(","),
    "bootstrap_timeout_ms": 20_000,  # give up if no broker answers within 20 s
    "reconnect_backoff_max_ms": 1000,  # wait at most a second between connection attempts
}


def main():
    # Ctrl+C ends the process at once, without a traceback. A message not yet printed may be stored or not.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        create_topic()
        publish_signups()
    except (KafkaError, ValueError) as error:  # ValueError: malformed BOOTSTRAP_SERVERS
        hint = " (Is the broker up?)" if isinstance(error, KafkaTimeoutError) else ""
        print(f"Publishing to {BOOTSTRAP_SERVERS!r} failed: {str(error)[:200]}{hint}", file=sys.stderr)
        os._exit(1)  # not sys.exit(): after a timeout, kafka-python would print a traceback at exit


def create_topic():
    with KafkaAdminClient(**CONNECTION) as admin:
        try:
            admin.create_topics({TOPIC: {"num_partitions": 1, "replication_factor": 1}})
        except TopicAlreadyExistsError:
            print(f"Topic {TOPIC} is already created", flush=True)


def publish_signups():
    producer = KafkaProducer(
        **CONNECTION,
        acks="all",  # wait until each in-sync replica has the message; here there is only one
        enable_idempotence=True,  # the client's retries store no duplicates; running this script again does
        max_block_ms=5_000,  # send() first asks which broker has the topic: wait at most 5 s
    )
    for i in range(10):
        email = f"user{i}@gmail.com"
        future = producer.send(TOPIC, email.encode())  # only queues the message
        future.get(timeout=30)  # wait until it is stored; after a timeout, it may still be
        print(f"Published message to message broker. User email: {email}", flush=True)
        sleep(0.1)
    producer.close()


if __name__ == "__main__":
    main()

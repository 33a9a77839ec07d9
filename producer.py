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
    "bootstrap_servers": BOOTSTRAP_SERVERS.split(","),
    "bootstrap_timeout_ms": 20_000,  # give up if no broker answers within 20 s
    "reconnect_backoff_max_ms": 1000,  # wait at most a second between connection attempts
}


def main():
    # Ctrl+C ends the process at once, without a traceback. The message being sent may or may not be stored.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        create_topic()
        publish_signups()
    except (KafkaError, ValueError) as error:  # ValueError: malformed BOOTSTRAP_SERVERS
        reason = str(error)[:200]  # some error messages are very long
        if isinstance(error, KafkaTimeoutError):  # no broker answered in time
            reason += " (Is the broker up?)"
        print(f"Publishing to {BOOTSTRAP_SERVERS!r} failed: {reason}", file=sys.stderr)
        os._exit(1)  # end at once: after a timeout, kafka-python's cleanup at exit would print a traceback


def create_topic():
    with KafkaAdminClient(**CONNECTION) as admin:
        try:
            # one partition, one copy: enough for a single broker
            admin.create_topics({TOPIC: {"num_partitions": 1, "replication_factor": 1}})
        except TopicAlreadyExistsError:
            print(f"Topic {TOPIC} is already created", flush=True)


def publish_signups():
    producer = KafkaProducer(
        **CONNECTION,
        acks="all",  # the broker confirms once every in-sync replica (here: one copy) has the message
        enable_idempotence=True,  # an automatic retry stores no duplicate (running this script again does)
        max_block_ms=5_000,  # send() may wait up to 5 s to learn which broker holds the topic
    )
    for i in range(10):
        email = f"user{i}@gmail.com"
        future = producer.send(TOPIC, email.encode())  # queue the message
        future.get(timeout=30)  # wait up to 30 s until it is stored; a timeout doesn't prove that it isn't
        print(f"Published message to message broker. User email: {email}", flush=True)
        sleep(0.1)
    producer.close()


if __name__ == "__main__":
    main()

"""Create the topic, then publish ten sign-ups, standing in for a web application."""

import os
import signal
import sys
from time import sleep

from kafka import KafkaAdminClient, KafkaProducer, errors

BOOTSTRAP_SERVERS = os.environ.get("BOOTSTRAP_SERVERS", "localhost:9092")
TOPIC = "user_signups"
CONNECTION = {
    "bootstrap_servers": BOOTSTRAP_SERVERS.split(","),
    "bootstrap_timeout_ms": 20_000,  # first connection: fail if no broker answers within 20 s
    "reconnect_backoff_max_ms": 1000,  # wait at most a second between connection attempts
}


def main():
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl+C ends the process; what it reported is stored
    try:
        create_topic()
        publish_signups()
    except (errors.KafkaError, ValueError) as error:  # ValueError: a malformed address
        reason = str(error)[:200]  # some error messages are very long
        if isinstance(error, errors.KafkaTimeoutError):  # no connection or no confirmation in time
            reason += " (Is the broker up?)"
        print(f"Failed with BOOTSTRAP_SERVERS={BOOTSTRAP_SERVERS!r}: {reason}", file=sys.stderr)
        # Not sys.exit(): kafka-python's exit hook would await an unconfirmed message and print a traceback.
        os._exit(1)  # what was reported as published is stored; the message that failed may be stored, too


def create_topic():
    with KafkaAdminClient(**CONNECTION) as admin:
        try:
            # one partition, one copy: enough for one local broker
            admin.create_topics({TOPIC: {"num_partitions": 1, "replication_factor": 1}})
        except errors.TopicAlreadyExistsError:
            print(f"Topic {TOPIC} is already created", flush=True)


def publish_signups():
    producer = KafkaProducer(
        **CONNECTION,
        acks="all",  # confirm when every up-to-date copy of the partition has the message
        enable_idempotence=True,  # a message that kafka-python resends is stored only once
        max_block_ms=5_000,  # send() waits at most 5 s to learn which broker holds the topic
    )
    for i in range(10):
        email = f"user{i}@gmail.com"
        future = producer.send(TOPIC, email.encode())  # only queues the message
        # Wait for the confirmation. If none comes within 30 s, the message may or may not be stored.
        future.get(timeout=30)
        print(f"Published message to message broker. User email: {email}", flush=True)
        sleep(0.1)
    producer.close()  # not after an error: it would wait for the unconfirmed message


if __name__ == "__main__":
    main()

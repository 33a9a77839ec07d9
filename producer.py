"""Creates the topic and publishes ten sign-ups to it, as a web application would when users register."""

import os
import signal
import sys
from time import sleep

from kafka import KafkaAdminClient, KafkaProducer
from kafka.errors import KafkaError, TopicAlreadyExistsError

BOOTSTRAP_SERVERS = os.environ.get("BOOTSTRAP_SERVERS", "localhost:9092")
TOPIC = "user_signups"


def create_topic(connection):
    with KafkaAdminClient(**connection) as admin:
        try:
            topic = {TOPIC: {"num_partitions": 1, "replication_factor": 1}}
            admin.create_topics(topic)
        except TopicAlreadyExistsError:
            print(f"Topic {TOPIC} is already created", flush=True)


def publish_signups(connection):
    # Each message is sent until the broker confirms it, for 30 s; it has a number, so it is stored only once
    limits = {"delivery_timeout_ms": 30_000, "max_block_ms": 30_000, "request_timeout_ms": 10_000}
    with KafkaProducer(**connection, **limits) as producer:
        for i in range(10):
            email = f"user{i}@gmail.com"
            producer.send(TOPIC, email.encode()).get()  # until the broker says that it is stored
            print(f"Published message to message broker. User email: {email}", flush=True)
            sleep(0.1)


def main():
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl+C just ends the program: what is printed is stored
    connection = {
        "bootstrap_servers": BOOTSTRAP_SERVERS.split(","),
        "bootstrap_timeout_ms": 20_000,
        "reconnect_backoff_max_ms": 1000,  # while the broker is away, knock every second
    }
    try:
        create_topic(connection)
        publish_signups(connection)
    except (KafkaError, ValueError) as error:  # an error of the admin client quotes its whole request: cut it
        sys.exit(f"Failed at {BOOTSTRAP_SERVERS!r} ({error!s:.200}). What is printed is stored. Is it up?")


if __name__ == "__main__":
    main()

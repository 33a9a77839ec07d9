"""Creates the topic and publishes ten sign-ups to it, as a web application would when users register."""

import os
import signal
import sys
from time import sleep

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl+C ends it at once, even while kafka is imported: no traceback

from kafka import KafkaAdminClient, KafkaProducer
from kafka.errors import KafkaError, TopicAlreadyExistsError

TOPIC = "user_signups"


def bootstrap_servers():
    """The addresses in BOOTSTRAP_SERVERS, as a list. Raises ValueError if one of them is not host:port."""
    servers = os.environ.get("BOOTSTRAP_SERVERS", "localhost:9092").split(",")
    for server in servers:
        host, _, port = server.strip().rpartition(":")
        if not (host and port.isdecimal() and 0 < int(port) < 65536):
            raise ValueError(f"{server!r} is not host:port")
    return servers


def create_topic(connection):
    with KafkaAdminClient(**connection) as admin:
        try:
            admin.create_topics({TOPIC: {"num_partitions": 1, "replication_factor": 1}}, wait_for_metadata=True)
        except TopicAlreadyExistsError:
            print(f"Topic {TOPIC} is already created", flush=True)


def publish_signups(connection):
    # Within its 30 seconds a message is sent again and again; the broker knows it by its number and stores it once.
    with KafkaProducer(**connection, delivery_timeout_ms=30_000, max_block_ms=30_000, request_timeout_ms=10_000) as producer:
        for i in range(10):
            email = f"user{i}@gmail.com"
            producer.send(TOPIC, email.encode()).get()  # until the broker says that it is stored
            print(f"Published message to message broker. User email: {email}", flush=True)
            sleep(0.1)


def main():
    try:
        connection = {
            "bootstrap_servers": bootstrap_servers(),
            "bootstrap_timeout_ms": 20_000,
            "reconnect_backoff_max_ms": 1000,  # while the broker is away, try every second
        }
        create_topic(connection)
        publish_signups(connection)
    except (KafkaError, ValueError) as error:
        sys.exit(f"{error}. Only what is printed above is published. Is a broker running? BOOTSTRAP_SERVERS names its address")


if __name__ == "__main__":
    main()

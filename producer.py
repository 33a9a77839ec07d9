"""Creates the topic and publishes ten sign-ups to it, as a web application would when users register."""

import os
import signal
import sys
from time import sleep

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl+C ends it at once, even while kafka is imported: no traceback

from kafka import KafkaAdminClient, KafkaProducer
from kafka.errors import KafkaError, TopicAlreadyExistsError

BOOTSTRAP_SERVERS = os.environ.get("BOOTSTRAP_SERVERS", "localhost:9092")
TOPIC = "user_signups"


def create_topic(connection):
    with KafkaAdminClient(**connection) as admin:
        try:
            admin.create_topics({TOPIC: {"num_partitions": 1, "replication_factor": 1}}, wait_for_metadata=True)
        except TopicAlreadyExistsError:
            print(f"Topic {TOPIC} is already created", flush=True)


def publish_signups(connection):
    # A message is sent again until the broker confirms it, for 30 s. It has a number, so it is stored only once.
    limits = {"delivery_timeout_ms": 30_000, "max_block_ms": 30_000, "request_timeout_ms": 10_000}
    with KafkaProducer(**connection, **limits) as producer:
        for i in range(10):
            email = f"user{i}@gmail.com"
            producer.send(TOPIC, email.encode()).get()  # until the broker says that it is stored
            print(f"Published message to message broker. User email: {email}", flush=True)
            sleep(0.1)


def main():
    for server in BOOTSTRAP_SERVERS.split(","):
        host, _, port = server.strip().rpartition(":")
        if not (host and port.isdecimal() and 0 < int(port) < 65536):
            sys.exit(f"BOOTSTRAP_SERVERS: {server!r} is no address. Write it like localhost:9092")
    connection = {
        "bootstrap_servers": BOOTSTRAP_SERVERS.split(","),
        "bootstrap_timeout_ms": 20_000,
        "reconnect_backoff_max_ms": 1000,  # while the broker is away, knock every second
    }
    try:
        create_topic(connection)
        publish_signups(connection)
    except (KafkaError, ValueError) as error:
        reason = str(error)[:200]  # an admin request's error quotes the whole request
        sys.exit(f"No success with {BOOTSTRAP_SERVERS} ({reason}). What is printed above is stored; is the broker up?")


if __name__ == "__main__":
    main()

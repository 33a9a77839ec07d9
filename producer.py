"""Create the topic and publish ten sign-ups to it, as a web application would when users register."""

import os
import signal
import sys
from time import sleep

from kafka import KafkaAdminClient, KafkaProducer
from kafka.errors import KafkaError, RetriableError, TopicAlreadyExistsError

BOOTSTRAP_SERVERS = os.environ.get("BOOTSTRAP_SERVERS", "localhost:9092")
TOPIC = "user_signups"
CONNECTION = {
    "bootstrap_servers": BOOTSTRAP_SERVERS.split(","),
    "bootstrap_timeout_ms": 20_000,  # give up if no broker answers within 20 s
    "reconnect_backoff_max_ms": 1000,  # retry every second while the broker is unavailable
}


def main():
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl+C ends the program at once, without a traceback
    try:
        create_topic()
        publish_signups()
    except RetriableError as error:
        sys.exit(
            f"Giving up ({error}). Is {BOOTSTRAP_SERVERS!r} up? Only what is printed is stored for sure."
        )
    except (KafkaError, ValueError) as error:
        sys.exit(
            f"Cannot publish to {BOOTSTRAP_SERVERS!r}: {str(error):.200}"
        )  # an error may quote its request


def create_topic():
    with KafkaAdminClient(**CONNECTION) as admin:
        try:
            admin.create_topics({TOPIC: {"num_partitions": 1, "replication_factor": 1}})
        except TopicAlreadyExistsError:
            print(f"Topic {TOPIC} is already created", flush=True)


def publish_signups():
    producer = KafkaProducer(
        **CONNECTION,
        acks="all",  # acknowledged once every in-sync replica has the message
        enable_idempotence=True,  # a message that is sent again after a lost answer is stored only once
        max_block_ms=30_000,  # wait up to 30 s in send() for the topic's metadata
        request_timeout_ms=10_000,  # send again if there is no answer within 10 s
        delivery_timeout_ms=30_000,
    )
    for i in range(10):
        email = f"user{i}@gmail.com"
        producer.send(TOPIC, email.encode()).get(timeout=30)  # wait until the broker has stored it
        print(f"Published message to message broker. User email: {email}", flush=True)
        sleep(0.1)
    producer.close()


if __name__ == "__main__":
    main()

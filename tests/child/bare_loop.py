"""The loop with which the benchmark compares the workers; run_script.py sets its constants.

It prints how many messages it has read since it last did: after the first poll(), then after every poll()
from COUNT on.
"""

import os

from kafka import KafkaConsumer

TOPIC = "user_signups"
GROUP_ID = "group1"
COUNT = 0
IS_COMMITTING = False  # commit() after each poll(), and wait for it


def main():
    read = reported = 0
    with KafkaConsumer(
        TOPIC,
        group_id=GROUP_ID,
        bootstrap_servers=os.environ["BOOTSTRAP_SERVERS"],
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    ) as consumer:
        while True:
            for messages in consumer.poll(timeout_ms=5000).values():
                read += len(messages)
                if IS_COMMITTING:
                    consumer.commit()
                if not reported or read >= COUNT:
                    print(f"read {read - reported}", flush=True)
                    reported = read

"""The loop with which the benchmark compares the workers; run_script.py sets what is in capitals.

It says how many messages it has read: after the first poll(), and after each once there are COUNT of them.
"""

import os

from kafka import KafkaConsumer

TOPIC = "user_signups"
GROUP_ID = "group1"
COUNT = 0
IS_COMMITTING = False  # commit() after each poll(), and wait for it


def main():
    read = said = 0
    with KafkaConsumer(
        TOPIC,
        group_id=GROUP_ID,
        bootstrap_servers=os.environ["BOOTSTRAP_SERVERS"],
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    ) as consumer:
        while True:
            for messages in consumer.poll(timeout_ms=500).values():
                read += len(messages)
                if IS_COMMITTING:
                    consumer.commit()
                if not said or read >= COUNT:
                    print(f"read {read - said}", flush=True)
                    said = read

"""The loop with which the benchmark compares the workers. run_script.py, which is beside it, sets what is in
capitals and replaces KafkaConsumer.

It reports the number of messages read: after the first poll(), then after every poll() from COUNT on.
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

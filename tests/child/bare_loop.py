"""The loop with which the benchmark compares the workers; run_script.py sets its constants."""

import os

from kafka import KafkaConsumer

TOPIC = "user_signups"
GROUP_ID = "group1"
IS_COMMITTING = False  # commit() after each poll(), and wait for it
MESSAGES_PER_LINE = 1  # print a line whenever that many more messages have been read


def main():
    read = printed = 0
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
                while read >= printed + MESSAGES_PER_LINE:
                    printed += MESSAGES_PER_LINE
                    print(f"read {printed}", flush=True)

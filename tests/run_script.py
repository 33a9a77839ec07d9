"""Runs one of the three scripts with other values for its constants, which it reads when it uses them.

    python tests/run_script.py batch_worker '{"TOPIC": "t1", "BATCH_SECONDS": 1, "session_timeout_ms": 6000}'

Names in capitals are set on the module; the others are settings of its KafkaConsumer, but for these three:
"fail_at": N makes the N-th pretend step of the work raise; "poll_ms": N cuts each poll() short after N
milliseconds; "signal_at": TEXT has SIGTERM come with the first line in which the text stands, before the
script goes on. The script itself is not changed.
"""

import importlib
import json
import os
import signal
import sys
import time
from pathlib import Path


def main():
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # as the scripts do when they are run
    sys.path.insert(0, str(Path(__file__).parent.parent))
    script = importlib.import_module(sys.argv[1])
    settings = json.loads(sys.argv[2])
    for name in [name for name in settings if name.isupper()]:
        setattr(script, name, settings.pop(name))
    fail_at = settings.pop("fail_at", 0)
    if fail_at:
        steps = 0

        def sleep(seconds):
            nonlocal steps
            steps += 1
            if steps == fail_at:
                raise RuntimeError("the mail server is down")
            time.sleep(seconds)

        script.sleep = sleep
    elif getattr(script, "WORK_SECONDS", None) == 0:
        # sleep(0) takes Linux 50 us; no work is no work
        script.sleep = lambda seconds: seconds and time.sleep(seconds)
    signal_at = settings.pop("signal_at", None)
    if signal_at:

        def print_and_signal(line, **options):
            print(line, **options)
            if signal_at in line and not script.is_shutting_down:
                os.kill(os.getpid(), signal.SIGTERM)
                while not script.is_shutting_down:
                    time.sleep(0.01)

        script.print = print_and_signal
    poll_ms = settings.pop("poll_ms", 0)
    if poll_ms:

        class ShortPolls(script.KafkaConsumer):
            def poll(self, timeout_ms=0, max_records=None, update_offsets=True):
                return super().poll(min(poll_ms, timeout_ms), max_records, update_offsets)

        script.KafkaConsumer = ShortPolls
    if settings:
        consumer_class = script.KafkaConsumer
        script.KafkaConsumer = lambda *topics, **given: consumer_class(*topics, **{**given, **settings})
    script.main()


if __name__ == "__main__":
    main()

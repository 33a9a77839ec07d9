"""Runs a script from the current folder with other values for some of its constants.

    python tests/child/run_script.py batch_worker '{"TOPIC": "t1", "max_poll_records": 5}'

Names in capitals are constants of the script: they are set after its import, so it must not copy them
before main() runs. With "WORK_SECONDS": 0, sleep(0) does nothing. These are injections, which replace
the script's sleep(), print() or KafkaConsumer:

    "fail_at_sleep": N      the N-th sleep() raises an exception, be it work or the pause before a retry
    "limit_poll_ms": N      poll() waits for no longer than N milliseconds
    "never_commit": true    commits do nothing
    "signal_at": ["SIGTERM", PATTERN, N]    the script gets this signal after its N-th matching line

All others are settings of the script's KafkaConsumer. The script's file is not changed.
"""

import importlib
import json
import os
import re
import signal
import sys
import time


def set_constants(script, constants):
    for name, value in constants.items():
        getattr(script, name)  # raises for a name that the script doesn't have
        setattr(script, name, value)


def fail_at_sleep(script, number):
    original, steps = script.sleep, 0

    def sleep(seconds):
        nonlocal steps
        steps += 1
        if steps == number:
            raise RuntimeError("the mail server is down")
        original(seconds)

    script.sleep = sleep


def skip_work(script):
    script.sleep = lambda seconds: seconds and time.sleep(seconds)  # even sleep(0) takes 50 us on Linux


def signal_at(script, signal_pattern_and_count):
    name, pattern, count = signal_pattern_and_count

    def print_and_signal(line, **options):
        nonlocal count
        print(line, **options)
        if re.search(pattern, line):
            count -= 1
            if count == 0:
                os.kill(os.getpid(), signal.Signals[name])
                while not getattr(script, "is_shutting_down", True):  # the producer has no such flag
                    time.sleep(0.01)

    script.print = print_and_signal


def limit_poll_ms(script, milliseconds):
    class ShortPolls(script.KafkaConsumer):
        def poll(self, timeout_ms=0, max_records=None, update_offsets=True):
            return super().poll(min(milliseconds, timeout_ms), max_records, update_offsets)

    script.KafkaConsumer = ShortPolls


def never_commit(script, _):
    class NoCommits(script.KafkaConsumer):
        def commit(self, offsets=None, timeout_ms=None): ...

        async def commit_async(self, offsets=None, callback=None): ...  # the batch worker awaits it

    script.KafkaConsumer = NoCommits


def configure_consumer(script, settings):
    consumer = script.KafkaConsumer
    script.KafkaConsumer = lambda *topics, **given: consumer(*topics, **{**given, **settings})


INJECTIONS = [fail_at_sleep, limit_poll_ms, never_commit, signal_at]


def main():
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # as the scripts do when they are run
    sys.path.insert(0, os.getcwd())
    script = importlib.import_module(sys.argv[1])
    settings = json.loads(sys.argv[2])
    set_constants(script, {name: settings.pop(name) for name in [*settings] if name.isupper()})
    if getattr(script, "WORK_SECONDS", None) == 0:
        skip_work(script)
    for inject in INJECTIONS:
        if inject.__name__ in settings:
            inject(script, settings.pop(inject.__name__))
    if settings:
        configure_consumer(script, settings)
    script.main()


if __name__ == "__main__":
    main()

"""Waiting with a timeout, and for several things at a time."""

import os
import time
from concurrent.futures import ThreadPoolExecutor

from kafka.errors import KafkaError


def wait_until(condition, seconds=30, what="the condition holds"):
    """Wait until condition() is true and return its value; raise AssertionError after that many seconds."""
    deadline = time.monotonic() + seconds
    while True:
        began, reason = time.monotonic(), "still false"
        try:
            if value := condition():
                return value
        except KafkaError as error:  # a broker that has just restarted fails some requests
            reason = repr(error)
        assert time.monotonic() < deadline, f"after {seconds} s, not yet: {what} ({reason})"
        time.sleep(max(0.02, 2 * (time.monotonic() - began)))  # a costly condition less often


def with_slack(seconds):
    """Return a time limit, with up to 2 s of slack under load."""
    return seconds + min(2, max(0, os.getloadavg()[0] / os.cpu_count() - 1))


def in_parallel(function, items):
    """Return [function(item), ...], all called at the same time."""
    with ThreadPoolExecutor(len(items)) as pool:
        return list(pool.map(function, items))

"""Short soaks; `python tests/soak.py 600` is the long one."""

import re
import signal
import time

import psutil
import pytest
from soak import FAULTS
from support.waiting import wait_until

pytestmark = [pytest.mark.not_on_external_broker, pytest.mark.long(60)]


def test_nothing_is_lost(start_program):
    program = start_program("soak", "10", "--seed", "4")
    program.wait_for_exit(seconds=150)
    rows = re.findall(r"^ (\S.*?)  +(\d+) +(\d+) *$", "\n".join(program.out), re.M)
    table = {name: [int(streaming), int(batch)] for name, streaming, batch in rows}
    assert table["sent"] == table["processed"] and min(table["sent"]) > 300
    assert table["lost"] == table["exited unexpectedly"] == [0, 0]
    assert all(min(table[fault]) > 0 for fault in FAULTS)


def test_the_soak_fails_if_workers_never_commit(start_program):
    options = ["--worker", "streaming_worker", "--fault", "worker stopped", "--never-commit"]
    program = start_program("soak", "14", *options)  # long enough that a fault strikes workers at work
    program.wait_for_exit(1, seconds=110)
    errors = "\n".join(program.err)
    assert re.search(r"^streaming_worker: \d+ messages are not committed", errors, re.M)
    assert re.search(r"^streaming_worker: \d+ repeats, but the faults explain", errors, re.M)


def test_sigterm_while_the_broker_is_down_ends_the_soak_and_everything_it_started(start_program):
    program = start_program("soak", "60", "--worker", "streaming_worker")
    wait_until(lambda: len(program.children()) >= 4, seconds=90, what="the broker and three workers run")
    children = program.children()
    [kafka] = [child for child in children if "kafka.Kafka" in child.cmdline()]
    kafka.kill()
    time.sleep(1)  # some messages are on their way, and cannot be stored
    program.signal(signal.SIGTERM)
    program.wait_for_exit(130)
    assert not psutil.wait_procs(children, timeout=10)[1]

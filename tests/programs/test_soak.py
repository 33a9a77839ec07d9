"""Short soaks; `python tests/soak.py 600` is the long one."""

import re

import pytest
from soak import FAULTS

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

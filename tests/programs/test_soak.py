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
    assert table["lost"] == [0, 0]
    assert all(table[fault] >= [1, 1] for fault in FAULTS)


def test_the_soak_fails_if_workers_never_commit(start_program):
    program = start_program("soak", "14", "--never-commit")  # some faults strike workers at work
    program.wait_for_exit(1, seconds=110)
    errors = "\n".join(program.err)
    for worker in ("streaming_worker", "batch_worker"):
        assert re.search(rf"^{worker}: \d+ messages are not committed", errors, re.M)
    assert re.search(r"^streaming_worker: \d+ repeats, but the faults explain", errors, re.M)

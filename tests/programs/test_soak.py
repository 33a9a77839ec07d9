"""A short soak with a fixed seed; `python tests/soak.py 600` is the long one."""

import re
import subprocess
import sys

import pytest
from support.processes import ROOT


@pytest.mark.own_broker
def test_nothing_is_lost():
    command = [sys.executable, ROOT / "tests/soak.py", "20", "--seed", "4"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert done.stdout.startswith("seed 4, 20 s\n")
    rows = dict(re.findall(r"^(\S.*?)  +(\d+ .*\d)$", done.stdout, re.MULTILINE))
    table = {name: [int(number) for number in re.findall(r"\d+", cells)] for name, cells in rows.items()}
    assert table["sent"] == table["handled"]
    assert min(table["sent"]) > 500
    assert table["lost"] == table["died by itself"] == [0, 0]
    for fault in ("worker stopped", "worker killed", "worker frozen", "broker killed", "broker frozen"):
        times, _, times_batch, _ = table[f"{fault} / repeated after it"]
        assert min(times, times_batch) > 0, fault

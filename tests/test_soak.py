"""A short soak with a fixed seed; `python tests/soak.py 600` is the long one."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(
    "BOOTSTRAP_SERVERS" in os.environ, reason="the soak kills and freezes a broker of its own"
)
def test_nothing_is_lost():
    command = [sys.executable, Path(__file__).with_name("soak.py"), "20", "--seed", "4"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    print(done.stdout)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    rows = dict(re.findall(r"^(\S.*?)  +(\d+ +\d+)$", done.stdout, re.MULTILINE))
    table = {name: [int(number) for number in numbers.split()] for name, numbers in rows.items()}
    assert done.stdout.startswith("seed 4, 20 s\n")
    assert table["sent"] == table["handled"] and min(table["sent"]) > 500
    assert table["lost"] == table["died by itself"] == [0, 0]
    assert min(table["broker killed"] + table["broker frozen"]) > 0
    assert sum(table["worker stopped"] + table["worker killed"] + table["worker frozen"]) > 0

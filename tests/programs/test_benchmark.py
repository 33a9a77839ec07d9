"""The benchmark, with a hundredth of the messages."""

import re

import pytest

PLAUSIBLE = [(5, 5000), (1000, 1e6), (15, 200), (5, 5000)]  # messages a second, twice; MiB; messages a second


@pytest.mark.not_on_external_broker
@pytest.mark.long(60)
def test_every_measurement_has_a_row_of_plausible_figures(start_program):
    program = start_program("benchmark", "0.01")
    program.wait_for_exit(seconds=150)
    rows = re.findall(r"^ \S.* ([\d,.]+) +([\d,.]+) +([\d.]+) *$", "\n".join(program.out), re.M)
    assert len(rows) == len(PLAUSIBLE)
    for row, (low, high) in zip(rows, PLAUSIBLE, strict=True):
        figure, compared, ratio = (float(number.replace(",", "")) for number in row)
        assert low <= figure <= high and low <= compared <= high, row
        assert abs(ratio - figure / compared) < 0.01, row

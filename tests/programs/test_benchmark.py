"""The benchmark, with a hundredth of the messages."""

import re

import pytest
from benchmark import Benchmark

PLAUSIBLE = {"messages/s": (5, 1e6), "MiB": (15, 200)}


@pytest.mark.not_on_external_broker
@pytest.mark.long(60)
def test_every_measurement_has_a_row_of_plausible_figures(start_program):
    program = start_program("benchmark", "0.01")
    program.wait_for_exit(seconds=150)
    table = program.out[program.out.index(next(line for line in program.out if "compared with" in line)) :]
    rows = [re.split("  +", line.strip()) for line in table[1:5]]
    measurements = Benchmark("localhost:9092", 0.01).measurements()
    assert [what for what, *_ in rows] == [what for what, *_ in measurements]
    for what, *figures, ratio in rows:
        [(low, high)] = [bounds for unit, bounds in PLAUSIBLE.items() if unit in what]
        numbers = [float(number.replace(",", "")) for number in re.findall(r"[\d.,]+", " ".join(figures))]
        assert len(numbers) == 6 and all(low <= number <= high for number in numbers), (what, figures)
        assert float(ratio) == pytest.approx(numbers[0] / numbers[3], abs=0.1)

"""The benchmark, with a hundredth of the messages, and how it judges its figures."""

import re
from operator import truediv

import pytest
from benchmark import Benchmark, Measurement, row

PLAUSIBLE = {"messages/s": (5, 1e6), "MiB": (15, 200), ", ms": (-50, 5000), ", s": (0.05, 30), "%": (0, 50)}


@pytest.mark.not_on_external_broker
@pytest.mark.long(110)
def test_every_measurement_has_a_row_of_plausible_figures(start_program):
    program = start_program("benchmark", "0.01", "--rounds", "1")
    program.wait_for_exit(seconds=150)
    rows = [re.split("  +", line.strip()) for line in program.out if re.search(" (yes|NO) *$", line)]
    measurements = Benchmark("localhost:9092", 0.01).measurements()
    assert [what for what, *_ in rows] == [measurement.what for measurement in measurements]
    for what, *figures, _, _, _ in rows:
        units = [unit for unit in PLAUSIBLE if unit in what]
        assert len(units) == 1, f"{what}: not one unit of PLAUSIBLE, but {units}"
        low, high = PLAUSIBLE[units[0]]
        for number in re.findall(r"-?[\d.,]+", " ".join(figures)):
            assert low <= float(number.replace(",", "")) <= high, (what, figures)


@pytest.mark.parametrize(("bound", "is_met"), [(">= 0.5", "yes"), (">= 0.51", "NO"), ("<= 0.49", "NO")])
def test_the_ratio_of_the_medians_is_compared_with_the_bound(bound, is_met):
    measurement = Measurement("a / b", None, ["a", "b"], truediv, bound)
    cells = "1,000 (900.0 to 5,000)", "2,000 (20.0 to 2,001)", "0.50", bound
    assert row(measurement, [5000, 900, 1000], [2001, 20, 2000]) == ("a / b", *cells, is_met)


def test_without_a_reference_the_median_is_compared_with_the_bound():
    measurement = Measurement("a", None, ["a"], None, "<= 1")
    assert row(measurement, [0.5, 3, 1]) == ("a", "1.00 (0.50 to 3.00)", "", "1.00", "<= 1", "yes")


def test_an_invalid_argument_is_reported_without_a_traceback(start_program):
    program = start_program("benchmark", "--rounds", "0")
    program.wait_for_exit(2)
    assert "--rounds at least 1" in program.err[-1]

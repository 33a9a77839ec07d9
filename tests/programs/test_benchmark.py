"""The benchmark, with a twenty-fifth of the messages, and how it judges its figures."""

import re
from operator import truediv

import pytest
from benchmark import Measurement, row

PLAUSIBLE = {  # what is measured: the range of each figure, and the range of the value that has the bound
    "batch / bare poll() loop, messages/s": ((1000, 1_000_000), (0.1, 10)),
    "peak MiB, 40,000 waiting - 400 waiting": ((15, 200), (-10, 50)),
    "streaming / committing bare loop, messages/s": ((10, 10_000), (0.1, 10)),
    "latency - bare loop's, ms": ((-50, 5000), (-5000, 5000)),
    "start - bare loop's, s": ((0.1, 30), (-20, 20)),
    "idle exit, s: streaming_worker": ((0.05, 10), (0.05, 10)),
    "idle CPU, %: streaming_worker": ((0, 50), (0, 50)),
    "idle exit, s: batch_worker": ((0.05, 10), (0.05, 10)),
    "idle CPU, %: batch_worker": ((0, 50), (0, 50)),
    "4 workers / 1 worker, 5 ms of work, messages/s": ((5, 500), (0.5, 20)),
}


@pytest.mark.not_on_external_broker
@pytest.mark.long(110)
def test_every_measurement_has_a_row_of_plausible_figures(start_program):
    program = start_program("benchmark", "0.04", "--rounds", "1")
    assert program.wait(150) == 0
    rows = [re.split("  +", line.strip()) for line in program.out if re.search(" (yes|NO) *$", line)]
    assert [what for what, *_ in rows] == list(PLAUSIBLE)
    for what, *figures, value, _, _ in rows:
        figure_range, value_range = PLAUSIBLE[what]
        numbers = [float(number.replace(",", "")) for number in re.findall(r"-?[\d.,]+", " ".join(figures))]
        assert len(numbers) == 3 * len(figures)  # the median and both ends of the range
        assert all(figure_range[0] <= number <= figure_range[1] for number in numbers), (what, numbers)
        assert value_range[0] <= float(value) <= value_range[1], what


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
    assert program.wait() == 2 and "there must be a round" in program.err[-1]

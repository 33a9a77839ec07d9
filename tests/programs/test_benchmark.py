"""The benchmark, with a hundredth of the messages."""

import re

import pytest
from benchmark import Benchmark


@pytest.mark.not_on_external_broker
@pytest.mark.long(110)
def test_every_measurement_has_a_row(start_program):
    program = start_program("benchmark", "0.01", "--rounds", "1")
    assert program.wait(150) == 0
    rows = [line.strip() for line in program.out if re.search(" (yes|NO) *$", line)]
    measurements = Benchmark("localhost:9092", 0.01).measurements()
    assert {row.partition("  ")[0] for row in rows} == {measurement.what for measurement in measurements}


def test_an_invalid_argument_is_reported_without_a_traceback(start_program):
    program = start_program("benchmark", "--rounds", "0")
    assert program.wait() == 2 and "there must be a round" in program.err[-1]

"""The benchmark, with a hundredth of the messages."""

import pytest


@pytest.mark.own_broker
@pytest.mark.long
def test_every_measurement_has_a_row(start_program):
    process = start_program("benchmark", "0.01", "--rounds", "1")
    assert process.wait(150) == 0
    rows = ("batch /", "streaming /", "latency", "start", "idle exit", "idle CPU", "peak MiB", "4 workers /")
    assert all(any(line.startswith(f" {row}") for line in process.out) for row in rows)


def test_an_invalid_argument_is_reported_without_a_traceback(start_program):
    process = start_program("benchmark", "many")
    assert process.wait() == 2 and "invalid scale value" in process.err[-1]

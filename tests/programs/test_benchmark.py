"""The benchmark, with a hundredth of the messages."""

import pytest


@pytest.mark.not_on_external_broker
@pytest.mark.long(110)
def test_every_measurement_has_a_row(start_program):
    program = start_program("benchmark", "0.01", "--rounds", "1")
    assert program.wait(150) == 0
    rows = ("batch /", "streaming /", "latency", "start", "idle exit", "idle CPU", "peak MiB", "4 workers /")
    assert all(any(line.startswith(f" {row}") for line in program.out) for row in rows)


def test_an_invalid_argument_is_reported_without_a_traceback(start_program):
    program = start_program("benchmark", "--rounds", "0")
    assert program.wait() == 2 and "there must be a round" in program.err[-1]

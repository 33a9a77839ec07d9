"""The time limits in support/limits.py are those of the scripts, and keep the promises."""

import re

import pytest
from support import limits
from support.processes import BATCH, PRODUCER, ROOT, SCRIPTS, STREAMING, WORKERS


@pytest.mark.parametrize(
    ("scripts", "pattern", "limit"),
    [
        (SCRIPTS, r"bootstrap_timeout_ms\W+(\w+)", limits.CONNECT_SECONDS * 1000),
        (WORKERS, r"session_timeout_ms=(\w+)", limits.SESSION_SECONDS * 1000),
        (WORKERS, r"metadata_max_age_ms=(\w+)", limits.METADATA_SECONDS * 1000),
        (WORKERS, r"last_heartbeat > (\w+)", limits.HEARTBEAT_SECONDS),
        (WORKERS, r"silent_polls % (\w+)", limits.SILENT_POLLS),
        (WORKERS, r"poll\(timeout_ms=(\w+)", limits.POLL_SECONDS * 1000),
        (WORKERS, r"commit\(timeout_ms=(\w+)\)", limits.COMMIT_SECONDS * 1000),
        ([STREAMING], r"Commit failed.*\n +sleep\((\w+)\)", limits.RETRY_SECONDS),
        (WORKERS, r"close\(timeout_ms=(\w+)\)", limits.CLOSE_SECONDS * 1000),
        ([BATCH], r"\nBATCH_SECONDS = (\w+)", limits.BATCH_SECONDS),
        ([PRODUCER], r"get\(timeout=(\w+)\)", limits.STORE_SECONDS),
    ],
)
def test_the_limits_in_limits_py_are_those_of_the_scripts(scripts, pattern, limit):
    for name in scripts:
        found = re.findall(pattern, (ROOT / f"{name}.py").read_text(encoding="utf-8"))
        assert found, f"{name}.py has no {pattern}: adapt the pattern above"
        assert {int(number) for number in found} == {limit}, (
            f"{name}.py and support/limits.py differ: change {', '.join(scripts)} and what states it"
        )


def test_the_limits_of_the_scripts_keep_the_promises():
    # a failed commit, the pause after it, the last commit, and leaving the group
    assert 2 * limits.COMMIT_SECONDS + limits.RETRY_SECONDS + limits.CLOSE_SECONDS <= limits.EXIT_SECONDS
    silent_seconds = limits.HEARTBEAT_SECONDS + limits.SILENT_POLLS * limits.POLL_SECONDS
    assert max(limits.CONNECT_SECONDS, silent_seconds) < limits.REPORT_SECONDS
    assert limits.SESSION_SECONDS < limits.TAKEOVER_SECONDS

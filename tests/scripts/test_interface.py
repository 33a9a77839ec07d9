"""What other code, and readers of the article, rely on in the scripts; and what the scripts rely on."""

import ast
import os
import re
import shutil
import subprocess
import sys
import time

import pytest
from kafka import KafkaConsumer
from support import limits, output
from support.processes import BATCH, PRODUCER, ROOT, SCRIPTS, STREAMING, WORKERS

IMPORT = """
import signal, threading
def state():
    return threading.active_count(), signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
before = state()
import {name} as script
assert state() == before, "the import has started a thread or changed a signal handler"
for name, value in {constants}.items():
    assert getattr(script, name) == value, name
for name in {functions}:
    assert callable(getattr(script, name)), name
"""
EVERY_SCRIPT = {"BOOTSTRAP_SERVERS": "localhost:9092", "TOPIC": "user_signups"}
WORKER = {**EVERY_SCRIPT, "GROUP_ID": "group1", "WORK_SECONDS": 0.5, "is_shutting_down": False}


@pytest.mark.parametrize(
    ("name", "constants", "functions"),
    [
        (PRODUCER, EVERY_SCRIPT, ["main", "sleep"]),
        (STREAMING, WORKER, ["main", "sleep", "graceful_exit", "process_message"]),
        (
            BATCH,
            {**WORKER, "BATCH_SECONDS": limits.BATCH_SECONDS, "BUFFER_SIZE": 10_000},
            ["main", "sleep", "exit_gracefully", "process_messages", "Consumer"],
        ),
    ],
    ids=SCRIPTS,
)
def test_importing_a_script_has_no_effect_and_the_names_of_the_article_are_there(
    name, constants, functions, tmp_path
):
    """The script is alone in its folder, and BOOTSTRAP_SERVERS is unset.

    The main README links to the article. Its readers look for these names, so they stay, although one worker
    has graceful_exit() and the other exit_gracefully().
    """
    shutil.copy(ROOT / f"{name}.py", tmp_path)
    code = IMPORT.format(name=name, constants=constants, functions=functions)
    environment = {key: value for key, value in os.environ.items() if key != "BOOTSTRAP_SERVERS"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("scripts", "pattern", "limit"),
    [
        (SCRIPTS, r"bootstrap_timeout_ms\W+(\w+)", limits.CONNECT_SECONDS * 1000),
        (WORKERS, r"session_timeout_ms=(\w+)", limits.SESSION_SECONDS * 1000),
        (WORKERS, r"metadata_max_age_ms=(\w+)", limits.METADATA_SECONDS * 1000),
        (WORKERS, r"check_at = monotonic\(\) \+ (\w+)", limits.HEARTBEAT_SECONDS),
        (WORKERS, r'"last-heartbeat-seconds-ago"\] > (\w+)', limits.HEARTBEAT_SECONDS),
        (WORKERS, r"commit\(timeout_ms=(\w+)\)", limits.COMMIT_SECONDS * 1000),
        ([STREAMING], r"Commit failed.*\n +sleep\((\w+)\)", limits.RETRY_SECONDS),
        ([STREAMING], r"close\(timeout_ms=(\w+)\)", limits.CLOSE_SECONDS * 1000),
        ([PRODUCER], r"get\(timeout=(\w+)\)", limits.STORE_SECONDS),
    ],
)
def test_the_limits_in_limits_py_are_those_of_the_scripts(scripts, pattern, limit):
    for name in scripts:
        found = re.findall(pattern, (ROOT / f"{name}.py").read_text(encoding="utf-8"))
        assert found, f"{name}.py has no {pattern}: adapt the pattern above"
        where = f"limits.py and {', '.join(scripts)} must agree, and sentences that state the limit"
        assert {int(number) for number in found} == {limit}, f"{name}.py: {where}"


def test_the_limits_of_the_scripts_keep_the_promises():
    # a failed commit, the pause after it, the last commit, and leaving the group
    assert 2 * limits.COMMIT_SECONDS + limits.RETRY_SECONDS + limits.CLOSE_SECONDS <= limits.EXIT_SECONDS
    assert max(limits.CONNECT_SECONDS, limits.HEARTBEAT_SECONDS) < limits.REPORT_SECONDS
    assert limits.SESSION_SECONDS < limits.TAKEOVER_SECONDS


def test_no_private_name_of_a_library_is_used_except_for_the_lost_join(script_name):
    nodes = ast.walk(ast.parse((ROOT / f"{script_name}.py").read_text(encoding="utf-8")))
    names = [node.attr for node in nodes if isinstance(node, ast.Attribute)]
    # os._exit() is documented
    private = [name for name in names if re.match("_[^_]", name) and name != "_exit"]
    assert private == ([] if script_name == PRODUCER else ["_coordinator"])


@pytest.mark.xfail(strict=True, raises=AssertionError, reason="a bug in kafka-python 3.0.12")
def test_kafka_python_still_loses_a_join(cluster):
    """Without the workers' workaround, a consumer whose topic is created later never gets a partition."""
    topic = cluster.new_name()
    settings = {**cluster.client_settings, "metadata_max_age_ms": 1000, "enable_auto_commit": False}
    with KafkaConsumer(topic, group_id=topic, **settings) as consumer:
        for seconds, is_created in ((1, False), (5, True)):
            if is_created:
                cluster.create_topic(topic)
            end = time.monotonic() + seconds
            while time.monotonic() < end and not consumer.assignment():
                consumer.poll(timeout_ms=2)  # too short for both answers of a join
        assert consumer.assignment()


def test_bootstrap_servers_may_be_several_separated_by_commas(script_name, start, cluster, topic):
    script = start(script_name, f"127.0.0.1:1,{cluster.address}", TOPIC=topic)
    script.wait_for(output.FIRST)

"""What the three scripts, or the two workers, have in common."""

import ast
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
from kafka import KafkaConsumer
from support.processes import (
    BATCH,
    EMAILS,
    FINISHED,
    PROCESSING,
    PRODUCER,
    PUBLISHED,
    ROOT,
    SCRIPTS,
    STARTING,
    STREAMING,
    UPDATING,
)
from support.waiting import with_slack

IMPORTER = """
import json, signal, sys, threading
def state():
    numbers = signal.SIGINT, signal.SIGTERM
    return threading.active_count(), [signal.getsignal(number) for number in numbers]
before = state()
import {name} as script
assert state() == before, "the import has started a thread or changed a signal handler"
print(json.dumps(dict(
    constants={{name: getattr(script, name) for name in {constants}}},
    functions=[name for name in {functions} if callable(getattr(script, name))],
    scripts=[name for name in {scripts} if name in sys.modules],
)))
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
            {**WORKER, "BATCH_SECONDS": 5, "BUFFER_SIZE": 10_000},
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
    code = IMPORTER.format(name=name, constants=[*constants], functions=functions, scripts=[*SCRIPTS])
    environment = {key: value for key, value in os.environ.items() if key != "BOOTSTRAP_SERVERS"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)  # fails if the import has printed anything
    assert found == {"constants": constants, "functions": functions, "scripts": [name]}


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
    names = {"TOPIC": topic} if script_name == PRODUCER else {"TOPIC": topic, "GROUP_ID": topic}
    script = start(script_name, f"127.0.0.1:1,{cluster.address}", **names)
    script.wait_for(f"{PUBLISHED}|{STARTING}")


@pytest.mark.not_on_external_broker
@pytest.mark.long(20)
def test_ten_signups_pass_through_the_unchanged_scripts(start, cluster):
    cluster.topics.add("user_signups")
    assert start(PRODUCER, cluster.address).wait() == 0

    streaming = start(STREAMING, cluster.address)
    streaming.wait_for("updating user user1@")
    streaming.signal(signal.SIGINT)
    assert streaming.wait() == 0
    assert (streaming.begun(), streaming.err) == (EMAILS[:2], [])

    batch = start(BATCH, cluster.address)
    assert 4.5 < batch.wait_for(PROCESSING) - batch.wait_for(STARTING) < 8
    batch.wait_for(UPDATING)
    batch.signal(signal.SIGINT)
    assert batch.wait() == 0
    assert (batch.received(), batch.begun(), batch.err) == (8, EMAILS[2:], [])
    assert cluster.committed("group1", "user_signups") == {0: 10}


def test_ascii_stdout_does_not_crash_the_worker(worker_name, new_workload, monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    workload = new_workload()
    workload.cluster.publish(workload.topic, ["jürgen@example.com"])
    worker = workload.start(worker_name)
    worker.wait_for(r"sending email to .*j\\xfcrgen@example.com")
    worker.wait_for(FINISHED)


def test_new_partitions_are_discovered_within_ten_seconds(worker_name, new_workload):
    workload = new_workload()
    worker = workload.start(worker_name)
    workload.publish(1)
    worker.wait_for("user0@")
    time.sleep(1)  # it may still be asking for the partitions
    with workload.cluster.admin() as admin:
        admin.create_partitions({workload.topic: 2})
    workload.partitions = 2
    workload.publish(2)
    worker.wait_for("user2@", seconds=with_slack(12))

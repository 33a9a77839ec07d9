"""What the three scripts share, and what the two workers have in common in normal running."""

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
from harness import GOODBYE, ROOT, hammer, on_this_machine, wait_until
from kafka import KafkaAdminClient

SCRIPTS = ["producer", "streaming_worker", "batch_worker"]


@pytest.fixture(params=SCRIPTS)
def script(request):
    return request.param


def imported(script, expression, folder):
    """The value of the expression after `import SCRIPT as script`, in a folder where that file is alone."""
    shutil.copy(ROOT / f"{script}.py", folder)
    code = [
        "import json, signal, sys, threading",
        "handlers = lambda: [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]",
        "handlers_before = handlers()",
        f"import {script} as script",
        f"print(json.dumps({expression}))",
    ]
    environment = {name: value for name, value in os.environ.items() if name != "BOOTSTRAP_SERVERS"}
    command = [sys.executable, "-c", "\n".join(code)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)  # fails if the import has printed anything


def test_importing_one_does_nothing_and_needs_none_of_the_others(script, tmp_path):
    scripts = f"[name for name in {SCRIPTS} if name in sys.modules]"
    expression = f"[threading.active_count(), handlers() == handlers_before, {scripts}]"
    assert imported(script, expression, tmp_path) == [1, True, [script]]


BOTH = {"BOOTSTRAP_SERVERS": "localhost:9092", "TOPIC": "user_signups"}
WORKER = {**BOTH, "GROUP_ID": "group1", "WORK_SECONDS": 0.5, "is_shutting_down": False}


@pytest.mark.parametrize(
    ("script", "values", "functions"),
    [
        ("producer", BOTH, ["main", "sleep"]),
        ("streaming_worker", WORKER, ["main", "sleep", "graceful_exit"]),
        (
            "batch_worker",
            {**WORKER, "BATCH_SECONDS": 5, "BUFFER_SIZE": 10_000},
            ["main", "sleep", "exit_gracefully", "process_messages", "Consumer"],
        ),
    ],
    ids=SCRIPTS,
)
def test_names_and_values_are_those_that_readers_look_for(script, values, functions, tmp_path):
    value_of = f"{{name: getattr(script, name) for name in {list(values)}}}"
    are_callable = f"all(callable(getattr(script, name)) for name in {functions})"
    assert imported(script, f"[{value_of}, {are_callable}]", tmp_path) == [values, True]


def test_nothing_private_of_a_library_is_used_but_the_mend_for_the_forgotten_join(script):
    nodes = ast.walk(ast.parse((ROOT / f"{script}.py").read_text(encoding="utf-8")))
    names = [node.attr for node in nodes if isinstance(node, ast.Attribute)]
    private = [
        name for name in names if re.match("_[^_]", name) and name != "_exit"
    ]  # os._exit() is documented
    assert private == ([] if script == "producer" else ["_coordinator"])


def test_bootstrap_servers_may_name_several_separated_by_commas(script, start, cluster, topic):
    process = start(script, f"127.0.0.1:1,{cluster.address}", TOPIC=topic)
    process.wait_for("Published|starting")


# The two workers


def test_each_line_is_out_at_once_into_a_pipe_as_well(worker, work, cluster, topic, monkeypatch):
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    cluster.publish(topic, ["one@example.com"])
    script = work(worker, WORK_SECONDS=0.5, BATCH_SECONDS=0.1)
    times = [script.wait_for(begin) for begin in ("sending", "updating", "finished")]
    assert times[1] - times[0] > 0.4 and times[2] - times[1] > 0.4, "one of the steps takes 0.5 s"


def test_an_output_that_knows_ascii_only_stops_nobody(worker, work, cluster, topic, monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    cluster.publish(topic, ["jürgen@example.com"])
    script = work(worker, WORK_SECONDS=0.01, BATCH_SECONDS=0.1)
    script.wait_for(r"sending email to .*j\\xfcrgen@example.com")
    script.wait_for("finished")


def test_partitions_that_are_added_are_found_within_ten_seconds(worker, work, cluster, topic):
    script = work(worker, WORK_SECONDS=0.01, BATCH_SECONDS=0.1)
    cluster.publish(topic, ["old@example.com"])
    script.wait_for("old@example.com")
    time.sleep(1)  # it may still be asking for the partitions
    with KafkaAdminClient(**cluster.settings) as admin:
        admin.create_partitions({topic: 2})
    cluster.publish(topic, ["old@example.com", "new@example.com"], partitions=2)
    script.wait_for("new@example.com", seconds=on_this_machine(12))


def test_an_idle_worker_obeys_within_a_second_and_leaves_its_group(worker, work, cluster, topic, stop_signal):
    script = work(worker)
    wait_until(lambda: cluster.members(topic), what="the worker is in its group")
    begun = time.monotonic()
    script.signal(stop_signal)
    assert script.wait() == 0
    assert time.monotonic() - begun < on_this_machine(1)
    assert (script.out, script.err) == (
        [f"starting {worker.removesuffix('_worker')} consumer worker", GOODBYE],
        [],
    )
    assert cluster.members(topic) == 0


def test_signals_again_and_again_to_the_end_of_the_process_change_nothing(worker, work, cluster, topic):
    cluster.publish(topic, ["one@example.com"])
    script = work(worker, WORK_SECONDS=0.6, BATCH_SECONDS=0.1)
    script.wait_for("sending email")
    assert hammer(script, [signal.SIGINT, signal.SIGTERM]) > 100
    assert script.wait() == 0
    assert [line for line in script.out if "finished" in line or line == GOODBYE] == script.out[-2:]
    assert (script.begun(), script.err) == (["one@example.com"], [])
    assert cluster.committed(topic, topic) == {0: 1}


def test_what_is_in_hand_is_committed_when_it_is_finished_and_not_before(worker, work, cluster, topic):
    cluster.publish(topic, [f"user{i}@example.com" for i in range(3)])
    script = work(worker, WORK_SECONDS=1, BATCH_SECONDS=0.1, BUFFER_SIZE=1)
    for number in range(2):
        script.wait_for("sending email", count=number + 1)
        time.sleep(0.7)  # for the commit of the one before, and for one that comes too early
        assert cluster.committed(topic, topic).get(0, 0) == number
        assert len(script.begun()) == number + 1, "too slow to tell"

"""What other code, and readers of the article, rely on in the scripts."""

import runpy
import signal
import sys
import threading

import pytest
from support import output
from support.processes import BATCH, PRODUCER, ROOT, SCRIPTS, STREAMING

EVERY_SCRIPT = {"BOOTSTRAP_SERVERS": "localhost:9092", "TOPIC": "user_signups"}
WORKER = {**EVERY_SCRIPT, "GROUP_ID": "group1", "WORK_SECONDS": 0.5, "is_shutting_down": False}
BATCHES = {"BATCH_SECONDS": 5, "BUFFER_SIZE": 10_000}


@pytest.mark.parametrize(
    ("name", "constants", "functions"),
    [
        (PRODUCER, EVERY_SCRIPT, ["main", "sleep"]),
        (STREAMING, WORKER, ["main", "sleep", "graceful_exit", "process_message"]),
        (BATCH, WORKER | BATCHES, ["main", "sleep", "exit_gracefully", "process_messages", "Consumer"]),
    ],
    ids=SCRIPTS,
)
def test_importing_a_script_has_no_effect_and_the_names_of_the_article_are_there(
    name, constants, functions, capfd, monkeypatch
):
    """The main README links to the article. Its readers look for these names, so they stay, although one
    worker has graceful_exit() and the other exit_gracefully().
    """

    def state():
        handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
        return threading.active_count(), *handlers, capfd.readouterr()

    monkeypatch.delenv("BOOTSTRAP_SERVERS", raising=False)
    before = state()
    script = runpy.run_path(ROOT / f"{name}.py")
    assert state() == before
    assert not set(SCRIPTS) & set(sys.modules), "a script has imported another one"
    assert {constant: script[constant] for constant in constants} == constants
    assert all(callable(script[function]) for function in functions)


def test_bootstrap_servers_may_be_several_separated_by_commas(script_name, start_script, cluster, topic):
    script = start_script(script_name, f"127.0.0.1:1,{cluster.address}", TOPIC=topic)
    script.wait_for(output.FIRST)

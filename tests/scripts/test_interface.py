"""What other code, and readers of the article, rely on in the scripts."""

import os
import shutil
import subprocess
import sys

import pytest
from support import output
from support.processes import BATCH, PRODUCER, ROOT, SCRIPTS, STREAMING

IMPORT = """
import signal, threading, {name} as script
assert threading.active_count() == 1 and signal.getsignal(signal.SIGINT) is signal.default_int_handler
print({{name: value for name, value in vars(script).items() if name in {constants}}} == {constants})
print([name for name in {functions} if not callable(getattr(script, name, None))])
"""
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
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n[]\n", "")


def test_bootstrap_servers_may_be_several_separated_by_commas(script_name, start_script, cluster, topic):
    script = start_script(script_name, f"127.0.0.1:1,{cluster.address}", TOPIC=topic)
    script.wait_for(output.FIRST)

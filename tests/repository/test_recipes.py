"""The changes to code in the README's section 8, made and run on a real broker."""

import contextlib
import json
import os
import re
import signal
import sqlite3
import subprocess

import pytest
from kafka.admin import ACLOperation, ResourceType
from repository.readme import ADDRESS, CAREFUL_PARTS, PATH, README, matches, recipe
from support.processes import BATCH, PRODUCER, ROOT, STREAMING
from support.waiting import wait_until, with_slack

TOPIC = "user_signups"


def change_in_diff(name):
    """Return the change that a diff in the README shows: (what it replaces, replacement)."""
    lines = recipe(name, "diff").splitlines(keepends=True)
    return tuple("".join(line[1:] for line in lines if line[0] == sign) for sign in "-+")


def transcript(name):
    """Return the commands of a console recipe, each with the lines that it shows: [(command, lines)]."""
    parts = recipe(name, "console").replace("^C", "").split("$ ")[1:]
    return [(command, lines) for command, *lines in map(str.splitlines, parts)]


def shell(command, address, topic=TOPIC):
    """Run a command of the README on this broker, with this topic for user_signups; return its output."""
    command = command.replace(ADDRESS, address).replace(TOPIC, topic)
    environment = {**os.environ, "PATH": PATH}
    done = subprocess.run(command, shell=True, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def function(name):
    """Return a pattern for a function of a script, with the blank lines after it."""
    return re.compile(rf"^def {name}\(.*?(?=^\S)", re.M | re.S)


# The changes to a script: [(a part of it, or a pattern that matches one; what replaces that)].
WORK_LINE = '    print(f"sending email to {email!r}")  # your work goes here\n'  # in the recipe "once"
NO_MAIL_SERVER = "    if not os.path.exists('is_up'):\n        raise ConnectionError('no mail server')\n"
JSON = [("import os\n", "import json\nimport os\nimport uuid\n"), change_in_diff("json")]
ONCE = [(function("process_message"), recipe("once") + "\n\n")]
RETRIES = [*ONCE, (function("process_message"), recipe("retries") + "\n\n")]
OUTAGE = [*RETRIES, (WORK_LINE, NO_MAIL_SERVER + WORK_LINE)]
READ_JSON = "import json\n\ndef email_in(message):\n    return json.loads(message.value)\n\n\n"
INSERT = [(function("email_in"), READ_JSON), (function("process_messages"), recipe("insert") + "\n\n")]


def save_changed(name, changes, folder):
    """Make the changes to a copy of the script in the folder."""
    code = (ROOT / f"{name}.py").read_text(encoding="utf-8")
    for old, new in changes:
        found = re.findall(old, code) if isinstance(old, re.Pattern) else [old] * code.count(old)
        assert len(found) == 1, f"{name}.py has {len(found)} x {old!r}, which a recipe of the README changes"
        code = code.replace(found[0], new)
    (folder / f"{name}.py").write_text(code, encoding="utf-8")


@pytest.fixture
def changed(new_workload, tmp_path):
    """changed(worker_name, changes) creates a workload whose worker is the changed script, in tmp_path."""

    def changed(name, changes):
        save_changed(name, changes, tmp_path)
        return new_workload(name, folder=tmp_path)

    return changed


def test_every_recipe_is_used():
    recipes = re.findall(r"^```\w+ recipe=(\S+)$", README, re.M)
    here = (ROOT / "tests/repository/test_recipes.py").read_text(encoding="utf-8")
    used = re.findall(r"""(?:recipe|in_diff|transcript)\(["']([\w-]+)""", here)
    assert set(recipes) == {*used, *CAREFUL_PARTS}


def test_an_email_is_sent_once_even_if_its_message_is_delivered_twice(
    start_script, changed, tmp_path, cluster
):
    workload = changed(STREAMING, ONCE)
    save_changed(PRODUCER, JSON, tmp_path)
    start_script(PRODUCER, cluster.address, folder=tmp_path, TOPIC=workload.topic).wait_for_exit()
    messages = cluster.stored(workload.topic)
    assert [json.loads(message.value)["email"].encode() for message in messages] == [m.key for m in messages]
    first = workload.start()
    wait_until(lambda: len(set(first.begun())) == 10, what="ten emails are sent")
    first.stop_and_check()
    assert len(first.begun()) == 10
    second = workload.start(GROUP_ID=cluster.new_name())
    second.wait_for("^already sent", count=10)
    second.stop_and_check()
    assert second.begun() == []


def test_a_message_published_twice_is_reported_as_the_readme_shows(changed, address):
    workload = changed(STREAMING, ONCE)
    _, (publish, _), (_, shown) = transcript("once-run")
    shell(publish, address, workload.topic)
    worker = workload.start()
    worker.wait_for("^already sent")
    worker.stop_and_check()
    assert worker.out == [line for line in shown if line != "..."]  # that is for the producer's messages


def test_a_poison_message_goes_to_the_dead_letter_topic_and_the_next_is_processed(changed, cluster):
    workload = changed(STREAMING, RETRIES)
    topic = workload.topic
    cluster.topics.add(dead_letters := f"{topic}.dlq")
    (create, created), (publish, _), (_, shown), (consume, letter) = transcript("dead-letter-run")
    assert shell(create, cluster.address, topic) == created
    shell(publish, cluster.address, topic)
    no_email = ['{"id": "3", "email": "no email"}', '{"id": "4", "email": null}', "[]", "5", "null"]
    poison = [b"not JSON", None, b'{"id": "1"}', b"\xff", *map(str.encode, no_email)]
    cluster.publish(topic, [*poison[1:], '{"id": "2", "email": "ada@example.com"}'])
    worker = workload.start()
    worker.wait_for("^sending email to 'ada@example.com'")
    worker.stop_and_check()
    first_line, aside, goodbye = shown
    assert [first_line, goodbye] == [worker.out[0], worker.out[-1]]
    assert len(worker.err) == len(poison)
    assert all(matches(line.replace(topic, TOPIC), aside) for line in worker.err)
    assert shell(consume, cluster.address, topic)[:1] == letter
    letters = cluster.stored(dead_letters)
    assert [letter.value or None for letter in letters] == poison
    assert dict(letters[2].headers) == {
        "reason": b"KeyError('email')",
        "origin": f"{topic}, partition 0, offset 2".encode(),
    }
    assert workload.committed_offsets() == {0: len(poison) + 1}


@pytest.mark.not_on_external_broker
def test_a_dead_letter_that_is_not_stored_leaves_its_message_uncommitted(changed, cluster):
    workload = changed(STREAMING, RETRIES)
    cluster.deny(ACLOperation.WRITE, ResourceType.TOPIC, cluster.create_topic(f"{workload.topic}.dlq"))
    cluster.publish(workload.topic, ["not JSON"])
    workload.start().wait_for_exit(1, seconds=60)
    assert workload.committed_offsets() == {}


@pytest.fixture
def outage(changed, cluster):
    """A workload of one message, whose worker has no mail server until the file is_up exists in tmp_path."""
    workload = changed(STREAMING, OUTAGE)
    cluster.publish(workload.topic, ['{"id": "1", "email": "ada@example.com"}'])
    return workload


def test_work_is_retried_until_a_temporary_outage_ends(outage, tmp_path):
    worker = outage.start(PAUSES=[1] * 30)
    worker.wait_for_error("^Attempt failed", count=3)
    (tmp_path / "is_up").touch()
    worker.wait_for("^sending")
    worker.stop_and_check()
    assert set(worker.err) == {"Attempt failed: ConnectionError('no mail server')"}
    assert outage.committed_offsets() == {0: 1}


def test_an_outage_that_lasts_stops_the_worker_and_sets_nothing_aside(outage, cluster):
    dead_letters = cluster.create_topic(f"{outage.topic}.dlq")
    worker = outage.start(PAUSES=[0, 1])
    worker.wait_for_exit(1)
    assert worker.err[-1] == "ConnectionError: no mail server"
    assert sum("Attempt failed" in line for line in worker.err) == 2
    assert cluster.stored(dead_letters) == []
    assert outage.committed_offsets() == {}


def test_a_signal_during_retries_leaves_the_message_to_the_next_worker(outage, tmp_path):
    first = outage.start()
    first.wait_for_error("^Attempt failed", count=5)  # it now pauses for five seconds
    first.signal(signal.SIGTERM)
    first.wait_for_exit(seconds=with_slack(2))
    assert outage.committed_offsets() == {}
    (tmp_path / "is_up").touch()
    second = outage.start()
    second.wait_for("^sending")
    second.stop_and_check()
    assert outage.committed_offsets() == {0: 1}


def test_a_batch_is_stored_once_even_if_it_is_delivered_twice(changed, tmp_path, cluster):
    workload = changed(BATCH, INSERT)
    signups = [f'{{"id": "{number}", "email": "user{number}@gmail.com"}}' for number in range(20)]
    cluster.publish(workload.topic, [*signups, signups[3]])
    for group in (workload.topic, cluster.new_name()):
        workload.start(GROUP_ID=group).wait_for("^stored")
        workload.workers[-1].stop_and_check()
        assert cluster.committed_offsets(group, workload.topic) == {0: 21}
    with contextlib.closing(sqlite3.connect(tmp_path / "signups.db")) as database:
        rows = database.execute("SELECT id, email FROM signups ORDER BY rowid").fetchall()
    assert rows == [(str(number), f"user{number}@gmail.com") for number in range(20)]

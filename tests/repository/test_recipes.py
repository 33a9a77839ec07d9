"""The code of the README's sections 8 and 9, put into the scripts and run on a real broker."""

import json
import os
import re
import subprocess
import sys

import pytest
import trustme
from broker import Broker
from cryptography.hazmat.primitives import serialization
from kafka.admin import ACLOperation, ResourceType
from support import output
from support.processes import BATCH, PRODUCER, ROOT, SCRIPTS, STREAMING
from support.readme import ADDRESS, PATH, README, blocks, matches
from support.waiting import wait_until

# Where the README tells the reader to change a script, and where these tests put something in.
IMPORT_OS, IMPORT_SIGNAL, IMPORT_KAFKA, NEXT_FUNCTION = (
    "import os\n",
    "import signal\n",
    "import KafkaConsumer\n",
    "\n\ndef commit(",
)
SETTINGS = "\nTOPIC = "
CALL, RETRIES = "            process_message(message)", "PAUSES = "
CLIENT = "bootstrap_servers="  # of each Kafka client in a script
PROCESS_MESSAGE = re.compile(r"^def process_message\(.*?(?=^\S)", re.M | re.S)
WORK = "    print(f\"sending email to {signup['email']!r}\")  # your work goes here\n"  # in the recipe "once"
ADMIN_OPTIONS = re.compile(r"`(-S [^`]+)`.* `(-C [^`]+)`")  # in the README

TOPIC = "user_signups"
PAUSES = [0.1, 0.2, 0.4, 0]


def recipe(name, language="python"):
    [(_, lines, _)] = blocks(f"{language} recipe={name}")
    return "\n".join([*lines, ""])


def transcript(name):
    """Return the commands of a console recipe, each with the lines that it shows: [(command, lines)]."""
    parts = recipe(name, "console").replace("^C", "").split("$ ")[1:]
    return [(command, lines) for command, *lines in map(str.splitlines, parts)]


def changes_in_diff(name):
    """Return the changes of a diff in the README: [(lines removed, lines added)]."""
    found = re.findall(r"((?:^-.*\n)+)((?:^\+.*\n)+)", recipe(name, "diff"), re.M)
    return [tuple(re.sub("^.", "", part, flags=re.M) for part in change) for change in found]


def edit(script, *changes):
    """Change the script as the README says: [(a part of it or a pattern that matches one, replacement)]."""
    code = script.read_text(encoding="utf-8")
    for old, new in changes:
        found = re.findall(old, code) if isinstance(old, re.Pattern) else [old] * code.count(old)
        assert len(found) == 1, (
            f"{script.name} has {len(found)} x {old!r}, which a recipe of the README changes"
        )
        code = code.replace(found[0], new)
    script.write_text(code, encoding="utf-8")


@pytest.fixture
def copies(tmp_path):
    """Copies of the three scripts, for the reader's changes: {name: path}."""
    for name in SCRIPTS:
        (tmp_path / f"{name}.py").write_text((ROOT / f"{name}.py").read_text(encoding="utf-8"), "utf-8")
    return {name: tmp_path / f"{name}.py" for name in SCRIPTS}


@pytest.fixture
def once_worker(copies):
    """streaming_worker.py with the recipe "once"; its path."""
    script = copies[STREAMING]
    edit(
        script,
        (IMPORT_OS, f"import json\n{IMPORT_OS}"),
        (IMPORT_SIGNAL, f"{IMPORT_SIGNAL}import sqlite3\n"),
        (PROCESS_MESSAGE, recipe("once") + "\n\n"),
    )
    return script


@pytest.fixture
def run_worker(start, cluster, topic):
    """run_worker(script, **settings) starts a changed streaming_worker.py on the test's topic."""

    def run_worker(script, **settings):
        return start(STREAMING, cluster.address, folder=script.parent, TOPIC=topic, **settings)

    return run_worker


def test_every_recipe_is_used_here():
    recipes = re.findall(r"^```\w+ recipe=(\S+)$", README, re.M)
    tests = (ROOT / "tests/repository/test_recipes.py").read_text(encoding="utf-8")
    assert sorted(recipes) == sorted(
        set(re.findall(r"""(?:recipe|in_diff|transcript)\(["']([\w-]+)""", tests))
    )


def write_certificates(folder):
    """Write broker.pem, a certificate for 127.0.0.1 with its key, and ca.pem, that of the authority."""
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    key = serialization.load_pem_private_key(certificate.private_key_pem.bytes(), None)
    pkcs8 = serialization.PrivateFormat.PKCS8  # the only one that Kafka reads
    pem = key.private_bytes(serialization.Encoding.PEM, pkcs8, serialization.NoEncryption())
    chain = [blob.bytes() for blob in certificate.cert_chain_pems]
    (folder / "broker.pem").write_bytes(b"".join([pem, *chain]))
    authority.cert_pem.write_to_path(folder / "ca.pem")


@pytest.mark.not_on_external_broker
@pytest.mark.long(40)
def test_the_scripts_connect_with_tls_and_a_password(start, copies, tmp_path, monkeypatch):
    write_certificates(tmp_path)
    login = "org.apache.kafka.common.security.plain.PlainLoginModule required"
    broker = Broker(
        properties={
            "listener.security.protocol.map": "BROKER:SASL_SSL,CONTROLLER:PLAINTEXT",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": (tmp_path / "broker.pem").as_posix(),
            "ssl.truststore.type": "PEM",  # the broker checks its own certificate when it starts
            "ssl.truststore.location": (tmp_path / "ca.pem").as_posix(),
            "sasl.enabled.mechanisms": "PLAIN",
            "sasl.mechanism.inter.broker.protocol": "PLAIN",
            "listener.name.broker.plain.sasl.jaas.config": (
                f'{login} username="admin" password="a" user_admin="a" user_reader="secret";'
            ),
        }
    )
    monkeypatch.setenv("KAFKA_CA", str(tmp_path / "ca.pem"))
    monkeypatch.setenv("KAFKA_USER", "reader")
    monkeypatch.setenv("KAFKA_PASSWORD", "secret")
    for script in copies.values():
        edit(script, (SETTINGS, f"\n{recipe('security')}{SETTINGS[1:]}"))
        code = script.read_text(encoding="utf-8")
        script.write_text(code.replace(CLIENT, f"**SECURITY, {CLIENT}"), "utf-8")
    with broker:
        without = start(BATCH, broker.address)
        assert start(PRODUCER, broker.address, folder=tmp_path).wait() == 0
        streaming = start(STREAMING, broker.address, folder=tmp_path)
        streaming.wait_for(output.FINISHED, count=2)
        streaming.stop_and_check()
        batch = start(BATCH, broker.address, folder=tmp_path)
        batch.wait_for(output.FINISHED)
        batch.stop_and_check()
        assert len(streaming.begun() + batch.begun()) == 10 and batch.err == []
        options = " ".join(ADMIN_OPTIONS.search(README).groups())
        admin = f"kafka-python admin -b {broker.address} {options} groups list-offsets -g group1"
        listed = subprocess.run(admin, shell=True, env={**os.environ, "PATH": PATH}, capture_output=True)
        assert b"'lag': 0" in listed.stdout
        monkeypatch.setenv("KAFKA_PASSWORD", "wrong")
        wrong = start(STREAMING, broker.address, folder=tmp_path)
        for script in without, wrong:
            assert output.NOT_CONNECTED in script.wait_for_failure(40)


def test_an_email_is_sent_once_even_if_its_message_is_delivered_twice(
    start, run_worker, copies, once_worker, cluster, topic
):
    edit(copies[PRODUCER], (IMPORT_OS, f"import json\n{IMPORT_OS}import uuid\n"), *changes_in_diff("json"))
    assert start(PRODUCER, cluster.address, folder=once_worker.parent, TOPIC=topic).wait() == 0
    messages = cluster.stored(topic)
    assert [json.loads(message.value)["email"].encode() for message in messages] == [m.key for m in messages]
    first = run_worker(once_worker)
    wait_until(lambda: len(set(first.begun())) == 10, what="ten emails are sent")
    first.stop_and_check()
    assert len(first.begun()) == 10
    second = run_worker(once_worker, GROUP_ID=cluster.new_name())
    second.wait_for("^already sent", count=10)
    second.stop_and_check()
    assert second.begun() == []


def shell(command, cluster, topic):
    """Run a command of the README on this cluster, with this topic for user_signups; return its output."""
    command = command.replace(ADDRESS, cluster.address).replace(TOPIC, topic)
    environment = {**os.environ, "PATH": PATH}
    done = subprocess.run(command, shell=True, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_message_published_twice_is_reported_as_the_readme_shows(run_worker, once_worker, cluster, topic):
    _, (publish, _), (_, shown) = transcript("once-run")
    shell(publish, cluster, topic)
    worker = run_worker(once_worker)
    worker.wait_for("^already sent")
    worker.stop_and_check()
    assert worker.out == [line for line in shown if line != "..."]  # that is for the producer's sign-ups


@pytest.fixture
def retrying_worker(once_worker):
    """streaming_worker.py with the recipes "once" and "retries"; its path."""
    edit(
        once_worker,
        (CALL, CALL.replace("message(", "with_retries(")),
        (NEXT_FUNCTION, f"\n\n{recipe('retries')}{NEXT_FUNCTION}"),
    )
    return once_worker


@pytest.fixture
def dead_letter_worker(retrying_worker):
    """The same with the recipe "dead-letter"."""
    edit(
        retrying_worker,
        (IMPORT_KAFKA, "import KafkaConsumer, KafkaProducer\n"),
        ("    raise failure  # step 4 replaces this line\n", "    give_up(message, failure)\n"),
        (RETRIES, f"{recipe('dead-letter')}\n\n{RETRIES}"),
    )
    return retrying_worker


def test_without_a_dead_letter_topic_a_poison_message_is_a_crash_loop(
    run_worker, retrying_worker, cluster, topic
):
    (publish, _), (_, shown) = transcript("retries-run")
    shell(publish, cluster, topic)
    cluster.publish(topic, ['{"id": "1", "email": "ada@example.com"}'])
    for _ in range(2):
        worker = run_worker(retrying_worker, PAUSES=PAUSES)
        assert worker.wait() == 1
        first_line, failed, _, error = shown
        assert (worker.out, worker.err[0], worker.err[-1]) == ([first_line], failed, error)
        assert sum("Attempt failed" in line for line in worker.err) == len(PAUSES)
    assert cluster.committed(topic, topic) == {}


def test_a_poison_message_goes_to_the_dead_letter_topic_and_the_next_is_processed(
    run_worker, dead_letter_worker, cluster, topic
):
    cluster.topics.add(dead_letters := f"{topic}.dlq")
    (create, created), (_, shown), (consume, letter) = transcript("dead-letter-run")
    assert shell(create, cluster, topic) == created
    poison = [b"not JSON", None, b'{"id": "1"}', b"\xff", b'{"id": "3", "email": "no email"}']
    cluster.publish(topic, [*poison, '{"id": "2", "email": "ada@example.com"}'])
    worker = run_worker(dead_letter_worker, PAUSES=PAUSES)
    worker.wait_for("^sending email to 'ada@example.com'")
    worker.stop_and_check()
    attempts, set_aside = worker.err[: len(PAUSES)], worker.err[len(PAUSES)]
    first_line, failed, dots, aside, goodbye = shown
    assert [first_line, failed, goodbye] == [worker.out[0], attempts[0], worker.out[-1]]
    assert dots == "..." and matches(set_aside.replace(topic, TOPIC), aside)
    for_each = ["Attempt failed"] * len(PAUSES) + [f"set aside in {dead_letters}"]
    assert [line.split(":")[0] for line in worker.err] == for_each * len(poison)
    assert shell(consume, cluster, topic)[:1] == letter
    letters = cluster.stored(dead_letters)
    assert [letter.value or None for letter in letters] == poison
    assert dict(letters[2].headers) == {
        "reason": b"KeyError('email')",
        "origin": f"{topic}, partition 0, offset 2".encode(),
    }
    assert cluster.committed(topic, topic) == {0: 6}


def test_a_mail_server_outage_sends_nothing_to_the_dead_letter_topic(
    run_worker, dead_letter_worker, cluster, topic
):
    dead_letters = cluster.create_topic(f"{topic}.dlq")
    cluster.publish(topic, ['{"id": "1", "email": "ada@example.com"}'])
    edit(dead_letter_worker, (WORK, f"{WORK}    raise ConnectionError('the mail server is down')\n"))
    worker = run_worker(dead_letter_worker, PAUSES=[0.1, 0])
    assert worker.wait() == 1 and worker.err[-1] == "ConnectionError: the mail server is down"
    attempts = [line for line in worker.err if line.startswith("Attempt failed")]
    assert len(attempts) == len(worker.begun()) == 2 and cluster.stored(dead_letters) == []
    assert cluster.committed(topic, topic) == {}


@pytest.mark.not_on_external_broker
def test_a_dead_letter_that_is_not_stored_leaves_its_message_uncommitted(
    run_worker, dead_letter_worker, cluster, topic
):
    cluster.deny(ACLOperation.WRITE, ResourceType.TOPIC, cluster.create_topic(f"{topic}.dlq"))
    cluster.publish(topic, ["not JSON"])
    worker = run_worker(dead_letter_worker, PAUSES=[0])
    assert worker.wait(60) == 1
    assert cluster.committed(topic, topic) == {}


def test_the_readers_unit_test_passes(once_worker):
    (once_worker.parent / "test_work.py").write_text(recipe("test"), encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_work.py"]
    done = subprocess.run(command, cwd=once_worker.parent, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "1 passed" in done.stdout, done.stdout + done.stderr

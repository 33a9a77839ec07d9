"""The code of the README's section "Toward production", put into the scripts and run on a real broker."""

import datetime
import ipaddress
import json
import re
import subprocess
import sys
import textwrap

import pytest
from broker import Broker
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from support.processes import ROOT
from support.waiting import wait_until
from support.workload import stop

README = (ROOT / "README.md").read_text(encoding="utf-8")


def recipe(name):
    return re.search(rf"<!-- recipe: {name} -->\n```python\n(.*?)```", README, re.S)[1]


def adapt(folder, script_name, *changes):
    """Write a copy of the script to the folder; each change is an expression and what takes its place."""
    code = (ROOT / f"{script_name}.py").read_text(encoding="utf-8")
    for pattern, new in changes:
        code, count = re.subn(pattern, lambda match, new=new: new, code, flags=re.S)
        assert count == 1, f"{pattern} matches {count} times"
    (folder / f"{script_name}.py").write_text(code, encoding="utf-8")


@pytest.fixture
def start_copy(start, tmp_path):
    """start_copy(name, address, **settings) starts the adapted script in tmp_path."""
    return lambda name, address, **settings: start(name, address, folder=tmp_path, **settings)


def certificate(folder):
    """Write broker.pem, a certificate for 127.0.0.1 with its key, and ca.pem, the certificate alone."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.timezone.utc)
    addresses = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(addresses, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    public = signed.public_bytes(pem)
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "ca.pem").write_bytes(public)
    (folder / "broker.pem").write_bytes(private + public)


@pytest.mark.own_broker
@pytest.mark.long
def test_tls_and_a_password(start, start_copy, tmp_path, monkeypatch):
    certificate(tmp_path)
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
    security = (r"(?=TOPIC = )", recipe("security"))
    adapt(
        tmp_path,
        "producer",
        security,
        (r"\*\*LIMITS\) as admin", "**LIMITS, **SECURITY) as admin"),
        (r"\*\*LIMITS,\n", "**LIMITS, **SECURITY,\n"),
    )
    for name in ("streaming_worker", "batch_worker"):
        adapt(tmp_path, name, security, (r"group_id=GROUP_ID,", "group_id=GROUP_ID, **SECURITY,"))
    with broker:
        without = [start(name, broker.address) for name in ("producer", "streaming_worker", "batch_worker")]
        assert start_copy("producer", broker.address).wait() == 0
        streaming = start_copy("streaming_worker", broker.address)
        streaming.wait_for("^finished", count=2)
        stop(streaming)
        batch = start_copy("batch_worker", broker.address)
        batch.wait_for("^finished")
        stop(batch)
        assert len(streaming.begun() + batch.begun()) == 10 and batch.err == []
        monkeypatch.setenv("KAFKA_PASSWORD", "wrong")
        wrong = start_copy("streaming_worker", broker.address)
        for script in [*without, wrong]:
            assert script.wait(40) == 1 and len(script.err) == 1
        assert all("Unable to bootstrap" in script.err[0] for script in without)


def test_a_poison_message_goes_to_the_dead_letter_topic_and_the_next_is_processed(
    start_copy, tmp_path, cluster, topic
):
    adapt(
        tmp_path,
        "streaming_worker",
        (r"import KafkaConsumer\n", "import KafkaConsumer, KafkaProducer\n"),
        (r"def process_message\(", "def work("),
        (r"""    print\(f"sending email""", '    assert "poison" not in email\n    print(f"sending email'),
        (r"(?=def commit)", recipe("dead-letter").replace("(1, 2, 4)", "(0.1, 0.2, 0.3)") + "\n\n"),
    )
    dead_letters = cluster.create_topic(f"{topic}.dlq")
    cluster.publish(topic, ["poison@example.com", "ada@example.com"])
    worker = start_copy("streaming_worker", cluster.address, TOPIC=topic, GROUP_ID=topic, WORK_SECONDS=0.01)
    worker.wait_for("^finished")
    stop(worker)
    assert worker.begun() == ["ada@example.com"]
    assert [line.split(":")[0] for line in worker.err] == ["Attempt failed"] * 3
    [letter] = cluster.stored(dead_letters)
    assert letter.value == b"poison@example.com"
    assert dict(letter.headers) == {"reason": b"AssertionError()", "offset": b"0"}
    assert cluster.committed(topic, topic) == {0: 2}


def test_an_email_is_sent_once_though_its_message_is_processed_twice(start_copy, tmp_path, cluster):
    topic = cluster.new_name()
    cluster.topics.append(topic)
    adapt(
        tmp_path,
        "producer",
        (r"import os\n", "import json\nimport os\nimport uuid\n"),
        (r" +producer\.send\([^\n]*\n", textwrap.indent(recipe("json"), " " * 8)),
    )
    adapt(
        tmp_path,
        "streaming_worker",
        (r"import os\n", "import json\nimport os\nimport sqlite3\n"),
        (r"def process_message.*?(?=def commit)", recipe("once") + "\n\n"),
    )
    assert start_copy("producer", cluster.address, TOPIC=topic).wait() == 0
    messages = cluster.stored(topic)
    assert [json.loads(message.value)["email"].encode() for message in messages] == [m.key for m in messages]
    first = start_copy("streaming_worker", cluster.address, TOPIC=topic, GROUP_ID="first")
    wait_until(lambda: len(first.begun()) == 10, what="ten emails are sent")
    stop(first)
    second = start_copy("streaming_worker", cluster.address, TOPIC=topic, GROUP_ID="second")
    second.wait_for("^already sent", count=10)
    stop(second)
    assert len(set(first.begun())) == 10 and second.begun() == []


def test_the_test_of_your_own_work_passes(tmp_path):
    (tmp_path / "test_work.py").write_text(recipe("test"), encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_work.py"]
    environment = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "1 passed" in done.stdout, done.stdout + done.stderr

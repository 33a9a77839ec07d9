"""The files beside the scripts: docker-compose.yml, requirements.txt, tests/README.md, and no other ones.

No image can be pulled where this is developed: the compose file is only held to Redpanda's documentation.
"""

import re
import subprocess
import sys
import time

import pytest
import yaml
from kafka import KafkaConsumer
from support.processes import ROOT, Process

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())


@pytest.fixture
def service():
    [(name, service)] = COMPOSE["services"].items()
    assert name == "redpanda"
    return service


@pytest.fixture
def words(service):
    """The command as rpk sees it: the image's entry point splits what it gets at blanks."""
    command = service["command"]
    return (command if isinstance(command, str) else " ".join(command)).split()


def test_the_image_is_pinned(service):
    assert re.fullmatch(r"docker\.redpanda\.com/redpandadata/redpanda:v\d+\.\d+\.\d+", service["image"])
    assert service["container_name"] == "redpanda-1"


def test_the_command_starts_a_one_core_broker_for_a_client_on_the_host(words):
    assert words[:2] == ["redpanda", "start"]
    flags = re.findall(r"--[^-].*?(?= --|$)", " ".join(words[2:]).replace("=", " "))
    assert set(flags) >= {
        "--advertise-kafka-addr localhost:9092",
        "--kafka-addr 0.0.0.0:9092",
        "--set redpanda.auto_create_topics_enabled false",
        "--set redpanda.write_caching_default false",
        "--smp 1",
        "--unsafe-bypass-fsync false",
    }


def test_switches_take_their_value_behind_an_equals_sign(words):
    """rpk would read `--check false` as the switch --check, which means true, and a stray word."""
    assert "--check=false" in words and "--unsafe-bypass-fsync=false" in words


def test_the_port_is_published_to_this_machine_only(service):
    assert service["ports"] == ["127.0.0.1:9092:9092"]
    assert "network_mode" not in service


def test_up_wait_returns_soon_after_the_broker_serves(service):
    health = service["healthcheck"]
    kind, test = health["test"]
    assert kind == "CMD-SHELL" and "rpk cluster health" in test and "Healthy" in test
    assert "disable" not in health
    seconds = {key: int(health[key].removesuffix("s")) for key in ("interval", "timeout")}
    assert seconds["interval"] <= 3
    assert seconds["interval"] * health["retries"] >= 30, "a slow machine needs that long for its first start"


def test_down_leaves_nothing_behind(service):
    assert "volumes" not in service and "volumes" not in COMPOSE


def test_the_scripts_need_one_package():
    extras = r"\[crc32c,lz4,snappy,zstd\]"
    assert re.fullmatch(rf"kafka-python{extras}==\d+\.\d+\.\d+\n", (ROOT / "requirements.txt").read_text())


@pytest.mark.long(20)
def test_the_scripts_need_only_requirements_txt(tmp_path, processes, address, cluster):
    install = ["-m", "pip", "install", "--quiet", "--no-compile", "-r", "requirements.txt", "--target"]
    subprocess.run([sys.executable, *install, tmp_path], cwd=ROOT, check=True, timeout=150)
    python = [sys.executable, "-S"]  # without the packages of this environment
    for name, line in (
        ("producer", "Published"),
        ("streaming_worker", "starting"),
        ("batch_worker", "starting"),
    ):
        topic = cluster.new_name()
        code = f"import {name}; {name}.TOPIC = {name}.GROUP_ID = '{topic}'; {name}.main()"
        environment = {"BOOTSTRAP_SERVERS": address, "PYTHONPATH": str(tmp_path)}
        processes.append(Process(name, [*python, "-c", code], environment))
        processes[-1].wait_for(line)


@pytest.mark.xfail(strict=True, raises=AssertionError, reason="a bug in kafka-python 3.0.12")
def test_kafka_python_still_loses_a_join(cluster):
    """Without the workers' workaround, a consumer whose topic is created later never gets a partition."""
    topic = cluster.new_name()
    settings = {**cluster.settings, "metadata_max_age_ms": 1000, "enable_auto_commit": False}
    with KafkaConsumer(topic, group_id=topic, **settings) as consumer:
        for seconds, is_created in ((1, False), (5, True)):
            if is_created:
                cluster.create_topic(topic)
            end = time.monotonic() + seconds
            while time.monotonic() < end and not consumer.assignment():
                consumer.poll(timeout_ms=2)  # too short for both answers of a join
                time.sleep(0.02)
        assert consumer.assignment()


def test_every_version_is_pinned():
    lines = (ROOT / "tests/requirements.txt").read_text().splitlines()
    assert all(re.match(r"#|-r |[\w-]+==[\d.]+$", line) for line in lines)


def test_the_top_of_the_repository_has_these_entries_and_no_others():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, timeout=30)
    if tracked.returncode:
        pytest.skip("this is no git checkout")
    entries = {path.split("/")[0] for path in tracked.stdout.splitlines() if not path.startswith(".")}
    assert entries == {
        "producer.py",
        "streaming_worker.py",
        "batch_worker.py",
        "docker-compose.yml",
        "requirements.txt",
        "README.md",
        "tests",
    }


def test_the_table_of_promises_names_tests_that_exist_and_all_in_their_folder():
    page = (ROOT / "tests/README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(test_\w+)`", "".join(re.findall(r"^\|.*", page, re.M))))
    tests = {
        path: set(re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.M))
        for path in (ROOT / "tests").glob("*/test_*.py")
    }
    assert not named - set().union(*tests.values())
    assert (
        not set().union(*(names for path, names in tests.items() if path.parent.name == "promises")) - named
    )

"""The files beside the scripts: docker-compose.yml, requirements.txt, and the table in tests/README.md.

No image can be pulled where this is developed, so the compose file is only checked against Redpanda's
documentation.
"""

import re
import subprocess
import sys

import pytest
import yaml
from support import output
from support.processes import BATCH, PRODUCER, ROOT, STREAMING, Process

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())


def test_the_compose_file_starts_one_broker_for_this_machine_without_developer_mode():
    """The switches need "=": rpk reads `--check false` as the switch --check, which means true."""
    [(name, service)] = COMPOSE["services"].items()
    assert (name, service["container_name"]) == ("redpanda", "redpanda-1")
    assert re.fullmatch(r"docker\.redpanda\.com/redpandadata/redpanda:v\d+\.\d+\.\d+", service["image"])
    assert service["ports"] == ["127.0.0.1:9092:9092"] and "network_mode" not in service
    assert "rpk cluster health" in service["healthcheck"]["test"][1]  # for `docker compose up --wait`
    words = " ".join(service["command"])
    for switch in (
        "--unsafe-bypass-fsync=false",
        "--set redpanda.auto_create_topics_enabled=false",
        "--set redpanda.write_caching_default=false",
        "--check=false",
        "--kafka-addr 0.0.0.0:9092",
        "--advertise-kafka-addr localhost:9092",
    ):
        assert switch in words


def test_requirements_txt_pins_kafka_python_and_nothing_else():
    extras = r"\[crc32c,lz4,snappy,zstd\]"
    assert re.fullmatch(rf"kafka-python{extras}==\d+\.\d+\.\d+\n", (ROOT / "requirements.txt").read_text())


@pytest.mark.long(20)
def test_the_scripts_need_only_requirements_txt(tmp_path, processes, address, cluster):
    install = ["-m", "pip", "install", "--quiet", "-r", "requirements.txt", "--target"]
    subprocess.run([sys.executable, *install, tmp_path], cwd=ROOT, check=True, timeout=150)
    python = [sys.executable, "-S"]  # without the packages of this environment
    for name, line in ((PRODUCER, output.PUBLISHED), (STREAMING, output.STARTING), (BATCH, output.STARTING)):
        topic = cluster.new_name()
        code = f"import {name}; {name}.TOPIC = {name}.GROUP_ID = '{topic}'; {name}.main()"
        environment = {"BOOTSTRAP_SERVERS": address, "PYTHONPATH": str(tmp_path)}
        processes.append(Process(name, [*python, "-c", code], environment))
        processes[-1].wait_for(line)


def test_every_version_is_pinned():
    lines = (ROOT / "tests/requirements.txt").read_text().splitlines()
    assert all(re.match(r"#|-r |[\w-]+==[\d.]+$", line) for line in lines)


def test_each_file_of_promises_is_in_the_table():
    table = "".join(re.findall(r"^\|.*", (ROOT / "tests/README.md").read_text(encoding="utf-8"), re.M))
    files = {path.stem for path in (ROOT / "tests/promises").glob("test_*.py")}
    assert set(re.findall(r"`(test_\w+)`", table)) == files

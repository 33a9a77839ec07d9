"""The files beside the scripts: requirements.txt, tests/README.md, and no unexpected ones."""

import re
import shutil
import subprocess
import sys

import pytest
from support import output
from support.processes import ROOT, SCRIPTS, Process


@pytest.mark.long(20)
def test_the_scripts_need_only_requirements_txt(tmp_path, processes, address, cluster):
    install = ["-m", "pip", "install", "--quiet", "-r", "requirements.txt", "--target"]
    subprocess.run([sys.executable, *install, tmp_path], cwd=ROOT, check=True, timeout=150)
    python = [sys.executable, "-S"]  # without the packages of this environment
    for name in SCRIPTS:
        topic = cluster.new_name()
        code = f"import {name}; {name}.TOPIC = {name}.GROUP_ID = '{topic}'; {name}.main()"
        environment = {"BOOTSTRAP_SERVERS": address, "PYTHONPATH": str(tmp_path)}
        processes.append(Process(name, [*python, "-c", code], environment))
        processes[-1].wait_for(output.FIRST)


def test_requirements_txt_has_kafka_python_only_and_every_version_is_pinned():
    extras = r"\[crc32c,lz4,snappy,zstd\]"
    assert re.fullmatch(rf"kafka-python{extras}==\d+\.\d+\.\d+\n", (ROOT / "requirements.txt").read_text())
    for line in (ROOT / "tests/requirements.txt").read_text().splitlines():
        assert re.match(r"#|-r |[\w-]+==[\d.]+$", line)


def test_the_repository_root_has_only_the_expected_entries():
    if not (shutil.which("git") and (ROOT / ".git").exists()):
        pytest.skip("not a git checkout, or no git")
    tracked = subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True, timeout=30)
    entries = {path.split("/")[0] for path in tracked.splitlines() if not path.startswith(".")}
    scripts = {f"{name}.py" for name in SCRIPTS}
    assert entries == {*scripts, "docker-compose.yml", "requirements.txt", "README.md", "tests"}


def test_the_table_of_promises_lists_every_test_in_promises():
    page = (ROOT / "tests/README.md").read_text(encoding="utf-8")
    table = "".join(re.findall(r"^\|.*", page, re.M))

    def tests_in(folder):
        code = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").glob(f"{folder}/test_*.py")]
        return set(re.findall(r"^def (test_\w+)", "".join(code), re.M))

    assert set(re.findall(r"`(test_\w+)`", page)) - tests_in("*") == set()
    assert tests_in("promises") - set(re.findall(r"`(test_\w+)`", table)) == set()

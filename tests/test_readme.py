"""Plays the README: types the commands of its transcripts on a broker of their own, and compares what is printed.

How the README is read:

    **Terminal 2**               the console block that follows belongs to this terminal; blocks run in the order of the page
    $ python producer.py         a command; whatever ran in this terminal before has ended by itself, with exit code 0
    ^C^Cfinished                 Ctrl+C twice, as soon as the line before has appeared; then the line "finished"
    ...                          any number of lines like those of the block, digits aside
    Killed                       what a shell says of a process that kill -9 has ended
    **Terminal 2 or Terminal 4** these lines come from the two terminals together, in any order

A block labelled "with Docker" is checked for its shape only; one without a label is for setting up and shows no output.
"""

import contextlib
import os
import queue
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
import yaml
from broker import free_port
from conftest import EXTERNAL
from harness import ROOT, wait_until

README = (ROOT / "README.md").read_text(encoding="utf-8")
BROKER = "python tests/broker.py"
ADDRESS = "localhost:9092"
PLAIN = ("python3 -m venv .venv", ". .venv/bin/activate", "pip install -r ", "deactivate", "rm -rf .venv", f"BOOTSTRAP_SERVERS={ADDRESS} ")
COMMANDS = [
    "python3 -m venv .venv && .venv/bin/pip install -r tests/requirements.txt && .venv/bin/python tests/demo.py",
    "python3 -m venv .venv && .venv/bin/pip install -r tests/requirements.txt && .venv/bin/python -m pytest tests",
]


def console_blocks():
    """[(label or "", lines, line number)] of all console blocks; a label is the last line before the block, if in bold."""
    found = []
    for match in re.finditer(r"^```console\n(.*?)^```$", README, re.M | re.S):
        before = README[: match.start()].rstrip("\n")
        above = before.rpartition("\n")[2]
        label = above if above.startswith("**Terminal") else ""
        found.append((label, match[1].splitlines(), before.count("\n") + 3))
    return found


def shape(line):
    return re.sub(r"\d+", "0", line)


class Terminal:
    """One terminal of the reader's: runs a command at a time and shows its output and its errors together."""

    def __init__(self, name, port):
        self.name, self.port = name, port
        self.process, self.command, self.shown = None, None, ["\n(before the first command)"]

    def type(self, command):
        self.has_ended()
        self.command = command
        self.shown.append(f"$ {command}")
        real = command.replace(ADDRESS, f"localhost:{self.port}")
        if command == BROKER:  # port 9092 may be in use here
            code = "import sys; sys.path.insert(0, 'tests'); import broker; made = broker.Broker"
            real = f'python -c "{code}; broker.Broker = lambda port, host: made({self.port}, host); broker.main()"'
        self.process = subprocess.Popen(
            ["sh", "-c", real] if "|" in real else shlex.split(real),
            cwd=ROOT,
            env={
                **os.environ,
                "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
                "BOOTSTRAP_SERVERS": f"localhost:{self.port}",
                "PYTHONDONTWRITEBYTECODE": "1",
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.lines = queue.SimpleQueue()
        threading.Thread(target=self.read, args=(self.process.stdout, self.lines), daemon=True).start()

    def read(self, pipe, lines):
        for line in pipe:
            if not line.startswith("fetching Apache Kafka"):  # the README says that it may come
                lines.put(line.removesuffix("\n").replace(f"localhost:{self.port}", ADDRESS))
        lines.put(None)

    def next_line(self, seconds=40):
        """The next line of output, or None if the command has ended."""
        try:
            line = self.lines.get(timeout=seconds)
        except queue.Empty:
            line = f"(nothing for {seconds} s)"
        self.shown.append(line)
        return line

    def has_ended(self, code=0):
        if self.process:
            assert self.next_line() is None, f"more than the README shows{self}"
            assert self.process.wait(10) == code, f"exit code {self.process.returncode}{self}"
            self.process = None

    def expect(self, line, like=()):
        """Compare the next line of output; first skip the lines that look like one of those in like."""
        while (seen := self.next_line()) != line and seen is not None and shape(seen) in like:
            pass
        assert seen == line, f"the README says\n    {line}{self}"

    def play(self, block):
        like = ()
        for line in block:
            presses, text = re.fullmatch(r"((?:\^C)*)(.*)", line).groups()
            for _ in range(presses.count("^C")):
                os.killpg(self.process.pid, signal.SIGINT)
                time.sleep(0.03)
            if match := re.fullmatch(r"\$ pkill -(\w+) -f (\S+)", text):
                pkill(int(match[1]) if match[1].isdigit() else signal.Signals[f"SIG{match[1]}"], match[2], self.port)
            elif text.startswith("$ "):
                self.type(text[2:])
            elif text == "Killed":
                self.has_ended(-signal.SIGKILL)
            elif text == "...":
                like = {shape(other) for other in block}
            else:
                self.expect(text, like)
                like = ()
        if self.command and not self.command.startswith("python "):  # a tool, not one of the scripts: let it end
            self.has_ended()

    def close(self):
        if self.process and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)

    def __str__(self):
        return "\n".join([f"\nterminal {self.name} shows", *(f"    {line}" for line in self.shown[-30:])])


def pkill(number, pattern, port):
    """What pkill -f does, among this test's processes only: those whose BOOTSTRAP_SERVERS names its broker."""
    hit = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it may have ended
            if pattern in " ".join(process.cmdline()) and process.environ().get("BOOTSTRAP_SERVERS") == f"localhost:{port}":
                process.send_signal(number)
                hit.append(process)
    assert hit, f"nothing runs that {pattern} matches"


def play_together(terminals, block):
    """Lines that come from several terminals, in any order: wait for as many as the block has, and compare."""
    seen = []

    def enough():
        for terminal in terminals:
            while not terminal.lines.empty():
                seen.append(terminal.next_line())
        return len(seen) >= len(block)

    wait_until(enough, 40, f"{len(block)} lines", lambda: "".join(map(str, terminals)))
    assert sorted(map(str, seen)) == sorted(block), "".join(map(str, terminals))


def test_blocks_without_a_terminal_are_for_setting_up():
    for label, block, number in console_blocks():
        if not label:
            assert all(line in COMMANDS or line.startswith(PLAIN) for line in block), f"README.md, line {number}: {block}"


def test_docker_blocks_have_the_right_shape():
    from producer import TOPIC
    from streaming_worker import GROUP_ID

    container = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["redpanda"]["container_name"]
    rpk = rf"rpk (group describe {GROUP_ID}|topic consume {TOPIC}|topic add-partitions {TOPIC} --num 2)"
    right = rf"\$ docker (compose (up|stop|start|down)|exec {container} {rpk})"
    commands = [line for label, block, _ in console_blocks() if "Docker" in label for line in block]
    assert len(commands) >= 6
    for command in commands:
        assert re.fullmatch(right, command), f"{command}: unknown, or output that nobody has seen"


def test_the_two_commands_are_there_word_for_word():
    for command in COMMANDS:
        assert ("", [command]) in [(label, block) for label, block, _ in console_blocks()]


def test_links_lead_somewhere():
    text = re.sub(r"^```.*?^```$", "", README, flags=re.M | re.S)
    headings = re.findall(r"^#+ (.*)", text, re.M)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    assert len(links) > 15
    for link in links:
        if link.startswith("#"):
            assert link[1:] in anchors, link
        elif not link.startswith("https://"):
            assert (ROOT / link).exists(), link


def test_diagrams_are_of_a_kind_that_mermaid_knows():
    diagrams = re.findall(r"^```mermaid\n(.*?)^```$", README, re.M | re.S)
    kinds = [diagram.split()[0] for diagram in diagrams]
    assert kinds == ["flowchart", "flowchart", "sequenceDiagram", "gantt"]
    assert all(len(diagram.splitlines()) > 3 for diagram in diagrams)


@pytest.mark.skipif(EXTERNAL is not None, reason="needs a broker of its own, to stop it; BOOTSTRAP_SERVERS is set")
@pytest.mark.skipif(os.name != "posix", reason="the README's commands are those of a POSIX shell")
def test_the_transcripts_are_what_happens():
    port = free_port()
    terminals = {}
    try:
        for label, block, number in console_blocks():
            names = re.findall(r"Terminal (\d)", label)
            if not names or "Docker" in label:
                continue
            here = [terminals.setdefault(name, Terminal(name, port)) for name in names]
            try:
                play_together(here, block) if len(here) > 1 else here[0].play(block)
            except AssertionError as error:
                raise AssertionError(f"README.md, the block at line {number}: {error}") from None
        for terminal in terminals.values():
            terminal.has_ended()
    finally:
        for terminal in terminals.values():
            terminal.close()

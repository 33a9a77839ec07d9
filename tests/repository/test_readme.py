"""Plays the README: types the commands of its transcripts on its own broker, and compares the output.

How the README is read:

    **Terminal 2: worker**         whose block follows; blocks run in the order of the page
    **Terminal 2 and Terminal 4: workers**    the block is played in both
    $ python producer.py           a command; what ran here before has ended: with exit code 0, or killed
    $ sleep 1; sleep 2             two commands; one that ends with a backslash goes on in the next line
    ^C^Cfinished                   Ctrl+C twice, once the line before has appeared; then the line "finished"
    ...                            one or more lines like those shown for this command, digits aside
    sending email to user…@        "…" stands for any text
    $ pkill -9 -f worker.py        signals this test's processes only; no other command may have "kill" in it

A command that isn't Python must end by itself. In the end, nothing runs in terminals 2 to 4.

A console block without a label is for setting up and shows no output. A block of Python is part of the file
named above it; the files in /tmp/naive are the reader's, and saved before the page is played.
"""

import contextlib
import os
import re
import shlex
import signal
import subprocess
import textwrap
import time
from pathlib import Path

import psutil
import pytest
from broker import free_port
from support.processes import ROOT, Process
from support.readme import ADDRESS, PATH, README, blocks
from support.waiting import wait_until

BROKER = "python tests/broker.py"
NAIVE = "/tmp/naive"
NOTHING = "(no line came)"
KILLED_PIDS = set()  # ended by "pkill -9"
QUIET_SECONDS = 4  # after that a worker, or a reader, assumes that nothing more is coming
SET_UP = "python3 -m venv .venv && .venv/bin/pip install -r tests/requirements.txt && .venv/bin/python "


def code_blocks():
    """[(file named above it, lines, line number)] of all blocks of Python that are part of a file."""
    found = []
    for above, lines, number in blocks("python"):
        names = re.findall(r"`([\w/]+\.py)`", above)
        assert names, f"README.md, line {number}: name its file above the block, or mark a recipe"
        found.append((names[-1], lines, number))
    return found


def terminals_of(above):
    """Return the numbers of the terminals in the label above a block; [] if the line is no label."""
    return re.findall(r"Terminal (\d)", above) if "**Terminal" in above else []


def shape(line):
    return re.sub(r"\d+", "0", line)


class Terminal:
    """A reader's terminal: runs one command at a time and shows its output and errors together.

    port: where the broker listens in place of 9092. naive: the folder in place of /tmp/naive.
    """

    def __init__(self, name, port, naive):
        self.name, self.port, self.naive = name, port, naive
        self.process, self.command, self.shown = None, None, ["\n(before the first command)"]

    def type(self, command):
        self.expect_end()
        assert "kill" not in command, "the README must write `pkill -SIGNAL -f NAME`"
        self.command = command
        self.shown.append(f"$ {command}")
        real = command.replace(ADDRESS, f"localhost:{self.port}").replace(NAIVE, str(self.naive))
        if command == BROKER:  # port 9092 may be in use here
            code = "import sys; sys.path.insert(0, 'tests'); import broker; made = broker.Broker; "
            code += f"broker.Broker = lambda port, host: made({self.port}, host); broker.main()"
            real = f'python -c "{code}"'
        self.read = 0  # lines of its output
        self.process = Process(
            f"terminal {self.name}",
            ["sh", "-c", real] if "|" in real else shlex.split(real),
            {"PATH": PATH, "BOOTSTRAP_SERVERS": f"localhost:{self.port}"},
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def next_line(self, seconds=40):
        """Return the next line of output, None if the command has ended, or NOTHING after a timeout."""

        def arrived():
            has_ended = self.process.output_has_ended
            return self.process.out[self.read : self.read + 1] or [None] * has_ended

        try:
            [line] = wait_until(arrived, seconds)
        except AssertionError:
            line = NOTHING
        else:
            self.read += 1
        if line and line.startswith("downloading Apache Kafka"):  # the README says that it may come
            return self.next_line(seconds)
        line = line and line.replace(f"localhost:{self.port}", ADDRESS)
        self.shown.append(line)
        return line

    def expect_end(self):
        """Check that the command shows no more and ends, with exit code 0 unless the README has killed it."""
        if self.process:
            assert self.next_line() is None, "more than the README shows"
            code = -signal.SIGKILL if self.process.pid in KILLED_PIDS else 0
            ended_with, self.process = self.process.wait(10), None
            assert ended_with == code, f"exit code {ended_with}"

    def expect(self, line, skips=False):
        """Compare the next line of output; with skips, after one or more lines for which "..." stands."""
        skipped, pattern = 0, re.escape(line).replace("…", ".*")
        while (seen := self.next_line()) is not None and skips:
            if skipped and re.fullmatch(pattern, seen):
                break
            assert shape(seen) in SHAPES[self.command], "the README does not show this"
            skipped += 1
        assert re.fullmatch(pattern, seen or ""), f"the README says\n    {line}"

    def wait_until_quiet(self):
        """Read lines for which "..." stands until none has come for some seconds; return their number."""
        count = 0
        while (line := self.next_line(QUIET_SECONDS)) != NOTHING:
            assert shape(line or "the end") in SHAPES[self.command], "the README does not show this"
            count += 1
        return count

    def play(self, block):
        commands = [line.split("; ") if line.startswith("$ ") else [line] for line in block]
        block = [f"$ {line}" if i else line for lines in commands for i, line in enumerate(lines)]
        skips = False
        for line, following in zip(block, [*block[1:], ""], strict=True):
            presses, text = re.fullmatch(r"((?:\^C)*)(.*)", line).groups()
            if presses and self.shown[-1].startswith("$ "):
                assert not self.wait_until_quiet(), "the README shows no output here"
            for _ in range(presses.count("^C")):
                self.signal(signal.SIGINT)
                time.sleep(0.03)
            if match := re.fullmatch(r"\$ pkill -(\w+) -f (\S+)", text):
                self.expect_end()
                pkill(match[1].replace("9", "KILL"), match[2], self.port)
            elif text.startswith("$ "):
                self.type(text[2:])
            elif text == "..." and following.startswith("^C"):
                assert self.wait_until_quiet(), "the README shows more output here"
            elif text == "...":
                skips = True
            elif text:
                self.expect(text, skips)
                skips = False
        if self.command and not self.command.startswith("python "):  # a tool, no script: let it end
            self.expect_end()

    def close(self):
        if self.process and self.process.popen.poll() is None:
            self.signal(signal.SIGTERM)
            with contextlib.suppress(AssertionError):
                return self.process.wait(20)
            self.signal(signal.SIGKILL)

    def signal(self, number):
        os.killpg(self.process.pid, number)

    def __str__(self):
        return "\n".join([f"\nterminal {self.name} shows", *(f"    {line}" for line in self.shown[-30:])])


def shapes_by_command():
    """{command: shapes of the lines that the page shows as its output}"""
    shapes, running = {}, {}
    for above, block, _ in blocks("console"):
        for name in terminals_of(above):
            for line in block:
                if line.startswith("$ "):
                    running[name] = line[2:]
                elif line != "...":
                    shapes.setdefault(running[name], set()).add(shape(line.replace("^C", "")))
    return shapes


SHAPES = shapes_by_command()


def pkill(name, pattern, port):
    """What pkill -NAME -f does, but only to this test's processes: BOOTSTRAP_SERVERS is their broker."""
    hit = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it may have ended
            is_ours = process.environ().get("BOOTSTRAP_SERVERS") == f"localhost:{port}"
            if is_ours and pattern in " ".join(process.cmdline()):
                process.send_signal(signal.Signals[f"SIG{name}"])
                hit.append(process.pid)
    KILLED_PIDS.update(hit if name == "KILL" else [])
    assert hit, f"nothing runs that {pattern} matches"


def test_each_python_block_appears_verbatim_in_its_script():
    quoted = [(name, lines, number) for name, lines, number in code_blocks() if not name.startswith(NAIVE)]
    assert quoted
    for name, lines, number in quoted:
        script = (ROOT / name).read_text(encoding="utf-8")
        indented = [textwrap.indent("\n".join(lines) + "\n", " " * depth) for depth in range(0, 20, 4)]
        assert any(f"\n{block}" in script for block in indented), (
            f"README.md, line {number}: not like this in {name}"
        )


def test_the_demo_and_test_commands_are_quoted_verbatim():
    for command in ("tests/demo.py", "-m pytest tests"):
        assert [SET_UP + command] in [lines for _, lines, _ in blocks("console")]
    assert f"\n{SET_UP}-m pytest tests\n" in (ROOT / ".ci/run").read_text()


def test_no_link_is_broken():
    text = re.sub(r"^```.*?^```$", "", README, flags=re.M | re.S)
    headings = re.findall(r"^#+ (.*)", text, re.M)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    assert len(links) > 5
    for link in links:
        file, _, line = link.partition("#")
        if not file:
            assert line in anchors, link
        elif line:  # [`name()`](script.py#L9): there the function begins
            [name] = re.findall(rf"\[`(\w+)\(\)`\]\({re.escape(link)}\)", text)
            code = (ROOT / file).read_text(encoding="utf-8").splitlines()
            assert f"def {name}(" in code[int(line.removeprefix("L")) - 1], link
        elif not link.startswith("https://"):
            assert (ROOT / link).exists(), link


def test_each_transcript_names_its_terminal():
    for above, lines, number in blocks("console"):
        is_set_up = not any(line.startswith("$ ") for line in lines)
        assert terminals_of(above) or is_set_up, f"README.md, line {number}: which terminal?"


def test_code_fits_on_github_without_scrolling():
    code = "\n".join(re.findall(r"^```\w+(.*?)^```$", README, re.M | re.S))
    assert [line for line in code.splitlines() if len(line) > 108] == []


@pytest.mark.long(150)
@pytest.mark.timeout(360)
@pytest.mark.not_on_external_broker
@pytest.mark.skipif(os.name != "posix", reason="the README's commands are those of a POSIX shell")
def test_the_transcripts_match_what_happens(tmp_path):
    port = free_port()
    naive = tmp_path / "naive"
    naive.mkdir()
    for name, lines, _ in code_blocks():
        if name.startswith(NAIVE):
            code = "\n".join(lines).replace(ADDRESS, f"localhost:{port}")
            (naive / Path(name).name).write_text(code, encoding="utf-8")
    terminals = {}
    try:
        for above, block, number in blocks("console"):
            place = f"README.md, the block at line {number}"
            for name in terminals_of(above):
                terminals.setdefault(name, Terminal(name, port, naive)).play(block)
        place = "the end of README.md"
        for name in "2", "3", "4":
            terminals[name].expect_end()
    except AssertionError as error:
        shown = "".join(map(str, terminals.values()))
        raise AssertionError(f"{place}: {error}{shown}") from None
    finally:
        for terminal in terminals.values():
            terminal.close()

"""Plays the main README: types the commands of its transcripts, and compares what comes.

How a transcript is read:

    **Terminal 2: worker**         whose block follows; blocks run in the order of the page
    **Terminal 2 and Terminal 4: workers**    the block is played in both
    $ python producer.py           a command; what ran here before has ended with exit code 0
    $ sleep 1; sleep 2             two commands; one that ends with a backslash goes on in the next line
    ^C^Cfinished                   Ctrl+C twice, once the line before has appeared; then the line "finished"
    ...                            one or more lines like those shown for this command, digits aside
    sending email to user…@        "…" stands for any text
    Killed                         the reader types the `pkill -9 -f …` of the text in another terminal
    $ pkill -STOP -f kafka.Kafka   signals this session's processes only
    $ (python worker.py & sleep 9; kill -9 $! )   python worker.py is killed after its last line, or after 9 s
                                   if that is "..." or missing, however fast the machine is

A block that begins with ^C, or shows nothing after it, requires silence there. A line about Kafka's download
may come at any time. A command that isn't Python must end by itself. In the end, nothing runs in any terminal
but the broker's.
"""

import contextlib
import os
import re
import shlex
import signal
import subprocess
import time

import psutil

from support.processes import Process
from support.readme import ADDRESS, NAIVE, PATH, README, blocks, matches, terminals_of
from support.waiting import wait_until

BROKER = "python tests/broker.py"
NOTHING = "(no line came)"
IN_BACKGROUND = re.compile(r"\((.*) & sleep ([\d.]+); kill -9 \$! \)")
QUIET_SECONDS = 3  # after that a worker, or a reader, assumes that nothing more is coming


def in_foreground(command):
    """Return the command without what kills it after some time."""
    return IN_BACKGROUND.sub(r"\1", command)


def shape(line):
    return re.sub(r"\d+", "0", line)


def shapes_by_command():
    """{command: shapes of the lines that the page shows as its output}"""
    shapes, running = {}, {}
    for above, block, _ in blocks("console"):
        for name in terminals_of(above):
            for line in block:
                if line.startswith("$ "):
                    running[name] = in_foreground(line[2:])
                elif line not in ("...", "Killed"):
                    shapes.setdefault(running[name], set()).add(shape(line.replace("^C", "")))
    return shapes


def steps_of(block):
    """Return what the block asks for: [(name of a method of Terminal, its arguments...)]."""
    lines = []
    for line in block:
        is_several = line.startswith("$ ") and not line.startswith("$ (")
        lines += line.replace("; ", "\n$ ").split("\n") if is_several else [line]
    steps, background = [], None
    for earlier, line, following in zip([None, *lines], lines, [*lines[1:], None], strict=False):
        presses, text = re.fullmatch(r"((?:\^C)*)(.*)", line).groups()
        is_last = following is None or following.startswith("$ ")  # of the command's lines
        if presses:
            steps += [] if earlier else [("expect_silence",)]
            steps.append(("press_ctrl_c", presses.count("^C")))
            steps += [] if text else [("expect_silence",)]
        if match := re.fullmatch(r"\$ pkill -(STOP|CONT) -f (\S+)", text):
            background = None
            steps.append(("signal_others", *match.groups()))
        elif text.startswith("$ "):
            background = IN_BACKGROUND.fullmatch(text[2:])
            steps.append(("type", text[2:]))
        elif text == "Killed":
            steps.append(("be_killed",))
        elif text == "..." and not is_last:
            steps += [("skip_until_silence",)] if following.startswith("^C") else [("skip_until", following)]
        elif text and text != "..." and (earlier != "..." or presses):
            steps.append(("expect", text))
        if is_last and background:
            seconds = float(background[2]) if text == "..." or text.startswith("$ ") else 0
            steps.append(("be_killed_after", seconds))
        if is_last and text == "...":
            steps.append(("skip_until_end",))
    return steps


class Session:
    """A reader with some terminals, in which everything uses one broker.

    port: where the broker listens in place of 9092. naive: the folder in place of /tmp/naive.
    """

    def __init__(self, port, naive):
        self.port, self.naive = port, naive
        self.terminals = {}
        self.shapes = shapes_by_command()

    def play(self, name, block):
        self.terminals.setdefault(name, Terminal(name, self)).play(block)

    def pkill(self, name, pattern):
        """Do what pkill -NAME -f does, but only to processes of this session."""
        count = 0
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):  # it may have ended
                is_ours = process.environ().get("BOOTSTRAP_SERVERS") == f"localhost:{self.port}"
                if is_ours and pattern in " ".join(process.cmdline()):
                    process.send_signal(signal.Signals[f"SIG{name}"])
                    count += 1
        assert count, f"nothing runs that {pattern} matches"

    def expect_end(self):
        for terminal in self.terminals.values():
            if terminal.command != BROKER:
                terminal.expect_end()

    def end(self):
        for terminal in self.terminals.values():
            if terminal.process and terminal.process.popen.poll() is None:
                os.killpg(terminal.process.pid, signal.SIGTERM)  # the broker then removes its data
                with contextlib.suppress(AssertionError):
                    terminal.process.wait(20)
            if terminal.process:
                terminal.process.end()

    def __str__(self):
        return "".join(map(str, self.terminals.values()))


class Terminal:
    """A reader's terminal: runs one command at a time and shows its output and errors together."""

    def __init__(self, name, session):
        self.name, self.session = name, session
        self.process, self.command, self.exit_code = None, None, 0
        self.read = 0  # lines of its output
        self.shown = []

    def type(self, command):
        self.expect_end()
        self.command, self.exit_code = command, 0
        self.shown.append(f"$ {command}")
        real = in_foreground(command)
        assert "kill" not in real, "the README must write `pkill -SIGNAL -f NAME`"
        real = real.replace(ADDRESS, f"localhost:{self.session.port}")
        real = real.replace(NAIVE, str(self.session.naive))
        if command == BROKER:
            real += f" --port {self.session.port}"
        self.read = 0
        self.process = Process(
            f"terminal {self.name}",
            ["sh", "-c", real] if "|" in real else shlex.split(real),
            {"PATH": PATH, "BOOTSTRAP_SERVERS": f"localhost:{self.session.port}"},
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
        line = line and line.replace(f"localhost:{self.session.port}", ADDRESS)
        self.shown.append(line)
        return line

    def is_expected(self, line):
        """Return whether the README shows a line like this one for this command."""
        return shape(line or "the end") in self.session.shapes[in_foreground(self.command)]

    def signal_others(self, name, pattern):
        self.expect_end()
        self.session.pkill(name, pattern)

    def be_killed(self):
        [pattern] = [p for p in re.findall(r"`pkill -9 -f ([^`]+)`", README) if p in self.command]
        self.session.pkill("KILL", pattern)
        self.exit_code = -signal.SIGKILL

    def be_killed_after(self, seconds):
        """Kill the command that many seconds after its start, or at once if that is over."""
        time.sleep(max(0, self.process.started + seconds - time.monotonic()))
        self.process.popen.kill()
        self.exit_code = -signal.SIGKILL

    def press_ctrl_c(self, times):
        for _ in range(times):
            os.killpg(self.process.pid, signal.SIGINT)
            time.sleep(0.03)

    def expect_end(self):
        """Check that the command shows no more and ends as it should."""
        if self.process:
            assert self.next_line() is None, "more than the README shows"
            ended_with, self.process = self.process.wait(10), None
            assert ended_with == self.exit_code, f"exit code {ended_with}"

    def expect_silence(self):
        assert self.next_line(QUIET_SECONDS) == NOTHING, "the README shows no line here"

    def expect(self, text):
        assert matches(self.next_line(), text), f"the README says\n    {text}"

    def skip_until(self, text):
        self._skip(lambda line: matches(line, text))

    def skip_until_silence(self):
        self._skip(lambda line: line == NOTHING, QUIET_SECONDS)

    def skip_until_end(self):
        self._skip(lambda line: line is None)

    def _skip(self, is_last, seconds=40):
        """Read the lines for which "..." stands, at least one, and then one for which is_last(line) holds."""
        count = 0
        while not (is_last(line := self.next_line(seconds)) and count):
            assert self.is_expected(line), "the README does not show this"
            count += 1

    def play(self, block):
        for method, *arguments in steps_of(block):
            getattr(self, method)(*arguments)
        if self.command and not self.command.startswith("python "):  # a tool, no script: let it end
            self.expect_end()

    def __str__(self):
        return "\n".join([f"\nterminal {self.name} shows", *(f"    {line}" for line in self.shown[-30:])])

"""Plays the main README: types the commands of its transcripts into bash, and checks what comes.

How a transcript is read:

    **Terminal 3.** Start a worker:    where the next block is played, in the order of the page
    **Terminal 3** and **Terminal 4.** ...    it is played in both
    $ python producer.py           a command; it ends after its last line, with exit code 0
    ^C^Cfinished                   Ctrl+C twice, once the line before has come; then the line "finished"
    ...                            one or more lines like those shown for this command, digits aside
    sending email to user…@        "…" stands for any text
    ^Z                             Ctrl+Z, upon which bash ends the line and prints "[1]+  Stopped ..."
    Killed                         the text has said: type `pkill -9 -f worker.py` in terminal 2
    $ pkill -STOP -f kafka.Kafka   signals only processes of this session
    $ (python worker.py & sleep 9; kill -9 $! )    kills the worker when its last line has come, however fast
                                   the machine is; after 9 s if that line is "..." or missing

For 3 s, no line may come before a ^C that follows "..." or begins a block, and after one that ends its line.
A line about Kafka's download may come at any time. Only the broker goes on running.
"""

import os
import re
import signal
import time

import pexpect
import psutil

from support.processes import ROOT, processes_with
from support.readme import ADDRESS, NAIVE, PATH, README, blocks, matches, section_of, terminals_of

BROKER = "python tests/broker.py"
CTRL_C, CTRL_Z, ENTER, DOTS, SILENCE = "^C", "^Z", "^J", "...", "(no line)"
STOPPED = "[1]+  Stopped"
ENDED = "(ended with exit code {})"  # the prompt, a line of its own
KILLED_LATER = re.compile(r"\((.*) & sleep [\d.]+; kill -9 \$! \)")
KILLS_IN_TEXT = re.findall(r"`(pkill -9 -f ([^`]+))`\s+in\s+terminal\s+(\d)", README)
PKILL = re.compile(r"(pkill -\w+ -f) ([\w./]+)")


def steps_of(block):
    """Split a block into commands, keys, and lines that must come; add SILENCE and ENTER where needed."""
    text = re.sub(r"(\A|^\.\.\.\n)(?=\^C)", rf"\1{SILENCE}\n", "\n".join(block), flags=re.M)
    text = re.sub(r"\^C$", f"^C{SILENCE}", text, flags=re.M)
    text = text.replace("^C", "^C\n").replace("^Z", "^Z\n")
    steps = []
    for part in re.split(r"\n(?=\$ )", text):
        command, *lines = part.split("\n")
        if KILLED_LATER.search(command) and lines and lines[-1] != DOTS:
            command = KILLED_LATER.sub(r"(\1 & read; kill -9 $! )", command)
            lines.append(ENTER)  # ends `read`, which stands in for `sleep`
        steps += [command, *lines]
    return steps


def steps_of_page():
    """Yield (terminal, line number of the block, command that runs there, step)."""
    running = {}
    for above, block, number in blocks("console"):
        for terminal in terminals_of(above):
            for step in steps_of(block):
                if step.startswith("$ ") and not step.endswith("fg"):
                    running[terminal] = re.sub(r"^\((.*) & .*", r"\1", step[2:])  # without the kill
                for kill, pattern, other in KILLS_IN_TEXT:
                    if step == "Killed" and pattern in running[terminal]:
                        yield other, number, kill, f"$ {kill}"
                yield terminal, number, running[terminal], step


def with_ends(steps):
    """Yield the steps of the page, and one more after the last of each command: how it ends."""
    for index, (terminal, number, command, step) in enumerate(steps):
        yield steps[index]
        following = [later for name, *_, later in steps[index + 1 :] if name == terminal] or ["$ "]
        if following[0].startswith("$ ") and command != BROKER:
            code = 137 if step == "Killed" else 148 if step.startswith(STOPPED) else 0
            yield terminal, number, command, ENDED.format(code)


class Session:
    """A reader with some terminals, in which everything uses one broker.

    port: where the broker listens in place of 9092. folder: for temporary files; naive/ in it is /tmp/naive.
    """

    def __init__(self, port, folder):
        self.port, self.folder = port, folder
        self.steps = list(with_ends(list(steps_of_page())))
        self.terminals = {name: Terminal(name, self) for name in sorted({name for name, *_ in self.steps})}

    def adapted(self, text):
        """Return code or a command of the page with this session's port, folder and processes."""
        text = text.replace(ADDRESS, f"localhost:{self.port}").replace(NAIVE, f"{self.folder}/naive")
        text = text.replace(BROKER, f"{BROKER} --port {self.port}")
        assert not re.search("pkill|pgrep|killall", PKILL.sub("", text)), f"use `pkill -… -f NAME`: {text}"
        return PKILL.sub(rf"\1 '{self.folder}/.*\2'", text)  # Kafka's command line has the folder, too

    def play(self, sections):
        """Play the transcripts of the sections with these numbers; the one that starts the broker has 0."""
        for name, number, command, step in self.steps:
            if (0 if command == BROKER else section_of(number)) not in sections:
                continue
            try:
                self.terminals[name].play(command, step)
            except (AssertionError, pexpect.EOF) as error:
                shown = "".join(map(str, self.terminals.values()))
                place = f"README.md, block at line {number}, terminal {name}"
                raise AssertionError(f"{place}: {error}{shown}") from None

    def close(self):
        """Close the terminals, upon which the broker removes its data; kill what is left after 20 s."""
        for terminal in self.terminals.values():
            terminal.bash.close()
        started = processes_with("TMPDIR", str(self.folder))
        for process in psutil.wait_procs(started, timeout=20)[1]:
            process.kill()


class Terminal:
    """A terminal in which bash runs one command at a time; the prompt says how the last one ended."""

    def __init__(self, name, session):
        self.name, self.session, self.shown = name, session, []
        self.has_dots = False  # whether "..." comes before the line that is expected next
        settings = {"BOOTSTRAP_SERVERS": f"localhost:{session.port}", "TMPDIR": str(session.folder)}
        settings |= {"PATH": PATH, "PYTHONDONTWRITEBYTECODE": "1"}
        settings |= {"PS1": f"{ENDED.format('$?')}\n", "HISTFILE": ""}
        options = {"cwd": ROOT, "echo": False, "encoding": "utf-8", "codec_errors": "backslashreplace"}
        self.bash = pexpect.spawn("bash --norc --noprofile --noediting", env=os.environ | settings, **options)
        self.bash.expect_exact(ENDED.format(0) + "\r\n")  # the first prompt

    def play(self, command, step):
        if step.startswith("$ "):
            self.shown.append(step)
            self.bash.sendline(self.session.adapted(step.removeprefix("$ ")))
        elif step in (CTRL_C, CTRL_Z):
            key = signal.SIGINT if step == CTRL_C else signal.SIGTSTP
            os.killpg(os.tcgetpgrp(self.bash.fileno()), key)  # sendintr() may drop lines
            time.sleep(0.03)
        elif step == ENTER:
            self.bash.sendline()
        elif step == DOTS:
            self.has_dots = True
        else:
            self.expect(step, command)

    def expect(self, text, command):
        """Read a line, which must match; after "...", one or more familiar ones come before it."""
        line = self.next_line(text)
        if self.has_dots:
            assert self.is_familiar(line, command), (
                f'expected a line that "..." stands for\nand got\n    {line}'
            )
            line = self.next_line(text)
            while self.is_familiar(line, command) and not matches(line, text):
                line = self.next_line(text)
        after = ' after "..."' if self.has_dots else ""
        assert matches(line, text), f"expected{after}\n    {text}\nand got\n    {line}"
        self.has_dots = False

    def is_familiar(self, line, command):
        """Return whether the page shows this line, digits aside, for this command."""
        steps = [re.sub(r"\d+", "0", step) for *_, other, step in self.session.steps if other == command]
        return not line.startswith("(") and re.sub(r"\d+", "0", line) in steps  # "(": SILENCE or ENDED

    def next_line(self, expected):
        """Return the next line, or SILENCE if none comes for a while."""
        has_come = self.bash.expect_exact(["\r\n", pexpect.TIMEOUT], 3 if expected == SILENCE else 40) == 0
        line = self.bash.before.replace(f"localhost:{self.session.port}", ADDRESS) if has_come else SILENCE
        if line.startswith("downloading Apache Kafka"):
            return self.next_line(expected)
        self.shown.append(line)
        return line

    def __str__(self):
        return "\n    ".join([f"\nterminal {self.name} shows", *self.shown[-30:]])

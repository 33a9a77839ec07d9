r"""Plays the main README: types the commands of its transcripts into bash, and checks their output.

How a transcript is read:

    **Terminal 3.** Start a worker:    where the next block is played, in the order of the page
    **Terminal 3** and **Terminal 4.** ...    it is played in both
    $ python producer.py           a command; it ends before the next one in this terminal, with exit code 0
    ^C^Cfinished                   Ctrl+C twice, once the previous line has appeared; then the line "finished"
    ...                            one or more lines like those shown for this command, digits aside
    (perhaps more)                 lines like that, or none, until there is none for 8 s: a rebalance may
                                   wait for another worker's heartbeat (3 s) and message
    sending email to user…@        "…" stands for any text
    ^Z                             Ctrl+Z, upon which bash ends the line and prints "[1]+  Stopped ..."
    ^\Quit…                        Ctrl+\, which kills the command
    $ (python worker.py & sleep 9; kill -9 $! )    kills the worker when its last line appears, however fast
                                   the machine is; after 9 s if that line is "..." or missing

3 s without a line must precede a ^C that follows "..." or begins a block, and follow a ^C that ends its line
or precedes ^\.
A line about Kafka's download may appear at any time. Only the broker goes on running.
"""

import os
import re
import resource
import signal
import time
from typing import NamedTuple

import pexpect
import psutil
from repository.readme import ADDRESS, NAIVE, PATH, Block, blocks, matches
from support.processes import ROOT, processes_with

BROKER = "python tests/broker.py"
KEYS = {"^C": signal.SIGINT, "^Z": signal.SIGTSTP, "^\\": signal.SIGQUIT}
ENTER, DOTS, SILENCE = "^J", "...", "(no line)"
EXIT_CODES = {"Quit…": "131", "[1]+  Stopped": "14…"}  # after these lines; otherwise 0
PERHAPS = "(perhaps more)"
EXITED = "(exited with code {})"  # the prompt, a line of its own
KILLED_LATER = re.compile(r"\((.*) & sleep [\d.]+; kill -9 \$! \)")


class Step(NamedTuple):
    """What is typed into a terminal, or a line that must appear there.

    block: where the page has it. command: what runs there.
    """

    terminal: str
    block: Block
    command: str
    text: str


def texts_of(lines):
    """Split a block's lines into commands, keys, and expected lines; add SILENCE and ENTER."""
    text = re.sub(r"(\A|^\.\.\.\n)(?=\^C)", rf"\1{SILENCE}\n", "\n".join(lines), flags=re.M)
    text = re.sub(r"\^C$", f"^C{SILENCE}", text, flags=re.M).replace("^C^\\", f"^C{SILENCE}\n^\\")
    text = re.sub(r"(\^[CZ\\])", r"\1\n", text)
    texts = []
    for part in re.split(r"\n(?=\$ )", text):
        command, *rest = part.split("\n")
        if KILLED_LATER.search(command) and rest and rest[-1] != DOTS:
            command = KILLED_LATER.sub(r"(\1 & read; kill -9 $! )", command)
            rest.append(ENTER)  # ends `read`, which stands in for `sleep`
        texts += [command, *rest]
    return texts


def steps_of_page():
    """Yield the steps of all transcripts, in the order of the page."""
    running = {}
    for block in blocks("console"):
        for terminal in block.terminals:
            for text in texts_of(block.lines):
                if text.startswith("$ ") and not text.endswith("fg"):
                    running[terminal] = re.sub(r"^\((.*) & .*", r"\1", text[2:])  # without the kill
                yield Step(terminal, block, running[terminal], text)


class Reader:
    """A reader of the page, with some terminals, in which everything uses one broker.

    port: where the broker listens in place of 9092. folder: for temporary files; naive/ in it is /tmp/naive.
    """

    def __init__(self, port, folder):
        self.port, self.folder = port, folder
        self.steps = list(steps_of_page())
        names = sorted({step.terminal for step in self.steps})
        self.terminals = {name: Terminal(name, self) for name in names}

    def adapted(self, text):
        """Return code or a command of the page with this reader's port and folder."""
        text = text.replace(ADDRESS, f"localhost:{self.port}").replace(NAIVE, f"{self.folder}/naive")
        return text.replace(BROKER, f"{BROKER} --port {self.port}")

    def as_on_page(self, line):
        """Return a line that was printed as the page has it: the opposite of adapted()."""
        return line.replace(f"localhost:{self.port}", ADDRESS).replace(f" --port {self.port}", "")

    def play(self, sections):
        """Play the transcripts of the sections with these numbers; the block that starts the broker has 0."""
        for step in self.steps:
            if (0 if f"$ {BROKER}" in step.block.lines else step.block.section) not in sections:
                continue
            try:
                self.terminals[step.terminal].play(step)
            except (AssertionError, pexpect.EOF) as error:
                shown = "".join(map(str, self.terminals.values()))
                place = f"README.md, block at line {step.block.number}, terminal {step.terminal}"
                raise AssertionError(f"{place}: {error}{shown}") from None
        for terminal in self.terminals.values():
            terminal.expect_prompt()

    def close(self):
        """Close the terminals, upon which the broker removes its data; kill what is left after 20 s."""
        for terminal in self.terminals.values():
            terminal.bash.close()
        started = processes_with("TMPDIR", str(self.folder))
        for process in psutil.wait_procs(started, timeout=20)[1]:
            process.kill()


def heed_sigquit():
    """Let SIGQUIT end a program without a core file, even if a shell runs the tests in the background."""
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


class Terminal:
    """A terminal in which bash runs one command at a time; the prompt says how the last one ended."""

    def __init__(self, name, reader):
        self.name, self.reader, self.shown = name, reader, []
        self.has_dots = False  # whether "..." comes before the line that is expected next
        self.last = None  # the last step, unless its command goes on running
        settings = {"BOOTSTRAP_SERVERS": f"localhost:{reader.port}", "TMPDIR": str(reader.folder)}
        settings |= {"PATH": PATH, "PYTHONDONTWRITEBYTECODE": "1"}
        settings |= {"PS1": f"{EXITED.format('$?')}\n", "HISTFILE": ""}
        options = {"cwd": ROOT, "echo": False, "encoding": "utf-8", "codec_errors": "backslashreplace"}
        options["preexec_fn"] = heed_sigquit
        self.bash = pexpect.spawn("bash --norc --noprofile --noediting", env=os.environ | settings, **options)
        self.bash.expect_exact(EXITED.format(0) + "\r\n")  # the first prompt

    def play(self, step):
        if step.text.startswith("$ "):
            self.expect_prompt()
            self.shown.append(step.text)
            self.bash.sendline(self.reader.adapted(step.text.removeprefix("$ ")))
        elif step.text in KEYS:
            os.killpg(os.tcgetpgrp(self.bash.fileno()), KEYS[step.text])  # sendintr() may drop lines
            time.sleep(0.03)
        elif step.text == ENTER:
            self.bash.sendline()
        elif step.text == DOTS:
            self.has_dots = True
        elif step.text == PERHAPS:
            while (line := self.next_line(PERHAPS)) != SILENCE:
                assert self.is_familiar(line, step.command), f"not expected here:\n    {line}"
        else:
            self.expect(step.text, step.command)
        is_over = step.command != BROKER or step.text.startswith("[1]+  Stopped")
        self.last = step if is_over else None

    def expect_prompt(self):
        """Wait until the last command has ended, and check its exit code."""
        if self.last:
            codes = [code for start, code in EXIT_CODES.items() if self.last.text.startswith(start)]
            self.expect(EXITED.format(*codes or "0"), self.last.command)
            self.last = None

    def expect(self, text, command):
        """Read a line, which must match; after "...", one or more familiar ones come before it."""
        line = self.next_line(text)
        if self.has_dots:
            assert self.is_familiar(line, command), f'"..." does not stand for\n    {line}'
            line = self.next_line(text)
            while self.is_familiar(line, command) and not matches(line, text):
                line = self.next_line(text)
        after = ' after "..."' if self.has_dots else ""
        assert matches(line, text), f"expected{after}\n    {text}\nand got\n    {line}"
        self.has_dots = False

    def is_familiar(self, line, command):
        """Return whether the page shows this line, digits aside, for this command."""
        texts = [re.sub(r"\d+", "0", step.text) for step in self.reader.steps if step.command == command]
        return not line.startswith("(") and re.sub(r"\d+", "0", line) in texts  # "(": SILENCE or EXITED

    def next_line(self, expected):
        """Return the next line, or SILENCE if there is none for a while."""
        seconds = {SILENCE: 3, PERHAPS: 8}.get(expected, 40)
        has_come = self.bash.expect_exact(["\r\n", pexpect.TIMEOUT], seconds) == 0
        line = self.reader.as_on_page(self.bash.before) if has_come else SILENCE
        if line.startswith("downloading Apache Kafka"):
            return self.next_line(expected)
        self.shown.append(line)
        return line

    def __str__(self):
        return "\n    ".join([f"\nterminal {self.name} shows", *self.shown[-30:]])

"""Processes whose output is read while they run, among them the three scripts."""

import contextlib
import functools
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import psutil
from support import output
from support.limits import EXIT_SECONDS
from support.signals import freeze
from support.waiting import wait_until, with_slack

ROOT = Path(__file__).parents[2]
SCRIPTS = PRODUCER, STREAMING, BATCH = "producer", "streaming_worker", "batch_worker"
WORKERS = STREAMING, BATCH


def processes_with(variable, value):
    """Yield the processes in whose environment the variable has this value; a process inherits it."""
    for process in psutil.process_iter(["environ"]):
        if (process.info["environ"] or {}).get(variable) == value:  # None: it belongs to somebody else
            yield process


class Process:
    """A command whose output is read line by line while it runs.

    folder: where it runs.
    environment: variables to set; one that is None is unset.
    on_line: called, on a thread, with each line before it is added to out or err.
    out_times, err_times: the lines of standard output and standard error so far: [(time.monotonic(), line)].
    """

    def __init__(self, name, command, environment, on_line=None, folder=ROOT):
        self.name, self.on_line = name, on_line
        self.mark = f"STARTED_BY_{uuid.uuid4().hex}"  # what it starts inherits this variable
        self.started = time.monotonic()
        python = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": None}  # None: a script has to flush
        environment = {**os.environ, **python, **environment, self.mark: "yes"}
        self.popen = psutil.Popen(
            command,
            cwd=folder,
            env={variable: value for variable, value in environment.items() if value is not None},
            text=True,
            errors="backslashreplace",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.pid, self.signal, self.thaw = self.popen.pid, self.popen.send_signal, self.popen.resume
        self.out_times, self.err_times = [], []
        self._matches = {}  # see times()
        pipes = (self.popen.stdout, self.out_times), (self.popen.stderr, self.err_times)
        self._readers = [threading.Thread(target=self._read, args=pipe, daemon=True) for pipe in pipes]
        for reader in self._readers:
            reader.start()

    def _read(self, pipe, lines):
        for line in pipe:
            line = line.removesuffix("\n")
            if self.on_line:
                self.on_line(line)
            lines.append((time.monotonic(), line))

    @property
    def is_running(self):
        return self.popen.poll() is None

    @property
    def out(self):
        return [line for _, line in list(self.out_times)]

    @property
    def err(self):
        return [line for _, line in list(self.err_times)]

    def __str__(self):
        pipes = (("out", self.out_times), ("ERR", self.err_times))
        everything = sorted((at, kind, line) for kind, lines in pipes for at, line in list(lines))
        shown = [f"{at - self.started:7.2f} {kind} {line[:300]}" for at, kind, line in everything]
        if len(shown) > 120:
            shown[40:-80] = [f"... {len(shown) - 120} lines ..."]
        return "\n".join([f"--- {self.name}, exit code {self.popen.poll()}", *shown])

    def times(self, pattern="", pipe="out"):
        """Return the time.monotonic() of each line that matches the pattern; no line is searched twice."""
        found, seen = self._matches.get((pattern, pipe), ([], 0))
        new = (self.out_times if pipe == "out" else self.err_times)[seen:]
        found += [at for at, line in new if re.search(pattern, line)]
        self._matches[pattern, pipe] = found, seen + len(new)
        return found

    def wait_for(self, pattern="", count=1, seconds=30, pipe="out"):
        """Wait for that many lines of output that match the pattern; return the time of the last one."""
        what = f"{self.name} prints {count} x {pattern!r}"
        return self.wait_until(lambda: self.times(pattern, pipe)[count - 1 : count], seconds, what)[0]

    wait_for_error = functools.partialmethod(wait_for, pipe="err")  # the same, with standard error

    def wait_until(self, condition, seconds=30, what="the condition holds"):
        """Wait until condition() is true and return its value; give up once the process has exited."""

        def value():
            has_ended = not any(reader.is_alive() for reader in self._readers)
            value = condition()
            assert value or not has_ended, f"{self.describe_exit()}, before: {what}"
            return value

        return wait_until(value, seconds, what)

    def signal_until_exit(self, signals):
        """Send the signals in turn, one every 4 ms, until it has exited; return how many were sent."""
        sent = 0
        while self.is_running:
            self.signal(signals[sent % len(signals)])
            sent += 1
            assert sent < 5000, f"{self.name} does not exit"
            time.sleep(0.004)
        return sent

    def kill(self):
        with contextlib.suppress(psutil.NoSuchProcess):  # it has exited
            self.popen.kill()
        self.wait()

    def freeze(self):
        freeze(self.popen)

    def wait(self, seconds=30):
        """Wait until it has exited and all its output is read; return its exit code (-9 after SIGKILL)."""
        try:
            self.popen.wait(seconds)
        except psutil.TimeoutExpired:
            raise AssertionError(f"{self.name} is still running after {seconds} s") from None
        for reader in self._readers:
            reader.join()
        return self.popen.returncode

    def wait_for_exit(self, exit_code=0, seconds=30):
        """Wait until it exits, and check that it exits with this code."""
        assert self.wait(seconds) == exit_code, self.describe_exit()

    def describe_exit(self):
        """Wait for its exit; return its exit code and last line (of standard error, if any) in words."""
        return f"{self.name} exited with code {self.wait()}, last line {(self.out + self.err or [''])[-1]!r}"

    def wait_for_failure(self, seconds=30):
        """Wait for exit code 1; return what it printed to standard error, which must be one line."""
        self.wait_for_exit(1, seconds)
        [line] = self.err
        return line

    def end(self):
        """Kill it, and what it has started, even if it has exited and left that behind."""
        for process in processes_with(self.mark, "yes"):
            with contextlib.suppress(psutil.NoSuchProcess):  # it may have exited by now
                process.kill()
        self.wait()


class Script(Process):
    """One of the three scripts as a process; folder is where the script is.

    name: producer, streaming_worker, batch_worker, or bare_loop, the one that the benchmark compares with.
    address: the value of BOOTSTRAP_SERVERS; None leaves it unset.
    settings: as for run_script.py; without any, the command is `python NAME.py` itself. A worker whose TOPIC
        is set belongs to the group of the same name unless GROUP_ID is set.
    """

    def __init__(self, name, address, on_line=None, folder=ROOT, **settings):
        command = [f"{name}.py"]
        if "TOPIC" in settings and name in WORKERS:
            settings.setdefault("GROUP_ID", settings["TOPIC"])
        if settings:
            command = [ROOT / "tests/child/run_script.py", name, json.dumps(settings)]
        super().__init__(name, [sys.executable, *command], {"BOOTSTRAP_SERVERS": address}, on_line, folder)

    def stop_and_check(self, exit_code=0, signal_number=signal.SIGTERM, seconds=EXIT_SECONDS):
        """Stop a worker, and check that it exits within that many seconds of finishing its work."""
        signalled = time.monotonic()
        self.signal(signal_number)
        self.wait_for_exit(exit_code, 60)
        work = [at for at, line in self.out_times if line != output.GOODBYE_LINE]
        took = time.monotonic() - max([signalled, *work])
        assert took < with_slack(seconds), f"{self.name} exited after {took:.1f} s"
        if exit_code == 0:
            assert self.out[-1:] == [output.GOODBYE_LINE], self.describe_exit()
        else:
            assert output.REDELIVERED_TEXT in "".join(self.err[-1:]), self.describe_exit()

    def batches(self):
        """Return the emails whose processing has begun, in lists: those of a batch, or of one message."""
        return [emails for line in self.out if (emails := output.emails_begun(line))]

    def begun(self):
        """Return the emails whose processing has begun, in order; one that was repeated is there twice."""
        return [email for batch in self.batches() for email in batch]

    def finished(self, until=float("inf")):
        """Return the emails whose processing had finished by that time.monotonic()."""
        finished, begun = [], []
        for at, line in list(self.out_times):
            begun = output.emails_begun(line) or begun
            if at < until and re.search(output.FINISHED, line):
                finished += begun
        return finished

    def received(self):
        """Return how many messages the batch worker has polled."""
        return sum(int(output.value_in(line, output.RECEIVED_LINE) or 0) for line in self.out)

"""Plays the tutorial in one terminal: the three scripts as they are, and Ctrl+C at the worst moments.

    python tests/demo.py

It starts a broker of its own, or takes the one that BOOTSTRAP_SERVERS names; there it needs the group to
itself, and leaves its thirty sign-ups in the topic. The exit code is 0 if no sign-up was lost or handled
twice and every script exited as it should, 130 after Ctrl+C, 1 otherwise. There are no colours where NO_COLOR
is set or the output is a file.
"""

import contextlib
import os
import re
import shutil
import signal
import sys
import textwrap
import time
from collections import Counter

from broker import Broker, BrokerError, on_stop_signals, stop_once
from kafka import KafkaAdminClient
from kafka.errors import KafkaError
from support.cluster import Cluster
from support.processes import GOODBYE, Script
from support.waiting import wait_until

TOPIC = "user_signups"
GROUP_ID = "group1"
TERMINALS = {  # script: label and colour of its terminal
    "producer": ("1 producer  | ", 36),
    "streaming_worker": ("2 streaming | ", 32),
    "batch_worker": ("3 batch     | ", 33),
}
HAS_COLOURS = sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def coloured(text, code):
    return f"\033[{code}m{text}\033[0m" if HAS_COLOURS else text


def say(text):
    """Tell the reader something; it is no script's line."""
    columns = min(shutil.get_terminal_size().columns, 100) - 1
    print("\n" + coloured(textwrap.fill(text, max(columns, 40)), 1) + "\n", flush=True)


def show(name, line):
    """Print a script's line after its label."""
    label, colour = TERMINALS[name]
    print(f"{coloured(label, colour)}{line}\n", end="", flush=True)  # in one piece: several threads print


class Demo:
    """The play, and the count of what happened in it. address: the broker's, as in BOOTSTRAP_SERVERS."""

    def __init__(self, address):
        self.address = address
        self.producers, self.workers = [], []

    def start(self, name):
        show(name, f"$ python {name}.py")
        script = Script(name, self.address, on_line=lambda line: show(name, line))
        (self.producers if name == "producer" else self.workers).append(script)
        return script

    def press_ctrl_c(self, script):
        show(script.name, "^C")
        script.signal(signal.SIGINT)
        script.wait()

    def play_streaming(self):
        say(
            "Streaming. Ten sign-ups; a worker handles each the moment it arrives. Ctrl+C comes in the "
            "middle of the fourth, its email sent and its status not yet updated. Watch the worker finish "
            "that one before it ends, and the restarted worker go on with the fifth. Idle at last, it gets a "
            "Ctrl+C too."
        )
        time.sleep(2)
        self.start("producer").wait_for("^Published")
        worker = self.start("streaming_worker")
        worker.wait_for("^sending", 4)
        time.sleep(0.2)
        self.press_ctrl_c(worker)
        worker = self.start("streaming_worker")
        worker.wait_for("^finished", 6)
        self.press_ctrl_c(worker)

    def play_batch(self):
        say(
            "Batch. A worker collects sign-ups in a buffer and handles all of them together every five "
            "seconds. Watch the first ten wait, then go as a batch."
        )
        time.sleep(2)
        worker = self.start("batch_worker")
        worker.wait_for("^starting")
        self.start("producer")
        wait_until(lambda: len(worker.finished()) >= 10, what="a first batch of ten is handled")
        say("Ten more; Ctrl+C comes while they wait in the buffer. Watch them being handled before it ends.")
        self.start("producer").wait()
        wait_until(lambda: worker.received() >= 20, what="ten more sign-ups are in the buffer")
        self.press_ctrl_c(worker)

    def summary(self):
        """Count, and print what was counted; returns whether all went as promised."""
        lines = [line for producer in self.producers for line in producer.out]
        published = Counter(email for line in lines for email in re.findall(r"^Published .* (\S+@\S+)", line))
        begun = Counter(email for worker in self.workers for email in worker.begun() if email in published)
        finished = Counter(email for worker in self.workers for email in worker.finished())
        lost, twice = (published - finished).total(), (begun - published).total()
        say("Counted from the lines above")
        for what, number in (
            ("published", published.total()),
            ("handled", (published & finished).total()),
            ("lost", lost),
            ("handled twice", twice),
        ):
            print(f"  {what:13} {number:3}")
        scripts = self.producers + self.workers
        wrong = [
            f"  {script.name}.py did not end as it should: exit code {script.process.returncode}, "
            f"last line {(script.out + script.err or [''])[-1]!r}"
            for script in scripts
            if script.process.returncode or (script in self.workers and script.out[-1:] != [GOODBYE])
        ]
        fine = f"  All {len(scripts)} processes ended as they should, with exit code 0."
        print("\n".join(wrong) or fine, flush=True)
        return not (lost or twice or wrong)

    def run(self):
        """Play it, and leave no script running, whatever happens. Returns whether all went as promised."""
        is_complete = False
        try:
            self.play_streaming()
            self.play_batch()
            is_complete = True
        except AssertionError as error:
            say(f"The demo stops here: {str(error).splitlines()[0]}")
        finally:
            for script in self.producers + self.workers:
                script.end()
        return self.summary() and is_complete


def obstacle(address):
    """Why the demo cannot be played on somebody's broker, in one line, or None."""
    cluster = Cluster(address)
    if cluster.members(GROUP_ID):
        return f"The demo needs the group {GROUP_ID} to itself, and a worker runs in it. Stop that one first."
    with KafkaAdminClient(**cluster.settings) as admin:
        has_topic = TOPIC in admin.list_topics()
    if has_topic and (backlog := cluster.lag(GROUP_ID, TOPIC)):
        return f"Of the messages in {TOPIC}, {GROUP_ID} has not handled {backlog}. Run a worker until it has."


def main():
    on_stop_signals(stop_once)
    say(
        "The tutorial's scripts, unchanged, each a process of its own. A label says which terminal a line is "
        "from: 1 publishes sign-ups, 2 and 3 handle them. It takes about half a minute."
    )
    try:
        with contextlib.ExitStack() as stack:
            if address := os.environ.get("BOOTSTRAP_SERVERS"):
                print(f"looking at the broker at {address}", flush=True)
                if reason := obstacle(address):
                    sys.exit(reason)
            else:
                print("starting a broker (Apache Kafka)", flush=True)
                address = stack.enter_context(Broker()).address
            code = 0 if Demo(address).run() else 1
    except KeyboardInterrupt:
        print("\nStopped; nothing that the demo started is left running.", flush=True)
        code = 130
    except BrokerError as error:
        sys.exit(str(error))
    except (KafkaError, ValueError) as error:
        sys.exit(f"{error}. Is a broker running there? BOOTSTRAP_SERVERS names its address.")
    finally:
        on_stop_signals(signal.SIG_IGN)
    sys.exit(code)


if __name__ == "__main__":
    main()

"""Plays the tutorial in one terminal: the three scripts as they are, and Ctrl+C at the worst moments.

    python tests/demo.py

It starts a broker of its own, or takes the one that BOOTSTRAP_SERVERS names; there it needs the group to itself, and
leaves its thirty sign-ups in the topic. The exit code is 0 if no sign-up was lost or handled twice and every script
exited as it should, 130 after Ctrl+C, 1 otherwise. There are no colours where NO_COLOR is set or the output is a file.
"""

import os
import signal
import sys

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until there is something to clean up, Ctrl+C just ends it

import contextlib
import re
import shutil
import textwrap
import time
from collections import Counter

from broker import Broker, BrokerError
from harness import GOODBYE, Cluster, Script, wait_until
from kafka import KafkaAdminClient
from kafka.errors import KafkaError

TOPIC = "user_signups"
GROUP_ID = "group1"
TERMINALS = {  # script: label and colour of its terminal
    "producer": ("1 producer  | ", 36),
    "streaming_worker": ("2 streaming | ", 32),
    "batch_worker": ("3 batch     | ", 33),
}
# Ctrl+C, kill, and a terminal window that is closed; Windows has no SIGHUP.
ENDINGS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
IS_TERMINAL = sys.stdout.isatty()


def coloured(text, code):
    return f"\033[{code}m{text}\033[0m" if IS_TERMINAL and not os.environ.get("NO_COLOR") else text


def say(text):
    """Tell the reader something; it is no script's line."""
    columns = min(shutil.get_terminal_size().columns, 100) - 1
    print("\n" + coloured(textwrap.fill(text, max(columns, 40)), 1) + "\n", flush=True)


def show(name, line):
    """Print a script's line after its label. On a terminal, what is too long for one row goes on below, indented."""
    label, colour = TERMINALS[name]
    rows = [line]
    if IS_TERMINAL:
        room = max(shutil.get_terminal_size().columns - len(label), 40)
        rows = textwrap.wrap(line, room, subsequent_indent="    ", break_on_hyphens=False) or [""]
    text = "".join(f"{coloured(label, colour)}{row}\n" for row in rows)
    print(text, end="", flush=True)  # in one piece: several threads print


def emails_in(line):
    return re.findall(r"[^\s',\[\]]+@[^\s',\[\]]+", line)


def work_of(script):
    """[[email, is it finished]] of all that a worker began, as it printed it."""
    work = []
    for line in script.out:
        if line.startswith("sending email to "):
            work += [[email, False] for email in emails_in(line)]
        elif line.startswith("finished processing "):
            work = [[email, True] for email, _ in work]
    return work


def finished_by(script):
    return sum(is_finished for _, is_finished in work_of(script))


def received_by(script):
    return sum(int(line.split()[1]) for line in script.out if line.startswith("received "))


class Demo:
    """The play, and the count of what happened in it. address: the broker's, as in BOOTSTRAP_SERVERS."""

    def __init__(self, address):
        self.address = address
        self.scripts = []
        self.published = self.handled = self.lost = self.twice = 0
        self.counted_producers = self.counted_work = 0

    def start(self, name):
        show(name, f"$ python {name}.py")
        self.scripts.append(Script(name, self.address, on_line=lambda line: show(name, line)))
        return self.scripts[-1]

    def press_ctrl_c(self, script):
        show(script.name, "^C")
        script.signal(signal.SIGINT)
        script.wait()

    def play_streaming(self):
        say(
            "Streaming. Ten sign-ups; a worker handles each the moment it arrives. Ctrl+C comes in the middle of the "
            "fourth, its email sent and its status not yet updated. Watch the worker finish that one before it ends, "
            "and the restarted worker go on with the fifth. Idle at last, it gets a Ctrl+C too."
        )
        time.sleep(2)
        producer = self.start("producer")
        producer.wait_for("^Published")
        worker = self.start("streaming_worker")
        worker.wait_for("^sending", 4)
        time.sleep(0.2)
        self.press_ctrl_c(worker)
        worker = self.start("streaming_worker")
        wait_until(lambda: finished_by(worker) >= 6, what="the other six sign-ups are handled")
        self.press_ctrl_c(worker)
        self.count()

    def play_batch(self):
        say(
            "Batch. A worker collects sign-ups in a buffer and handles all of them together every five seconds. "
            "Watch the first ten wait, then go as a batch."
        )
        time.sleep(2)
        worker = self.start("batch_worker")
        worker.wait_for("^starting")
        self.start("producer")
        wait_until(lambda: finished_by(worker) >= 10, what="a first batch of ten is handled")
        self.count()
        say("Ten more; Ctrl+C comes while they wait in the buffer. Watch the worker handle them before it ends.")
        self.start("producer").wait()
        wait_until(lambda: received_by(worker) >= 20, what="ten more sign-ups are in the buffer")
        self.press_ctrl_c(worker)

    def count(self):
        """Count what was published and handled since the last count; every run of the producer has the same emails."""
        producers = [script for script in self.scripts if script.name == "producer"]
        work = [entry for script in self.scripts if script.name != "producer" for entry in work_of(script)]
        published = Counter(
            email
            for producer in producers[self.counted_producers :]
            for line in producer.out
            if line.startswith("Published ")
            for email in emails_in(line)
        )
        begun = Counter(email for email, _ in work[self.counted_work :])
        finished = Counter(email for email, is_finished in work[self.counted_work :] if is_finished)
        self.published += published.total()
        self.handled += (published & finished).total()
        self.lost += (published - finished).total()
        self.twice += sum(count for email, count in (begun - published).items() if email in published)
        self.counted_producers, self.counted_work = len(producers), len(work)

    def summary(self):
        """Print it; returns whether all went as promised."""
        say("Counted from the lines above")
        for what, number in (
            ("published", self.published),
            ("handled", self.handled),
            ("lost", self.lost),
            ("handled twice", self.twice),
        ):
            print(f"  {what:13} {number:3}")
        wrong = [
            f"  {script.name}.py did not end as it should: exit code {script.process.returncode}, "
            f"last line {(script.out + script.err or [''])[-1]!r}"
            for script in self.scripts
            if script.process.returncode or (script.name != "producer" and script.out[-1:] != [GOODBYE])
        ]
        fine = f"  All {len(self.scripts)} processes ended as they should, with exit code 0."
        print("\n".join(wrong) or fine, flush=True)
        return not (self.lost or self.twice or wrong)

    def run(self):
        """Play all of it; whatever happens, no script is left running. Returns whether all went as promised."""
        is_complete = False
        try:
            self.play_streaming()
            self.play_batch()
            is_complete = True
        except AssertionError as error:
            say(f"The demo stops here: {str(error).splitlines()[0]}")
            for script in self.scripts:
                if script.process.poll() is None:
                    with contextlib.suppress(AssertionError):
                        self.press_ctrl_c(script)
        finally:
            for script in self.scripts:
                script.end()
        self.count()
        return self.summary() and is_complete


def obstacle(address):
    """Why the demo cannot be played on somebody's broker, in one line, or None."""
    cluster = Cluster(address)
    with KafkaAdminClient(**cluster.settings) as admin:
        states = {group["group_id"]: group.get("group_state") for group in admin.list_groups()}
        has_topic = TOPIC in admin.list_topics()
    if states.get(GROUP_ID, "Empty") not in ("Empty", "Dead"):
        return f"The demo needs the group {GROUP_ID} to itself, and a worker is running in it. Stop that one first."
    if has_topic and (backlog := cluster.lag(GROUP_ID, TOPIC)):
        return (
            f"The demo needs a group without backlog, and {GROUP_ID} has not handled {backlog} of the messages in "
            f"{TOPIC}. Run a worker until it has, then try again."
        )


def interrupt(signum, frame):
    for number in ENDINGS:
        signal.signal(number, signal.SIG_IGN)  # once is enough; what follows is cleaning up
    raise KeyboardInterrupt


def main():
    for number in ENDINGS:
        signal.signal(number, interrupt)
    address = os.environ.get("BOOTSTRAP_SERVERS")
    say(
        "The tutorial's scripts, unchanged, each a process of its own. A label says which terminal a line is from: "
        "1 publishes sign-ups, 2 and 3 handle them. It takes about half a minute."
    )
    try:
        with contextlib.ExitStack() as stack:
            if not address:
                print("starting a broker (Apache Kafka)", flush=True)
                address = stack.enter_context(Broker()).address
            else:
                print(f"looking at the broker at {address}", flush=True)
                if reason := obstacle(address):
                    sys.exit(reason)
            code = 0 if Demo(address).run() else 1
    except KeyboardInterrupt:
        print("\nStopped; nothing that the demo started is left running.", flush=True)
        code = 130
    except BrokerError as error:
        sys.exit(str(error))
    except (KafkaError, ValueError) as error:
        sys.exit(f"{error}. Is a broker running there? BOOTSTRAP_SERVERS names its address.")
    sys.exit(code)


if __name__ == "__main__":
    main()

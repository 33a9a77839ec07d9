"""Plays the tutorial in one terminal: the unchanged scripts, and Ctrl+C at the worst moments.

    python tests/demo.py              both workers, about half a minute
    python tests/demo.py --picture    the streaming worker only; writes tests/demo.svg, the README's picture

It starts a broker of its own. Exit code: 0 if every script exited as it should and no message was lost or
processed twice; 130 after Ctrl+C; otherwise 1. Set NO_COLOR for output without colors.
"""

import argparse
import re
import signal
import sys
import time
from contextlib import closing
from pathlib import Path

from broker import Broker, BrokerError
from rich.console import Console
from rich.table import Table
from rich.text import Text
from support import output
from support.processes import BATCH, PRODUCER, STREAMING, Script
from support.signals import exiting_cleanly
from support.workload import Record

PICTURE = Path(__file__).with_name("demo.svg")
PICTURED = {PRODUCER: "09", STREAMING: "034"}  # the users whose lines the picture shows
TERMINALS = {  # script: its label and color
    PRODUCER: ("1 producer  | ", "cyan"),
    STREAMING: ("2 streaming | ", "green"),
    BATCH: ("3 batch     | ", "yellow"),
}


class Demo(Record):
    """One performance, on the broker at address, and what it lost and repeated."""

    def __init__(self, address, is_picture):
        super().__init__()
        self.address = address
        self.is_picture = is_picture
        width = 96 if is_picture else None
        self.console = Console(highlight=False, record=is_picture, width=width)
        self.is_shown = True
        self.producers = []

    def say(self, text):
        self.console.print(Text(f"\n{text}\n", style="bold"))

    def show(self, name, line):
        """Print a line of a script after its label. The picture has "..." in place of similar lines."""
        label, color = TERMINALS[name]
        was_shown, user = self.is_shown, re.search(r"user(\d)@", line)
        if self.is_picture and (user or not re.search(output.FINISHED, line)):
            self.is_shown = not user or user[1] in PICTURED[name]
        if self.is_shown or was_shown:
            line = line if self.is_shown else "..."
            self.console.print(Text.assemble((label, color), line), soft_wrap=True)

    def start(self, name):
        self.show(name, f"$ python {name}.py")
        script = Script(name, self.address, on_line=lambda line: self.show(name, line))
        (self.producers if name == PRODUCER else self.workers).append(script)
        return script

    def publish(self):
        self.start(PRODUCER).wait_for_exit()

    def press_ctrl_c(self, worker):
        self.show(worker.name, "^C")
        worker.stop_and_check(signal_number=signal.SIGINT)

    def play_streaming(self):
        self.say(
            "Ten sign-ups, and a worker that processes each as it arrives. Ctrl+C comes after the email to "
            "user3, before the status: watch the worker finish user3, and the next one continue with user4."
        )
        self.publish()
        worker = self.start(STREAMING)
        worker.wait_for(output.SENDING, 4)
        time.sleep(0.2)
        self.press_ctrl_c(worker)
        worker = self.start(STREAMING)
        worker.wait_for(output.FINISHED, 6)
        self.press_ctrl_c(worker)

    def play_batch(self):
        self.say(
            "Now in batches: this worker collects sign-ups in a buffer and processes them together every "
            "five seconds. Watch the first ten wait, then go as a batch."
        )
        worker = self.start(BATCH)
        worker.wait_for(output.STARTING)
        self.publish()
        worker.wait_until(lambda: len(worker.finished()) >= 10, what="a first batch of ten is processed")
        self.say(
            "Ten more. Ctrl+C comes while they are in the buffer: watch them being processed before the end."
        )
        self.publish()
        worker.wait_until(lambda: worker.received() >= 20, what="ten more sign-ups are in the buffer")
        self.press_ctrl_c(worker)

    def summarize(self):
        """Count, and print what was counted; return whether nothing was lost or processed twice."""
        lines = [line for producer in self.producers for line in producer.out]
        self.published = [email for line in lines if (email := output.value_in(line, output.PUBLISHED_LINE))]
        lost, twice = self.lost().total(), self.repeated().total()
        self.say("Counted from the lines above")
        table = Table(box=None, show_header=False)
        table.add_row("published", str(len(self.published)))
        table.add_row("processed", str(len(self.published) - lost))
        table.add_row("lost", str(lost), style="bold green" if lost == 0 else "bold red")
        table.add_row("processed twice", str(twice), style="bold green" if twice == 0 else "bold red")
        self.console.print(table)
        count = len(self.producers + self.workers)
        self.console.print(Text(f"\nAll {count} processes exited with code 0, as they should."))
        return not (lost or twice)

    def close(self):
        """Kill the scripts that are still running, which happens only if something went wrong."""
        for script in self.producers + self.workers:
            script.end()


def main():
    parser = argparse.ArgumentParser(description="Play the tutorial in one terminal.")
    parser.add_argument("--picture", action="store_true", help=f"write tests/{PICTURE.name}")
    is_picture = parser.parse_args().picture
    with exiting_cleanly((BrokerError, AssertionError)):
        print("starting a broker (Apache Kafka)", flush=True)
        with Broker() as broker, closing(Demo(broker.address, is_picture)) as demo:
            demo.play_streaming()
            if not is_picture:
                demo.play_batch()
            is_as_promised = demo.summarize()
    if is_picture and is_as_promised:
        demo.console.save_svg(str(PICTURE), title="python tests/demo.py")
    sys.exit(0 if is_as_promised else 1)


if __name__ == "__main__":
    main()

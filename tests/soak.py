"""Runs workers on four partitions under random faults, and counts what is lost and what is repeated.

    python tests/soak.py 600 --seed 7

Three streaming and three batch workers, each kind with a topic and a group of its own, receive 20 messages a
second for the given time, or longer, until each fault has occurred equally often: a worker stopped, killed or
frozen; the broker killed or frozen, and half of the time a worker stopped meanwhile. Then the soak waits
until everything is processed.

Exit code 1: a message was lost; the group did not commit everything; there are more repeats than the faults
explain (two for each fault with the streaming worker, a batch with the batch worker); a worker exited on
its own (unless it found no broker for 20 s), printed a traceback, or did not exit with 0 when stopped (0 or 1
while the broker was unavailable).
Exit code 130: interrupted by a signal; the broker and the workers are ended.
"""

import argparse
import random
import signal
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from broker import Broker, BrokerError
from rich.console import Console
from rich.table import Table
from support import limits, output
from support.cluster import Cluster
from support.processes import BATCH, STREAMING, WORKERS
from support.signals import exiting_cleanly
from support.waiting import wait_until
from support.workload import SHORT_SESSION, Workload, send_steadily

PARTITIONS = 4
WORKERS_OF_A_KIND = 3
MESSAGES_PER_SECOND = 20
SHORT_SESSION_SECONDS = SHORT_SESSION["session_timeout_ms"] // 1000
FROZEN_SECONDS = SHORT_SESSION_SECONDS + 2  # so that the group evicts the worker
WORK_AND_EXIT_SECONDS = limits.EXIT_SECONDS + 5  # with up to 5 s for its work
CATCH_UP_SECONDS = 40  # a killed worker's session, a rebalance, and what has piled up
FLEET_WORK_SECONDS = {STREAMING: 0.01, BATCH: 0.3}  # three keep up, and are busy half of the time
FAULTS = ["worker stopped", "worker killed", "worker frozen", "broker killed", "broker frozen"]


class Fleet(Workload):
    """The workers of one kind, and what is published for them.

    running: the workers that should be. problems: what is wrong, in words.
    """

    def __init__(self, name, cluster, settings):
        settings = {**SHORT_SESSION, **settings}
        super().__init__(cluster, name, PARTITIONS, WORK_SECONDS=FLEET_WORK_SECONDS[name], **settings)
        self.running, self.problems = [], []

    def ready(self):
        """Return the workers that have connected."""
        return [worker for worker in self.running if worker.out]

    def stop(self, worker, exit_codes=(0,)):
        """Stop the worker, which should exit with one of these codes."""
        self.running.remove(worker)
        worker.signal(signal.SIGTERM)
        try:
            code = worker.wait(WORK_AND_EXIT_SECONDS)
        except AssertionError:
            code = f"none after {WORK_AND_EXIT_SECONDS} s"
        if code not in exit_codes:
            self.problems.append(f"stopped: exit code {code}\n{worker}")

    def replace_missing(self):
        """Start a worker for each that has exited or was taken out of running."""
        for worker in [worker for worker in self.running if not worker.is_running]:
            self.running.remove(worker)
            worker.wait()
            if output.NOT_CONNECTED_TEXT not in "".join(worker.err):
                self.problems.append(f"exited unexpectedly\n{worker}")
        while len(self.running) < WORKERS_OF_A_KIND:
            self.running.append(self.start())

    def verdict(self, faults):
        """Return {what was counted: number} after that many faults; add to problems what is wrong with it."""
        if lost := self.lost():
            what = f"not processed within {CATCH_UP_SECONDS} s: {sorted(lost)[:20]}"
            self.problems.append("\n".join(map(str, [what, *self.workers])))
        if lag := self.lag():
            self.problems.append(f"{lag} messages are not committed")
        for worker in self.workers:
            if any("Traceback" in line for line in worker.err):
                self.problems.append(f"a traceback\n{worker}")
        repeated = self.repeated().total()
        sizes = [len(batch) for worker in self.workers for batch in worker.batches()]
        explained = faults * (2 if self.worker_name == STREAMING else max(sizes, default=0))
        if repeated > explained:
            self.problems.append(f"{repeated} repeats, but the faults explain {explained} at most")
        return {
            "sent": len(self.published),
            "processed": len(self.published) - len(lost),
            "lost": len(lost),
            "repeated": repeated,
            "explained repeats, at most": explained,
        }


class Soak:
    """The faults, and what they strike: a broker that runs, and a fleet of each worker.

    settings: of the workers, as for run_script.py.
    publisher: the Future of what publishes to the fleets until is_over is set. It begins at once.
    """

    def __init__(self, broker, seconds, seed, settings):
        self.broker = broker
        cluster = Cluster(broker.address)
        self.fleets = [Fleet(name, cluster, settings) for name in WORKERS]
        self.rng = random.Random(seed)
        self.began, self.seconds = time.monotonic(), seconds
        self.faults = Counter()
        self.is_over = threading.Event()
        futures = send_steadily(self.fleets, MESSAGES_PER_SECOND, self.is_over)
        # Not in a `with`, which would wait for the producer in vain while there is no broker.
        self.publisher = ThreadPoolExecutor(1).submit(list, futures)

    def are_ready(self):
        """Replace missing workers; return whether each fleet has a worker that a fault can strike."""
        for fleet in self.fleets:
            fleet.replace_missing()
        return all(fleet.ready() for fleet in self.fleets)

    def wait(self, seconds):
        """Let some seconds pass, while missing workers are replaced and the publisher is checked."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.are_ready()
            if self.publisher.done():
                self.publisher.result()  # raises what kept a message from being published
            time.sleep(0.1)

    def strike_broker(self, fault):
        """Kill or freeze the broker for some seconds; half of the time, stop a worker of a fleet, too."""
        self.broker.kill() if fault == "broker killed" else self.broker.freeze()
        end = time.monotonic() + self.rng.uniform(1, SHORT_SESSION_SECONDS + 3)
        for fleet in self.fleets:
            if self.rng.random() < 0.5 and (ready := fleet.ready()):
                self.wait(self.rng.uniform(0, 1))
                fleet.stop(self.rng.choice(ready), exit_codes=(0, 1))
        self.wait(end - time.monotonic())
        self.broker.restore()
        self.wait(2)  # clients retry every second, so that all are connected again

    def strike_workers(self, fault):
        """Stop, kill or freeze a worker of each fleet; a frozen one goes on after FROZEN_SECONDS."""
        wait_until(self.are_ready, 60, "a worker of each kind is running")
        victims = [(fleet, self.rng.choice(fleet.ready())) for fleet in self.fleets]
        for fleet, worker in victims:
            if fault == "worker stopped":
                fleet.stop(worker)
            elif fault == "worker killed":
                fleet.running.remove(worker)
                worker.kill()
            else:
                worker.freeze()
        if fault == "worker frozen":
            self.wait(FROZEN_SECONDS)
            for _, worker in victims:
                worker.thaw()

    def inject(self, faults):
        """Inject these faults, each as often as the others, for self.seconds or longer."""
        pending = []
        while time.monotonic() < self.began + self.seconds or pending:
            self.wait(self.rng.uniform(1, 4))
            pending = pending or self.rng.sample(faults, len(faults))
            fault = pending.pop()
            print(f"{time.monotonic() - self.began:.0f} of {self.seconds:g} s: {fault}", flush=True)
            self.faults[fault] += 1
            self.strike_broker(fault) if fault.startswith("broker") else self.strike_workers(fault)

    def catch_up(self):
        """Wait until everything is processed and committed."""

        def is_done():
            self.are_ready()
            return not any(fleet.lost() or fleet.lag() for fleet in self.fleets)

        with suppress(AssertionError):  # verdict() says what is missing
            wait_until(is_done, CATCH_UP_SECONDS)

    def run(self, faults):
        """Inject the faults, catch up, and end everything but the broker; return the fleets' verdicts."""
        try:
            self.inject(faults)
            print("catching up", flush=True)
            self.is_over.set()
            self.publisher.result()
            self.catch_up()
            for fleet in self.fleets:
                for worker in list(fleet.running):
                    fleet.stop(worker)
            return [{**fleet.verdict(self.faults.total()), **self.faults} for fleet in self.fleets]
        finally:
            self.is_over.set()
            for fleet in self.fleets:
                fleet.end()


def main():
    parser = argparse.ArgumentParser(description="Count what workers lose and repeat under random faults.")
    parser.add_argument("seconds", nargs="?", type=float, default=60, help="how long (default: 60)")
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000), help="seed for the faults")
    parser.add_argument("--never-commit", action="store_true", help="stop broken workers: the soak must fail")
    args = parser.parse_args()
    print(f"seed {args.seed}, {args.seconds:g} s", flush=True)
    settings, faults = ({"never_commit": True}, FAULTS[:1]) if args.never_commit else ({}, FAULTS)
    with exiting_cleanly((BrokerError, AssertionError)), Broker() as broker:
        soak = Soak(broker, args.seconds, args.seed, settings)
        streaming, batch = soak.run(faults)
    table = Table("", *WORKERS, box=None)
    for row in streaming:
        table.add_row(row, str(streaming[row]), str(batch[row]))
    Console(highlight=False, width=100).print(table)
    problems = [f"{fleet.worker_name}: {problem}" for fleet in soak.fleets for problem in fleet.problems]
    sys.exit("\n".join(problems) or 0)


if __name__ == "__main__":
    main()

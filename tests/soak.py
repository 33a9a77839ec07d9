"""Runs workers on four partitions under random faults, and counts what is lost and what is repeated.

    python tests/soak.py 600 --seed 7

Three streaming and three batch workers, each kind with a topic and a group of its own, receive 20 messages a
second for the given time, or longer, until each kind of fault has occurred equally often: a worker stopped,
killed or frozen; the broker killed or frozen. Then the soak waits until everything is processed.

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

from broker import Broker, BrokerError
from rich.console import Console
from rich.progress import Progress
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
SECONDS_BETWEEN_FAULTS = (1, 4)
WORK_AND_EXIT_SECONDS = limits.EXIT_SECONDS + 5  # with up to 5 s for its work
CATCH_UP_SECONDS = 20
WORK_SECONDS = {STREAMING: 0.01, BATCH: 0.3}  # three keep up, and are busy half of the time
FAULTS = ["worker stopped", "worker killed", "worker frozen", "broker killed", "broker frozen"]


class Fleet(Workload):
    """The workers of one kind, what is published for them, and what has happened to them.

    frozen: {worker: when to thaw it}. thawed: {worker: when it was}. outage_at: when the last outage began.
    All times are those of time.monotonic().
    faults, exits: how many of each kind there were. problems: what is wrong, in words.
    """

    def __init__(self, name, cluster, settings):
        super().__init__(
            cluster, name, PARTITIONS, WORK_SECONDS=WORK_SECONDS[name], **SHORT_SESSION, **settings
        )
        self.running, self.frozen, self.thawed = [], {}, {}
        self.outage_at = 0
        self.faults, self.exits = Counter(), Counter()
        self.problems = []

    def ready(self):
        """Return the workers that are running, are not frozen, and were not thawed in the last 3 s."""
        recently = time.monotonic() - 3
        rejoining = [worker for worker, at in self.thawed.items() if at > recently]
        return [worker for worker in self.running if worker.out and worker not in [*self.frozen, *rejoining]]

    def strike(self, fault, rng):
        self.faults[fault] += 1
        worker = rng.choice(self.ready())
        if fault == "worker frozen":
            worker.freeze()
            self.frozen[worker] = time.monotonic() + FROZEN_SECONDS
        elif fault == "worker killed":
            self.running.remove(worker)
            worker.kill()
        else:
            self.stop(worker)

    def stop(self, worker, broker_is="up"):
        """Stop the worker, and count how it exits; broker_is: "up" or "down"."""
        self.running.remove(worker)
        worker.signal(signal.SIGTERM)
        try:
            code = worker.wait(WORK_AND_EXIT_SECONDS)
        except AssertionError:
            code = f"none after {WORK_AND_EXIT_SECONDS} s"
        self.exits[f"stopped, broker {broker_is}: exit {code}"] += 1
        if code != 0 and (broker_is == "up" or code != 1):
            self.problems.append(f"stopped with the broker {broker_is}: exit {code}\n{worker}")

    def look_after(self):
        """Resume workers that were frozen long enough; replace those that exited."""
        for worker, until in list(self.frozen.items()):
            if time.monotonic() > until:
                worker.thaw()
                del self.frozen[worker]
                self.thawed[worker] = time.monotonic()
        for worker in list(self.running):
            if not worker.is_running:
                self.running.remove(worker)
                if self.gave_up_connecting(worker):
                    self.exits["gave up connecting: exit 1"] += 1
                else:
                    self.exits["exited unexpectedly"] += 1
                    self.problems.append(f"exited unexpectedly\n{worker}")
        while len(self.running) < WORKERS_OF_A_KIND:
            self.running.append(self.start())

    def gave_up_connecting(self, worker):
        """Return whether the worker exited, as promised, because a fault kept the broker down for 20 s."""
        worker.wait()
        is_struck = self.outage_at > worker.started - limits.CONNECT_SECONDS - 10
        return is_struck and output.NOT_CONNECTED_TEXT in "".join(worker.err)

    def remaining(self):
        """Return the number of unprocessed emails, uncommitted messages and frozen workers."""
        return len(self.lost()) + self.lag() + len(self.frozen)

    def verdict(self):
        """Return what was counted, {row of the table: cell}; add to problems what is wrong with it."""
        if lost := self.lost():
            what = f"lost, or nothing more was processed for {CATCH_UP_SECONDS} s: {sorted(lost)[:20]}"
            self.problems.append("\n".join(map(str, [what, *self.workers])))
        if lag := self.lag():
            self.problems.append(f"{lag} messages are not committed")
        for worker in self.workers:
            if any("Traceback" in line for line in worker.err):
                self.problems.append(f"a traceback\n{worker}")
        repeated = self.repeated().total()
        sizes = [len(batch) for worker in self.workers for batch in worker.batches()]
        explained = self.faults.total() * (2 if self.worker_name == STREAMING else max(sizes, default=0))
        if repeated > explained:
            self.problems.append(f"{repeated} repeats, but the faults explain {explained} at most")
        return {
            "sent": len(self.published),
            "processed": len(self.published) - len(lost),
            "lost": len(lost),
            "repeated": repeated,
            "explained repeats, at most": explained,
            **self.faults,
            "exited unexpectedly": 0,
            **self.exits,
        }


class Soak:
    """The faults, and what they strike: a broker that runs, and a fleet of each of the named workers.

    settings: of the workers, as for run_script.py.
    publisher: the Future of what publishes to the fleets until is_over is set. It begins at once.
    """

    def __init__(self, broker, seconds, seed, names, settings):
        self.broker = broker
        cluster = Cluster(broker.address)
        self.fleets = [Fleet(name, cluster, settings) for name in names]
        self.rng = random.Random(seed)
        self.began, self.seconds = time.monotonic(), seconds
        self.progress = Progress(disable=not sys.stdout.isatty())
        self.bar = self.progress.add_task("faults", total=seconds)
        self.is_over = threading.Event()
        futures = send_steadily(self.fleets, MESSAGES_PER_SECOND, self.is_over)
        # Not in a `with`, which would wait for the producer in vain while there is no broker.
        self.publisher = ThreadPoolExecutor(1).submit(list, futures)

    def look_after(self):
        """Look after the fleets; return whether each has a worker that a fault can strike."""
        for fleet in self.fleets:
            fleet.look_after()
        return all(fleet.ready() for fleet in self.fleets)

    def wait(self, seconds):
        """Let some seconds pass, while the fleets and the publisher are looked after."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.look_after()
            self.progress.update(self.bar, completed=time.monotonic() - self.began)
            if self.publisher.done():
                self.publisher.result()  # raises what kept a message from being published
            time.sleep(0.1)

    def strike_broker(self, fault):
        """Kill or freeze the broker for some seconds; half of the time, stop a worker of a fleet, too."""
        self.broker.kill() if fault == "broker killed" else self.broker.freeze()
        end = time.monotonic() + self.rng.uniform(1, SHORT_SESSION_SECONDS + 3)
        for fleet in self.fleets:
            fleet.faults[fault] += 1
            fleet.outage_at = time.monotonic()
        for fleet in self.fleets:
            if self.rng.random() < 0.5 and (ready := fleet.ready()):
                self.wait(self.rng.uniform(0, 1))
                fleet.faults["worker stopped, broker down"] += 1
                fleet.stop(self.rng.choice(ready), "down")
        self.wait(end - time.monotonic())
        self.broker.restore()
        self.wait(2)  # clients retry every second, so that all are connected again

    def strike_workers(self, fault):
        wait_until(self.look_after, 60, "a worker of each kind is running")
        for fleet in self.fleets:
            fleet.strike(fault, self.rng)

    def inject(self, faults):
        """Inject these faults, each as often as the others, for self.seconds or longer."""
        pending = []
        while time.monotonic() < self.began + self.seconds or pending:
            self.wait(self.rng.uniform(*SECONDS_BETWEEN_FAULTS))
            pending = pending or self.rng.sample(faults, len(faults))
            fault = pending.pop()
            print(f"{time.monotonic() - self.began:.0f} of {self.seconds:g} s: {fault}", flush=True)
            strike = self.strike_broker if fault.startswith("broker") else self.strike_workers
            strike(fault)

    def catch_up(self):
        """Wait until everything is processed and committed, as long as there is progress."""
        remaining, limit = None, time.monotonic() + CATCH_UP_SECONDS
        while remaining != 0 and time.monotonic() < limit:
            before, remaining = remaining, sum(fleet.remaining() for fleet in self.fleets)
            if remaining != before:
                limit = time.monotonic() + CATCH_UP_SECONDS
            self.wait(0.5)

    def run(self, faults):
        """Inject the faults, catch up, and end everything but the broker; return {fleet: its verdict}."""
        try:
            with self.progress:
                self.inject(faults)
                print("catching up", flush=True)
                self.is_over.set()
                self.publisher.result()
                self.catch_up()
            for fleet in self.fleets:
                for worker in list(fleet.running):
                    fleet.stop(worker)
            return {fleet: fleet.verdict() for fleet in self.fleets}
        finally:
            self.is_over.set()
            for fleet in self.fleets:
                fleet.end()


def main():
    parser = argparse.ArgumentParser(description="Count what workers lose and repeat under random faults.")
    parser.add_argument("seconds", nargs="?", type=float, default=60, help="how long (default: 60)")
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000), help="seed for the faults")
    parser.add_argument("--worker", choices=WORKERS, help="only this one (default: both)")
    parser.add_argument("--fault", choices=FAULTS, help="only this one (default: all)")
    parser.add_argument("--never-commit", action="store_true", help="break the workers: the soak must fail")
    args = parser.parse_args()
    print(f"seed {args.seed}, {args.seconds:g} s", flush=True)
    names = [args.worker] if args.worker else WORKERS
    faults = [args.fault] if args.fault else FAULTS
    settings = {"never_commit": True} if args.never_commit else {}
    with exiting_cleanly((BrokerError, AssertionError)), Broker() as broker:
        verdicts = Soak(broker, args.seconds, args.seed, names, settings).run(faults)
    table = Table("", *(fleet.worker_name for fleet in verdicts), box=None)
    for row in dict.fromkeys(name for verdict in verdicts.values() for name in verdict):
        table.add_row(row, *(str(verdict.get(row, 0)) for verdict in verdicts.values()))
    Console(highlight=False, width=100).print(table)
    for fleet in verdicts:
        for problem in fleet.problems:
            print(f"{fleet.worker_name}: {problem}", file=sys.stderr)
    sys.exit(any(fleet.problems for fleet in verdicts))


if __name__ == "__main__":
    main()

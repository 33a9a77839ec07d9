"""Three workers on four partitions under random faults: stopped, killed, frozen; the broker killed, frozen.

    python tests/soak.py 600 --seed 7 --worker both

Twenty messages a second for as many seconds as it is told, or longer until each kind of fault has come as
often as the others, with some seconds between them; "both" runs three streaming and three batch workers side
by side, on a topic and in a group of their own. It ends when all that was published is handled, and prints a
table.

A message that is begun again is counted with the fault that struck its worker since the first time, else the
broker, else with the last fault of any kind. "Behind a commit" are those that had been committed, as a worker
had taken their partition over at a later message: no fault explains these, an old offset that kafka-python
kept does.

Exit code 1: a message lost or not handled in time, a worker that died by itself, a traceback, or a worker
that did not exit 0 when it was stopped with the broker up (0 or 1 with the broker away).
"""

import argparse
import random
import sys
import threading
import time
from collections import Counter, defaultdict, namedtuple

from broker import Broker
from kafka import KafkaProducer
from kafka.errors import KafkaError
from support.cluster import Cluster
from support.processes import Script, emails_sent
from support.waiting import wait_until

PARTITIONS = 4
WORKERS = 3
MESSAGES_PER_SECOND = 20
SESSION_SECONDS = 6  # the shortest that brokers allow
SECONDS_BETWEEN_FAULTS = (1, 4)
EXIT_SECONDS = 15  # a stopped worker has work in hand for a moment, and then 10 s
CATCH_UP_SECONDS = 30
WORK_SECONDS = {"streaming": 0.01, "batch": 0.3}  # three keep up, and are found at work half of the time
FAULTS = ["worker stopped", "worker killed", "worker frozen", "broker killed", "broker frozen"]

Fault = namedtuple("Fault", "at what worker")
Repeat = namedtuple("Repeat", "at fault before worker is_behind_commit")


class Fleet:
    """The workers of one kind, and what is published for them."""

    def __init__(self, name, cluster):
        self.name = name
        self.address = cluster.address
        self.topic = cluster.create_topic(partitions=PARTITIONS)
        self.acknowledged = set()
        self.workers, self.running, self.frozen = [], [], {}
        self.ends = Counter()
        self.trouble = []
        self.faults = []
        self.note("workers started")

    def hire(self):
        worker = Script(
            f"{self.name}_worker",
            self.address,
            TOPIC=self.topic,
            GROUP_ID=self.topic,
            WORK_SECONDS=WORK_SECONDS[self.name],
            **({"BATCH_SECONDS": 0.5} if self.name == "batch" else {}),
            session_timeout_ms=SESSION_SECONDS * 1000,
        )
        self.workers.append(worker)
        self.running.append(worker)

    def note(self, what, worker=None):
        self.faults.append(Fault(time.monotonic(), what, worker))

    def publish(self, producer, number):
        email = f"user{number}@gmail.com"
        future = producer.send(self.topic, email.encode(), partition=number % PARTITIONS)
        future.add_callback(lambda _: self.acknowledged.add(email))

    def able(self):
        """The workers that have begun, and are not frozen nor just thawed."""
        shaken = {fault.worker for fault in self.faults if fault.at > time.monotonic() - 3}
        return [worker for worker in self.running if worker.out and worker not in {*self.frozen, *shaken}]

    def strike(self, fault, chance):
        worker = chance.choice(self.able())
        self.note(fault, worker)
        if fault == "worker frozen":
            worker.freeze()
            self.frozen[worker] = time.monotonic() + SESSION_SECONDS + 2
        elif fault == "worker killed":
            self.running.remove(worker)
            worker.kill()
        else:
            self.stop(worker, "up")

    def stop(self, worker, broker_is):
        """Ask it to end, and see that it does as it should."""
        self.running.remove(worker)
        worker.signal(15)
        try:
            code = worker.wait(EXIT_SECONDS)
        except AssertionError:
            code = f"none after {EXIT_SECONDS} s"
        self.ends[f"stopped, broker {broker_is}: exit {code}"] += 1
        if code != 0 and (broker_is == "up" or code != 1):
            self.trouble.append(f"stopped with the broker {broker_is}: exit {code}\n{worker}")

    def look_after(self):
        """Thaw who has been frozen for long enough; replace who has gone."""
        for worker, until in list(self.frozen.items()):
            if time.monotonic() > until:
                del self.frozen[worker]
                self.note("worker thawed", worker)
                worker.thaw()
        for worker in list(self.running):
            if worker.process.poll() is not None:
                self.running.remove(worker)
                self.ends["died by itself"] += 1
                self.trouble.append(f"died by itself\n{worker}")
        while len(self.running) < WORKERS:
            self.hire()

    def lost(self):
        return self.acknowledged - {email for worker in self.workers for email in worker.finished()}

    def is_done(self, cluster):
        try:
            return not self.frozen and cluster.lag(self.topic, self.topic) == 0 and not self.lost()
        except KafkaError:  # the broker is not ready yet
            return False

    def repeats(self):
        begun = [
            (at, worker, int(email.removeprefix("user").removesuffix("@gmail.com")))
            for worker in self.workers
            for at, line in worker.lines
            for email in emails_sent(line)
        ]
        repeats = []
        last = {}  # message: when and by whom it was begun last
        owner, committed = {}, Counter()  # of a partition: who began there last; what is below was committed
        for at, worker, message in sorted(begun, key=lambda entry: entry[0]):
            partition = message % PARTITIONS
            if message in last:
                first, before = last[message]
                faults = [fault for fault in self.faults if fault.at < at]
                its_own = [fault for fault in faults if fault.worker == before and fault.at > first]
                brokers = [
                    fault for fault in faults if not fault.worker and fault.at > first - SESSION_SECONDS
                ]
                fault = (its_own or brokers or faults)[-1]
                repeats.append(Repeat(at, fault, before, worker, message < committed[partition]))
            if worker != owner.get(partition):  # it begins at the offset that the group has committed
                committed[partition] = max(committed[partition], message)
            last[message], owner[partition] = (at, worker), worker
        return repeats

    def verdict(self):
        """What was counted: {row of the table: cell}. Adds to trouble what is wrong with it."""
        if lost := self.lost():
            what = f"lost, or nothing more was handled for {CATCH_UP_SECONDS} s: {sorted(lost)[:20]}"
            self.trouble.append("\n".join(map(str, [what, *self.workers])))
        for worker in self.workers:
            if any("Traceback" in line for line in worker.err):
                self.trouble.append(f"a traceback\n{worker}")
        repeats = self.repeats()
        came = Counter(fault.what for fault in self.faults)
        after = Counter(repeat.fault.what for repeat in repeats)
        return {
            "sent": len(self.acknowledged),
            "handled": len(self.acknowledged) - len(lost),
            "lost": len(lost),
            "repeated": len(repeats),
            "repeated behind a commit": sum(repeat.is_behind_commit for repeat in repeats),
            **{f"{what} / repeated after it": f"{came[what]} / {after[what]}" for what in came},
            "died by itself": 0,
            **self.ends,
        }

    def largest_burst(self):
        """The most that one worker began again of what another one had begun, after one fault; in words."""
        bursts = defaultdict(list)
        for repeat in self.repeats():
            bursts[repeat.fault, repeat.before, repeat.worker].append(repeat.at)
        if not bursts:
            return "nothing"
        (fault, before, worker), times = max(bursts.items(), key=lambda burst: len(burst[1]))
        since_start, since_fault = times[0] - self.faults[0].at, times[0] - fault.at
        number, number_before = self.workers.index(worker) + 1, self.workers.index(before) + 1
        return (
            f"{len(times)}, {since_start:.0f} s from the start, {since_fault:.1f} s after {fault.what!r}: "
            f"worker {number} began again what worker {number_before} had begun"
        )


def traffic(fleets, address, is_over):
    """Publish to every fleet until is_over is set, and wait until the broker has it all."""
    with KafkaProducer(bootstrap_servers=address, reconnect_backoff_max_ms=500) as producer:
        number = 0
        while not is_over.wait(1 / MESSAGES_PER_SECOND):
            for fleet in fleets:
                fleet.publish(producer, number)
            number += 1
        producer.flush(timeout=60)


def wait(seconds, fleets):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        are_able(fleets)
        time.sleep(0.1)


def are_able(fleets):
    """Look after the fleets; returns whether each has a worker that can be struck."""
    for fleet in fleets:
        fleet.look_after()
    return all(fleet.able() for fleet in fleets)


def strike_broker(fault, broker, fleets, chance):
    """Take the broker away for some seconds. Every other time a worker of a fleet is stopped meanwhile."""
    broker.kill() if fault == "broker killed" else broker.freeze()
    for fleet in fleets:
        fleet.note(fault)
    for fleet in fleets:
        if chance.random() < 0.5 and (able := fleet.able()):
            wait(chance.uniform(0, 1), fleets)
            worker = chance.choice(able)
            fleet.note("worker stopped, broker away", worker)
            fleet.stop(worker, "away")
    wait(chance.uniform(1, SESSION_SECONDS + 3), fleets)
    broker.come_back()
    wait(2, fleets)  # clients knock once a second: by now all are back


def soak(seconds, seed, names):
    chance = random.Random(seed)
    with Broker() as broker:
        cluster = Cluster(broker.address)
        fleets = [Fleet(name, cluster) for name in names]
        is_over = threading.Event()
        publisher = threading.Thread(target=traffic, args=(fleets, broker.address, is_over), daemon=True)
        publisher.start()
        try:
            end = time.monotonic() + seconds
            bag = []
            while time.monotonic() < end or bag:
                wait(chance.uniform(*SECONDS_BETWEEN_FAULTS), fleets)
                bag = bag or chance.sample(FAULTS, len(FAULTS))  # each kind as often as the others
                fault = bag.pop()
                if fault.startswith("broker"):
                    strike_broker(fault, broker, fleets, chance)
                else:
                    wait_until(lambda: are_able(fleets), 60, "a worker of each kind is at work")
                    for fleet in fleets:
                        fleet.strike(fault, chance)
            is_over.set()
            publisher.join()
            left, limit = None, 0  # a backlog may be long, but it has to become shorter
            while not all(fleet.is_done(cluster) for fleet in fleets):
                if left != (left := sum(len(fleet.lost()) for fleet in fleets)):
                    limit = time.monotonic() + CATCH_UP_SECONDS
                if time.monotonic() > limit:
                    break
                wait(0.5, fleets)
            for fleet in fleets:
                for worker in list(fleet.running):
                    fleet.stop(worker, "up")
        finally:
            for fleet in fleets:
                for worker in fleet.workers:
                    worker.end()
    return fleets


def main():
    parser = argparse.ArgumentParser(description="Random faults for the workers, and what came of them.")
    parser.add_argument("seconds", nargs="?", type=float, default=60)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    parser.add_argument("--worker", choices=["streaming", "batch", "both"], default="both")
    asked = parser.parse_args()
    print(f"seed {asked.seed}, {asked.seconds:g} s", flush=True)
    names = ["streaming", "batch"] if asked.worker == "both" else [asked.worker]
    fleets = soak(asked.seconds, asked.seed, names)
    verdicts = [fleet.verdict() for fleet in fleets]
    print(f"{'':48}" + "".join(f"{fleet.name:>12}" for fleet in fleets))
    for row in dict.fromkeys(name for verdict in verdicts for name in verdict):
        print(f"{row:48}" + "".join(f"{verdict.get(row, 0):>12}" for verdict in verdicts))
    for fleet in fleets:
        print(f"most repeated at a time, {fleet.name}: {fleet.largest_burst()}")
    for fleet in fleets:
        for trouble in fleet.trouble:
            print(f"{fleet.name} worker: {trouble}", file=sys.stderr)
    sys.exit(any(fleet.trouble for fleet in fleets))


if __name__ == "__main__":
    main()

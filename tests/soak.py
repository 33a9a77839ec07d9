"""Three workers on four partitions under random faults: stopped, killed, frozen; the broker killed, frozen.

    python tests/soak.py 600 --seed 7 --worker both

Twenty messages a second for as many seconds as it is told, or longer until each kind of fault has come as often as the
others, with some seconds between them; "both" runs three streaming and three batch workers beside each other, on a topic
and in a group of their own. It ends when all that the broker has acknowledged is handled, and prints a table.

Exit code 1: a message lost or not handled in time, a worker that died by itself, a traceback, or a worker that did not
exit 0 when it was stopped with the broker up (0 or 1 with the broker away).
"""

import argparse
import random
import sys
import threading
import time
from collections import Counter

from broker import Broker
from harness import Cluster, Script
from kafka import KafkaProducer
from kafka.errors import KafkaError

PARTITIONS = 4
WORKERS = 3
MESSAGES_PER_SECOND = 20
SESSION_SECONDS = 6  # the shortest that brokers allow
SECONDS_BETWEEN_FAULTS = (1, 4)
EXIT_SECONDS = 15  # a stopped worker has work in hand for a moment, and then 10 s
CATCH_UP_SECONDS = 30
WORK_SECONDS = {"streaming": 0.01, "batch": 0.3}  # three keep up, and are found at work half of the time
FAULTS = ["worker stopped", "worker killed", "worker frozen", "broker killed", "broker frozen"]


class Fleet:
    """The workers of one kind, and what is published for them."""

    def __init__(self, name, cluster):
        self.name = name
        self.address = cluster.address
        self.topic = cluster.create_topic(partitions=PARTITIONS)
        self.acknowledged = []
        self.faults = Counter()
        self.exits = Counter()
        self.trouble = []
        self.running, self.frozen, self.ended = [], {}, []
        for _ in range(WORKERS):
            self.hire()

    def hire(self):
        worker = Script(
            f"{self.name}_worker",
            self.address,
            TOPIC=self.topic,
            GROUP_ID=self.topic,
            WORK_SECONDS=WORK_SECONDS[self.name],
            BATCH_SECONDS=0.5,
            session_timeout_ms=SESSION_SECONDS * 1000,
        )
        self.running.append(worker)

    def publish(self, producer, number):
        email = f"user{number}@gmail.com"
        future = producer.send(self.topic, email.encode(), partition=number % PARTITIONS)
        future.add_callback(lambda _: self.acknowledged.append(email))

    def leave(self, worker):
        self.running.remove(worker)
        self.ended.append(worker)

    def stop(self, worker, broker_is):
        """Ask it to end, and see that it does as it should."""
        worker.signal(15)
        self.leave(worker)
        try:
            code = worker.wait(EXIT_SECONDS)
        except AssertionError:
            code = f"none after {EXIT_SECONDS} s"
        self.exits[f"stopped, broker {broker_is}: exit {code}"] += 1
        if code != 0 and (broker_is == "up" or code != 1):
            self.trouble.append(f"stopped with the broker {broker_is}: exit {code}\n{worker}")

    def able(self):
        """The workers that have begun, and are not frozen nor just thawed."""
        return [worker for worker in self.running if worker.out and worker not in self.frozen]

    def strike(self, fault, chance):
        if not (able := self.able()):
            return
        self.faults[fault] += 1
        worker = chance.choice(able)
        if fault == "worker frozen":
            worker.freeze()
            self.frozen[worker] = time.monotonic() + SESSION_SECONDS + 2
        elif fault == "worker killed":
            worker.kill()
            self.leave(worker)
            self.hire()
        else:
            self.stop(worker, "up")
            self.hire()

    def look_after(self):
        """Thaw who has been frozen for long enough, and let him come to himself; replace who has died."""
        for worker, until in list(self.frozen.items()):
            if time.monotonic() > until:
                worker.thaw()
            if time.monotonic() > until + 3:
                del self.frozen[worker]
        for worker in list(self.running):
            if worker.process.poll() is not None:
                if worker.out:
                    self.trouble.append(f"died by itself\n{worker}")
                self.faults["died by itself" if worker.out else "found no broker at its start"] += 1
                self.leave(worker)
                self.hire()

    def everyone(self):
        return self.running + self.ended

    def lost(self):
        return set(self.acknowledged) - {email for worker in self.everyone() for email in worker.finished()}

    def is_done(self, cluster):
        try:
            return not self.frozen and cluster.lag(self.topic, self.topic) == 0 and not self.lost()
        except KafkaError:  # the broker is not ready yet
            return False

    def verdict(self):
        """What was counted: {name: number}. Adds to trouble what is wrong with it."""
        begun = Counter(email for worker in self.everyone() for email in worker.begun())
        lost = self.lost()
        if lost:
            stories = "\n".join(map(str, self.ended[-WORKERS:]))
            self.trouble.append(f"lost, or nothing more was handled for {CATCH_UP_SECONDS} s: {sorted(lost)[:20]}\n{stories}")
        for worker in self.everyone():
            if any("Traceback" in line for line in worker.err):
                self.trouble.append(f"a traceback\n{worker}")
        counted = {
            "sent": len(self.acknowledged),
            "handled": len(set(self.acknowledged)) - len(lost),
            "lost": len(lost),
            "repeated": sum(begun.values()) - len(begun),
        }
        return counted | {fault: self.faults[fault] for fault in [*FAULTS, "died by itself"]} | self.exits


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
        for fleet in fleets:
            fleet.look_after()
        time.sleep(0.1)


def strike_broker(fault, broker, fleets, chance):
    """Take the broker away for some seconds. Half of the times a worker of each fleet is stopped meanwhile."""
    away = chance.uniform(1, SESSION_SECONDS + 3)
    if fault == "broker killed":
        broker.kill()
    else:
        broker.freeze()
    for fleet in fleets:
        fleet.faults[fault] += 1
        if chance.random() < 0.5 and (able := fleet.able()):
            wait(chance.uniform(0, 1), fleets)
            fleet.stop(chance.choice(able), "away")
    wait(away, fleets)
    if fault == "broker killed":
        broker.start()
    else:
        broker.thaw()
    for fleet in fleets:
        while len(fleet.running) < WORKERS:
            fleet.hire()
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
                for worker in fleet.everyone():
                    worker.end()
    return fleets


def main():
    parser = argparse.ArgumentParser(description="Random faults for the workers, and what came of them.")
    parser.add_argument("seconds", nargs="?", type=float, default=60)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    parser.add_argument("--worker", choices=["streaming", "batch", "both"], default="both")
    asked = parser.parse_args()
    print(f"seed {asked.seed}, {asked.seconds:g} s", flush=True)
    fleets = soak(asked.seconds, asked.seed, ["streaming", "batch"] if asked.worker == "both" else [asked.worker])
    verdicts = [fleet.verdict() for fleet in fleets]
    print(f"{'':34}" + "".join(f"{fleet.name:>12}" for fleet in fleets))
    for row in dict.fromkeys(name for verdict in verdicts for name in verdict):
        print(f"{row:34}" + "".join(f"{verdict.get(row, 0):12}" for verdict in verdicts))
    for fleet in fleets:
        for trouble in fleet.trouble:
            print(f"{fleet.name} worker: {trouble}", file=sys.stderr)
    sys.exit(any(fleet.trouble for fleet in fleets))


if __name__ == "__main__":
    main()

"""Nothing is lost: every row of the promises, for both workers and the producer, with real faults.

Most of a scenario is waiting, so four run at a time, each with a topic and a group of its own, and those that take the
broker away with a broker of their own. What a scenario returns are its figures; `pytest -rP` shows them.
"""

import functools
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import psutil
import pytest
from broker import Broker
from harness import GOODBYE, Cluster, Script, wait_until
from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import ACL, ACLOperation, ACLPermissionType, ResourcePattern, ResourceType
from kafka.errors import KafkaError

WORKERS = ["streaming_worker", "batch_worker"]
QUICK = {"WORK_SECONDS": 0.05, "BATCH_SECONDS": 0.5}
SHORT_SESSION = {"session_timeout_ms": 6000}  # the shortest that brokers allow
NEVER = 1000  # as BATCH_SECONDS: only a full buffer, or the end of the program, drains it
AGAIN = "will be delivered again"
SENDING = "^sending email to"
SCENARIOS = {}


def scenario(*arguments):
    """Registers a function as a scenario: with one, as many as there are arguments."""

    def register(function):
        for argument in arguments:
            SCENARIOS[f"{function.__name__}-{argument}"] = functools.partial(function, argument=argument)
        if not arguments:
            SCENARIOS[function.__name__] = function
        return function

    return register


class Lab:
    """What a scenario works with. All that it started ends with it."""

    def __init__(self, address, cleanup):
        self.address = address
        self.cleanup = cleanup

    def broker(self, properties=""):
        """A broker of its own, with these lines added to its server.properties."""
        if os.environ.get("BOOTSTRAP_SERVERS"):
            pytest.skip("needs a broker of its own; BOOTSTRAP_SERVERS is set")
        broker = Broker()
        with (broker.directory / "server.properties").open("a") as file:
            file.write(properties)
        return self.cleanup.enter_context(broker)

    def start(self, name, address, **settings):
        script = Script(name, address, **settings)
        self.cleanup.callback(script.end)
        return script

    def service(self, broker=None, **settings):
        cluster = Cluster(broker.address if broker else self.address)
        if not broker:
            self.cleanup.callback(cluster.delete_topics)
        return Service(self, cluster, **settings)


class Service:
    """Workers on a topic and in a group of their own, and what was published for them."""

    def __init__(self, lab, cluster, partitions=1, topic_exists=True, **settings):
        self.lab = lab
        self.cluster = cluster
        self.partitions = partitions
        self.topic = cluster.new_name()
        if topic_exists:
            self.create_topic()
        self.settings = {"TOPIC": self.topic, "GROUP_ID": self.topic, **QUICK, **settings}
        self.sent, self.workers = [], []

    def create_topic(self):
        self.cluster.create_topic(self.topic, self.partitions)

    def new_emails(self, count):
        return [f"user{number}@gmail.com" for number in range(len(self.sent), len(self.sent) + count)]

    def publish(self, count):
        emails = self.new_emails(count)
        self.cluster.publish(self.topic, emails, self.partitions)
        self.sent += emails

    @contextmanager
    def traffic(self, per_second=10):
        is_over = threading.Event()

        def publish():
            with KafkaProducer(**self.cluster.settings) as producer:
                while not is_over.wait(1 / per_second):
                    [email] = self.new_emails(1)
                    producer.send(self.topic, email.encode(), partition=len(self.sent) % self.partitions).get(30)
                    self.sent.append(email)

        with ThreadPoolExecutor(1) as pool:
            publisher = pool.submit(publish)
            try:
                yield
            finally:
                is_over.set()
            publisher.result()

    def hire(self, name, **settings):
        self.workers.append(self.lab.start(name, self.cluster.address, **{**self.settings, **settings}))
        return self.workers[-1]

    def hire_at_work(self, name, seconds=20, **settings):
        """A new worker, and after how many seconds it was at work."""
        worker = self.hire(name, **settings)
        return worker, worker.wait_for(SENDING, seconds=seconds) - worker.started

    def lost(self):
        return set(self.sent) - {email for worker in self.workers for email in worker.finished()}

    def repeated(self):
        """{email: how many times too often work on it was begun}"""
        begun = Counter(email for worker in self.workers for email in worker.begun())
        return {email: times - 1 for email, times in begun.items() if times > 1}

    def story(self):
        return "\n".join(map(str, self.workers))

    def wait_handled(self, seconds=30):
        wait_until(lambda: not self.lost(), seconds, f"all {len(self.sent)} are handled", self.story)

    def wait_known(self, question, seconds=20):
        """Wait for question() to be true; a broker that is not ready yet does not answer it."""

        def answer():
            try:
                return question()
            except KafkaError:
                return None

        return wait_until(answer, seconds, "the broker's answer", self.story)

    def wait_committed(self):
        self.wait_known(lambda: self.cluster.lag(self.topic, self.topic) == 0)

    def check(self, repeated=0):
        """Nothing is lost, no more than this is repeated, and nobody saw a traceback."""
        assert not self.lost(), f"lost {self.lost()}\n{self.story()}"
        assert sum(self.repeated().values()) <= repeated, f"repeated {self.repeated()}\n{self.story()}"
        assert not any("Traceback" in line for worker in self.workers for line in worker.err), self.story()


def stop(worker, code=0, number=signal.SIGTERM, within=10):
    """Send it the signal and see how it ends. Returns the seconds that it took, beyond its work in hand."""
    asked = time.monotonic()
    worker.signal(number)
    assert worker.wait(60) == code, worker
    took = time.monotonic() - max([asked] + [at for at, line in worker.lines if line != GOODBYE])
    assert took < within, f"{took:.1f} s\n{worker}"
    assert worker.out[-1] == GOODBYE if code == 0 else AGAIN in worker.err[-1], worker
    return took


def together(function, items):
    """[function(item), ...], all at the same time."""
    with ThreadPoolExecutor(len(items)) as pool:
        return list(pool.map(function, items))


def published(producer):
    prefix = "Published message to message broker. User email: "
    return [line.removeprefix(prefix) for line in producer.out if line.startswith(prefix)]


TEN = [f"user{number}@gmail.com" for number in range(10)]

# The rows in which the broker goes


@scenario()
def broker_killed_for_5_seconds(lab):
    broker = lab.broker()
    assert lab.start("producer", broker.address).wait() == 0
    idle = [lab.service(broker) for _ in WORKERS]
    busy = [lab.service(broker, WORK_SECONDS=0.2), lab.service(broker, WORK_SECONDS=1.5, BUFFER_SIZE=10)]
    for services, count in ((idle, 3), (busy, 30)):
        for name, service in zip(WORKERS, services):
            service.publish(count)
            service.hire(name)
        together(lambda service: service.workers[0].wait_for(SENDING), services)
    for service in idle:
        service.wait_committed()
    producer = lab.start("producer", broker.address)
    producer.wait_for("Published", count=3)
    broker.kill()
    time.sleep(5)
    broker.start()
    up = time.monotonic()
    for service in idle:
        service.publish(3)
    together(lambda service: service.wait_handled(60), idle + busy)
    figures = {}
    for kind, services, allowed in (("idle", idle, (0, 0)), ("busy", busy, (1, 10))):
        for name, service, repeated in zip(WORKERS, services, allowed):
            [worker] = service.workers
            service.wait_committed()
            figures[f"{kind} {name}: at work again after"] = min(
                at for at, line in worker.lines if at > up and line.startswith("sending")
            ) - up
            figures[f"{kind} {name}: repeated"] = sum(service.repeated().values())
            stop(worker)
            service.check(repeated)
    assert (producer.wait(), producer.err, published(producer)) == (0, [], TEN), producer
    stored = [message.value.decode() for message in idle[0].cluster.stored("user_signups")]
    assert stored == TEN * 2, stored  # the first producer's, and this one's
    return figures


@scenario("kill", "freeze")
def broker_away_when_the_signal_comes(lab, argument):
    broker = lab.broker()
    assert lab.start("producer", broker.address).wait() == 0
    work = {"idle": 0.05, "retrying": 2, "in hand": 3}
    jobs = {(name, moment): lab.service(broker, WORK_SECONDS=work[moment]) for moment in work for name in WORKERS}
    for service in jobs.values():
        service.publish(3)
    for (name, moment), service in jobs.items():
        service.hire(name)
        if moment == "idle":
            service.wait_committed()
    together(lambda service: service.workers[0].wait_for(SENDING), list(jobs.values()))
    producer = lab.start("producer", broker.address)
    producer.wait_for("Published", count=3)
    getattr(broker, argument)()
    away = time.monotonic()

    def end(job):
        (name, moment), [worker] = job, jobs[job].workers
        if moment == "retrying":
            wait_until(lambda: worker.err, 20, "a commit failed", worker.__str__)
        return stop(worker, code=0 if moment == "idle" else 1)

    exits = dict(zip(jobs, together(end, list(jobs))))
    assert producer.wait(60) == 1 and len(producer.err) == 1 and broker.address in producer.err[0], producer
    gave_up = time.monotonic() - away
    if argument == "kill":
        broker.start()
    else:
        broker.thaw()
    for (name, moment), service in jobs.items():
        if moment != "idle":
            service.hire(name)
    for (name, moment), service in jobs.items():
        service.wait_handled()
        service.check(repeated=0 if moment == "idle" else 1 if name == "streaming_worker" else 3)
    stored = [message.value.decode() for message in service.cluster.stored("user_signups")][10:]  # after the first run
    assert set(published(producer)) <= set(stored) and len(stored) == len(set(stored)) < 10, (stored, producer)
    figures = {f"{name} {moment}: seconds to exit": took for (name, moment), took in exits.items()}
    return {**figures, "producer: seconds to give up": gave_up}


@scenario()
def broker_refuses(lab):
    authorizer = "org.apache.kafka.metadata.authorizer.StandardAuthorizer"
    broker = lab.broker(f"authorizer.class.name={authorizer}\nallow.everyone.if.no.acl.found=true\n")

    def deny(kind, name, operation):
        with KafkaAdminClient(bootstrap_servers=broker.address) as admin:
            pattern = ResourcePattern(kind, name)
            admin.create_acls([ACL("User:ANONYMOUS", "*", operation, ACLPermissionType.DENY, pattern)])

    def refused(script, error):
        assert script.wait(20) == 1 and error in script.err[0] and len(script.err) <= 3, script

    for kind, error in ((ResourceType.GROUP, "GroupAuthorization"), (ResourceType.TOPIC, "TopicAuthorization")):
        for name in WORKERS:
            service = lab.service(broker, WORK_SECONDS=0.3, BUFFER_SIZE=2)
            service.publish(6)
            worker, _ = service.hire_at_work(name)
            deny(kind, service.topic, ACLOperation.READ)
            refused(worker, error)
    assert lab.start("producer", broker.address).wait() == 0
    deny(ResourceType.TOPIC, "user_signups", ACLOperation.WRITE)
    refused(lab.start("producer", broker.address), "TopicAuthorization")


@scenario()
def producer_interrupted(lab):
    broker = lab.broker()
    producer = lab.start("producer", broker.address)
    producer.wait_for("Published", count=4)
    producer.signal(signal.SIGINT)
    assert producer.wait(1) != 0 and producer.err == []
    stored = [message.value.decode() for message in Cluster(broker.address).stored("user_signups")]
    assert set(published(producer)) <= set(stored) and len(stored) == len(set(stored)), (stored, producer)


@scenario()
def wrong_addresses(lab):
    with socket.create_server(("127.0.0.1", 0)) as silent, socket.create_server(("127.0.0.1", 0)) as closed:
        closed_address = f"127.0.0.1:{closed.getsockname()[1]}"
        closed.close()
        unheard = [closed_address, "no-such-host.invalid:9092", f"127.0.0.1:{silent.getsockname()[1]}"]
        names = ["producer", *WORKERS]

        def told(job):
            script, address, seconds = job
            assert script.wait(seconds + 10) == 1 and script.out == [], script
            assert len(script.err) == 1 and address in script.err[0], script
            took = time.monotonic() - script.started
            assert took < seconds, f"{took:.1f} s\n{script}"
            return took

        no_address = ["localhost", "localhost:99999", "", "localhost:port"]
        at_once = [told((lab.start(name, wrong), repr(wrong), 10)) for wrong in no_address for name in names]
        patient = [(lab.start(name, address), address, 30) for address in unheard for name in names]
        interrupted = [lab.start(name, address) for address in unheard for name in names]
        for script in interrupted:
            threads = psutil.Process(script.process.pid).num_threads
            wait_until(lambda: threads() > 1, what="kafka-python knocks at the address", shown=script.__str__)
            script.signal(signal.SIGINT)
            asked = time.monotonic()
            assert script.wait(5) != 0 and time.monotonic() < asked + 1 and script.err == [], script
        return {"no address, at most": max(at_once), "nobody answers, at most": max(together(told, patient))}


# The rows in which workers come, go and are killed


@scenario("streaming_worker", "batch_worker")
def topic_comes_later(lab, argument):
    service = lab.service(topic_exists=False)
    worker = service.hire(argument, poll_ms=2)  # the join for the new topic outlasts a poll()
    service.wait_known(lambda: service.cluster.members(service.topic) == 1)
    service.create_topic()
    created = time.monotonic()
    service.publish(3)
    service.wait_handled()
    found = worker.wait_for(SENDING) - created
    stop(worker)
    service.check()
    return {"seconds until the new topic was read": found}


@scenario("streaming_worker", "batch_worker")
def signal_at_any_moment(lab, argument):
    service = lab.service()
    chance = random.Random(4)
    exits = []
    for number in [signal.SIGINT, signal.SIGTERM] * 4:
        service.publish(4)
        worker = service.hire(argument)
        worker.wait_for("^starting")
        time.sleep(chance.uniform(0, 1.2))
        exits.append(stop(worker, number=number, within=4))
    worker = service.hire(argument)
    worker.wait_for("^starting")
    service.wait_handled()
    service.wait_committed()
    exits.append(stop(worker, within=4))
    service.check()
    assert not any(worker.err for worker in service.workers), service.story()
    return {"longest exit after a signal": max(exits)}


@scenario("streaming_worker", "batch_worker")
def three_hundred_signals(lab, argument):
    service = lab.service(WORK_SECONDS=2)
    service.publish(3)
    worker, _ = service.hire_at_work(argument)
    count = 0
    while worker.process.poll() is None and count < 3000:  # 300 in hand, and then to the very end of the process
        worker.signal((signal.SIGINT, signal.SIGTERM)[count % 2])
        count += 1
        time.sleep(0.004)
    assert (worker.wait(), worker.err, worker.out[-1]) == (0, [], GOODBYE), worker
    assert count >= 300 and worker.finished() == worker.begun()
    assert service.cluster.committed(service.topic, service.topic) == {0: len(worker.finished())}
    return {"signals": count}


@scenario("streaming_worker", "batch_worker")
def killed_in_hand(lab, argument):
    service = lab.service()
    service.publish(5)
    first = service.hire(argument, WORK_SECONDS=0.5)
    first.wait_for(SENDING, count=3 if argument == "streaming_worker" else 1)
    first.kill()
    second, seconds = service.hire_at_work(argument)
    service.wait_handled()
    stop(second)
    in_hand = first.begun()[-2:] if argument == "streaming_worker" else first.begun()
    service.check(repeated=len(in_hand))
    assert service.repeated().keys() <= set(in_hand)
    return {"seconds until the next is at work": seconds, "repeated": len(service.repeated())}


@scenario()
def killed_with_19_in_the_buffer(lab):
    service = lab.service(BATCH_SECONDS=NEVER, BUFFER_SIZE=20)
    first = service.hire("batch_worker")
    service.publish(20)  # a full buffer is drained at once
    service.wait_committed()
    service.publish(19)

    def received():
        return sum(int(line.split()[1]) for line in first.out if line.startswith("received"))

    wait_until(lambda: received() == 39, what="19 in the buffer", shown=service.story)
    first.kill()
    second, seconds = service.hire_at_work("batch_worker", BATCH_SECONDS=0.5)
    service.wait_handled()
    stop(second)
    service.check()
    assert len(second.begun()) == 19
    return {"seconds until the next is at work": seconds}


@scenario("streaming_worker", "batch_worker")
def work_raises(lab, argument):
    service = lab.service()
    steps = 5 if argument == "streaming_worker" else 3
    first = service.hire(argument, fail_at=steps, session_timeout_ms=30_000)
    service.publish(2)  # 4 steps of work for the one, 2 for the other
    service.wait_committed()
    service.publish(3)
    assert first.wait() == 1 and "the mail server is down" in first.err[-1], first
    assert service.cluster.committed(service.topic, service.topic) == {0: 2}
    second, seconds = service.hire_at_work(argument)  # the first has left the group
    service.wait_handled()
    stop(second)
    again = service.sent[2:3] if argument == "streaming_worker" else service.sent[2:]
    assert not service.lost() and service.repeated() == dict.fromkeys(again, 1), service.story()
    return {"seconds until the next is at work": seconds}


@scenario("streaming_worker", "batch_worker")
def backlog_longer_than_the_poll_interval(lab, argument):
    service = lab.service(WORK_SECONDS=0.4, BUFFER_SIZE=2, max_poll_interval_ms=3000)
    service.publish(10 if argument == "streaming_worker" else 20)  # 10 times 0.8 s
    worker = service.hire(argument)
    service.wait_handled()
    service.wait_committed()
    stop(worker)
    service.check()
    assert worker.err == []


@scenario("streaming", "batch", "both", "slow batch")
def one_joins_and_one_leaves(lab, argument):
    """Also where the batch in hand takes longer than the session, and the others wait for it to join."""
    names = {"streaming": [WORKERS[0]] * 3, "batch": [WORKERS[1]] * 3, "both": [*WORKERS, WORKERS[0]]}
    slow = {"WORK_SECONDS": 4} if argument == "slow batch" else {}
    service = lab.service(partitions=4, **SHORT_SESSION, **slow)
    joined = []
    with service.traffic():
        for name in names.get(argument, WORKERS[1:] * 2):
            joined.append(service.hire_at_work(name, seconds=60)[1])
        *leaving, last = service.workers
        for worker in leaving:
            stop(worker, within=4)
            more = len(last.finished()) + 8  # from every partition, when it is the only one left
            wait_until(lambda: len(last.finished()) >= more, 60, "the last goes on", service.story)
    service.wait_handled(60)
    stop(last)
    service.check()
    assert not any(worker.err for worker in service.workers), service.story()
    return {"sent": len(service.sent), "seconds to join": max(joined[1:])}


@scenario("streaming_worker", "batch_worker")
def worker_frozen_past_its_session(lab, argument):
    service = lab.service(**SHORT_SESSION, WORK_SECONDS=1)
    service.publish(3)
    first, _ = service.hire_at_work(argument)
    service.publish(3)  # the batch worker has a batch in hand and one in its buffer
    if argument == "batch_worker":
        first.wait_for("^received", count=2)
    first.freeze()
    second, seconds = service.hire_at_work(argument)
    first.thaw()
    service.wait_handled()
    service.wait_known(lambda: service.cluster.members(service.topic) == 2)  # it has come back to the group
    stop(second)
    service.publish(2)
    wait_until(lambda: service.sent[-1] in first.finished(), what="the first goes on", shown=service.story)
    service.wait_committed()
    stop(first)
    service.check(repeated=1 if argument == "streaming_worker" else 6)
    return {"seconds until the next is at work": seconds, "repeated": len(service.repeated())}


@scenario()
def steady_traffic_is_committed(lab):
    service = lab.service(WORK_SECONDS=0.2)
    worker = service.hire("batch_worker")
    lags = []
    with service.traffic():
        worker.wait_for("^finished")
        end = time.monotonic() + 20
        while time.monotonic() < end:
            finished = len(worker.finished(until=time.monotonic() - 3))
            committed = service.cluster.committed(service.topic, service.topic).get(0, 0)
            assert committed >= finished, f"{finished} were finished 3 s ago, {committed} are committed\n{worker}"
            lags.append(len(worker.finished()) - committed)
            time.sleep(0.2)
    service.wait_handled()
    stop(worker)
    service.check()
    assert len(service.sent) > 150
    return {"finished, and not committed yet, at most": max(lags)}


# Input


@scenario("streaming_worker", "batch_worker")
def bad_input(lab, argument):
    bad = [
        b"\xff\xfe@gmail.com",
        None,
        b"",
        b"x" * 900_000,
        "\x1b[2J\x1b]0;title\a@gmail.com",
        "a@gmail.com\nsending email to b@gmail.com",
        "a@gmail.com\r",
        "a@gmail.com\x00\x7f",
        "a\x85\x9b31m@gmail.com",
        "a\u202emoc.liamg@b",
        "a\u2028@gmail.com",
    ]
    good = ["first@gmail.com", "jürgen@gmail.com", "o'neill@gmail.com", *(f"user{i}@gmail.com" for i in range(9))]
    service = lab.service()
    service.cluster.publish(service.topic, [value for pair in zip(good, bad) for value in pair] + good[len(bad) :])
    service.sent = good
    worker = service.hire(argument)
    service.wait_handled()
    service.wait_committed()
    stop(worker)
    service.check()
    assert len(worker.err) == len(bad) and worker.begun() == good, worker
    for number, line in enumerate(worker.err):
        assert f"{service.topic}, partition 0, offset {2 * number + 1}" in line, worker
    assert all(line.isprintable() and len(line) < 1000 for line in worker.out + worker.err), worker


@scenario()
def a_million_messages(lab):
    service = lab.service(WORK_SECONDS=0.2)
    code = """if True:
        import sys
        from kafka import KafkaProducer
        with KafkaProducer(bootstrap_servers=sys.argv[1], linger_ms=50, batch_size=500_000) as producer:
            for _ in range(1_000_000):
                producer.send(sys.argv[2], b"user@gmail.com")"""
    subprocess.run([sys.executable, "-c", code, service.cluster.address, service.topic], check=True, timeout=120)
    worker = service.hire("batch_worker")
    process = psutil.Process(worker.process.pid)
    sizes = []
    while worker.out.count("finished processing messages") < 12:  # begun() in here would take the time of its reader
        sizes.append(process.memory_info().rss / 2**20)
        assert sizes[-1] < 80, f"{sizes[-1]:.0f} MiB\n{worker.name}"
        assert time.monotonic() < worker.started + 60, worker
        time.sleep(0.1)
    assert len(worker.begun()) >= 100_000
    stop(worker)
    return {"MiB resident at most": max(sizes)}


@pytest.fixture(scope="module")
def results(request, address):
    """The scenarios of this run, begun: {name: Future}."""
    names = [item.callspec.params.get("name") for item in request.session.items if hasattr(item, "callspec")]

    def play(name):
        begun = time.monotonic()
        with ExitStack() as cleanup:
            figures = SCENARIOS[name](Lab(address, cleanup)) or {}
        return {**figures, "the scenario took": time.monotonic() - begun}

    with ThreadPoolExecutor(4) as pool:
        futures = {name: pool.submit(play, name) for name in names if name in SCENARIOS}
        yield futures
        for future in futures.values():
            future.cancel()


@pytest.mark.parametrize("name", SCENARIOS)
def test(name, results):
    for what, figure in results[name].result().items():
        print(f"{what}: {figure:.1f}" if isinstance(figure, float) else f"{what}: {figure}")

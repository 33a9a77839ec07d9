"""Each row of the table of promises, in its order: real processes, real signals, a broker that goes."""

import random
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import psutil
import pytest
from harness import GOODBYE, hanging_up, on_this_machine, wait_until
from kafka.admin import ACLOperation, ResourceType

WORKERS = ["streaming_worker", "batch_worker"]
SHORT_SESSION = {"session_timeout_ms": 6000}  # the shortest that brokers allow
NEVER = 1000  # as BATCH_SECONDS: only a full buffer, a rebalance, or the end of the program makes a batch due
AGAIN = "will be delivered again"
SENDING = "^sending email to"


def stop(script, code=0, number=signal.SIGTERM, seconds=10):
    """Send the signal; check that the process exits within so many seconds of finishing its work."""
    asked = time.monotonic()
    script.signal(number)
    assert script.wait(60) == code
    took = time.monotonic() - max([asked] + [at for at, line in script.lines if line != GOODBYE])
    assert took < on_this_machine(seconds)
    assert script.out[-1] == GOODBYE if code == 0 else AGAIN in script.err[-1]


def together(function, items):
    """[function(item), ...], all at the same time."""
    with ThreadPoolExecutor(len(items)) as pool:
        return list(pool.map(function, items))


# A worker starts before the topic exists, or long after the messages were published: every message is handled


def test_worker_starts_before_the_topic_exists(worker, service):
    job = service(topic_exists=False)
    script = job.hire(worker, poll_ms=2)  # the join for the new topic outlasts a poll()
    job.wait_for_members(1)
    time.sleep(1)  # a first join may take a while
    job.cluster.create_topic(job.topic)
    job.publish(3)
    job.wait_handled()
    stop(script)
    job.check()


@pytest.mark.parametrize("order", ["before", "long after"])
def test_worker_starts_before_or_long_after_the_messages_were_published(worker, order, service):
    job = service()
    if order == "long after":
        job.publish(3)
    script = job.hire(worker)
    job.wait_for_members(1)
    if order == "before":
        job.publish(3)
    job.wait_handled()
    stop(script)
    job.check()
    assert script.begun() == job.sent and job.committed() == 3


# SIGTERM or SIGINT at any moment, idle or busy: each message handled exactly once, across the restart; exit 0


@pytest.mark.parametrize("names", [WORKERS[:1], WORKERS[1:], WORKERS], ids=["streaming", "batch", "in turn"])
def test_sigterm_or_sigint_at_any_moment(names, service):
    job = service()
    chance = random.Random(4)
    for i in range(6):
        job.publish(4)
        script = job.hire(names[i % len(names)])
        script.wait_for("^starting")
        time.sleep(chance.uniform(0, 1.2))
        stop(script, number=(signal.SIGINT, signal.SIGTERM)[i % 2])
    script = job.hire(names[0])
    script.wait_for("^starting")
    job.wait_handled()
    stop(script)
    job.check()
    assert job.committed() == len(job.sent)
    assert not any(script.err for script in job.workers)


# SIGKILL at any moment: nothing lost; repeated only what was in hand; the next worker is at work within 20 s


def test_sigkill_while_at_work(worker, service):
    job = service()
    job.publish(5)
    first = job.hire(worker, WORK_SECONDS=0.5)
    first.wait_for(SENDING, count=3 if worker == "streaming_worker" else 1)
    first.kill()
    second = job.hire(worker)
    second.wait_for(SENDING, seconds=20)
    job.wait_handled()
    stop(second)
    assert second.err == []  # waiting for the first one's session to end is no trouble
    in_hand = first.begun()[-2:] if worker == "streaming_worker" else first.begun()
    job.check(repeated=len(in_hand))
    assert job.repeated().keys() <= set(in_hand)


def test_sigkill_while_19_are_in_the_buffer(service):
    job = service(BATCH_SECONDS=NEVER, BUFFER_SIZE=20)
    first = job.hire("batch_worker", auto_commit_interval_ms=100)  # for a timer that must not be there
    job.publish(20)  # a full buffer is a batch at once
    job.wait_committed()
    job.publish(19)

    wait_until(lambda: first.received() == 39, what="19 are in the buffer")
    time.sleep(1)  # some polls more, in which such a timer would fire
    first.kill()
    second = job.hire("batch_worker", BATCH_SECONDS=0.5)
    second.wait_for(SENDING, seconds=20)
    job.wait_handled()
    stop(second)
    job.check()
    assert len(second.begun()) == 19


# The work raises: exit non-zero, the cause on stderr, not committed, delivered again to the next worker


def test_work_raises(worker, service):
    is_streaming = worker == "streaming_worker"
    job = service(**SHORT_SESSION)
    step = 5 if is_streaming else 3  # two for each message, or for each batch
    first = job.hire(worker, fail_at=step)
    job.publish(2)
    job.wait_committed()
    job.publish(3)
    assert first.wait() == 1 and "the mail server is down" in first.err[-1]
    assert job.committed() == 2
    second = job.hire(worker, session_timeout_ms=30_000)
    # at once; or when the first one's session is over
    second.wait_for(SENDING, seconds=6 if is_streaming else 20)
    job.wait_handled()
    stop(second)
    again = job.sent[2:3] if is_streaming else job.sent[2:]
    assert not job.lost() and job.repeated() == dict.fromkeys(again, 1)


def test_work_raises_while_a_rebalance_waits_for_the_batch(service):
    job = service(partitions=2, BATCH_SECONDS=NEVER, **SHORT_SESSION)
    first = job.hire("batch_worker", fail_at=2)
    job.publish(4)
    wait_until(lambda: first.received(), what="something is in the buffer")
    second = job.hire("batch_worker", BATCH_SECONDS=0.5)
    assert first.wait() == 1 and "the mail server is down" in first.err[-1]
    job.wait_handled()
    stop(second)
    assert not job.lost() and set(second.begun()) == set(job.sent)


# The work is slow, the backlog takes longer than max.poll.interval.ms: no eviction, nothing repeated


def test_work_is_slow(worker, service):
    job = service(WORK_SECONDS=0.4, BUFFER_SIZE=2, max_poll_interval_ms=3000)
    job.publish(8 if worker == "streaming_worker" else 16)  # 8 times 0.8 s
    script = job.hire(worker)
    job.wait_handled()
    job.wait_committed()
    stop(script)
    job.check()
    assert script.err == []


# A worker joins or leaves while others run: nothing lost, nothing repeated


@pytest.mark.parametrize(
    "names",
    [[WORKERS[0]] * 3, [WORKERS[1]] * 3, [*WORKERS, WORKERS[0]]],
    ids=["streaming", "batch", "both"],
)
def test_worker_joins_or_leaves_while_others_run(names, service):
    job = service(partitions=4, **SHORT_SESSION)
    with job.traffic():
        for name in names:
            job.hire(name).wait_for(SENDING, seconds=60)
        *leaving, last = job.workers
        for script in leaving:
            stop(script)
            more = len(last.finished()) + 8  # from every partition, when it is the only one left
            wait_until(lambda more=more: len(last.finished()) >= more, 60, "the last goes on")
    job.wait_handled(60)
    stop(last)
    job.check()
    assert not any(script.err for script in job.workers)


def test_worker_joins_while_another_has_to_finish_its_message(service):
    job = service(partitions=3)
    job.hire("streaming_worker", WORK_SECONDS=1)
    job.hire("batch_worker")
    with job.traffic(per_second=4):  # more than the first can do
        wait_until(lambda: all(script.begun() for script in job.workers), what="both are at work")
        job.hire("streaming_worker").wait_for(SENDING)  # the batch worker waits longer than BATCH_SECONDS
    job.wait_handled(60)
    together(stop, job.workers)
    job.check()
    assert not any(script.err for script in job.workers)


def refused(service, **settings):
    """The first worker has finished a batch and cannot commit it: its work took longer than the session."""
    job = service(partitions=2, WORK_SECONDS=4, **SHORT_SESSION)
    job.publish(4)
    first = job.hire("batch_worker", BATCH_SECONDS=10, **settings)
    first.wait_for("^received")
    job.hire("streaming_worker")  # the first learns of it within 3 s, works for 8 s, and is out of the group
    wait_until(lambda: "Commit failed" in "".join(first.err), what="it is no longer in the group")
    return job


def test_worker_joins_while_a_batch_takes_longer_than_the_session(service):
    job = refused(service)
    job.wait_handled()
    job.wait_committed()
    together(stop, job.workers)
    job.check(repeated=4)  # such a batch may be


def test_worker_joins_while_a_batch_takes_longer_than_the_session_and_then_the_signal_comes(service):
    first = refused(service, signal_at="Commit failed").workers[0]
    assert first.wait(on_this_machine(10)) == 1 and AGAIN in first.err[-1]


def test_worker_is_frozen_past_its_session(worker, service):
    job = service(**SHORT_SESSION, WORK_SECONDS=1, BUFFER_SIZE=3)
    job.publish(3)
    first = job.hire(worker)
    first.wait_for(SENDING)
    first.freeze()
    second = job.hire(worker)
    second.wait_for(SENDING, seconds=20)
    first.thaw()
    job.wait_handled()
    job.wait_for_members(2)  # it has come back to the group
    stop(second)
    job.publish(2)
    wait_until(lambda: job.sent[-1] in first.finished(), what="the first goes on")
    job.wait_committed()
    stop(first)
    job.check(repeated=1 if worker == "streaming_worker" else 3)


def test_worker_is_frozen_past_its_session_with_a_full_buffer(service):
    job = service(BATCH_SECONDS=NEVER, BUFFER_SIZE=4, **SHORT_SESSION)
    job.publish(3)
    first = job.hire("batch_worker")
    first.wait_for("^received")
    first.freeze()
    second = job.hire("batch_worker", BATCH_SECONDS=0.5)
    job.wait_handled()
    job.wait_committed()
    first.thaw()
    job.wait_for_members(2)
    stop(second)
    job.publish(2)
    wait_until(lambda: first.received() == 5, what="it goes on")
    assert not first.begun()  # two are no batch yet: its buffer was empty again
    stop(first)
    job.check()  # it has left the other one what was in its buffer


# The broker is killed and comes back: the workers go on by themselves; nothing lost


def test_broker_is_killed_and_comes_back(broker, service):
    idle = {name: service() for name in WORKERS}
    busy = {WORKERS[0]: service(WORK_SECONDS=0.2), WORKERS[1]: service(WORK_SECONDS=1.5, BUFFER_SIZE=10)}
    for jobs, count in ((idle, 3), (busy, 20)):
        for name, job in jobs.items():
            job.publish(count)
            job.hire(name).wait_for(SENDING)
    for job in idle.values():
        job.wait_handled()
        job.wait_committed()
    broker.kill()
    time.sleep(3)
    with hanging_up(broker.port):
        time.sleep(3)
    broker.start()
    for job in idle.values():
        job.publish(3)
    for jobs, repeated in ((idle, (0, 0)), (busy, (1, 10))):
        for job, allowed in zip(jobs.values(), repeated, strict=True):
            job.wait_handled(60)
            job.wait_committed()
            stop(job.workers[0])
            job.check(allowed)


# The broker is gone, or frozen with its socket open, when the signal comes: it ends within 10 s of its work
# in hand; if the last commit failed it says that this will be delivered again, and exits 1


@pytest.mark.parametrize("fault", ["kill", "freeze"], ids=["gone", "frozen"])
def test_broker_is_gone_or_frozen_when_the_signal_comes(broker, service, fault):
    seconds = {"idle": 0.05, "trying again": 1, "in hand": 3}
    jobs = {(name, moment): service(WORK_SECONDS=seconds[moment]) for moment in seconds for name in WORKERS}
    jobs["batch_worker", "in the buffer"] = service(BATCH_SECONDS=NEVER)
    for job in jobs.values():
        job.publish(3)
    for (name, moment), job in jobs.items():
        if moment == "idle":
            job.hire(name)
            job.wait_handled()
            job.wait_committed()
    for (name, moment), job in jobs.items():
        if moment != "idle":
            job.hire(name)
    together(lambda job: job.workers[0].wait_for("^sending|^received"), list(jobs.values()))
    getattr(broker, fault)()

    def end(case):
        (_, moment), [script] = case, jobs[case].workers
        if moment == "trying again":
            wait_until(lambda: "Commit failed" in "".join(script.err), 20, "a commit failed")
        stop(script, code=0 if moment == "idle" else 1)

    together(end, list(jobs))
    broker.come_back()
    for (name, moment), job in jobs.items():
        if moment != "idle":
            job.hire(name, BATCH_SECONDS=0.5)
    for (name, moment), job in jobs.items():
        job.wait_handled()
        job.check(repeated=0 if moment == "idle" else 1 if name == "streaming_worker" else 3)


def test_broker_is_frozen_while_a_rebalance_waits_for_the_commit_when_the_signal_comes(broker, service):
    job = service(partitions=2, BATCH_SECONDS=NEVER, WORK_SECONDS=1)
    job.publish(2)
    first = job.hire("batch_worker")
    first.wait_for("^received")
    job.hire("batch_worker")  # the first has to give it a partition: its batch is due
    first.wait_for(SENDING)
    broker.freeze()
    first.wait_for("^finished")
    time.sleep(0.5)  # now it waits in the listener
    stop(first, code=1, seconds=35)


@pytest.mark.parametrize("kind", ["group", "topic"])
@pytest.mark.parametrize("moment", ["from the start", "while at work"])
def test_broker_refuses_to_be_read(broker, worker, service, kind, moment):
    job = service(WORK_SECONDS=0.3, BUFFER_SIZE=2)
    job.publish(6)
    if moment == "while at work":
        script = job.hire(worker)
        script.wait_for(SENDING)
    job.cluster.refuse(ACLOperation.READ, ResourceType[kind.upper()], job.topic)
    if moment == "from the start":
        script = job.hire(worker)
    error = f"{kind.capitalize()}Authorization"
    assert script.wait() == 1 and error in script.err[-1] and AGAIN in script.err[-1]
    assert len(script.err) == 1 and GOODBYE not in script.out


def test_broker_refuses_to_be_read_while_messages_are_in_the_buffer(broker, service):
    job = service(BATCH_SECONDS=NEVER)
    job.publish(3)
    script = job.hire("batch_worker")
    script.wait_for("^received")
    job.cluster.refuse(ACLOperation.READ, ResourceType.TOPIC, job.topic)
    assert script.wait() == 1 and AGAIN in script.err[-1]
    assert not script.begun()  # it is left to the next worker, who can commit it


# No broker at start, a wrong address, no address: one line naming the address and what to do, exit 1; at once
# for what kafka-python itself refuses, within 30 s for the rest; Ctrl+C while waiting ends it within 1 s


@pytest.fixture(params=["producer", *WORKERS])
def script(request):
    return request.param


def told(process, address, seconds):
    assert process.wait(60) == 1 and process.out == []
    assert time.monotonic() - process.started < on_this_machine(seconds)
    [line] = process.err
    assert repr(address) in line and ("Check BOOTSTRAP_SERVERS" in line or process.name == "producer")


@pytest.mark.parametrize("address", ["localhost:port", "localhost:"])
def test_value_is_no_address(script, start, address):
    told(start(script, address), address, 10)


@pytest.fixture
def silent():
    """A port of this machine where somebody listens and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(30)
        yield server


def address_of(server):
    return f"127.0.0.1:{server.getsockname()[1]}"


def test_no_broker_at_start_or_a_wrong_address(script, start, silent):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = address_of(closed)
    wrong = [nobody, address_of(silent), "no-such-host.invalid:9092", "localhost:99999", ""]
    processes = [start(script, address) for address in wrong]
    for process, address in zip(processes, wrong, strict=True):
        told(process, address, 30)


def test_broker_that_is_away_is_looked_for_every_second(script, start, silent):
    start(script, address_of(silent))
    knocks = []
    while not knocks or knocks[-1] < knocks[0] + 9:
        connection, _ = silent.accept()
        connection.close()
        knocks.append(time.monotonic())
    assert max(later - earlier for earlier, later in pairwise(knocks)) < 3


def test_ctrl_c_while_waiting_for_a_broker(script, start, silent, stop_signal):
    process = start(script, address_of(silent))
    connection, _ = silent.accept()
    with connection:
        process.signal(stop_signal)
        assert process.wait(on_this_machine(1)) == -stop_signal
        assert (process.out, process.err) == ([], [])


# Bad input: reported on stderr with topic, partition and offset, nothing printed raw, skipped and committed;
# the messages around it are handled


def test_bad_input(worker, service):
    bad = [
        b"\xff\xfe@gmail.com",
        None,
        b"",
        b"x" * 900_000,
        b"no address",
        b"a" * 245 + b"@gmail.com",  # 255 characters
        "\x1b[2J\x1b]0;title\a@gmail.com",
        "a@gmail.com\nsending email to b@gmail.com",
        "a@gmail.com\r",
        "a@gmail.com\x00\x7f",
        "a\x85\x9b31m@gmail.com",
        "a\u202emoc.liamg@b",
        "a\u2028@gmail.com",
    ]
    good = [
        "first@gmail.com",
        "jürgen@gmail.com",
        "o'neill@gmail.com",
        "ü" * 244 + "@gmail.com",  # 254 characters
    ]
    good += [f"user{i}@gmail.com" for i in range(len(bad) - len(good))]
    job = service()
    job.cluster.publish(job.topic, [value for pair in zip(good, bad, strict=True) for value in pair])
    job.sent = good
    script = job.hire(worker)
    job.wait_handled()
    job.wait_committed()
    stop(script)
    job.check()
    assert len(script.err) == len(bad) and script.begun() == good
    for number, line in enumerate(script.err):
        assert f"{job.topic}, partition 0, offset {2 * number + 1}" in line
    assert all(line.isprintable() and len(line) < 5000 for line in script.out + script.err)


# A million messages waiting; 300 messages of 900 kB with an @ in them: the batch worker's memory stays flat


def watch(script, is_over):
    """Until is_over(), the batch worker's memory stays under 80 MiB."""
    process = psutil.Process(script.process.pid)
    while not is_over():
        resident = process.memory_info().rss / 2**20
        assert resident < 80, f"{resident:.0f} MiB"
        assert time.monotonic() < script.started + 90, "too slow"
        time.sleep(0.1)


def test_million_messages_waiting(service):
    job = service(WORK_SECONDS=0.2, BATCH_SECONDS=NEVER)
    code = """if True:
        import sys
        from kafka import KafkaProducer
        with KafkaProducer(bootstrap_servers=sys.argv[1], linger_ms=50, batch_size=500_000) as producer:
            for _ in range(1_000_000):
                producer.send(sys.argv[2], b"user@gmail.com")"""
    subprocess.run([sys.executable, "-c", code, job.cluster.address, job.topic], check=True, timeout=120)
    script = job.hire("batch_worker")
    watch(script, lambda: script.out.count("finished processing messages") >= 12)
    assert len(script.begun()) >= 100_000
    stop(script)


def test_300_messages_of_900_kb_with_an_at_in_them(service):
    job = service()
    job.cluster.publish(job.topic, [b"x" * 900_000 + b"@gmail.com"] * 300)
    script = job.hire("batch_worker")
    watch(script, lambda: len(script.err) == 300)
    job.wait_committed()
    stop(script)
    assert not any("process" in line for line in script.out)  # there was nothing to process

"""Messages that hold no valid email, and messages that other clients compress or abort."""

from confluent_kafka import Producer
from support import output

INVALID = [
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
VALID = [
    "first@gmail.com",
    "jürgen@gmail.com",
    "o'neill@gmail.com",
    "ü" * 244 + "@gmail.com",  # 254 characters
]
VALID += map(output.email_of, range(len(INVALID) - len(VALID)))


def test_invalid_messages_are_reported_skipped_and_committed(worker_name, new_workload):
    workload = new_workload()
    values = [value for pair in zip(VALID, INVALID, strict=True) for value in pair]
    workload.cluster.publish(workload.topic, values)
    workload.published = VALID
    worker = workload.start(worker_name)
    workload.drain_and_check()
    assert worker.begun() == VALID
    offsets = range(1, len(values), 2)
    assert worker.err == [output.INVALID_LINE.format(workload.topic, 0, offset) for offset in offsets]
    assert all(line.isprintable() and len(line) < 5000 for line in worker.out)


def test_messages_compressed_by_another_client_are_processed_like_any_others(worker_name, new_workload):
    workload = new_workload(WORK_SECONDS=0.01)
    for codec in ("gzip", "snappy", "lz4", "zstd"):
        workload.publish(1)
        emails = [f"{codec}{i}@gmail.com" for i in range(30)]  # librdkafka doesn't compress a batch of one
        settings = {"bootstrap.servers": workload.cluster.address, "linger.ms": 50, "compression.type": codec}
        producer = Producer(settings)
        for email in emails:
            producer.produce(workload.topic, email)
        assert producer.flush(30) == 0
        workload.published += emails
    workload.publish(1)
    worker = workload.start(worker_name)
    workload.drain_and_check()
    assert worker.begun() == workload.published and worker.err == []


def test_messages_of_an_aborted_transaction_are_never_processed(worker_name, new_workload):
    workload = new_workload()
    producer = Producer({"bootstrap.servers": workload.cluster.address, "transactional.id": workload.topic})
    producer.init_transactions()
    for email in ("aborted@gmail.com", "committed@gmail.com"):
        producer.begin_transaction()
        producer.produce(workload.topic, email)
        producer.flush()
        producer.abort_transaction() if email == "aborted@gmail.com" else producer.commit_transaction()
    workload.publish(1)
    workload.published = ["committed@gmail.com", *workload.published]
    worker = workload.start(worker_name)
    workload.drain_and_check()
    assert worker.begun() == workload.published

"""The broker denies access to a topic or a group."""

import pytest
from kafka.admin import ACLOperation, ResourceType
from support import output
from support.processes import BATCH, PRODUCER
from support.workload import NEVER

pytestmark = pytest.mark.not_on_external_broker


@pytest.mark.parametrize(("kind", "moment"), [("group", "while at work"), ("topic", "from the start")])
def test_a_worker_without_permission_exits_and_says_why(worker_name, new_workload, kind, moment):
    workload = new_workload(WORK_SECONDS=0.3, BUFFER_SIZE=2)
    workload.publish(6)
    if moment == "while at work":
        worker = workload.start(worker_name)
        worker.wait_for(output.SENDING)
    workload.cluster.deny(ACLOperation.READ, ResourceType[kind.upper()], workload.topic)
    if moment == "from the start":
        worker = workload.start(worker_name)
    error = f"{kind.capitalize()}Authorization"
    line = worker.wait_for_failure()
    assert error in line and output.REDELIVERED_TEXT in line and output.GOODBYE_LINE not in worker.out
    if moment == "while at work":
        assert workload.committed() < len(worker.finished())  # the last commit was rejected


def test_a_worker_that_loses_its_permission_leaves_its_buffer_to_the_next(new_workload):
    workload = new_workload(BATCH_SECONDS=NEVER)
    workload.publish(3)
    worker = workload.start(BATCH)
    worker.wait_for(output.RECEIVED)
    workload.cluster.deny(ACLOperation.READ, ResourceType.TOPIC, workload.topic)
    assert output.REDELIVERED_TEXT in worker.wait_for_failure()
    assert not worker.begun() and workload.committed() == 0


def test_the_producer_reports_a_missing_permission(start_script, cluster, topic):
    cluster.deny(ACLOperation.WRITE, ResourceType.TOPIC, topic)
    producer = start_script(PRODUCER, cluster.address, TOPIC=topic)
    assert "TopicAuthorization" in producer.wait_for_failure()
    assert producer.out == [output.TOPIC_EXISTS_LINE.format(topic)]

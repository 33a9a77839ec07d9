"""The producer in normal operation."""

from support import output
from support.processes import PRODUCER


def test_it_creates_the_topic_and_publishes_ten_emails_in_order(start_script, cluster):
    topic = cluster.new_name()
    producer = start_script(PRODUCER, cluster.address, TOPIC=topic)
    first = producer.wait_for(output.PUBLISHED)
    last = producer.wait_for(output.PUBLISHED, count=10)
    assert last - first > 0.8  # a tenth of a second apart, and flushed
    producer.wait_for_exit()
    assert (producer.out, producer.err) == (output.PRODUCER_LINES, [])
    assert cluster.stored_values(topic) == output.PRODUCER_EMAILS
    with cluster.admin() as admin:
        [partition] = admin.describe_topics([topic])[0]["partitions"]
    assert len(partition["replica_nodes"]) == 1


def test_an_existing_topic_is_reported_and_used(start_script, cluster, topic):
    cluster.publish(topic, ["earlier@gmail.com"])
    producer = start_script(PRODUCER, cluster.address, TOPIC=topic)
    producer.wait_for_exit()
    lines = [output.TOPIC_EXISTS_LINE.format(topic), *output.PRODUCER_LINES]
    assert (producer.out, producer.err) == (lines, [])
    assert cluster.stored_values(topic) == ["earlier@gmail.com", *output.PRODUCER_EMAILS]


def test_only_an_existing_topic_is_reported_as_already_created(start_script, address):
    producer = start_script(PRODUCER, address, TOPIC="no/topic")
    line = producer.wait_for_failure()
    assert "InvalidTopic" in line and len(line) < 400 and producer.out == []

"""The state of the broker, as a client sees it."""

import functools
import time
import uuid
from contextlib import suppress

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ACL, ACLOperation, ACLPermissionType, OffsetSpec, ResourcePattern
from kafka.errors import KafkaError, UnknownTopicOrPartitionError
from support.waiting import wait_until


def retried(request):
    """Retry a request until it succeeds; after a restart, or for its first group, a broker needs a while."""

    @functools.wraps(request)
    def retry(*args):
        [answer] = wait_until(lambda: [request(*args)], what=f"the broker answers {request.__name__}()")
        return answer

    return retry


class Cluster:
    """The broker at this address, or the brokers at these (separated by commas), as a client sees them."""

    def __init__(self, address):
        self.address = address
        self.client_settings = {"bootstrap_servers": address.split(","), "reconnect_backoff_max_ms": 500}
        self.topics = set()

    def admin(self):
        """Return a new admin client, to be used with `with`."""
        return KafkaAdminClient(**self.client_settings)

    def producer(self, **settings):
        """Return a new producer with these settings, to be used with `with`."""
        return KafkaProducer(**self.client_settings, **settings)

    def new_name(self):
        """Return a name that no topic and no group has. delete_topics() deletes a topic of that name."""
        name = f"tutorial-test-{uuid.uuid4().hex[:12]}"
        self.topics.add(name)
        return name

    def create_topic(self, name=None, partitions=1):
        """Create a topic, which delete_topics() deletes; return its name."""
        name = name or self.new_name()
        self.topics.add(name)
        topic = {name: {"num_partitions": partitions, "replication_factor": 1}}
        with self.admin() as admin:
            admin.create_topics(topic, wait_for_metadata=True)
        return name

    def delete_topics(self):
        """Delete every topic made by create_topic() or named in self.topics."""
        with self.admin() as admin:
            for topic in self.topics:
                with suppress(UnknownTopicOrPartitionError):
                    admin.delete_topics([topic])

    def publish(self, topic, values, partitions=1):
        """Store the values (str, bytes, or None for no value), round-robin over the partitions."""
        with self.producer(linger_ms=5) as producer:
            futures = [
                producer.send(
                    topic,
                    value.encode() if isinstance(value, str) else value,
                    key=b"key" if value is None else None,
                    partition=i % partitions,
                )
                for i, value in enumerate(values)
            ]
            return [future.get(timeout=30) for future in futures]

    def stored(self, topic):
        """Return all messages of the topic, partition by partition."""
        with KafkaConsumer(
            **self.client_settings, auto_offset_reset="earliest", enable_auto_commit=False
        ) as consumer:
            partitions = [
                TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic))
            ]
            consumer.assign(partitions)
            ends = consumer.end_offsets(partitions)
            messages = []
            deadline = time.monotonic() + 30
            while any(consumer.position(partition) < end for partition, end in ends.items()):
                assert time.monotonic() < deadline, f"only {len(messages)} messages of {ends} arrived"
                for polled in consumer.poll(timeout_ms=200).values():
                    messages += polled
            return sorted(messages, key=lambda message: (message.partition, message.offset))

    def stored_values(self, topic):
        return [message.value.decode() for message in self.stored(topic)]

    @retried
    def committed_offsets(self, group, topic):
        """Return the group's committed offsets on the topic: {partition number: offset}."""
        with self.admin() as admin:
            offsets = admin.list_group_offsets([group])[group]
        return {place.partition: offset.offset for place, offset in offsets.items() if place.topic == topic}

    @retried
    def lag(self, group, topic):
        """Return how many stored messages the group has not committed."""
        committed = self.committed_offsets(group, topic)
        with self.admin() as admin:
            [description] = admin.describe_topics([topic])
            places = [TopicPartition(topic, entry["partition_index"]) for entry in description["partitions"]]
            ends = admin.list_partition_offsets(dict.fromkeys(places, OffsetSpec.LATEST))
        return sum(end.offset - committed.get(place.partition, 0) for place, end in ends.items())

    @retried
    def members(self, group):
        """Return how many members the group has."""
        with self.admin() as admin:
            description = admin.describe_groups([group])[group]
        if description["error"] and "GroupIdNotFound" not in description["error"]:
            raise KafkaError(description["error"])
        return len(description["members"])

    def deny(self, operation, kind, name):
        """Deny everyone this operation (an ACLOperation), but let them describe the topic or group.

        kind: a ResourceType.
        """
        rules = [(operation, ACLPermissionType.DENY), (ACLOperation.DESCRIBE, ACLPermissionType.ALLOW)]
        with self.admin() as admin:
            admin.create_acls([ACL("User:*", "*", *rule, ResourcePattern(kind, name)) for rule in rules])

"""The private part of kafka-python that the workers use, and the bug that makes it necessary."""

import ast
import re
import time

import pytest
from kafka import KafkaConsumer
from support.processes import PRODUCER, ROOT


def test_no_private_name_of_a_library_is_used_except_for_the_lost_join(script_name):
    nodes = ast.walk(ast.parse((ROOT / f"{script_name}.py").read_text(encoding="utf-8")))
    names = [node.attr for node in nodes if isinstance(node, ast.Attribute)]
    # os._exit() is documented
    private = [name for name in names if re.match("_[^_]", name) and name != "_exit"]
    assert private == ([] if script_name == PRODUCER else ["_coordinator"])


@pytest.mark.xfail(strict=True, raises=AssertionError, reason="a bug in kafka-python 3.0.12")
def test_kafka_python_still_loses_a_join(cluster):
    """Without the workers' workaround, a consumer whose topic is created later never gets a partition."""
    topic = cluster.new_name()
    settings = {**cluster.client_settings, "metadata_max_age_ms": 1000, "enable_auto_commit": False}
    with KafkaConsumer(topic, group_id=topic, **settings) as consumer:
        for seconds, is_created in ((1, False), (5, True)):
            if is_created:
                cluster.create_topic(topic)
            end = time.monotonic() + seconds
            while time.monotonic() < end and not consumer.assignment():
                consumer.poll(timeout_ms=2)  # too short for both answers of a join
        assert consumer.assignment()

"""The topics exist with the partition counts that the contract says."""

from __future__ import annotations

import threading
from contextlib import closing

import pytest
from kafka import KafkaAdminClient

from consumers.topics import PARTITIONS, TopicMismatch
from tests.kafka.broker import Broker, ensure_topics


def test_each_topic_has_its_partitions_and_a_dead_letter_topic(broker: Broker) -> None:
    names = [f"{broker.prefix}{name}{end}" for name in PARTITIONS for end in ("", ".dlq")]
    with closing(KafkaAdminClient(bootstrap_servers=broker.bootstrap)) as admin:
        counts = {topic["name"]: len(topic["partitions"]) for topic in admin.describe_topics(names)}
    assert counts == {name: 1 if name.endswith(".dlq") else 4 for name in names}


def test_making_them_again_changes_nothing(broker: Broker) -> None:
    ensure_topics(broker.bootstrap, broker.prefix)


def test_several_processes_may_make_them_at_once(broker: Broker) -> None:
    errors: list[Exception] = []

    def make() -> None:
        try:
            ensure_topics(broker.bootstrap, f"{broker.prefix}at-once.")
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=make) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_another_partition_count_is_refused(broker: Broker) -> None:
    with closing(KafkaAdminClient(bootstrap_servers=broker.bootstrap)) as admin:
        admin.create_topics({f"{broker.prefix}other.orders.events.v1": {"num_partitions": 3}}, wait_for_metadata=True)
    with pytest.raises(TopicMismatch, match="3 partitions"):
        ensure_topics(broker.bootstrap, f"{broker.prefix}other.")

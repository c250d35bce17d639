"""The sender, against a real broker: bounded, acknowledged, and each key where Kafka would put it."""

from __future__ import annotations

import uuid

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from consumers.messages import Wire
from consumers.topics import ISSUANCE, ensure_topics
from coupon_ledger.demo import sending
from coupon_ledger.demo.sending import Sender


@pytest.fixture
def topic(kafka_bootstrap: str) -> str:
    prefix = f"test{uuid.uuid4().hex[:10]}."
    ensure_topics(kafka_bootstrap, prefix)
    return prefix + ISSUANCE


def test_all_is_acknowledged_and_little_is_under_way(
    kafka_bootstrap: str, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "WINDOW_MESSAGES", 10)
    with Sender(kafka_bootstrap, topic) as sender:
        for number in range(95):
            key = b"household-%d" % (number % 7)
            sender.send(Wire(key, b"%d" % number, [("ce_id", b"%d" % number)]), sender.partition_of(key))
            assert sender.sent - sum(sender.ends.values()) <= 20
    assert sum(sender.ends.values()) == sender.sent == 95
    consumer = KafkaConsumer(bootstrap_servers=kafka_bootstrap)
    partitions = [TopicPartition(topic, number) for number in sender.ends]
    assert {part.partition: end for part, end in consumer.end_offsets(partitions).items()} == sender.ends
    consumer.close()


def test_keys_lie_where_every_producer_puts_them(kafka_bootstrap: str, topic: str) -> None:
    keys = [b"household-%d" % number for number in range(40)]
    producer = KafkaProducer(bootstrap_servers=kafka_bootstrap)
    places = [producer.send(topic, b"", key).get(10).partition for key in keys]
    producer.close(timeout=10)
    with Sender(kafka_bootstrap, topic) as sender:
        assert [sender.partition_of(key) for key in keys] == places
    assert len(set(places)) > 1

"""Sending many messages fast: one producer with a bound on what is under way."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from kafka import KafkaProducer
from kafka.partitioner import murmur2

from consumers.messages import Wire

WINDOW_MESSAGES = 5_000
"""The producer itself has no bound. At most twice as many are under way: one window fills while one is awaited."""
ACKNOWLEDGE_SECONDS = 30.0


class Sender:
    """Sends to one topic, and remembers how far. Use it as a context manager: leaving waits for all that was sent.

    Raises ``kafka.errors.KafkaError`` when a message was not acknowledged by the broker.
    """

    def __init__(self, bootstrap: str, topic: str) -> None:
        self.topic = topic
        self.sent = 0
        self.ends: dict[int, int] = {}
        """Partition to the offset after the last acknowledged message."""
        self._producer = KafkaProducer(
            bootstrap_servers=bootstrap,
            acks="all",
            enable_idempotence=True,
            linger_ms=20,
            batch_size=131_072,
            compression_type="zstd",
            request_timeout_ms=10_000,
            delivery_timeout_ms=20_000,
            max_block_ms=5_000,
            allow_auto_create_topics=False,
            metrics_enabled=False,
        )
        self._partitions = sorted(self._producer.partitions_for(topic))
        self._filling: list[Any] = []
        self._awaited: list[Any] = []

    def partition_of(self, key: bytes) -> int:
        """Where Kafka's default partitioner puts a key. It is slow in Python, so do this once a key."""
        return int(self._partitions[(murmur2(key) & 0x7FFF_FFFF) % len(self._partitions)])

    def send(self, wire: Wire, partition: int) -> None:
        """Send a message to a partition; now and then wait for earlier ones."""
        self._filling.append(self._producer.send(self.topic, wire.value, wire.key, wire.headers, partition))
        self.sent += 1
        if len(self._filling) >= WINDOW_MESSAGES:
            self._await_window()

    def _await_window(self) -> None:
        for future in self._awaited:
            acknowledged = future.get(ACKNOWLEDGE_SECONDS)
            self.ends[acknowledged.partition] = acknowledged.offset + 1
        self._awaited, self._filling = self._filling, []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._await_window()
                self._await_window()
        finally:
            self._producer.close(timeout=ACKNOWLEDGE_SECONDS)

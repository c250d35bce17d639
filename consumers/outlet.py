"""A way out to Kafka for messages of which it matters that the broker has taken them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from kafka import KafkaProducer
from kafka.errors import KafkaError
from kafka.net.compat import KafkaNetClient

from consumers.messages import Wire

log = logging.getLogger(__name__)

# All of it ends before the database ends an idle transaction (10 s).
_PRODUCER = {
    "acks": "all",
    "enable_idempotence": True,
    "linger_ms": 5,
    "batch_size": 131_072,  # bytes; some send thousands of messages at once
    "compression_type": "zstd",
    "max_block_ms": 2_000,
    "bootstrap_timeout_ms": 2_000,
    "request_timeout_ms": 2_400,
    "delivery_timeout_ms": 3_000,
    "allow_auto_create_topics": False,
}
_FLUSH_SECONDS = 3.2
"""Twice, where some messages fail at their time-out and others not even then."""
_CLOSE_SECONDS = 2.5


class Outlet:
    """Sends to one topic. ``kafka`` holds settings of kafka-python's producer, such as security."""

    def __init__(self, bootstrap: str | list[str], topic: str, kafka: Mapping[str, Any]) -> None:
        self._topic = topic
        self._settings = _PRODUCER | {"bootstrap_servers": bootstrap, **kafka}
        self._producer: Any = None

    def open(self) -> None:
        """Reach the broker; nothing, where it was reached before. Raises ``KafkaError``."""
        if self._producer is None:
            self._producer = _producer(self._settings)

    def send(self, wires: Sequence[Wire]) -> None:
        """Return when the broker has taken all of them. Raises ``KafkaError``: some of them may have been taken."""
        try:
            self.open()
            producer: Any = self._producer
            futures = [producer.send(self._topic, wire.value, wire.key, wire.headers) for wire in wires]
            producer.flush(_FLUSH_SECONDS)
            for future in futures:
                future.get(timeout=0)
        except BaseException:
            # A new producer begins anew; what the old one still had on its way can only come twice.
            self.close()
            raise

    def close(self) -> None:
        """Let the producer go, with whatever it still has on its way."""
        producer, self._producer = self._producer, None
        if producer is not None:
            # Its own way to close waits for messages that kafka-python 3.0.12 may never settle once one has timed out,
            # and then leaves its thread and its connections behind.
            producer._sender.force_close()
            producer._sender.join(_CLOSE_SECONDS)
            try:
                producer.close(timeout=0)
            except KafkaError as error:
                log.warning("the producer did not end in time: %s", error)


def _producer(settings: dict[str, Any]) -> Any:
    """A producer that reached a broker. Where none answers, kafka-python would leave its sockets open."""
    clients: list[Any] = []

    def client(**config: Any) -> Any:
        clients.append(KafkaNetClient(**config))
        return clients[-1]

    try:
        return KafkaProducer(kafka_client=client, **settings)
    except KafkaError:
        for each in clients:
            each.close()
        raise

"""The publisher: every event of the log, in the log's order, on ``ledger.events.v1``.

The log is the outbox, so nothing is lost between it and Kafka; after a crash some events are sent again under the same
id, which is their position. Of one key the first copies of its events come in their order, whatever fails: a piece of
the log is one batch for each partition, which the broker takes whole or not at all, and the next piece waits for it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import orjson

from consumers.follower import Connection, Follower
from consumers.messages import Wire
from consumers.outlet import Outlet
from consumers.topics import EVENTS, EVENTS_MESSAGE_LIMIT_BYTES
from ledger import events
from ledger.events import Recorded
from ledger.published import published
from ledger.store import Store

NAME = "publisher"
VERSIONS: dict[str, int] = dict.fromkeys(events.EVENTS, 1)
"""Topic of an event to the major version of its published shape, which is none of the stored payload's. Only a change
that a reader must know of raises it: see docs/contracts/README.md."""
TYPES = {topic: f"ledger.{topic}.v{version}" for topic, version in VERSIONS.items()}
"""Topic of an event to the ``ce_type`` of its message."""
CHUNK_EVENTS = 2_000
PIECE_LIMIT_BYTES = 1_048_576
"""What is sent before its acknowledgements are awaited: a producer's memory has no other bound. One event may be
larger."""
_HEADERS_BYTES = 256
"""More than the headers, the key and the framing of one message take."""

_PRODUCER = {
    "linger_ms": 500,  # a flush ends it: until then a piece gathers in one batch for each partition
    "batch_size": 2 * EVENTS_MESSAGE_LIMIT_BYTES,
    "max_request_size": 2 * EVENTS_MESSAGE_LIMIT_BYTES,
}
_STILL_HERE = "select 1"
"""Otherwise the database would take the transaction for an idle one after several such waits."""


class Publisher:
    """Sends what a follower hands it, and fails unless the broker has taken all of it."""

    def __init__(self, schema: str, bootstrap: str | list[str], *, prefix: str = "", **kafka: Any) -> None:
        """``kafka`` is handed to kafka-python's producer (security settings)."""
        self._source = source_of(schema)
        self._outlet = Outlet(bootstrap, f"{prefix}{EVENTS}", _PRODUCER | kafka)

    def send(self, connection: Connection, chunk: Sequence[Recorded]) -> None:
        """Send a chunk of the log. Raises ``KafkaError`` when a part of it was not acknowledged."""
        self._outlet.open()
        connection.execute(_STILL_HERE)
        for piece in _pieces(message_of(recorded, self._source) for recorded in chunk):
            self._outlet.send(piece)
            connection.execute(_STILL_HERE)

    def close(self) -> None:
        """Let the producer go, with whatever it still has on its way."""
        self._outlet.close()


def source_of(schema: str) -> str:
    """The ``ce_source`` of a ledger's events."""
    return f"/coupon-ledger/{schema}"


def message_of(recorded: Recorded, source: str) -> Wire:
    """The message that tells of an event. Its key is the event's stream."""
    shown = published(recorded)
    headers = [
        ("ce_specversion", b"1.0"),
        ("ce_id", str(recorded.position).encode()),
        ("ce_source", source.encode()),
        ("ce_type", TYPES[recorded.event.TOPIC].encode()),
        ("ce_time", shown["occurred_at"].encode()),
        ("content-type", b"application/json"),
    ]
    return Wire(shown["stream"].encode(), orjson.dumps(shown), headers)


def _pieces(wires: Iterator[Wire]) -> Iterator[list[Wire]]:
    """The messages in their order, in lists that stay below the limit as long as single messages do."""
    piece: list[Wire] = []
    size = 0
    for wire in wires:
        bytes_of_wire = len(wire.value or b"") + _HEADERS_BYTES
        if piece and size + bytes_of_wire > PIECE_LIMIT_BYTES:
            yield piece
            piece, size = [], 0
        piece.append(wire)
        size += bytes_of_wire
    if piece:
        yield piece


def run(store: Store, bootstrap: str | list[str], stop: threading.Event, *, prefix: str = "", **kafka: Any) -> None:
    """Publish until told to stop; the chunk in hand is finished first. Of several processes one works."""
    publisher = Publisher(store.database.schema, bootstrap, prefix=prefix, **kafka)
    try:
        Follower(store, NAME, publisher.send, chunk_events=CHUNK_EVENTS).run(stop)
    finally:
        publisher.close()

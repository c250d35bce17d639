"""Copies of dead letters on ``<topic>.dlq``, for those who watch Kafka and not our tables.

A copy follows from its row, so none is lost between the two; after a crash one may be sent twice, which its
``dead_letter_*`` headers show. It is the message unchanged, plus those headers.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import Any

from kafka.errors import KafkaError

from consumers.dead_letters import DeadLetter, mark_published, unpublished
from consumers.messages import Wire
from consumers.outlet import Outlet
from consumers.topics import dead_letter_topic
from ledger.errors import ServiceError
from ledger.store import Store

log = logging.getLogger(__name__)

COPY_LIMIT_BYTES = 1_000_000
"""A copy with more than this would not pass a broker's usual limit, and be a second poison message."""
GROUP_LIMIT = 100
"""Copies that are sent before their acknowledgements are awaited: a producer's memory has no other bound."""
INTERVAL_SECONDS = 1.0
PAUSE_AFTER_FAILURE_SECONDS = 10.0


class Copies:
    """A thread that sends the copies of one consumer group's dead letters of a topic, soon after their burial."""

    def __init__(
        self, store: Store, bootstrap: str | list[str], group: str, topic: str, kafka: Mapping[str, Any]
    ) -> None:
        self._store = store
        self._group = group
        self._topic = topic
        self._outlet = Outlet(bootstrap, dead_letter_topic(topic), {"max_request_size": 2 * COPY_LIMIT_BYTES, **kafka})
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run, name="dead-letter-copies", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Send what waits, once, and end the thread."""
        self._ends.set()
        self._thread.join(15)

    def _run(self) -> None:
        pause, last = INTERVAL_SECONDS, False
        while not last:
            last = self._ends.wait(pause)
            pause = INTERVAL_SECONDS
            try:
                while self._publish() == GROUP_LIMIT:
                    pass
            except (KafkaError, ServiceError) as error:
                log.warning("dead letters wait for their copies: %s", error)
                pause = PAUSE_AFTER_FAILURE_SECONDS
            except Exception:
                # The rows are the truth, so trouble with their copies never ends the consumer.
                log.exception("dead letters wait for their copies")
                pause = PAUSE_AFTER_FAILURE_SECONDS
        self._outlet.close()

    def _publish(self) -> int:
        """How many copies were sent and acknowledged."""
        with self._store.connection() as connection, connection.transaction():
            letters = unpublished(connection, self._group, self._topic, GROUP_LIMIT)
            if letters:
                self._outlet.send([copy_of(letter) for letter in letters])
                mark_published(connection, [letter.id for letter in letters])
            return len(letters)


def copy_of(letter: DeadLetter, limit_bytes: int = COPY_LIMIT_BYTES) -> Wire:
    """The message as it came, and where it came from; of one above the limit as much as fits, and what does not."""
    time = letter.message_time.isoformat().replace("+00:00", "Z") if letter.message_time else ""
    told = {
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "time": time,
        "group": letter.consumer_group,
        "reason": letter.reason,
        "detail": letter.detail,
        "attempts": letter.attempts,
    }
    headers = [(f"dead_letter_{name}", str(value).encode()) for name, value in told.items()]
    original = [(name, value or b"") for name, value in letter.headers]  # kafka-python sends no null headers
    whole = Wire(letter.key, letter.value, [*original, *headers])
    if _size(whole) <= limit_bytes:
        return whole
    size = str(len(letter.value or b""))
    headers.append(("dead_letter_value_left_out_bytes", size.encode()))
    without_value = Wire(letter.key, b"", [*original, *headers])
    if _size(without_value) <= limit_bytes:
        return without_value
    return Wire(None, b"", [*headers, ("dead_letter_left_out", b"key, value, headers")])


def _size(wire: Wire) -> int:
    return (
        len(wire.key or b"")
        + len(wire.value or b"")
        + sum(len(name.encode()) + len(value or b"") + 8 for name, value in wire.headers)
    )

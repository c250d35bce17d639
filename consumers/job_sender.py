"""Works on jobs of mass issuance: sends their rows to ``coupons.issuance.v1``, finishes them, and undoes them.

Any number of processes may run; they share out the jobs. What a killed one had in hand is sent again under the same
ids, and has no second effect.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress
from typing import Any

from kafka import KafkaProducer
from kafka.errors import KafkaError, KafkaTimeoutError

from consumers import topics
from consumers.messages import Wire, encode
from consumers.payloads import IssueRequested, UserFacts
from ledger import issuance_work
from ledger.application import Connection, Ledger
from ledger.errors import ServiceError
from ledger.issuance_chunks import accepted_rows, sweep
from ledger.issuance_work import Turn

log = logging.getLogger(__name__)

IDLE_SECONDS = 0.2
"""Between looks for something to do; a poll of messages takes about as long."""
LONGEST_PAUSE_SECONDS = 5.0
SWEEP_SECONDS = 60.0
ACKNOWLEDGED_SECONDS = 6.0
"""How long a chunk's acknowledgements are awaited: well within the idle time of a transaction (10 s)."""

_PRODUCER = {
    "acks": "all",
    "enable_idempotence": True,
    "linger_ms": 5,
    "batch_size": 131_072,
    "compression_type": "zstd",
    "max_block_ms": 3_000,
    "bootstrap_timeout_ms": 3_000,
    "request_timeout_ms": 3_000,
    "delivery_timeout_ms": 5_000,
    "allow_auto_create_topics": False,
}


class JobSender:
    """One process's part of the work. ``kafka`` holds settings of kafka-python's clients, such as security."""

    def __init__(self, ledger: Ledger, bootstrap: str | list[str], *, prefix: str = "", **kafka: Any) -> None:
        self._ledger = ledger
        self._topic = f"{prefix}{topics.ISSUANCE}"
        self._settings = _PRODUCER | {"bootstrap_servers": bootstrap} | kafka
        self._producer: KafkaProducer | None = None
        self._sweep_at = 0.0

    def run(self, stop: threading.Event) -> None:
        """Work until told to stop; the chunk or page in hand is finished first.

        The database and the broker may come and go: the same chunk is sent again.
        """
        pause = IDLE_SECONDS
        while not stop.is_set():
            try:
                if self.step():
                    continue
                self._sweep_now_and_then()
                pause = IDLE_SECONDS
            except (ServiceError, KafkaError) as error:
                log.warning("jobs wait %.1f s: %s: %s", pause, type(error).__name__, error)
                self.close()
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
            stop.wait(pause)
        self.close()

    def step(self) -> bool:
        """Do the next thing for the job that has waited longest; ``False`` where there was nothing to do.

        Raises ``Unavailable`` or ``KafkaError``; what was in hand is then done again.
        """
        with self._ledger.store.connection() as connection, connection.transaction():
            turn = issuance_work.take_turn(connection)
            if turn is None:
                return False
            if turn.state == "UNDOING":
                issuance_work.undo_page(self._ledger, connection, turn)
            elif turn.is_settled:
                issuance_work.finish(self._ledger, connection, turn)
            elif issuance_work.is_paused(self._ledger, connection, turn):
                return False
            else:
                self._send_chunk(connection, turn)
            return True

    def _send_chunk(self, connection: Connection, turn: Turn) -> None:
        rows = accepted_rows(connection, turn.upload_id, turn.chunks_sent + 1)
        if self._producer is None:
            self._producer = KafkaProducer(**self._settings)
        futures = [self._producer.send(self._topic, **message_of(turn, *row)._asdict()) for row in rows]
        with suppress(KafkaTimeoutError):  # each future says what became of its own
            self._producer.flush(ACKNOWLEDGED_SECONDS)
        for future in futures:
            future.get(timeout=0.1)
        issuance_work.mark_sent(connection, turn, len(rows))

    def _sweep_now_and_then(self) -> None:
        if time.monotonic() >= self._sweep_at:
            with self._ledger.store.connection() as connection:
                sweep(connection)
            self._sweep_at = time.monotonic() + SWEEP_SECONDS

    def close(self) -> None:
        """Let go of the broker."""
        producer, self._producer = self._producer, None
        if producer is not None:
            try:
                producer.close(timeout=6)
            except KafkaError as error:
                log.warning("the producer of jobs did not end in time: %s", error)


def message_of(turn: Turn, number: int, user_id: str, extras: dict[str, Any] | None = None) -> Wire:
    """The same at every send, so that a repeat is one."""
    payload = payload_of(turn.merchant_id, turn.batch_id, user_id, extras or {})
    return encode(payload, source=turn.source, id=str(number), time=turn.started_at)


def payload_of(merchant_id: str, batch_id: str, user_id: str, extras: dict[str, Any]) -> IssueRequested:
    """What a good row asks for."""
    fields = {"merchant_id": merchant_id, "batch_id": batch_id, "user_id": user_id} | extras
    if "facts" in extras:
        fields["facts"] = UserFacts(**extras["facts"])
    return IssueRequested(**fields)

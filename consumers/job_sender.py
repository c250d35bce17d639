"""Works on jobs of mass issuance: sends their rows to ``coupons.issuance.v1``, finishes them, and undoes them.

Any number of processes may run; they share out the jobs. What a killed one had in hand is sent again under the same
ids, and has no second effect.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from kafka.errors import KafkaError

from consumers import topics
from consumers.messages import Wire, encode
from consumers.outlet import Outlet
from consumers.patience import keep_doing
from consumers.payloads import IssueRequested, UserFacts
from ledger.application import Ledger
from ledger.errors import ServiceError
from ledger.issuance import work as issuance_work
from ledger.issuance.chunks import accepted_rows, sweep
from ledger.issuance.work import Turn

IDLE_SECONDS = 0.2
"""Between looks for something to do; a poll of messages takes about as long."""
SWEEP_SECONDS = 60.0


class JobSender:
    """One process's part of the work. ``kafka`` holds settings of kafka-python's clients, such as security."""

    def __init__(self, ledger: Ledger, bootstrap: str | list[str], *, prefix: str = "", **kafka: Any) -> None:
        self._ledger = ledger
        self._outlet = Outlet(bootstrap, f"{prefix}{topics.ISSUANCE}", kafka)
        self._sweep_at = 0.0

    def run(self, stop: threading.Event) -> None:
        """Work until told to stop; the chunk or page in hand is finished first.

        The database and the broker may come and go: the same chunk is sent again.
        """
        keep_doing("jobs", self._turn, stop, (ServiceError, KafkaError))
        self.close()

    def _turn(self) -> float:
        if self.step():
            return 0.0
        self._sweep_now_and_then()
        return IDLE_SECONDS

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
                issuance_work.leave_alone(connection, turn)
            else:
                rows = accepted_rows(connection, turn.upload_id, turn.chunks_sent + 1)
                self._outlet.send([message_of(turn, *row) for row in rows])
                issuance_work.mark_sent(connection, turn, len(rows))
            return True

    def _sweep_now_and_then(self) -> None:
        if time.monotonic() >= self._sweep_at:
            with self._ledger.store.connection() as connection:
                sweep(connection)
            self._sweep_at = time.monotonic() + SWEEP_SECONDS

    def close(self) -> None:
        """Let go of the broker."""
        self._outlet.close()


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

"""Jobs for the tests of their operations: uploads, and rows that are consumed without a broker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from consumers.asked import perform
from consumers.issuance import asked
from consumers.job_sender import message_of
from consumers.messages import decode
from ledger.application import Connection, Ledger
from ledger.errors import Refusal
from ledger.issuance import work as issuance_work
from ledger.issuance.chunks import accepted_rows
from ledger.issuance.work import Turn
from ledger.request import Request
from ledger.work import Receipt

USERS = b"user_id\nuser-1\nuser-2\nuser-3\n"


def upload(operator: Any, batch_id: str, data: bytes = USERS, kind: str = "text/csv", **options: Any) -> Any:
    """The answer to a file of users."""
    return operator.post(f"/v1/batches/{batch_id}/issuance-jobs", data=data, content_type=kind, **options)


def started(operator: Any, batch_id: str, data: bytes = USERS) -> str:
    """The id of a new job."""
    job_id: str = upload(operator, batch_id, data).ok(201)["job_id"]
    return job_id


def step(ledger: Ledger, *, only: Sequence[int] = ()) -> bool:
    """What the sender does next; what it would send (only these rows, where they are named) is consumed at once."""
    with ledger.store.connection() as connection, connection.transaction():
        turn = issuance_work.take_turn(connection)
        if turn is None:
            return False
        if turn.state == "UNDOING":
            issuance_work.undo_page(ledger, connection, turn)
        elif turn.is_settled:
            issuance_work.finish(ledger, connection, turn)
        else:
            rows = accepted_rows(connection, turn.upload_id, turn.chunks_sent + 1)
            _consume(ledger, connection, turn, [row for row in rows if not only or row[0] in only])
            issuance_work.mark_sent(connection, turn, len(rows))
    return True


def consume_first_chunk(ledger: Ledger) -> list[Receipt | Refusal | None]:
    """Consume what the first job's sender sends first, before it has noted that it did."""
    with ledger.store.connection() as connection, connection.transaction():
        turn = issuance_work.take_turn(connection)
        assert turn is not None
        return _consume(ledger, connection, turn, accepted_rows(connection, turn.upload_id, 1))


def _consume(
    ledger: Ledger, connection: Connection, turn: Turn, rows: Sequence[Sequence[Any]]
) -> list[Receipt | Refusal | None]:
    messages = [decode(message_of(turn, *row)) for row in rows]
    wanted = [asked(each, Request(turn.merchant_id, "consumer:test", each.request_id)) for each in messages]
    return perform(ledger, connection, wanted)


def settle(ledger: Ledger) -> None:
    """All that is to be done for all jobs."""
    while step(ledger):
        pass

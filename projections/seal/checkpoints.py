"""What the database keeps of the seal: the checkpoints that were signed, and how the sealer is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg.rows import class_row, tuple_row

from coupon_ledger_audit.note import Checkpoint, NoteError, VerifierKey, open_checkpoint
from projections.seal.errors import SealBroken

FAULT_LIMIT = 2_000
"""Characters of what the sealer says of why it stopped."""

Connection = psycopg.Connection[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """A checkpoint that was signed: these were the first ``size`` events of the log."""

    size: int
    root: bytes
    note: str
    """The signed note, without the lines of witnesses."""
    vkey: str
    """The public key that it was signed for, as the sealer knew it."""
    signed_at: datetime

    def check(self, origin: str | None = None) -> None:
        """Raise ``SealBroken`` unless the note says the same as the row, and its key signed it for that log."""
        try:
            key = VerifierKey.parse(self.vkey)
            found = open_checkpoint(self.note, key, origin or key.name)
        except NoteError as error:
            raise SealBroken(f"the checkpoint over {self.size} events: {error}") from None
        if (found.size, found.root) != (self.size, self.root):
            raise SealBroken(f"the note of the checkpoint over {self.size} events is of another one")


def newest(connection: Connection, *, at_most: int | None = None) -> Signed | None:
    """The newest checkpoint, or the newest over at most so many events."""
    cursor = connection.cursor(row_factory=class_row(Signed))
    limit = 2**63 - 1 if at_most is None else at_most
    return cursor.execute(f"{_SIGNED} where size <= %s order by size desc limit 1", (limit,), prepare=True).fetchone()


def newest_of(connection: Connection, vkey: str) -> Signed | None:
    """The newest checkpoint that is said to be of one key."""
    cursor = connection.cursor(row_factory=class_row(Signed))
    return cursor.execute(f"{_SIGNED} where vkey = %s order by size desc limit 1", (vkey,)).fetchone()


def of_size(connection: Connection, size: int) -> Signed | None:
    """The checkpoint over exactly so many events."""
    cursor = connection.cursor(row_factory=class_row(Signed))
    return cursor.execute(f"{_SIGNED} where size = %s", (size,), prepare=True).fetchone()


def all_until(connection: Connection, size: int) -> Iterator[Signed]:
    """Every checkpoint over at most so many events, the smallest first, read in parts."""
    after = 0
    while True:
        cursor = connection.cursor(row_factory=class_row(Signed))
        part = cursor.execute(
            f"{_SIGNED} where size > %s and size <= %s order by size limit 10000", (after, size)
        ).fetchall()
        if not part:
            return
        yield from part
        after = part[-1].size


def store(connection: Connection, checkpoint: Checkpoint, note: str, vkey: str) -> None:
    """Keep a checkpoint for ever. The table refuses one that covers no more than another."""
    with connection.transaction():
        connection.execute(
            "insert into seal_keys (vkey, first_size) values (%s, %s) on conflict do nothing", (vkey, checkpoint.size)
        )
        connection.execute(
            "insert into checkpoints (size, root, note, vkey) values (%s, %s, %s, %s)",
            (checkpoint.size, checkpoint.root, note, vkey),
        )


def sign_again(connection: Connection, signed: Signed, vkey: str, note: str) -> None:
    """Keep what another key of ours signed of the same size and root, as a line under the stored note."""
    connection.execute(
        "insert into cosignatures (size, place, lines) values (%s, %s, %s) on conflict do nothing",
        (signed.size, vkey, note.rpartition("\n\n")[2]),
    )


def cosigned(connection: Connection, signed: Signed) -> str:
    """The note with the lines of the witnesses that saw it, and of a later key of ours."""
    cursor = connection.cursor(row_factory=tuple_row)
    lines = cursor.execute("select lines from cosignatures where size = %s order by place", (signed.size,))
    return signed.note + "".join(line for (line,) in lines)


def stand(connection: Connection, fault: str | None = None) -> None:
    """Say that the sealer runs; or why it stopped."""
    connection.execute(
        "insert into seal_standing (state, fault) values (%(state)s, %(fault)s) on conflict (one) do update"
        " set state = excluded.state, fault = excluded.fault, updated_at = clock_timestamp()",
        {"state": "STOPPED" if fault else "RUNNING", "fault": fault[:FAULT_LIMIT] if fault else None},
    )


_SIGNED = "select size, root, note, vkey, signed_at from checkpoints"

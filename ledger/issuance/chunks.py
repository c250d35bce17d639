"""The rows of uploaded files as the database keeps them: thousands at a time, as compressed lines of JSON."""

from __future__ import annotations

from typing import Any, Literal

import orjson
import zstandard
from psycopg.rows import tuple_row

from ledger.application import Connection
from ledger.issuance.files import BadRow

Kind = Literal["accepted", "rejected"]

CHUNK_ROWS = 10_000
"""Some hundred kilobytes, compressed a tenth of that; also what a sender has in flight, and sends again when killed."""
ABANDONED_SECONDS = 3_600
"""An upload that brought nothing for so long will not go on."""


def store_chunk(connection: Connection, upload_id: str, kind: Kind, number: int, rows: int, lines: bytes) -> None:
    """Keep a chunk. It may be done twice, for its bytes are the same."""
    data = zstandard.ZstdCompressor().compress(lines)
    connection.execute(_STORE, (upload_id, kind, number, rows, data), prepare=True)


def accepted_rows(connection: Connection, upload_id: str, number: int) -> list[list[Any]]:
    """The good rows of a chunk: number, user id and, where there are any, extras. Empty where there is no such."""
    return _read(connection, upload_id, "accepted", number)


def rejected_rows(connection: Connection, upload_id: str, number: int) -> list[BadRow]:
    """The bad rows of a chunk; empty where there is no such."""
    return [BadRow(*row) for row in _read(connection, upload_id, "rejected", number)]


def stored_rows(connection: Connection, upload_id: str) -> int:
    """How many rows of an upload are there; none of them goes before the connection's transaction ends."""
    cursor = connection.cursor(row_factory=tuple_row)
    rows = cursor.execute("select rows from issuance_chunks where upload_id = %s for share", (upload_id,))
    return sum(row[0] for row in rows)


def delete_chunks(connection: Connection, upload_id: str, kinds: tuple[Kind, ...] = ("accepted", "rejected")) -> None:
    """Forget an upload's rows."""
    connection.execute("delete from issuance_chunks where upload_id = %s and kind = any(%s)", (upload_id, list(kinds)))


def sweep(connection: Connection) -> int:
    """Forget uploads that were cut off; the number of their chunks."""
    return connection.execute(_SWEEP, (ABANDONED_SECONDS,)).rowcount


def _read(connection: Connection, upload_id: str, kind: Kind, number: int) -> list[list[Any]]:
    cursor = connection.cursor(row_factory=tuple_row, binary=True)
    row = cursor.execute(_READ, (upload_id, kind, number)).fetchone()
    if row is None:
        return []
    return [orjson.loads(line) for line in zstandard.ZstdDecompressor().decompress(row[0]).split(b"\n")]


_STORE = """
insert into issuance_chunks (upload_id, kind, number, rows, data) values (%s, %s, %s, %s, %s)
on conflict (upload_id, kind, number) do nothing
"""

_READ = "select data from issuance_chunks where upload_id = %s and kind = %s and number = %s"

_SWEEP = """
delete from issuance_chunks
 where upload_id in (select upload_id from issuance_chunks c
                      where not exists (select from issuance_jobs j where j.upload_id = c.upload_id)
                      group by upload_id
                     having max(stored_at) < clock_timestamp() - make_interval(secs => %s))
"""

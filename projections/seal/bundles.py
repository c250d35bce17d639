"""Bundles: what an auditor is handed, one file that is checked offline with ``coupon-ledger-audit``."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row, tuple_row

from coupon_ledger_audit import bundle
from coupon_ledger_audit.bundle import Balances
from coupon_ledger_audit.fold import COUNTERS
from coupon_ledger_audit.note import NoteError, unverified
from coupon_ledger_audit.tiles import WIDTH, TileError, TileFolder
from ledger.errors import InvalidInput, Unavailable
from projections.catalogue import VERSIONS
from projections.seal import checkpoints
from projections.seal.checkpoints import Signed
from projections.seal.errors import NotSealedYet
from projections.seal.folder import SealFolder
from projections.seal.leaves import Row, whole
from projections.seal.proofs import Proven, extends

SEAL_WAIT_SECONDS = 10.0
SEAL_POLL_SECONDS = 0.05

Connection = psycopg.Connection[Any]
Progress = Callable[[int, int], None]


class NoCheckpoint(InvalidInput):
    """The file is not a checkpoint of this ledger."""


def own_checkpoints(connection: Connection, notes: Sequence[str]) -> list[str]:
    """The checkpoints that an auditor has, as the ledger has them. Raises ``NoCheckpoint`` for one that it never made.

    They have the lines of witnesses and of a changed key, which the auditor's copies may lack.
    """
    found = []
    for note in notes:
        try:
            told = unverified(note)
        except NoteError as error:
            raise NoCheckpoint(f"the earlier checkpoint: {error}") from None
        signed = checkpoints.of_size(connection, told.size)
        if signed is None or signed.root != told.root:
            raise NoCheckpoint(f"the earlier checkpoint of {told.size} events is none of those of this ledger")
        found.append(checkpoints.cosigned(connection, signed))
    return found


def streams_of(connection: Connection, coupon_id: str) -> list[str]:
    """The streams that tell a coupon's whole story: its own, its batch's and its template's; none for no coupon.

    A damaged story is handed over too, as far as there is one: the audit is to say what is wrong with it.
    """
    stream = f"coupon-{coupon_id}"
    row = connection.cursor(row_factory=tuple_row, binary=True).execute(_FIRST, (stream,)).fetchone()
    if row is None:
        return []
    try:
        story = json.loads(row[0])
    except ValueError:
        story = {}
    named = ((kind, story.get(f"{kind}_id")) for kind in ("batch", "template") if isinstance(story, dict))
    return [stream, *(f"{kind}-{id}" for kind, id in named if isinstance(id, str))]


def write_proven(file: IO[bytes], folder: SealFolder, proven: Proven, earlier: Sequence[str] = ()) -> None:
    """A bundle of single events, with the proof that the log extends what earlier checkpoints were signed over."""
    consistency = [(note, extends(folder, unverified(note).size, proven.signed.size)) for note in earlier]
    rows = [_bundled(row) for row in proven.rows]
    bundle.write_coupon(file, proven.note, rows, proven.proofs, earlier=consistency)


def write_whole(
    connection: Connection, folder: SealFolder, file: IO[bytes], earlier: Sequence[str], progress: Progress
) -> Signed:
    """A bundle of the whole log up to the newest checkpoint, at constant memory.

    The balances of all batches go with it, as the read model has them at a position that the checkpoint covers.
    ``earlier`` are checkpoints of this ledger (``own_checkpoints``). Raises ``NotSealedYet`` and ``Unavailable``.
    """
    balances = _balances(connection)
    signed = wait_for(connection, balances.position if balances else 1)

    def rows() -> Iterator[bundle.Row]:
        for number, row in enumerate(whole(connection, signed.size), 1):
            if number % WIDTH == 0 or number == signed.size:
                progress(number, signed.size)
            yield _bundled(row)

    note = checkpoints.cosigned(connection, signed)
    entries = _entries(folder.tiles(signed.size))
    bundle.write_whole(file, note, rows(), entries, balances=balances, earlier=earlier)
    return signed


def wait_for(connection: Connection, position: int, seconds: float = SEAL_WAIT_SECONDS) -> Signed:
    """The newest checkpoint, once it covers a position. Raises ``NotSealedYet``."""
    deadline = time.monotonic() + seconds
    while True:
        signed = checkpoints.newest(connection)
        if signed is not None and signed.size >= position:
            return signed
        if time.monotonic() >= deadline:
            raise NotSealedYet(position=position)
        time.sleep(SEAL_POLL_SECONDS)


def _balances(connection: Connection) -> Balances | None:
    """Of every batch, and the position that they are of; ``None`` before the read model has begun."""
    with connection.transaction():
        connection.execute("set transaction isolation level repeatable read, read only")
        cursor = connection.cursor(row_factory=tuple_row)
        row = cursor.execute(_BALANCES_AT, ("batch_balance", VERSIONS["batch_balance"])).fetchone()
        if row is None or row[0] == 0:
            return None
        columns = ("quantity", *COUNTERS)
        names = sql.SQL(", ").join(map(sql.Identifier, ("batch_id", *columns)))
        query = sql.SQL("select {} from batch_balance").format(names)
        found = connection.cursor(row_factory=dict_row).execute(query)
        return Balances(row[0], {batch.pop("batch_id"): batch for batch in found})


def _entries(tiles: TileFolder) -> Iterator[bytes]:
    for index in range(-(-tiles.size // WIDTH)):
        try:
            yield from tiles.entries(index)
        except TileError as error:
            raise Unavailable(f"the seal's folder cannot be read: {error}") from None


def _bundled(row: Row) -> bundle.Row:
    """What is not UTF-8 was not written by the ledger. The audit finds that it is not what was sealed."""
    position, stream, version, topic, recorded_at_us, state = row
    return bundle.Row(position, stream, version, topic, recorded_at_us, state.decode("utf-8", "replace"))


_FIRST = "select state from events where originator_id = %s order by originator_version limit 1"

_BALANCES_AT = "select position from projection_checkpoints where name = %s and version = %s"

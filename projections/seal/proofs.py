"""Proofs that events are in the log as it was signed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from coupon_ledger_audit.tiles import TileError, TileFolder
from coupon_ledger_audit.tree import consistency_proof, inclusion_proof
from ledger.errors import Unavailable
from projections.seal import checkpoints
from projections.seal.checkpoints import Signed
from projections.seal.errors import NotSealedYet
from projections.seal.folder import SealFolder
from projections.seal.leaves import Row, stream_rows

Connection = psycopg.Connection[Any]


@dataclass(frozen=True, slots=True)
class Proven:
    """Events, each with the proof that it is in the log that a checkpoint was signed over.

    Nothing of it is checked here: whoever relies on it checks it with a key from elsewhere.
    """

    signed: Signed
    note: str
    """The signed note with the lines of witnesses."""
    rows: Sequence[Row]
    """By position."""
    proofs: Sequence[Sequence[bytes]]
    """The inclusion proof of each row."""


def prove(connection: Connection, folder: SealFolder, streams: Sequence[str]) -> Proven:
    """All events of these streams, at the newest checkpoint.

    Raises ``NotSealedYet`` where that does not cover all of them, and ``Unavailable`` where the folder lacks tiles.
    """
    rows = sorted(row for stream in streams for row in stream_rows(connection, stream))
    signed = checkpoints.newest(connection)
    if signed is None or (rows and rows[-1].position > signed.size):
        raise NotSealedYet(size=signed.size if signed else 0)
    tiles = folder.tiles(signed.size)
    proofs = [_included(tiles, row.position - 1) for row in rows]
    return Proven(signed, checkpoints.cosigned(connection, signed), rows, proofs)


def extends(folder: SealFolder, old_size: int, size: int) -> list[bytes]:
    """The proof that the log of ``size`` events begins with that of ``old_size``. Raises ``Unavailable``."""
    try:
        return consistency_proof(folder.tiles(size).node, old_size, size)
    except TileError as error:
        raise Unavailable(f"the seal's folder cannot be read: {error}") from None


def _included(tiles: TileFolder, index: int) -> list[bytes]:
    try:
        return inclusion_proof(tiles.node, index, tiles.size)
    except TileError as error:
        raise Unavailable(f"the seal's folder cannot be read: {error}") from None

"""Reading again what was sealed long ago, so that a change of it is met without anybody asking."""

from __future__ import annotations

from typing import Any

import psycopg

from coupon_ledger_audit.tiles import WIDTH, TileError
from coupon_ledger_audit.tree import HASH_SIZE, leaf_hash
from projections.seal.errors import SealBroken
from projections.seal.folder import SealFolder
from projections.seal.leaves import rows

PART_EVENTS = 4 * WIDTH
"""A few milliseconds of work at a time, so that what is new does not wait."""
REREAD_SECONDS = 0.5
"""From one part to the next: about two thousand events a second, or 170 million a day."""

Connection = psycopg.Connection[Any]


class Rereading:
    """Goes through the sealed events from the first to the last, a part at a time, and then from the first again."""

    def __init__(self, folder: SealFolder) -> None:
        self._folder = folder
        self._after = 0

    def go_on(self, connection: Connection, size: int) -> None:
        """Compare the next of the first ``size`` events with their tiles. Raises ``SealBroken``."""
        after = self._after if self._after < size else 0
        count = min(PART_EVENTS, size - after)
        leaves = {row.position: leaf_hash(row.entry()) for row in rows(connection, after, count)}
        tiles = self._folder.tiles(size)
        for first in range(after, after + count, WIDTH):
            try:
                tile = tiles.tile(0, first // WIDTH)
            except TileError as error:
                raise SealBroken(str(error)) from None
            for at in range(len(tile) // HASH_SIZE):
                if leaves.get(position := first + at + 1) != tile[at * HASH_SIZE : (at + 1) * HASH_SIZE]:
                    raise SealBroken(f"the event at position {position} is gone, or is not the one that was sealed")
        self._after = after + PART_EVENTS  # the end of a tile, also where the log ends within one

"""Putting checkpoints elsewhere, a thread a place: none of them can hold up the seal, or another."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import psycopg
from psycopg.rows import tuple_row

from coupon_ledger_audit.tiles import TileError
from coupon_ledger_audit.tree import consistency_proof
from ledger.database import Database
from ledger.rest import rest
from projections.seal import checkpoints
from projections.seal.anchors import Anchor, AnchorFailed, Submission
from projections.seal.folder import SealFolder

LOOK_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
"""Between two attempts at a place that fails."""
END_SECONDS = 2.0
"""How long the threads are waited for; one that waits for a witness is left."""
ERROR_LIMIT = 500

Connection = psycopg.Connection[Any]
log = logging.getLogger(__name__)


class Anchoring:
    """Keeps the places supplied with the newest checkpoint for as long as the block lasts."""

    def __init__(self, database: Database, folder: SealFolder, anchors: Sequence[Anchor]) -> None:
        self._database = database
        self._folder = folder
        self._anchors = anchors
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._keep, args=(anchor,), daemon=True) for anchor in anchors]

    def __enter__(self) -> Anchoring:
        with self._database.connect() as connection:
            note_places(connection, self._anchors)
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        ends_at = time.monotonic() + END_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, ends_at - time.monotonic()))

    def _keep(self, anchor: Anchor) -> None:
        pause = LOOK_SECONDS
        while not self._stop.is_set():
            try:
                with self._database.connect() as connection:
                    while not self._stop.is_set():
                        well = put_newest(connection, self._folder, anchor)
                        pause = LOOK_SECONDS if well else min(2 * pause, LONGEST_PAUSE_SECONDS)
                        rest(self._stop, pause)
            except psycopg.Error as error:
                log.warning("%s waits for the database: %s", anchor.place, str(error).strip())
                rest(self._stop, pause)


def note_places(connection: Connection, anchors: Sequence[Anchor]) -> None:
    """Let the database know the places, and forget others."""
    places = [anchor.place for anchor in anchors]
    connection.execute("delete from seal_anchors where place <> all(%s)", (places,))
    connection.execute("insert into seal_anchors (place) select unnest(%s::text[]) on conflict do nothing", (places,))


def put_newest(connection: Connection, folder: SealFolder, anchor: Anchor) -> bool:
    """Put the newest checkpoint there, unless the place has it. Whether all is well; the database keeps what is not."""
    newest = checkpoints.newest(connection)
    row = connection.cursor(row_factory=tuple_row).execute(_HELD, (anchor.place,)).fetchone()
    held = row[0] if row else 0
    if newest is None or newest.size <= held:
        return True
    node = folder.tiles(newest.size).node
    size = newest.size
    try:
        lines = anchor.put(Submission(newest, held, lambda old_size: consistency_proof(node, old_size, size)))
    except (AnchorFailed, OSError, TileError) as error:
        log.warning("%s did not take the checkpoint over %d events: %s", anchor.place, size, error)
        connection.execute(_FAILED, (str(error)[:ERROR_LIMIT] or type(error).__name__, anchor.place))
        return False
    with connection.transaction():
        connection.execute(_DONE, (size, anchor.place))
        if lines:
            connection.execute(_COSIGNED, (size, anchor.place, lines))
    return True


_HELD = "select size from seal_anchors where place = %s"

_FAILED = "update seal_anchors set error = %s, tried_at = clock_timestamp() where place = %s"

_DONE = """
update seal_anchors set size = %s, anchored_at = clock_timestamp(), tried_at = clock_timestamp(), error = null
 where place = %s
"""

_COSIGNED = "insert into cosignatures (size, place, lines) values (%s, %s, %s) on conflict do nothing"

"""The sealer: follows the log in the order of positions, grows the tree, and signs what it has become.

Polling is the truth; NOTIFY only wakes it early. One sealer leads, by a lock that its session holds, so a sealer that
lost its connection can store no checkpoint. It signs nothing that does not extend what it signed before, whatever the
database says of that: where the log, the tiles or the checkpoints are not what they were, it says so and stops.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from psycopg import sql

from coupon_ledger_audit.note import Checkpoint, NoteError, unverified
from coupon_ledger_audit.tiles import WIDTH, TileError
from coupon_ledger_audit.tree import (
    EMPTY_ROOT,
    ProofError,
    consistency_proof,
    leaf_hash,
    root,
    verify_consistency,
)
from ledger.database import Database
from ledger.rest import rest
from projections.seal import checkpoints
from projections.seal.anchoring import Anchoring
from projections.seal.anchors import Anchor
from projections.seal.checkpoints import Signed
from projections.seal.errors import SealBroken
from projections.seal.folder import SealFolder
from projections.seal.leaves import READ_EVENTS, Row, rows, whole
from projections.seal.rereading import REREAD_SECONDS, Rereading
from projections.seal.signer import Signer
from projections.seal.tree import GrowingTree

SEALER_ROLE = "coupon_ledger_sealer"
CHECKPOINT_SECONDS = 0.5
"""From one checkpoint to the next while there is something new, so that no event waits for a second."""
POLL_SECONDS = 0.2
LEASE_POLL_SECONDS = 0.5
BACKOFF_LIMIT_SECONDS = 5.0
TROUBLE = (psycopg.OperationalError, psycopg.InterfaceError, psycopg.errors.ReadOnlySqlTransaction, OSError)
"""What passes by itself, or when somebody makes room on the disk."""

Connection = psycopg.Connection[Any]
log = logging.getLogger(__name__)


class Sealer:
    """Seals one ledger's log."""

    def __init__(
        self,
        database: Database,
        folder: SealFolder,
        signer: Signer,
        anchors: Sequence[Anchor] = (),
        *,
        read_events: int = READ_EVENTS,
        checkpoint_seconds: float = CHECKPOINT_SECONDS,
    ) -> None:
        self.database = database
        self.folder = folder
        self._signer = signer
        self._anchors = anchors
        self._read_events = read_events
        self._checkpoint_seconds = checkpoint_seconds
        self._tree = GrowingTree()
        self._last: Signed | None = None
        self._last_leaf = b""
        """Of the event that was added last: should it change, the log is rewritten before our eyes."""
        self._rereading = Rereading(folder)

    def run(self, stop: threading.Event) -> None:
        """Lead, or wait for the lead, until told to stop; the checkpoint in hand is finished first.

        A lost database or a full disk is tried again for ever, with growing pauses. Raises ``SealBroken`` when the log
        is not what was sealed, after the database was told.
        """
        pause = POLL_SECONDS
        while not stop.is_set():
            try:
                with self.database.connect() as connection:
                    while not self.lead(connection):
                        rest(stop, LEASE_POLL_SECONDS)
                        if stop.is_set():
                            return
                    self._follow(connection, stop)
            except TROUBLE as error:
                log.warning("the seal waits %.1f s: %s", pause, str(error).strip())
                rest(stop, pause)
                pause = min(2 * pause, BACKOFF_LIMIT_SECONDS)

    def lead(self, connection: Connection) -> bool:
        """Take the lead for as long as the connection lasts, if nobody has it; then stand where the last one stood.

        Raises ``SealBroken``.
        """
        row = connection.execute("select pg_try_advisory_lock('checkpoints'::regclass::oid::int, 1)").fetchone()
        if row is None or not row[0]:
            return False
        with self._telling(connection):
            self._begin(connection)
        checkpoints.stand(connection)
        return True

    def step(self, connection: Connection, at_most: int | None = None) -> int:
        """Add what is new to the tree, at most a part of it, and say how many events that were.

        Raises ``SealBroken`` where the log no longer holds what was added before, or has a hole.
        """
        limit = self._read_events if at_most is None else min(at_most + 1, self._read_events)
        new = rows(connection, max(self._tree.size - 1, 0), limit)
        if self._tree.size and (not new or leaf_hash(new.pop(0).entry()) != self._last_leaf):
            raise SealBroken(f"the event at position {self._tree.size} is gone, or is another one now")
        for row in new:
            self._add(self._tree, row)
        return len(new)

    def sign(self, connection: Connection) -> Signed | None:
        """Bring the tree to disk, sign it and keep the checkpoint; ``None`` when there is nothing new.

        Raises ``SealBroken`` when it would not extend the last checkpoint.
        """
        tree, last = self._tree, self._last
        if tree.size == (last.size if last else 0):
            return None
        self.folder.write([*tree.full, *tree.partial()])
        tree.full.clear()
        checkpoint = Checkpoint(self._signer.origin, tree.size, tree.root())
        self._check_extends(connection, checkpoint)
        note = self._signer.sign(checkpoint)
        checkpoints.store(connection, checkpoint, note, self._signer.vkey)
        stored = checkpoints.of_size(connection, checkpoint.size)
        if stored is None or (stored.note, stored.root) != (note, checkpoint.root):
            raise SealBroken(f"the database did not keep the checkpoint over {checkpoint.size} events as it was signed")
        self._last = stored
        self.folder.write_checkpoint(note)
        return stored

    def reread(self, connection: Connection) -> None:
        """Look at a part of the events that were sealed long ago. Raises ``SealBroken`` at one that is another now."""
        if self._last:
            self._rereading.go_on(connection, self._last.size)

    def _follow(self, connection: Connection, stop: threading.Event) -> None:
        connection.execute(sql.SQL("listen {}").format(sql.Identifier(f"{self.database.schema}_events")))
        with self._telling(connection), Anchoring(self.database, self.folder, self._anchors):
            due_at = reread_at = 0.0
            while not stop.is_set():
                added = self.step(connection)
                if time.monotonic() >= reread_at:
                    self.reread(connection)
                    reread_at = time.monotonic() + REREAD_SECONDS
                if time.monotonic() >= due_at and self.sign(connection):
                    due_at = time.monotonic() + self._checkpoint_seconds
                elif not added:
                    for _ in connection.notifies(timeout=POLL_SECONDS, stop_after=1):
                        pass
                elif added < self._read_events - 1:
                    rest(stop, due_at - time.monotonic())
            self.sign(connection)

    def _begin(self, connection: Connection) -> None:
        """Stand where the last checkpoint says, with the tiles that it was signed over."""
        self.folder.prepare()
        self._last = last = checkpoints.newest(connection)
        note, mine = self._check_file(connection), self._signer.last()
        self._tree, self._last_leaf = GrowingTree(), b""
        if last is not None:
            self._signer.check(last)
            if last.vkey != self._signer.vkey:
                log.info("checkpoints are signed by another key from %d events on: %s", last.size, self._signer.vkey)
            if mine is None:
                log.warning("the note of what was signed last is not beside the key: believing what is in the database")
            self._tree = self._resumed(connection, last)
            if note != last.note:
                self.folder.write_checkpoint(last.note)
        if mine is not None:
            self._come_to(connection, mine)
        if last is not None and last.vkey != self._signer.vkey and self._tree.size == last.size:
            # Auditors who have the new key alone wait for no event. The table takes one note for each size.
            again = self._signer.sign(Checkpoint(self._signer.origin, last.size, last.root))
            checkpoints.sign_again(connection, last, self._signer.vkey, again)

    def _resumed(self, connection: Connection, last: Signed) -> GrowingTree:
        """The tree of a checkpoint, from its tiles; where these are not there, from the log."""
        try:
            tree = GrowingTree.resumed(self.folder.tiles(last.size))
            self._last_leaf = self.folder.tiles(last.size).node(0, last.size - 1)
        except TileError as error:
            log.warning("%s: making the tiles of %d events again", error, last.size)
            tree = self._rebuilt(connection, last)
        if tree.root() != last.root:
            raise SealBroken(f"the tiles are not those that the checkpoint over {last.size} events was signed over")
        return tree

    def _come_to(self, connection: Connection, mine: Checkpoint) -> None:
        """Demand that the tree begins with what was signed last, and grow as far where the database was not told."""
        if mine.size <= self._tree.size:
            self._prove(mine.size, mine.root, self._tree.size, self._tree.root())
            return
        while self._tree.size < mine.size and self.step(connection, mine.size - self._tree.size):
            pass
        if (self._tree.size, self._tree.root()) != (mine.size, mine.root):
            raise SealBroken(f"the log does not begin with what was signed over {mine.size} events")

    def _rebuilt(self, connection: Connection, last: Signed) -> GrowingTree:
        """The tree, and its tiles in the folder, made again from a log that is what every checkpoint says."""
        tree, sealed = GrowingTree(), 0
        signed = checkpoints.all_until(connection, last.size)
        due = next(signed)
        self._signer.check(due)
        for row in whole(connection, last.size):
            self._add(tree, row)
            if tree.size == due.size:
                if tree.root() != due.root:
                    raise SealBroken(
                        f"events of the positions {sealed + 1} to {due.size} are not those that were sealed"
                    )
                # Clients with an older checkpoint may still ask for the last tile as it was.
                edge = tree.partial() if due.size // WIDTH == last.size // WIDTH else ()
                self.folder.write([*tree.full, *edge])
                tree.full.clear()
                sealed, due = due.size, next(signed, last)
                self._signer.check(due)
        if tree.size != last.size:
            raise SealBroken(f"the event at position {tree.size + 1} is missing: {last.size} were sealed")
        return tree

    def _add(self, tree: GrowingTree, row: Row) -> None:
        if row.position != tree.size + 1:
            raise SealBroken(f"the event at position {tree.size + 1} is missing")
        entry = row.entry()
        tree.add(entry)
        self._last_leaf = leaf_hash(entry)

    def _check_extends(self, connection: Connection, checkpoint: Checkpoint) -> None:
        """Look at the newest checkpoint afresh, and prove from the tiles on disk that the next one begins with it."""
        if checkpoints.newest(connection) != self._last:
            raise SealBroken("the newest checkpoint in the database is not the one that was signed last")
        self._check_file(connection)
        old_size, old_root = (self._last.size, self._last.root) if self._last else (0, EMPTY_ROOT)
        self._prove(old_size, old_root, checkpoint.size, checkpoint.root)

    def _prove(self, old_size: int, old_root: bytes, size: int, new_root: bytes) -> None:
        """Prove from the tiles on disk that the larger tree begins with the smaller one. Raises ``SealBroken``."""
        node = self.folder.tiles(size).node
        try:
            if root(node, size) != new_root:
                raise ProofError("the tiles have another root")
            verify_consistency(old_size, old_root, size, new_root, consistency_proof(node, old_size, size))
        except (ProofError, TileError) as error:
            text = f"{size} events do not extend the {old_size} that were signed before: {error}"
            raise SealBroken(text) from None

    def _check_file(self, connection: Connection) -> str | None:
        """The note in the folder, which must be one that the database has and that one of our keys signed."""
        note = self.folder.checkpoint()
        if note is None:
            return None
        try:
            size = unverified(note).size
        except NoteError as error:
            raise SealBroken(f"the folder's checkpoint: {error}") from None
        stored = checkpoints.of_size(connection, size)
        if stored is None:
            raise SealBroken(f"the folder has a checkpoint over {size} events, and the database does not")
        if stored.note != note:
            raise SealBroken(f"the folder and the database have two checkpoints over {size} events")
        self._signer.check(stored)
        return note

    @contextmanager
    def _telling(self, connection: Connection) -> Iterator[None]:
        try:
            yield
        except SealBroken as error:
            with suppress(psycopg.Error):
                checkpoints.stand(connection, error.detail)
            raise

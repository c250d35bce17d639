"""The seal against the log: is every event still the one that was sealed, and are the tiles those that were signed.

Leaves are computed again from the events table and compared one by one with the tiles, and the roots of both with every
checkpoint that was signed. So it is known which of the two was changed, and at which position first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import tuple_row

from coupon_ledger_audit.note import NoteError, unverified
from coupon_ledger_audit.tiles import (
    WIDTH,
    TileError,
    TileFolder,
    entries_path,
    pack_entries,
    tile_path,
    unpack_entries,
)
from coupon_ledger_audit.tree import HASH_SIZE, leaf_hash
from projections.seal import checkpoints
from projections.seal.checkpoints import Signed
from projections.seal.errors import NotSealed, SealBroken
from projections.seal.folder import SealFolder
from projections.seal.leaves import READ_EVENTS, Row, rows
from projections.seal.tree import GrowingTree

FINDINGS = 100
"""No more are told: after the first, others say little."""
BEFORE_ALL = -(2**63)
"""Below every position that a row can have."""
WRITTEN_AFTER = timedelta(seconds=60)
"""A file as new as this, when the snapshot began, may be newer than the snapshot: clocks of two machines differ."""

Connection = psycopg.Connection[Any]
Progress = Callable[[int, int], None]
"""Is told how many events were looked at, and of how many."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it was sealed."""

    position: int | None
    """The first position of the log that it concerns; ``None`` where it concerns none."""
    what: str


def check(connection: Connection, folder: SealFolder | Path, progress: Progress = lambda *_: None) -> list[Finding]:
    """Everything that is not as it was sealed, by position; at most a hundred findings, the first among them.

    Any connection that may read ``events`` and ``checkpoints`` will do, also one in a snapshot of its own. Raises
    ``NotSealed`` where neither the database nor the folder has a checkpoint.
    """
    folder = folder if isinstance(folder, SealFolder) else SealFolder(folder)
    findings: list[Finding] = []
    try:
        note = folder.checkpoint()  # before the table is read, so that the table has it
    except SealBroken as error:
        note = None
        findings.append(Finding(None, error.detail))
    newest = checkpoints.newest(connection)
    if newest is None and note is None:
        raise NotSealed
    if note is not None:
        findings += _of_file(connection, folder, note)
    if newest is not None:
        findings += _of_signatures(connection, newest)
        comparison = _Comparison(connection, folder.tiles(newest.size), findings)
        comparison.run(progress)
    return sorted(findings, key=lambda finding: finding.position or 0)[:FINDINGS]


def _of_file(connection: Connection, folder: SealFolder, note: str) -> Iterator[Finding]:
    """The newest checkpoint of the folder, against the database's."""
    try:
        size = unverified(note).size
    except NoteError as error:
        yield Finding(None, f"the folder's checkpoint: {error}")
        return
    stored = checkpoints.of_size(connection, size)
    if stored is not None and stored.note != note:
        yield Finding(None, f"the folder and the database have two checkpoints over {size} events")
    elif stored is None and not _newer_than_snapshot(connection, folder):
        yield Finding(None, f"the folder has a checkpoint over {size} events, and the database does not")


def _newer_than_snapshot(connection: Connection, folder: SealFolder) -> bool:
    """Whether the folder's checkpoint may have been written after the connection's snapshot was taken."""
    row = connection.cursor(row_factory=tuple_row).execute("select current_setting('transaction_isolation'), now()")
    isolation, began_at = row.fetchone() or ("", None)
    if isolation == "read committed":
        return False  # each statement sees what is there
    written_at = datetime.fromtimestamp((folder.path / "checkpoint").stat().st_mtime, UTC)
    return began_at is not None and written_at > began_at - WRITTEN_AFTER


def _of_signatures(connection: Connection, newest: Signed) -> Iterator[Finding]:
    """The newest checkpoint of each key. All others are compared by their roots, which the tree decides."""
    cursor = connection.cursor(row_factory=tuple_row)
    sizes = cursor.execute("select max(size) from checkpoints group by vkey order by 1").fetchall()
    for (size,) in sizes:
        signed = checkpoints.of_size(connection, size) or newest
        try:
            signed.check()
        except SealBroken as error:
            yield Finding(None, error.detail)


@dataclass
class _Comparison:
    """The log up to the newest checkpoint beside the tiles, from one checkpoint to the next."""

    connection: Connection
    tiles: TileFolder
    findings: list[Finding]
    tree: GrowingTree = field(default_factory=GrowingTree)
    """What is right, as far as a checkpoint says so."""
    bundles: dict[int, bytes] = field(default_factory=dict)
    """Entry bundles as the log has them, since the last checkpoint."""
    _tile: tuple[int, bytes | None] = (-1, None)
    _entries: list[bytes] = field(default_factory=list)
    _lost: bool = False
    """Whether a checkpoint was passed that neither the log nor the tiles lead to. No later one can be reached then."""

    def run(self, progress: Progress) -> None:
        leaves = self._logged(progress)
        for signed in checkpoints.all_until(self.connection, self.tiles.size):
            try:
                if unverified(signed.note).root != signed.root:
                    self._find(None, f"the note of the checkpoint over {signed.size} events has another root")
            except NoteError as error:
                self._find(None, f"the note of the checkpoint over {signed.size} events: {error}")
            self._until(signed, islice(leaves, signed.size - self.tree.size))
        next(leaves, None)  # what comes after the last event
        self._check_edge()

    def _until(self, signed: Signed, leaves: Iterator[bytes]) -> None:
        """Compare up to a checkpoint, which decides between the log and the tiles."""
        first = self.tree.size + 1
        logged: GrowingTree | None = self.tree
        sealed: GrowingTree | None = None
        different = []
        for position, leaf in enumerate(leaves, first):
            kept = self._sealed_leaf(position) or leaf
            if kept != leaf or not leaf:
                different.append(position)
                sealed = sealed or deepcopy(logged)
                logged = logged if leaf else None
            if logged:
                logged.add_leaf(leaf)
            if sealed:
                sealed.add_leaf(kept or bytes(HASH_SIZE))
        if sealed is not None and sealed.root() == signed.root:
            for position in different[:FINDINGS]:
                self._find(position, f"the event at position {position} is not the one that was sealed")
            self.tree, self._lost = sealed, False
        elif logged is not None and logged.root() == signed.root:
            self.tree, self._lost = logged, False
        else:
            self._find_lost(first, signed, different)
            self.tree = sealed or logged or self.tree
        if not self._lost:
            self._check_files()
        self.tree.full.clear()
        self.bundles.clear()

    def _find_lost(self, first: int, signed: Signed, different: list[int]) -> None:
        if not self._lost:
            text = f"the events of the positions {first} to {signed.size} are not those of the checkpoint over them"
            self._find(different[0] if different else first, text)
        for position in different[:FINDINGS]:
            self._find(position, f"the event at position {position} is not what its tile says")
        self._lost = True

    def _logged(self, progress: Progress) -> Iterator[bytes]:
        """The leaf of each position from 1 on, by the log; empty where there is none that could have been sealed."""
        expected, size = 1, self.tiles.size
        for row in self._rows(progress):
            if row.position < expected:
                self._find(row.position, f"an event at position {row.position} was put in")
                continue
            while expected < row.position:
                yield self._bundled(expected, b"")
                expected += 1
            try:
                entry = row.entry()
            except SealBroken:
                entry = b""
            yield self._bundled(expected, entry)
            expected += 1
        if expected <= size:
            self._find(expected, f"the log ends before position {expected}, and {size} events were sealed")
        while expected <= size:
            yield self._bundled(expected, b"")
            expected += 1
        self._find_twice(size)

    def _rows(self, progress: Progress) -> Iterator[Row]:
        after, size = BEFORE_ALL, self.tiles.size
        while after < size and (part := rows(self.connection, after, READ_EVENTS)):
            after = part[-1].position
            yield from (row for row in part if row.position <= size)
            progress(max(0, min(after, size)), size)

    def _find_twice(self, size: int) -> None:
        cursor = self.connection.cursor(row_factory=tuple_row)
        row = cursor.execute("select count(*) from events where notification_id <= %s", (size,)).fetchone()
        if row is not None and row[0] > size and not any(" was put in" in finding.what for finding in self.findings):
            self._find(None, f"{row[0] - size} more events have positions up to {size} than were sealed")

    def _bundled(self, position: int, entry: bytes) -> bytes:
        """The entry's leaf, or nothing for none; the entry bundle is put together on the way."""
        self._entries.append(entry)
        if len(self._entries) == WIDTH or position == self.tiles.size:
            self.bundles[(position - 1) // WIDTH] = pack_entries(self._entries)
            self._entries = []
        return leaf_hash(entry) if entry else b""

    def _sealed_leaf(self, position: int) -> bytes | None:
        """By the tiles; ``None`` where the tile is missing."""
        index, at = divmod(position - 1, WIDTH)
        if self._tile[0] != index:
            try:
                self._tile = (index, self.tiles.tile(0, index))
            except TileError:
                self._tile = (index, None)
        tile = self._tile[1]
        return None if tile is None else tile[at * HASH_SIZE : (at + 1) * HASH_SIZE]

    def _check_files(self) -> None:
        """The full tiles since the last checkpoint, and the entry bundles that they cover."""
        for path, data in self.tree.full:
            _, level, *parts = path.split("/")
            index = int("".join(part.lstrip("x") for part in parts))
            found = self._read(path)
            if found != data:
                self._find_in_tile(path, int(level), index, found, data)
            if level == "0" and (found := self._read(entries_path(index))) != self.bundles.get(index):
                self._find_in_bundle(entries_path(index), index, found, data)

    def _check_edge(self) -> None:
        """The partial tiles that the newest checkpoint needs."""
        if self._lost:
            return
        size = self.tiles.size
        for path, data in self.tree.partial():
            if path.startswith("tile/entries/"):
                continue
            level = int(path.split("/")[1])
            index = size >> 8 * (level + 1)
            found = self._read(path)
            if found is None and (full := self._read(tile_path(level, index))):
                found = full[: len(data)]  # it stands for the partial ones that it grew from
            if found != data:
                self._find_in_tile(path, level, index, found, data)
            if level == 0:
                self._check_last_bundle(index, data)

    def _check_last_bundle(self, index: int, tile: bytes) -> None:
        path, right = entries_path(index, self.tiles.size % WIDTH), self.bundles.get(index, b"")
        found = self._read(path)
        if found is None and (full := self._read(entries_path(index))):
            found = full[: len(right)]
        if found != right:
            self._find_in_bundle(path, index, found, tile)

    def _find_in_tile(self, path: str, level: int, index: int, found: bytes | None, right: bytes) -> None:
        at = _first_difference(found, right, HASH_SIZE)
        position = ((index * WIDTH + at) << 8 * level) + 1
        self._find(position, f"{path} is missing" if found is None else f"{path} was changed at hash {at}")

    def _find_in_bundle(self, path: str, index: int, found: bytes | None, tile: bytes) -> None:
        """Where the log was changed, the bundle differs from it and is right."""
        if found is None:
            self._find(index * WIDTH + 1, f"{path} is missing")
            return
        try:
            leaves = b"".join(map(leaf_hash, unpack_entries(found)))
        except TileError:
            leaves = b""
        if leaves != tile:
            at = _first_difference(leaves, tile, HASH_SIZE)
            self._find(index * WIDTH + at + 1, f"{path} was changed at entry {at}")

    def _read(self, path: str) -> bytes | None:
        try:
            return (self.tiles.path / path).read_bytes()
        except FileNotFoundError:
            return None

    def _find(self, position: int | None, what: str) -> None:
        self.findings.append(Finding(position, what))


def _first_difference(found: bytes | None, right: bytes, width: int) -> int:
    """The number of the first piece that is not as it should be."""
    found = found or b""
    last = max(len(found), len(right)) // width
    return next((at for at in range(last) if found[at * width :][:width] != right[at * width :][:width]), 0)

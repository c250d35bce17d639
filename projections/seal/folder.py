"""The seal's folder: tiles, entry bundles and the newest checkpoint as plain files, which any web server may serve.

A file is whole or not there: it is written beside, brought to disk, and renamed. What is there is never written again.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from coupon_ledger_audit.tiles import TileFolder
from projections.seal.errors import SealBroken
from projections.seal.tree import File

CHECKPOINT = "checkpoint"
_BESIDE = ".beside"
_WRITERS = 8
"""Threads that bring files to disk: a disk takes many at once in little more time than one."""


class SealFolder:
    """A folder that one sealer writes and anybody may read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def prepare(self) -> None:
        """Make it, and forget what a sealer that was killed left half written. Raises ``OSError``."""
        shutil.rmtree(self.path / _BESIDE, ignore_errors=True)
        (self.path / _BESIDE).mkdir(parents=True, exist_ok=True)

    def tiles(self, size: int) -> TileFolder:
        """The tiles as the tree of so many events."""
        return TileFolder(self.path, size)

    def checkpoint(self) -> str | None:
        """The newest checkpoint's note; ``None`` where there is none. Raises ``SealBroken`` for no text at all."""
        try:
            return (self.path / CHECKPOINT).read_text("utf-8")
        except FileNotFoundError:
            return None
        except UnicodeDecodeError:
            raise SealBroken(f"{self.path / CHECKPOINT} is not a checkpoint") from None

    def write(self, files: Iterable[File]) -> None:
        """Bring files to disk; partial ones go when theirs is full.

        Raises ``SealBroken`` where a file is there with other bytes.
        """
        new = [(path, data) for path, data in files if not self._is_there(path, data)]
        self._put(new)
        for path, _ in new:
            if ".p/" not in path:
                shutil.rmtree(self.path / f"{path}.p", ignore_errors=True)

    def write_checkpoint(self, note: str) -> None:
        """Let this note be the newest."""
        self._put([(CHECKPOINT, note.encode())])

    def _is_there(self, path: str, data: bytes) -> bool:
        try:
            found = (self.path / path).read_bytes()
        except FileNotFoundError:
            return False
        if found != data:
            raise SealBroken(f"{path} is there, and is not what the log says now")
        return True

    def _put(self, files: Sequence[File]) -> None:
        if not files:
            return
        beside = [self.path / _BESIDE / f"{os.getpid()}-{number}" for number in range(len(files))]
        with ThreadPoolExecutor(min(_WRITERS, len(files))) as pool:
            list(pool.map(_to_disk, beside, [data for _, data in files]))
        folders = set()
        for source, (path, _) in zip(beside, files, strict=True):
            target = self.path / path
            folders |= _made(target.parent)
            source.rename(target)
            folders.add(target.parent)
        for folder in folders:
            sync_folder(folder)


def write_whole(path: Path, data: bytes) -> None:
    """Put a single file in place of the one before: either is there whole, whenever the machine stops."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    _to_disk(beside, data)
    beside.rename(path)
    sync_folder(path.parent)


def _to_disk(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _made(folder: Path) -> set[Path]:
    """Make a folder, and answer those that got an entry by it."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return {each.parent for each in missing}


def sync_folder(folder: Path) -> None:
    """Bring to disk which files a folder has."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

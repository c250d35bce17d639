"""The folder of an export: one writer at a time, and nothing in it that a broken run left."""

from __future__ import annotations

import fcntl
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

from ledger.errors import InvalidInput, LedgerError
from projections.export.files import sync_folder
from projections.export.manifest import DATA, NAME, Manifest

_LOCK = ".lock"
_BEGUN = ".begun"
"""Is there from before the first file of a first run until its manifest is there."""
_UNFINISHED = re.compile(r"((log/day=\d{4}-\d\d-\d\d|[a-z_]+)/\.\d+|\.manifest\.json)\.part|\.begun", re.ASCII)


class FolderBusy(LedgerError):
    """Another export writes into this folder."""


class ManifestLost(InvalidInput):
    """The folder has files of an export, and no manifest that says which."""


def log_folder(folder: Path, day: date) -> Path:
    """Where the log of a day lies. DuckDB, Spark and pandas take ``day`` for a column."""
    return folder / "log" / f"day={day.isoformat()}"


def part_name(first: int, last: int, format: str) -> str:
    """The file of these positions of the log."""
    return f"part-{first:012}-{last:012}.{format}"


def model_name(version: int, position: int, digest: str, format: str) -> str:
    """The file of a read model's version at a position.

    Its digest is in the name because rows may change while the position stays: reminders that are sent are taken out,
    and a rebuild mends a table. So no file that a manifest names is ever written over by other bytes.
    """
    return f"v{version}-{position:012}-{digest[:8]}.{format}"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """The folder, made if need be, for this process alone. Raises ``FolderBusy``."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _LOCK).open("wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FolderBusy(f"another export writes into {folder}") from None
        yield


def strays(folder: Path, manifest: Manifest | None) -> list[str]:
    """Files that an export wrote and its manifest does not name: what a run left that was cut off."""
    known = manifest.paths() if manifest is not None else {_BEGUN}
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in found if path not in known and (DATA.fullmatch(path) or _UNFINISHED.fullmatch(path)))


def remove_strays(folder: Path, manifest: Manifest | None) -> None:
    """Remove them: read with the others, they would be rows twice. Without a manifest, the folder is then begun.

    Raises ``ManifestLost`` for finished files without a manifest that no first run left: they may be an export.
    """
    left = strays(folder, manifest)
    if manifest is None and not (folder / _BEGUN).exists():
        if any(map(DATA.fullmatch, left)):
            what = f"{folder} has files of an export and no {NAME}"
            raise ManifestLost(f"{what}: put that back, or export into another folder")
        (folder / _BEGUN).touch()
        sync_folder(folder)
    for path in left:
        (folder / path).unlink()

"""The folder of an export: one writer at a time, and nothing in it that a broken run left."""

from __future__ import annotations

import fcntl
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

from ledger.errors import LedgerError
from projections.export.manifest import Manifest

_LOCK = ".lock"
_DATA = re.compile(
    r"(log/day=\d{4}-\d\d-\d\d/part-\d{12,}-\d{12,}|[a-z_]+/v\d+-\d{12,}-[0-9a-f]{8})\.(parquet|csv|ndjson)"
)
_UNFINISHED = re.compile(r"((log/day=\d{4}-\d\d-\d\d|[a-z_]+)/\.\d+|\.manifest\.json)\.part")


class FolderBusy(LedgerError):
    """Another export writes into this folder."""


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
    known = manifest.paths() if manifest is not None else set()
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(
        path for path in found if path not in known and (_DATA.fullmatch(path) or _UNFINISHED.fullmatch(path))
    )


def remove_strays(folder: Path, manifest: Manifest | None) -> None:
    """Remove them: read with the others, they would be rows twice."""
    for path in strays(folder, manifest):
        (folder / path).unlink()

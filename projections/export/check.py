"""The check of an export: whether the files in a folder are those that its manifest names, whole and unchanged.

It finds what broke or got lost on the way. Whoever can write the folder can write its manifest too: that nobody edited
the log itself is shown by the seal, against which the payloads can be held.
"""

from __future__ import annotations

import csv
import hashlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import orjson

from ledger.errors import InvalidInput
from projections.export import folder as place
from projections.export.files import Format, check_format, pyarrow_parquet
from projections.export.manifest import File, Manifest

BLOCK_BYTES = 1 << 20
LOG = "log"

Progress = Callable[[str, int, int], None]


class NoExport(InvalidInput):
    """There is no export in this folder."""


class Finding(NamedTuple):
    """Something that is wrong."""

    path: str
    problem: str


def check(folder: Path, progress: Progress = lambda _path, _done, _total: None) -> tuple[Manifest, list[Finding]]:
    """Read every file of the export again; what is wrong, nothing if all is well.

    Raises ``NoExport``, ``ManifestUnreadable``, ``PyarrowMissing``.
    """
    manifest = Manifest.read(folder)
    if manifest is None:
        raise NoExport(f"there is no manifest.json in {folder}")
    check_format(manifest.format)
    findings: list[Finding] = []
    for number, file in enumerate(manifest.files, 1):
        problem = _problem(folder, manifest, file)
        if problem:
            findings.append(Finding(file.path, problem))
        progress(file.path, number, len(manifest.files))
    findings += [Finding(path, "is not in the manifest") for path in place.strays(folder, manifest)]
    return manifest, findings + _missing(manifest)


def _problem(folder: Path, manifest: Manifest, file: File) -> str | None:
    path = folder / file.path
    if not path.resolve().is_relative_to(folder.resolve()) or not path.is_file():
        return "is missing"
    if path.stat().st_size != file.bytes:
        return f"has {path.stat().st_size} bytes, not {file.bytes}"
    if _sha256(path) != file.sha256:
        return "has another SHA-256 than the manifest says"
    try:
        return _wrong_rows(path, manifest, file)
    except Exception as error:  # whatever a format's reader says of what it cannot read
        return f"cannot be read: {' '.join(str(error).split()) or type(error).__name__}"


def _wrong_rows(path: Path, manifest: Manifest, file: File) -> str | None:
    rows, last = 0, file.first_position - 1
    for page in _READERS[manifest.format](path, "position" if file.what == LOG else None):
        rows += len(page)
        if file.what != LOG:
            continue
        for position in page:
            if position is None or not last < position <= file.last_position:
                return f"has position {position} after {last}"
            last = position
    if rows != file.rows:
        return f"has {rows} rows, not {file.rows}"
    if file.what == LOG and manifest.merchant_id is None and rows != file.last_position - file.first_position + 1:
        return f"has {rows} rows for positions {file.first_position} to {file.last_position}"
    return None


def _missing(manifest: Manifest) -> list[Finding]:
    """Positions that no file has, or two have."""
    if manifest.log is None:
        return []
    findings, last = [], manifest.log.first_position - 1
    parts = sorted((file for file in manifest.files if file.what == LOG), key=lambda file: file.first_position)
    for part in parts:
        # Of one merchant the days on which it did nothing have no file.
        if part.first_position <= last or (manifest.merchant_id is None and part.first_position != last + 1):
            findings.append(Finding(part.path, f"begins at position {part.first_position}, and {last + 1} is due"))
        last = part.last_position
    if last > manifest.log.last_position or (manifest.merchant_id is None and last != manifest.log.last_position):
        findings.append(Finding("manifest.json", f"ends at position {manifest.log.last_position}, the log at {last}"))
    return findings


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


Pages = Iterator[list[int | None]]


def _parquet(path: Path, column: str | None) -> Pages:
    with pyarrow_parquet().ParquetFile(path) as file:
        for batch in file.iter_batches(columns=[column] if column else None):
            yield batch.column(column).to_pylist() if column else [None] * batch.num_rows


def _csv(path: Path, column: str | None) -> Pages:
    csv.field_size_limit(sys.maxsize)  # the terms of a template may name thousands of products
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.reader(file, strict=True)
        heading = next(reader)
        place = heading.index(column) if column else None
        for row in reader:
            if len(row) != len(heading):
                raise ValueError(f"line {reader.line_num} has {len(row)} cells, the heading {len(heading)}")
            yield [None if place is None else int(row[place])]


def _ndjson(path: Path, column: str | None) -> Pages:
    with path.open("rb") as file:
        for line in file:
            row = orjson.loads(line)
            yield [row[column] if column else None]


_READERS: dict[Format, Callable[[Path, str | None], Pages]] = {"parquet": _parquet, "csv": _csv, "ndjson": _ndjson}

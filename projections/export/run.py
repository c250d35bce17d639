"""One run of the export: the read models in one snapshot, then the log up to where it was then, then the manifest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from itertools import groupby
from pathlib import Path
from typing import Any

import psycopg

from ledger.database import Database
from ledger.errors import InvalidField, InvalidInput
from projections import checkpoints
from projections.catalogue import PROJECTIONS, VERSIONS
from projections.export import folder as place
from projections.export import log_rows, model_rows
from projections.export.columns import Column
from projections.export.files import Format, RowFile, Written, check_format, open_file
from projections.export.log_rows import LogMoved, LogReader, Page
from projections.export.manifest import File, Log, Manifest, ModelSnapshot, kinds

LOG = "log"
WHAT = (LOG, *(projection.name for projection in PROJECTIONS))
"""Everything that can be exported."""
PART_POSITIONS = 1_000_000
"""Of a part of the log at most, or a few more; a day may have several parts."""

Connection = psycopg.Connection[Any]
Progress = Callable[[str, int, int | None], None]
"""What is written, how many rows of it, and of how many where that is known."""


class FolderTaken(InvalidInput):
    """There is an export in the folder already: --continue adds to it."""


class FolderDiffers(InvalidInput):
    """The export in the folder was made with other options."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What is asked for."""

    format: Format
    what: Sequence[str] = WHAT
    merchant_id: str | None = None
    after: int = 0
    """The position after which the log begins, where it does not continue."""
    continue_: bool = False
    """Whether to add to what is there."""
    until: int | None = None
    """The last position of the log to be exported (its head unless said); read models stand where they stand."""


@dataclass(slots=True)
class Exported:
    """What a run did."""

    manifest: Manifest
    written: list[File] = field(default_factory=list)
    """New files."""
    faulted: list[str] = field(default_factory=list)
    """Read models that had stopped at an event, and are exported as they stood there."""
    outdated: list[str] = field(default_factory=list)
    """Read models of another version than this release's, which it does not carry on."""


def export(
    database: Database, folder: Path, options: Options, progress: Progress = lambda _what, _done, _total: None
) -> Exported:
    """Write files into the folder, and the manifest when all are there.

    Raises ``InvalidField`` for positions that the log does not have yet, before any file is written; ``FolderTaken``,
    ``FolderDiffers``, ``FolderBusy``, ``ManifestLost``, ``ManifestUnreadable``, ``PyarrowMissing``, ``ModelMissing``,
    ``NotByMerchant``, ``LogMoved``, ``MissingEvent``, ``ForeignEvent``, ``EventUnreadable``, ``OSError``; the export
    that was there is then as it was.
    """
    check_format(options.format)
    with place.locked(folder):
        manifest = _manifest(database, folder, options)
        run = _Run(folder, options, Exported(manifest), progress)
        with database.connect() as connection:
            with connection.transaction():
                names = [name for name in options.what if name != LOG]
                model_rows.begin_snapshot(connection, names)
                until = _until(options, checkpoints.head(connection))
                place.remove_strays(folder, Manifest.read(folder))
                for name in names:
                    run.write_model(connection, name)
            if LOG in options.what:
                run.write_log(connection, until)
        manifest.write(folder)
        place.remove_strays(folder, manifest)  # the read models' files of before
        return run.done


def _manifest(database: Database, folder: Path, options: Options) -> Manifest:
    """The manifest that this run starts from."""
    found = Manifest.read(folder)
    wanted = Manifest(ledger=database.schema, format=options.format, merchant_id=options.merchant_id)
    if found is None:
        return wanted
    if not options.continue_:
        raise FolderTaken(f"there is an export in {folder} already: --continue adds to it")
    for name in ("ledger", "format", "merchant_id"):
        ours, theirs = getattr(wanted, name), getattr(found, name)
        if ours != theirs:
            raise FolderDiffers(f"the export in {folder} has {name} {theirs or 'of all'}, not {ours or 'of all'}")
    if found.log is not None and found.log.schema_version != log_rows.SCHEMA_VERSION:
        version = f"{found.log.schema_version}, and this release writes version {log_rows.SCHEMA_VERSION}"
        raise FolderDiffers(f"the log in {folder} has columns of version {version}: export into a new folder")
    return found


def _until(options: Options, head: int) -> int:
    """Where the log is to end. Raises ``InvalidField`` where it does not go from ``after`` to there."""
    until = head if options.until is None else options.until
    if not 0 <= options.after <= head:
        raise InvalidField(f"--after {options.after}: the log goes from 0 to {head}", field="after")
    if not options.after <= until <= head:
        text = f"--until-position {until}: it must be from {options.after} to {head}, where the log ends"
        raise InvalidField(text, field="until_position")
    return until


class _Run:
    """Adds files to the folder and to the manifest."""

    def __init__(self, folder: Path, options: Options, done: Exported, progress: Progress) -> None:
        self.folder, self.options, self.done, self.progress = folder, options, done, progress

    def write_model(self, connection: Connection, name: str) -> None:
        """A read model as it is in this snapshot, in place of what was there."""
        model = model_rows.read_model(connection, name, self.options.merchant_id)
        if model.faulted:
            self.done.faulted.append(name)
        if model.version != VERSIONS[name]:
            self.done.outdated.append(name)
        version, position, skips, format = model.version, model.position, model.skips, self.options.format
        with self._open(self.folder / name, model.columns) as file:
            for rows in model.pages(connection, self.options.merchant_id):
                file.write(rows)
                self.progress(name, file.rows, None)
            written = file.finish(lambda digest: place.model_name(version, position, digest, format))
        before = self._take_out(name)
        self._add(name, written, (1, position), version, before)
        columns = kinds(model.columns)
        self.done.manifest.models[name] = ModelSnapshot(
            version=version, position=position, skips=skips, columns=columns
        )

    def write_log(self, connection: Connection, until: int) -> None:
        """The log after what is there, a part at a time: a day's positions, or a million of them."""
        reader = LogReader(connection, self.options.merchant_id)
        log = self.done.manifest.log
        first, after = (self.options.after + 1, self.options.after) if log is None else _end(log, reader)
        pages = reader.pages(after, until)
        for (day, _), of_part in groupby(pages, key=lambda page: (page.day, page.first // PART_POSITIONS)):
            self._write_part(day, of_part, after, until)
        last = max(after, until)
        self.done.manifest.log = Log(
            schema_version=log_rows.SCHEMA_VERSION,
            first_position=first,
            last_position=last,
            fingerprint=reader.fingerprint(last) if last else None,
            columns=kinds(log_rows.COLUMNS),
        )

    def _write_part(self, day: date, pages: Iterable[Page], after: int, until: int) -> None:
        folder = place.log_folder(self.folder, day)
        with self._open(folder, log_rows.COLUMNS) as file:
            covered: list[int] = []
            for page in pages:
                covered += page.first, page.last
                if page.rows:
                    file.write(page.rows)
                self.progress(LOG, page.last - after, until - after)
            if file.rows:
                positions = covered[0], covered[-1]
                written = file.finish(lambda _: place.part_name(*positions, self.options.format))
                self._add(LOG, written, positions, log_rows.SCHEMA_VERSION)

    @contextmanager
    def _open(self, folder: Path, columns: Sequence[Column]) -> Iterator[RowFile]:
        file = open_file(self.options.format, folder, columns)
        try:
            yield file
        finally:
            file.discard()

    def _take_out(self, what: str) -> list[File]:
        manifest = self.done.manifest
        before = [file for file in manifest.files if file.what == what]
        manifest.files = [file for file in manifest.files if file.what != what]
        return before

    def _add(
        self, what: str, written: Written, positions: tuple[int, int], schema_version: int, before: Sequence[File] = ()
    ) -> None:
        file = File(
            path=written.path.relative_to(self.folder).as_posix(),
            what=what,
            rows=written.rows,
            bytes=written.bytes,
            sha256=written.sha256,
            first_position=positions[0],
            last_position=positions[1],
            schema_version=schema_version,
        )
        self.done.manifest.files.append(file)
        if file not in before:
            self.done.written.append(file)


def _end(log: Log, reader: LogReader) -> tuple[int, int]:
    """First and last position that were exported. Raises ``LogMoved`` where that was of another log."""
    if log.fingerprint is not None and reader.fingerprint(log.last_position) != log.fingerprint:
        raise LogMoved(f"position {log.last_position} of the log is not the event that was exported before")
    return log.first_position, log.last_position

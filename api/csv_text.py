"""Rows as CSV, piece by piece, with no cell that a spreadsheet would compute."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

PIECE_ROWS = 1_000
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""How a cell begins that a spreadsheet would take for something to compute (CSV injection, OWASP)."""


def csv_text(heading: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    """The heading, then the rows, in pieces of a bounded size."""
    left = iter(rows)
    piece: list[Sequence[object]] = [heading]
    while piece:
        text = io.StringIO()
        csv.writer(text).writerows([_harmless(cell) for cell in row] for row in piece)
        yield text.getvalue()
        piece = list(islice(left, PIECE_ROWS))


def _harmless(cell: object) -> object:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) else cell

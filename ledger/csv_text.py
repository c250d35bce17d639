"""Rows as CSV, piece by piece, with no cell that a spreadsheet would compute or a terminal obey."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

PIECE_ROWS = 1_000
FORMULA = ("=", "+", "-", "@")
"""How a cell begins that a spreadsheet would take for something to compute (CSV injection, OWASP)."""


def csv_text(heading: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    """The heading, then the rows, in pieces of a bounded size."""
    left = iter(rows)
    piece: list[Sequence[object]] = [heading]
    while piece:
        text = io.StringIO()
        csv.writer(text).writerows([harmless(cell) for cell in row] for row in piece)
        yield text.getvalue()
        piece = list(islice(left, PIECE_ROWS))


def harmless(cell: object) -> object:
    """The cell; text with what does not print escaped, and an apostrophe before what begins as a formula.

    Booleans are ``true`` and ``false``, as in JSON.
    """
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if not isinstance(cell, str):
        return cell
    if not cell.isprintable():
        cell = "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in cell)
    return f"'{cell}" if cell.startswith(FORMULA) else cell


def harmless_json(text: str) -> str:
    """JSON that says the same with what does not print escaped, as JSON escapes it. An object is never a formula."""
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else json.dumps(sign)[1:-1] for sign in text)

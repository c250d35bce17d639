"""CSV as answers stream it; see ``ledger.csv_text``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from flask import Response

from ledger.csv_text import csv_text

__all__ = ["csv_answer", "csv_text"]


def csv_answer(name: str, position: int, heading: Sequence[str], rows: Iterable[Sequence[object]]) -> Response:
    """Rows that show a position at least, as a file of this name, sent as they are read."""
    headers = {"Content-Disposition": f'attachment; filename="{name}.csv"', "Ledger-Position": str(position)}
    return Response(csv_text(heading, rows), content_type="text/csv; charset=utf-8", headers=headers)

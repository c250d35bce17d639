"""The database's own clock: the ledger carries on one that it was told, which is a hair behind."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from ledger.aggregate import text_of
from ledger.application import Ledger


def clock(ledger: Ledger) -> datetime:
    """What it shows now, which is after everything that is recorded."""
    with ledger.store.connection() as connection:
        row: Any = connection.execute("select clock_timestamp() as now").fetchone()
    now: datetime = row["now"]
    return now.astimezone(UTC)


def clock_text(ledger: Ledger) -> str:
    """The same as the wire has it."""
    return str(text_of(clock(ledger)))

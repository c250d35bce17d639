"""What was taken of a batch's quantity or budget, as the guard in the commit transaction counts it."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg.rows import tuple_row


def taken(connection: psycopg.Connection[Any], key: str) -> int | None:
    """Coupons issued of a batch, or minor units taken of its budget (``limits.budget_key``); ``None`` without such."""
    cursor = connection.cursor(row_factory=tuple_row)
    row = cursor.execute("select issued from batch_stock where batch_id = %s", (key,)).fetchone()
    return None if row is None else row[0]

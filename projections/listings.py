"""Lists of what a merchant has planned: templates, from the log itself, and batches. Pages go by id."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from projections.queries import Connection, check_limit, rows

LIST_LIMIT = 201
"""Entries that one call reads: those of a page, and one more that says whether another follows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateRow:
    """A template's newest version, without its terms."""

    template_id: str
    version: int
    name: str
    created_at: datetime
    revised_at: datetime
    """Of the newest version; the same as ``created_at`` for the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRow:
    """A batch at an instant, and how many coupons it has issued."""

    batch_id: str
    template_id: str
    template_version: int
    campaign: str
    name: str
    state: str
    quantity: int
    budget_minor: int | None
    issued: int
    claim_from: datetime | None
    claim_until: datetime | None
    created_at: datetime


def templates(
    connection: Connection, merchant_id: str, *, after: str = "", limit: int = LIST_LIMIT
) -> list[TemplateRow]:
    """A merchant's templates after an id. Raises ``InvalidField``."""
    check_limit(limit, LIST_LIMIT)
    return rows(connection, TemplateRow, "templates", merchant_id=merchant_id, after=after, limit=limit)


def batches(
    connection: Connection,
    merchant_id: str,
    now: datetime,
    *,
    states: Collection[str] | None = None,
    after: str = "",
    limit: int = LIST_LIMIT,
) -> list[BatchRow]:
    """A merchant's batches after an id, those in one of the states at ``now`` where any are named.

    Raises ``InvalidField``.
    """
    check_limit(limit, LIST_LIMIT)
    return rows(
        connection,
        BatchRow,
        "batches",
        merchant_id=merchant_id,
        now=now,
        batch_states=None if states is None else list(states),
        after=after,
        limit=limit,
    )

"""How offers do: figures by day, funnels and liability, each as JSON in pages and as CSV whole."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import date
from typing import Annotated, Any, TypeVar

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel, Field, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from api import contract, cursors, problems
from api import statistics_answers as answers
from api.access import caller, operation_name
from api.csv_text import csv_answer
from api.exchange import Connection, answer, caught_up, ledger, owned_history, read_together
from api.wire import PAGE_DEFAULT, AtLeastQuery, Cursor, Id, Label, Limit
from ledger import errors
from projections import statistics as figures
from projections.statistics import DailyRow, FunnelRow, LiabilityRow, Place

statistics = APIBlueprint(
    "statistics",
    __name__,
    url_prefix="/v1/statistics",
    abp_tags=[Tag(name="statistics", description="How offers do, in figures.")],
    operation_id_callback=operation_name,
)

PIECE_ROWS = 1_000
"""Rows of a CSV that one look at the database reads, so that a slow reader keeps no connection."""
DAILY_MODELS = ("daily_statistics", "batch_balance", "customers")
FUNNEL_MODELS = ("funnel", *DAILY_MODELS)
RowT = TypeVar("RowT", DailyRow, FunnelRow)


def _day(value: Any) -> date:
    if isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\d", value, re.ASCII):
        try:
            day = date.fromisoformat(value)
        except ValueError:
            pass
        else:
            if 1970 <= day.year <= 9000:
                return day
    raise PydanticCustomError("invalid_period", "a day as 2026-06-30, in a year from 1970 to 9000")


Day = Annotated[date, PlainValidator(_day), WithJsonSchema({"type": "string", "format": "date"})]


# --- days -------------------------------------------------------------------------------------------------


class DailyCsvQuery(AtLeastQuery):
    """Which days, and how new."""

    first: Day = Field(alias="from", description="The first day.")
    until: Day = Field(description=f"The day after the last, at most {figures.RANGE_LIMIT_DAYS} days after the first.")
    batch_id: Id | None = Field(None, description="Only this batch.")


class DailyQuery(DailyCsvQuery):
    """The same, and which page of them."""

    cursor: Cursor | None = None
    limit: Limit = PAGE_DEFAULT


REFUSALS_OF_DAYS = (errors.BatchNotFound, errors.InvalidPeriod, errors.NotCaughtUp)


@statistics.get("/daily", responses=contract.read(answers.DailyStatistics, problems.BadCursor, *REFUSALS_OF_DAYS))
def get_daily_statistics(query: DailyQuery) -> Response:
    """Read what happened to coupons by day, batch and channel of issue."""
    read = _daily(query)
    name = f"daily {query.batch_id} {query.first} {query.until}"
    after: Place | None = None
    if query.cursor:
        day, batch_id, channel = cursors.unseal(name, query.cursor)
        after = date.fromisoformat(day), batch_id, channel
    found, position = read(after, query.limit + 1)
    page, more = _page(found, query.limit)
    following = cursors.seal(name, list(page[-1].place)) if more else None
    return answer({"days": [_day_with_rates(row) for row in page], "next_cursor": following, "position": position})


@statistics.get("/daily.csv", responses=contract.figures_csv(*REFUSALS_OF_DAYS))
def get_daily_statistics_csv(query: DailyCsvQuery) -> Response:
    """Read the same as CSV, every row of it."""
    return _csv("daily", answers.DailyFigures, _day_with_rates, _daily(query))


def _daily(query: DailyCsvQuery) -> Callable[[Place | None, int], tuple[list[DailyRow], int]]:
    """How to read the days that are asked for, with the position that they show."""
    try:
        figures.check_range(query.first, query.until)
    except errors.InvalidPeriod as refusal:
        raise errors.InvalidPeriod(errors=[_parameter("until", refusal)]) from None
    at_least = query.at_least
    if query.batch_id is not None:
        at_least = max(at_least, owned_history("batch", query.batch_id, errors.BatchNotFound)[0].position)
    store, merchant_id = ledger().store, caller().merchant_id

    def read(after: Place | None, limit: int) -> tuple[list[DailyRow], int]:
        def rows(connection: Connection) -> list[DailyRow]:
            return figures.daily(
                connection, merchant_id, query.first, query.until, batch_id=query.batch_id, after=after, limit=limit
            )

        return read_together(store, at_least, DAILY_MODELS, rows)

    return read


def _day_with_rates(row: DailyRow) -> dict[str, Any]:
    return asdict(row) | row.rates


# --- funnels ----------------------------------------------------------------------------------------------


class FunnelCsvQuery(AtLeastQuery):
    """Which batches, and how new."""

    campaign: Label | None = Field(None, description="Only batches of this campaign.")


class FunnelQuery(FunnelCsvQuery):
    """The same, and which page of them."""

    cursor: Cursor | None = None
    limit: Limit = PAGE_DEFAULT


@statistics.get("/funnel", responses=contract.read(answers.Funnel, problems.BadCursor, errors.NotCaughtUp))
def get_funnel(query: FunnelQuery) -> Response:
    """Read how far the coupons of each batch came, and what that brought, in the order of the batches' ids."""
    read = _funnel(query)
    name = f"funnel {query.campaign}"
    after = cursors.unseal(name, query.cursor)[0] if query.cursor else None
    found, position = read(after, query.limit + 1)
    page, more = _page(found, query.limit)
    following = cursors.seal(name, [page[-1].place]) if more else None
    return answer({"batches": [_batch_with_rates(row) for row in page], "next_cursor": following, "position": position})


@statistics.get("/funnel.csv", responses=contract.figures_csv(errors.NotCaughtUp))
def get_funnel_csv(query: FunnelCsvQuery) -> Response:
    """Read the same as CSV, every batch."""
    return _csv("funnel", answers.BatchFunnel, _batch_with_rates, _funnel(query))


def _funnel(query: FunnelCsvQuery) -> Callable[[str | None, int], tuple[list[FunnelRow], int]]:
    store, merchant_id = ledger().store, caller().merchant_id

    def read(after: str | None, limit: int) -> tuple[list[FunnelRow], int]:
        def rows(connection: Connection) -> list[FunnelRow]:
            return figures.funnel(connection, merchant_id, campaign=query.campaign, after=after or "", limit=limit)

        return read_together(store, query.at_least, FUNNEL_MODELS, rows)

    return read


def _batch_with_rates(row: FunnelRow) -> dict[str, Any]:
    found = asdict(row) | row.rates
    total = found.pop("seconds_to_use_total")
    return found | {"seconds_to_use": total // row.used if row.used else None}


# --- liability --------------------------------------------------------------------------------------------


class LiabilityQuery(AtLeastQuery):
    """At the end of which month, and how new."""

    at: Day | None = Field(None, description="A day of the month; unless told, all that is posted.")
    batch_id: Id | None = Field(None, description="Only this batch.")


@statistics.get("/liability", responses=contract.read(answers.Liability, errors.BatchNotFound, errors.NotCaughtUp))
def get_liability(query: LiabilityQuery) -> Response:
    """Read what is outstanding, and what became of the rest, by funder and currency, at a month's end or now."""
    month, accounts, position = _liability(query)
    return answer({"month": month, "accounts": [asdict(row) for row in accounts], "position": position})


@statistics.get("/liability.csv", responses=contract.figures_csv(errors.BatchNotFound, errors.NotCaughtUp))
def get_liability_csv(query: LiabilityQuery) -> Response:
    """Read the same as CSV."""
    month, accounts, position = _liability(query)
    rows = ([month, *asdict(row).values()] for row in accounts)
    name = f"liability-{month}" if month else "liability"
    return csv_answer(name, position, ["month", *LiabilityRow.__slots__], rows)


def _liability(query: LiabilityQuery) -> tuple[date | None, list[LiabilityRow], int]:
    at_least = query.at_least
    if query.batch_id is not None:
        at_least = max(at_least, owned_history("batch", query.batch_id, errors.BatchNotFound)[0].position)
    position = caught_up(at_least, "liability")
    with ledger().store.connection() as connection:
        accounts = figures.liability(connection, caller().merchant_id, query.at, batch_id=query.batch_id)
    return query.at and query.at.replace(day=1), accounts, position


# --- what they share --------------------------------------------------------------------------------------


def _page(found: list[RowT], limit: int) -> tuple[list[RowT], bool]:
    return found[:limit], len(found) > limit


def _csv(
    name: str,
    columns: type[BaseModel],
    shown: Callable[[RowT], dict[str, Any]],
    read: Callable[[Any, int], tuple[list[RowT], int]],
) -> Response:
    """All rows, read in pieces; the first is read before the answer begins, so that it may be refused."""
    heading = list(columns.model_fields)
    first, position = read(None, PIECE_ROWS)

    def lines() -> Iterator[list[object]]:
        rows = first
        while rows:
            yield from ([shown(row)[column] for column in heading] for row in rows)
            rows, _ = read(rows[-1].place, PIECE_ROWS)

    return csv_answer(name, position, heading, lines())


def _parameter(name: str, refusal: errors.LedgerError) -> dict[str, str]:
    return {"parameter": name, "code": refusal.code(), "detail": refusal.detail}

"""For auditors: every event of a coupon, an order, a user or a batch, in the order of the log, as pages and as CSV."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import orjson
from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import Field

from api import contract, history_answers
from api.access import caller, operation_name
from api.exchange import answer, caught_up, ledger, owned_history
from api.wire import (
    PAGE_DEFAULT,
    AtLeastQuery,
    BatchPath,
    CouponPath,
    Limit,
    NoQuery,
    OrderPath,
    Parameters,
    Position,
    UserPath,
)
from ledger import errors
from ledger.csv_text import csv_text, harmless_json
from ledger.errors import BatchNotFound, CouponNotFound
from ledger.events import Recorded
from ledger.history import reading
from ledger.history.moment import Connection
from ledger.published import published
from projections.timelines import user_page

timelines = APIBlueprint(
    "timelines",
    __name__,
    url_prefix="/v1",
    abp_tags=[Tag(name="audit", description="What was, what was known, and why.")],
    operation_id_callback=operation_name,
)

CSV_PAGE = 1_000
"""Events that are read at once; no connection is held while the reader takes its time."""
COLUMNS = (
    "position", "recorded_at", "occurred_at", "stream", "version", "topic", "actor", "request_id", "reason", "payload",
)  # fmt: skip
Page = Callable[[Connection, int, int], list[Recorded]]
"""The next events after a position, on a connection, at most so many."""


class TimelineQuery(Parameters):
    """Which page of a timeline."""

    after: Position = Field(0, description="The `next` of the page before; 0 for the beginning.")
    limit: Limit = PAGE_DEFAULT


class UserTimelineQuery(TimelineQuery, AtLeastQuery):
    """Which page of a user's timeline, and how new the wallet must be that names the user's coupons."""


@timelines.get(
    "/coupons/<coupon_id>/timeline", responses=contract.read(history_answers.Timeline, errors.CouponNotFound)
)
def get_coupon_timeline(path: CouponPath, query: TimelineQuery) -> Response:
    """Read every event of a coupon, in the order of the log."""
    return _timeline(_of_coupon(path), query)


@timelines.get("/coupons/<coupon_id>/timeline.csv", responses=contract.file("text/csv", errors.CouponNotFound))
def get_coupon_timeline_csv(path: CouponPath, query: NoQuery) -> Response:  # noqa: ARG001
    """Read every event of a coupon as CSV."""
    return _csv(_of_coupon(path), f"coupon-{path.coupon_id}")


@timelines.get("/orders/<callers_id:order_id>/timeline", responses=contract.read(history_answers.Timeline))
def get_order_timeline(path: OrderPath, query: TimelineQuery) -> Response:
    """Read every event of every coupon that an order ever locked, used or returned. Whom nobody knows has none."""
    return _timeline(_of_order(path), query)


@timelines.get("/orders/<callers_id:order_id>/timeline.csv", responses=contract.file("text/csv"))
def get_order_timeline_csv(path: OrderPath, query: NoQuery) -> Response:  # noqa: ARG001
    """Read the same as CSV."""
    return _csv(_of_order(path), "order")


@timelines.get(
    "/users/<callers_id:user_id>/timeline", responses=contract.read(history_answers.Timeline, errors.NotCaughtUp)
)
def get_user_timeline(path: UserPath, query: UserTimelineQuery) -> Response:
    """Read every event of every coupon that a user has, gave away, or was let use by a friend."""
    caught_up(query.at_least, "wallet")
    return _timeline(_of_user(path), query)


@timelines.get("/users/<callers_id:user_id>/timeline.csv", responses=contract.file("text/csv", errors.NotCaughtUp))
def get_user_timeline_csv(path: UserPath, query: AtLeastQuery) -> Response:
    """Read the same as CSV."""
    caught_up(query.at_least, "wallet")
    return _csv(_of_user(path), "user")


@timelines.get("/batches/<batch_id>/timeline", responses=contract.read(history_answers.Timeline, errors.BatchNotFound))
def get_batch_timeline(path: BatchPath, query: TimelineQuery) -> Response:
    """Read every event of a batch itself: who planned, approved, started, paused, changed or stopped it, and why."""
    return _timeline(_of_batch(path), query)


@timelines.get("/batches/<batch_id>/timeline.csv", responses=contract.file("text/csv", errors.BatchNotFound))
def get_batch_timeline_csv(path: BatchPath, query: NoQuery) -> Response:  # noqa: ARG001
    """Read the same as CSV."""
    return _csv(_of_batch(path), f"batch-{path.batch_id}")


def _of_coupon(path: CouponPath) -> Page:
    owned_history("coupon", path.coupon_id, CouponNotFound)
    return _of_stream(f"coupon-{path.coupon_id}")


def _of_batch(path: BatchPath) -> Page:
    owned_history("batch", path.batch_id, BatchNotFound)
    return _of_stream(f"batch-{path.batch_id}")


def _of_stream(stream: str) -> Page:
    store = ledger().store
    return lambda connection, after, limit: reading.stream_page(store, connection, stream, after, limit)


def _of_order(path: OrderPath) -> Page:
    store, merchant_id = ledger().store, caller().merchant_id
    return lambda connection, after, limit: reading.order_page(
        store, connection, merchant_id, path.order_id, after, limit
    )


def _of_user(path: UserPath) -> Page:
    store, merchant_id = ledger().store, caller().merchant_id
    return lambda connection, after, limit: user_page(store, connection, merchant_id, path.user_id, after, limit)


def _timeline(page: Page, query: TimelineQuery) -> Response:
    with ledger().store.connection() as connection:
        found = page(connection, query.after, query.limit + 1)
    shown = found[: query.limit]
    following = shown[-1].position if shown else query.after
    return answer({"events": [published(each) for each in shown], "next": following, "more": len(found) > query.limit})


def _csv(page: Page, name: str) -> Response:
    store = ledger().store

    def read(after: int) -> list[Recorded]:
        with store.connection() as connection:
            return page(connection, after, CSV_PAGE)

    first = read(0)  # a refusal is told before there is an answer

    def lines() -> Iterator[list[object]]:
        found = first
        while True:
            yield from map(_line, found)
            if len(found) < CSV_PAGE:
                return
            found = read(found[-1].position)

    headers = {"Content-Disposition": f'attachment; filename="{name}.csv"'}
    return Response(csv_text(COLUMNS, lines()), content_type="text/csv; charset=utf-8", headers=headers)


def _line(recorded: Recorded) -> list[object]:
    shown = published(recorded)
    payload = shown["payload"]
    whole = harmless_json(orjson.dumps(payload).decode())
    cells = {**shown, **{name: payload.get(name, "") for name in ("actor", "request_id", "reason")}, "payload": whole}
    return [cells[name] for name in COLUMNS]

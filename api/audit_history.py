"""For auditors: what a coupon, a batch, an order or a user was at a past moment, and what changed since another."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Literal

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import Field

from api import contract, history_answers
from api.access import caller, operation_name
from api.exchange import answer, caught_up, ledger
from api.wire import (
    PAGE_DEFAULT,
    AtLeastQuery,
    BatchPath,
    CouponPath,
    Id,
    Limit,
    Moment,
    OrderPath,
    Parameters,
    Position,
    UserPath,
)
from ledger import errors
from ledger.aggregate import text_of
from ledger.errors import BatchNotFound, CouponNotFound, InvalidField, InvalidPeriod, NotFound
from ledger.events import Recorded
from ledger.history import batches, coupons, differences, holders, moment, reading
from projections.timelines import user_streams

audit_history = APIBlueprint(
    "audit_history",
    __name__,
    url_prefix="/v1",
    abp_tags=[Tag(name="audit", description="What was, what was known, and why.")],
    operation_id_callback=operation_name,
)

AT = {"at": "at", "known_at": "known_at", "position": "position"}
"""Names of what says a moment, as the parameters that say it."""
FROM = {"at": "from", "position": "from_position"}
BEFORE_ALL = datetime(1970, 1, 1, tzinfo=UTC)
"""No event is earlier: from here on an order or a user changed, where nothing is said."""
UNTIL = {"at": "until", "position": "until_position"}


class StateQuery(Parameters):
    """Which moment: this one, where nothing is said."""

    at: Moment | None = Field(None, description="What the clock showed.")
    known_at: Moment | None = Field(None, description="How late the log may be; where left out, as late as `at`.")
    position: Position | None = Field(None, description="Instead: the last position that the log held.")


class UserStateQuery(StateQuery, AtLeastQuery):
    """Which moment, and which page of the user's coupons."""

    after: Id | None = Field(None, description="The `next` of the page before.")
    limit: Limit = PAGE_DEFAULT


class DifferenceQuery(Parameters):
    """Between which two moments: each by a time or a position; from the first event until now, where not said."""

    begin: Moment | None = Field(None, alias="from")
    until: Moment | None = None
    from_position: Position | None = None
    until_position: Position | None = None
    basis: Literal["known", "true"] = Field(
        "known", description="By what the log held at each, or by what had occurred until then, whenever recorded."
    )


class UserDifferenceQuery(DifferenceQuery, AtLeastQuery):
    """Between which two moments, and which page of the user's coupons."""

    after: Id | None = Field(None, description="The `next` of the page before.")
    limit: Limit = PAGE_DEFAULT


@audit_history.get(
    "/coupons/<coupon_id>/state", responses=contract.read(history_answers.CouponPast, errors.CouponNotFound)
)
def get_coupon_state(path: CouponPath, query: StateQuery) -> Response:
    """Read a coupon as the log knew it at a moment, and as it was then, whenever that was recorded."""
    with ledger().store.connection() as connection:
        then = _moment(connection, query)
        history = _history(connection, f"coupon-{path.coupon_id}", then, CouponNotFound(id=path.coupon_id))
    return answer({"coupon_id": path.coupon_id, **_as_of(then), **coupons.coupon_moment(history, then)})


@audit_history.get(
    "/batches/<batch_id>/state", responses=contract.read(history_answers.BatchPast, errors.BatchNotFound)
)
def get_batch_state(path: BatchPath, query: StateQuery) -> Response:
    """Read a batch as the log knew it at a moment, and as it was, with where its coupons were."""
    with ledger().store.connection() as connection:
        then = _moment(connection, query)
        history = _history(connection, f"batch-{path.batch_id}", then, BatchNotFound(id=path.batch_id))
        found = batches.batch_moment(connection, history, then)
    return answer({"batch_id": path.batch_id, **_as_of(then), **found})


@audit_history.get("/orders/<callers_id:order_id>/state", responses=contract.read(history_answers.OrderPast))
def get_order_state(path: OrderPath, query: StateQuery) -> Response:
    """Read what an order held and had used at a moment, as the log knew it and as it was."""
    store = ledger().store
    with store.connection() as connection:
        then = _moment(connection, query)
        found = holders.order_moment(store, connection, caller().merchant_id, path.order_id, then)
    return answer({"order_id": path.order_id, **_as_of(then), **found})


@audit_history.get(
    "/users/<callers_id:user_id>/state", responses=contract.read(history_answers.UserPast, errors.NotCaughtUp)
)
def get_user_state(path: UserPath, query: UserStateQuery) -> Response:
    """Read what a user had at a moment, and could use as a friend, as the log knew it and as it was.

    A page looks at `limit` coupons that the user ever had, so it may hold fewer, or none, and not be the last.
    """
    caught_up(query.at_least, "wallet")
    store = ledger().store
    with store.connection() as connection:
        then = _moment(connection, query)
        page, following = _page(connection, path.user_id, query, then)
        found = holders.user_moment(reading.histories(store, connection, page, then.true.position), path.user_id, then)
    return answer({"user_id": path.user_id, **_as_of(then), **found, "next": following})


# --- differences ------------------------------------------------------------------------------------


@audit_history.get(
    "/coupons/<coupon_id>/difference",
    responses=contract.read(history_answers.CouponDifference, errors.CouponNotFound, errors.InvalidPeriod),
)
def get_coupon_difference(path: CouponPath, query: DifferenceQuery) -> Response:
    """Read what changed of a coupon between two moments, and by which events."""
    with ledger().store.connection() as connection:
        end = _end(connection, query)
        history = _history(connection, f"coupon-{path.coupon_id}", end, CouponNotFound(id=path.coupon_id))
        begin = _begin(connection, query, history[0].position)
        found = _in_order(query, lambda: differences.coupon_difference(history, begin, end, query.basis))
    return answer({"coupon_id": path.coupon_id, "begin": _as_of(begin), "end": _as_of(end), **found})


@audit_history.get(
    "/batches/<batch_id>/difference",
    responses=contract.read(history_answers.BatchDifference, errors.BatchNotFound, errors.InvalidPeriod),
)
def get_batch_difference(path: BatchPath, query: DifferenceQuery) -> Response:
    """Read what changed of a batch and of where its coupons are between two moments."""
    with ledger().store.connection() as connection:
        end = _end(connection, query)
        history = _history(connection, f"batch-{path.batch_id}", end, BatchNotFound(id=path.batch_id))
        begin = _begin(connection, query, history[0].position)
        found = _in_order(query, lambda: differences.batch_difference(connection, history, begin, end, query.basis))
    return answer({"batch_id": path.batch_id, "begin": _as_of(begin), "end": _as_of(end), **found})


@audit_history.get(
    "/orders/<callers_id:order_id>/difference",
    responses=contract.read(history_answers.OrderDifference, errors.InvalidPeriod),
)
def get_order_difference(path: OrderPath, query: DifferenceQuery) -> Response:
    """Read which coupons an order held or had used in another way between two moments."""
    store, merchant_id = ledger().store, caller().merchant_id
    with store.connection() as connection:
        begin, end = _begin(connection, query), _end(connection, query)
        found = _in_order(
            query,
            lambda: differences.order_difference(
                store, connection, merchant_id, path.order_id, begin, end, query.basis
            ),
        )
    return answer({"order_id": path.order_id, "begin": _as_of(begin), "end": _as_of(end), **found})


@audit_history.get(
    "/users/<callers_id:user_id>/difference",
    responses=contract.read(history_answers.UserDifference, errors.InvalidPeriod, errors.NotCaughtUp),
)
def get_user_difference(path: UserPath, query: UserDifferenceQuery) -> Response:
    """Read which coupons came to a user, went, or became another between two moments.

    A page looks at `limit` coupons that the user ever had, so it may hold fewer, or none, and not be the last.
    """
    caught_up(query.at_least, "wallet")
    store = ledger().store
    with store.connection() as connection:
        begin, end = _begin(connection, query), _end(connection, query)
        page, following = _page(connection, path.user_id, query, end)
        histories = reading.histories(store, connection, page, end.true.position)
    found = _in_order(query, lambda: differences.user_difference(histories, path.user_id, begin, end, query.basis))
    shown = {"begin": _as_of(begin), "end": _as_of(end), **found, "next": following}
    return answer({"user_id": path.user_id, **shown})


# --- what they share --------------------------------------------------------------------------------


def _history(connection: moment.Connection, stream: str, then: moment.Moment, missing: NotFound) -> list[Recorded]:
    """The stream as far as the moment counts its events; raises the same refusal for another's as for none."""
    history = reading.history_until(ledger().store, connection, stream, then.true.position)
    if not history or history[0].event.merchant_id != caller().merchant_id:
        raise missing
    return history


def _page(
    connection: moment.Connection, user_id: str, query: UserStateQuery | UserDifferenceQuery, then: moment.Moment
) -> tuple[list[str], str | None]:
    """The next coupons that the user ever had, as streams, and the ``after`` of the page that follows."""
    after = "" if query.after is None else f"coupon-{query.after}"
    position = then.true.position
    streams = user_streams(connection, caller().merchant_id, user_id, position, after=after, limit=query.limit + 1)
    page = streams[: query.limit]
    return page, page[-1].removeprefix("coupon-") if len(streams) > query.limit else None


def _moment(connection: moment.Connection, query: StateQuery) -> moment.Moment:
    return _named(connection, AT, at=query.at, known_at=query.known_at, position=query.position)


def _begin(connection: moment.Connection, query: DifferenceQuery, first: int | None = None) -> moment.Moment:
    """The first moment of a difference; where nothing is said of it, that at the position ``first``."""
    if query.begin is not None and query.from_position is not None:
        raise InvalidField(errors=[_one("from")])
    at, position = query.begin, query.from_position
    if at is None and position is None:
        at, position = (BEFORE_ALL, None) if first is None else (None, first)
    return _named(connection, FROM, at=at, position=position)


def _end(connection: moment.Connection, query: DifferenceQuery) -> moment.Moment:
    """The second one. What is compared is read up to the end of the log as it has it."""
    if query.until is not None and query.until_position is not None:
        raise InvalidField(errors=[_one("until")])
    return _named(connection, UNTIL, at=query.until, position=query.until_position)


def _in_order(query: DifferenceQuery, compare: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The comparison; where the first moment lies after the second, the refusal names the parameter that says this."""
    try:
        return compare()
    except InvalidPeriod as refusal:
        name = "until" if query.until_position is None else "until_position"
        told = {"parameter": name, "code": refusal.code(), "detail": refusal.detail}
        raise InvalidPeriod(refusal.detail, errors=[told]) from None


def _named(
    connection: moment.Connection,
    names: dict[str, str],
    *,
    at: datetime | None,
    position: int | None,
    known_at: datetime | None = None,
) -> moment.Moment:
    """The moment that parameters of these names say; a refusal names the parameter."""
    try:
        return moment.moment(connection, at=at, known_at=known_at, position=position)
    except InvalidField as refusal:
        field = refusal.facts["field"]
        detail = re.sub(rf"^{field}\b", names[field], refusal.detail)
        told = {"parameter": names[field], "code": refusal.code(), "detail": detail}
        raise InvalidField(detail, errors=[told]) from None


def _one(name: str) -> dict[str, str]:
    detail = f"one of {name} and {name}_position"
    return {"parameter": name, "code": InvalidField.code(), "detail": detail}


def _as_of(then: moment.Moment) -> dict[str, Any]:
    return {
        "at": text_of(then.at),
        "known_at": text_of(then.known_at),
        "known_position": then.known.position,
    }

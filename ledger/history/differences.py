"""What changed of a coupon, a batch, an order or a user between two moments, and by which events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from ledger.errors import InvalidPeriod
from ledger.events import Recorded
from ledger.history.batches import EVENT_LIMIT, batch_state
from ledger.history.coupons import coupon_state
from ledger.history.holders import order_view, user_view
from ledger.history.moment import Connection, Cut, Moment
from ledger.history.reading import histories as read_histories
from ledger.history.reading import order_streams
from ledger.published import published
from ledger.store import Store

Basis = Literal["known", "true"]
"""By what the log held at each moment, or by what had occurred until then whenever it was recorded."""
ALWAYS = ("decided_by", "version", "position")
"""Members of a state that every event changes, and the clock too: they are no change of what is asked about."""


def coupon_difference(history: Sequence[Recorded], begin: Moment, end: Moment, basis: Basis) -> dict[str, Any]:
    """The coupon's state before and after, what of it differs, and the events between. Raises ``InvalidPeriod``."""
    first, last = _cuts(begin, end, basis)
    before, after = first.of(history), last.of(history)
    return _difference(coupon_state(before, first), coupon_state(after, last), before, after)


def batch_difference(
    connection: Connection,
    history: Sequence[Recorded],
    begin: Moment,
    end: Moment,
    basis: Basis,
    limit: int | None = EVENT_LIMIT,
) -> dict[str, Any]:
    """The same of a batch, with where its coupons were; the events are those of its own stream."""
    first, last = _cuts(begin, end, basis)
    before, after = first.of(history), last.of(history)
    states = batch_state(connection, before, first, limit), batch_state(connection, after, last, limit)
    return _difference(*states, before, after)


def order_difference(
    store: Store, connection: Connection, merchant_id: str, order_id: str, begin: Moment, end: Moment, basis: Basis
) -> dict[str, Any]:
    """Which of its coupons the order held or had used in another way, by id, and the events of all that it locked.

    Raises ``InvalidPeriod``, and ``InvalidField`` for what is no order's id.
    """
    first, last = _cuts(begin, end, basis)
    before, after = (order_view(store, connection, merchant_id, order_id, cut) for cut in (first, last))
    streams = order_streams(connection, merchant_id, order_id, last.position)
    return _by_coupon(before, after, read_histories(store, connection, streams, last.position), first, last)


def user_difference(
    histories: Mapping[str, Sequence[Recorded]], user_id: str, begin: Moment, end: Moment, basis: Basis
) -> dict[str, Any]:
    """Which of these coupons came to the user, went, or became another, by id, and the events of all of them.

    Raises ``InvalidPeriod``.
    """
    first, last = _cuts(begin, end, basis)
    before, after = (user_view(histories, user_id, cut) for cut in (first, last))
    return _by_coupon(before, after, histories, first, last)


def _cuts(begin: Moment, end: Moment, basis: Basis) -> tuple[Cut, Cut]:
    first, last = getattr(begin, basis), getattr(end, basis)
    if basis == "true":  # by one log: what came between the looks at its end was true at both or at neither
        first = replace(first, position=last.position)
    if first.at > last.at or first.position > last.position:
        raise InvalidPeriod("the first moment must not lie after the second", field="until")
    return first, last


def _difference(
    before: dict[str, Any] | None, after: dict[str, Any] | None, known: Sequence[Recorded], later: Sequence[Recorded]
) -> dict[str, Any]:
    one, other = _flat(before), _flat(after)
    names = [name for name in {**one, **other} if name not in ALWAYS and one.get(name) != other.get(name)]
    return {
        "before": before,
        "after": after,
        "changed": {name: {"before": one.get(name), "after": other.get(name)} for name in names},
        "events": [published(recorded) for recorded in later[len(known) :]],
    }


def _by_coupon(
    before: Sequence[dict[str, Any]],
    after: Sequence[dict[str, Any]],
    histories: Mapping[str, Sequence[Recorded]],
    first: Cut,
    last: Cut,
) -> dict[str, Any]:
    one, other = ({each["coupon_id"]: each for each in view} for view in (before, after))
    between = [each for history in histories.values() for each in last.of(history)[len(first.of(history)) :]]
    return {
        "changed": {
            coupon_id: {"before": one.get(coupon_id), "after": other.get(coupon_id)}
            for coupon_id in sorted({*one, *other})
            if _asked(one.get(coupon_id)) != _asked(other.get(coupon_id))
        },
        "events": [published(recorded) for recorded in sorted(between, key=lambda each: each.position)],
    }


def _asked(coupon: Mapping[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in (coupon or {}).items() if name not in ALWAYS}


def _flat(state: Mapping[str, Any] | None) -> dict[str, Any]:
    """Members of members by dotted names, such as ``balance.used``."""
    flat: dict[str, Any] = {}
    for name, value in (state or {}).items():
        if isinstance(value, Mapping):
            flat |= {f"{name}.{part}": each for part, each in value.items()}
        elif value is not None:
            flat[name] = value
    return flat

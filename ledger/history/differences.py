"""What changed of a coupon or a batch between two moments, and by which events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from ledger.errors import InvalidPeriod
from ledger.events import Recorded
from ledger.history.batches import EVENT_LIMIT, batch_state
from ledger.history.coupons import coupon_state
from ledger.history.moment import Connection, Cut, Moment
from ledger.published import published

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


def _cuts(begin: Moment, end: Moment, basis: Basis) -> tuple[Cut, Cut]:
    first, last = getattr(begin, basis), getattr(end, basis)
    if first.at > last.at or first.position > last.position:
        raise InvalidPeriod("the first moment does not lie after the second", field="until")
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


def _flat(state: Mapping[str, Any] | None) -> dict[str, Any]:
    """Members of members by dotted names, such as ``balance.used``."""
    flat: dict[str, Any] = {}
    for name, value in (state or {}).items():
        if isinstance(value, Mapping):
            flat |= {f"{name}.{part}": each for part, each in value.items()}
        elif value is not None:
            flat[name] = value
    return flat

"""What all aggregates share: an id, a version, and events that wait to be committed; and how ids are made."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any, TypeVar

from ledger.events import Event
from ledger.request import Request

AggregateT = TypeVar("AggregateT", bound="Aggregate")


class Aggregate:
    """One stream's state. It decides and raises refusals; only events change it.

    It satisfies the ``eventsourcing`` library's ``MutableAggregateProtocol`` and ``CollectEventsProtocol``.
    """

    category = ""
    merchant_id = ""

    def __init__(self, id: str) -> None:  # the library's word
        self.id = id
        self.key = id.partition("-")[2]
        """The id without its category, as callers know it."""
        self.version = 0
        self._pending: list[Event] = []

    def trigger(self, event_class: type[Event], request: Request, occurred_at: datetime, **payload: Any) -> None:
        """Record a fact: fold it into this state and keep it for the commit."""
        event = event_class.made(
            {
                "originator_id": self.id,
                "originator_version": self.version + 1,
                "merchant_id": request.merchant_id,
                "actor": request.actor,
                "request_id": request.request_id,
                "occurred_at": occurred_at,
                **payload,
            }
        )
        if vars(event).keys() != event_class.field_names:
            raise TypeError(f"{event_class.__name__} has other fields: {vars(event).keys() ^ event_class.field_names}")
        event.mutate(self)
        self._pending.append(event)

    def collect_events(self) -> list[Event]:
        """Hand over the events that wait, once."""
        pending, self._pending = self._pending, []
        return pending


def text_of(moment: datetime | None) -> str | None:
    """RFC 3339 in UTC with a Z, as answers and facts show a time."""
    return moment.isoformat().replace("+00:00", "Z") if moment else None


def derived_id(*parts: str) -> str:
    """26 hexadecimal digits (104 bits) that always come from the same parts.

    Ids are derived from the request that makes the object, so a retry names the same object.
    """
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:26]


def coupon_id(batch_id: str, request_id: str, ordinal: int) -> str:
    """The id of a batch's coupon. It begins like the batch, so one batch's coupons lie together in the index."""
    return coupons_begin(batch_id) + derived_id(batch_id, request_id, str(ordinal))[:18]


def coupons_begin(batch_id: str) -> str:
    """How the ids of a batch's coupons begin; one in four thousand million other batches' do too."""
    return batch_id[:8]

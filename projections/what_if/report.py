"""What a what-if found: what would have been refused, and what then would not have happened."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from ledger.events import CouponCredited, CouponLocked, CouponReturned, CouponSpent, Event

LISTED = 1_000
"""Refused coupons and lost orders that a report names; it counts all of them."""


class Refused(NamedTuple):
    """A coupon that would not have been issued, or an order would not have got."""

    position: int
    """Of the event that would not be there."""
    occurred_at: datetime
    coupon_id: str
    user_id: str
    order_id: str | None
    request_id: str
    code: str


class LostOrder(NamedTuple):
    """An order that used a coupon which it would not have had."""

    order_id: str
    currency: str
    discount_minor: int
    """What those coupons took off."""
    paid_minor: int | None
    """What the order cost its buyer, where it was said: the sale that is at risk."""


@dataclass(slots=True, kw_only=True)
class Report:
    """The difference that the change would have made."""

    merchant_id: str
    about: str
    """The batch or template."""
    changed: dict[str, int | str]
    since: datetime | None
    until: datetime | None
    position: int
    """The log was read to here."""
    requests: int = 0
    """Requests that were decided again."""
    requests_refused: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    """Coupons of those, by code."""
    not_judged: int = 0
    """Requests that the rules of today refuse with the change and without: they stay as they were."""
    locks_lost: int = 0
    uses_lost: int = 0
    returned_minor: Counter[str] = field(default_factory=Counter)
    """What was given back of the discounts that would not have been given, by currency."""
    cannot_know: list[str] = field(default_factory=list)
    listed: list[Refused] = field(default_factory=list)
    orders: dict[str, LostOrder] = field(default_factory=dict)

    def refuse(self, refused: Refused) -> None:
        """Count it, and name it while there is room."""
        self.refused[refused.code] += 1
        if len(self.listed) < LISTED:
            self.listed.append(refused)

    def lose_lock(self, event: Event) -> None:
        """A lock that would not have been. Where a late use writes its old one down again, that ends at once."""
        self.locks_lost += isinstance(event, CouponLocked) and event.lock_ends_at > event.occurred_at

    def lose_use(self, event: CouponSpent) -> None:
        """A use that would not have been."""
        self.uses_lost += 1
        known = self.orders.get(event.order_id)
        discount, paid = event.discount_minor, event.paid_minor
        if known is not None:
            discount += known.discount_minor
            paid = known.paid_minor if paid is None else paid
        self.orders[event.order_id] = LostOrder(event.order_id, event.currency, discount, paid)

    def lose_return(self, event: Event, currency: str) -> None:
        """What was given back of such a use."""
        if isinstance(event, CouponReturned):
            self.returned_minor[currency] += event.returned_minor
        elif isinstance(event, CouponCredited):
            self.returned_minor[currency] += event.credited_minor

    def discount_minor(self) -> Counter[str]:
        """What would not have been taken off, by currency, before anything was given back."""
        total: Counter[str] = Counter()
        for order in self.orders.values():
            total[order.currency] += order.discount_minor
        return total

    def paid_minor(self) -> Counter[str]:
        """What those orders cost their buyers, by currency, where it was said."""
        total: Counter[str] = Counter()
        for order in self.orders.values():
            if order.paid_minor is not None:
                total[order.currency] += order.paid_minor
        return total

    def as_record(self) -> dict[str, object]:
        """For a program to read."""
        return {
            "merchant_id": self.merchant_id,
            "about": self.about,
            "changed": self.changed,
            "since": self.since,
            "until": self.until,
            "position": self.position,
            "requests": self.requests,
            "requests_refused": self.requests_refused,
            "not_judged": self.not_judged,
            "coupons_refused": self.refused.total(),
            "refused_by_code": dict(sorted(self.refused.items())),
            "locks_lost": self.locks_lost,
            "uses_lost": self.uses_lost,
            "orders_lost": len(self.orders),
            "discount_minor": dict(sorted(self.discount_minor().items())),
            "returned_minor": dict(sorted(self.returned_minor.items())),
            "paid_minor": dict(sorted(self.paid_minor().items())),
            "cannot_know": self.cannot_know,
            "coupons": [refused._asdict() for refused in self.listed],
            "orders": [order._asdict() for order in list(self.orders.values())[:LISTED]],
        }

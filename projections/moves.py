"""What a chunk of events does to each coupon, collapsed to one move a coupon.

Each coupon event is one step (docstring of ``ledger/coupon.py``), and all but one leave the same state whatever was
before. So rows are written without being read: a coupon that was issued, locked and used within one chunk is one
insert.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from ledger.events import (
    CouponEvent,
    CouponExpired,
    CouponIssued,
    CouponLocked,
    CouponReturned,
    CouponUnlocked,
    CouponUsed,
    CouponVoided,
    Event,
    Recorded,
)

COUPON_EVENTS: tuple[type[Event], ...] = (
    CouponIssued,
    CouponLocked,
    CouponUnlocked,
    CouponUsed,
    CouponReturned,
    CouponExpired,
    CouponVoided,
)


class Move:
    """One coupon's row after a chunk: where it was, and what its changing columns become."""

    __slots__ = (
        "coupon_id",
        "discount_minor",
        "first_version",
        "issued",
        "lock_ends_at",
        "lock_id",
        "merchant_id",
        "order_id",
        "position",
        "redemption_id",
        "state",
        "user_id",
        "valid_until",
        "version",
    )

    def __init__(self, first: CouponEvent) -> None:
        self.coupon_id = first.originator_id[7:]
        self.merchant_id = first.merchant_id
        self.user_id = first.user_id
        self.first_version = first.originator_version
        """The stream version of the coupon's first event in the chunk."""
        self.version = self.first_version - 1
        self.position = 0
        self.issued: CouponIssued | None = None
        """Set when the coupon is new."""
        self.state: str | None = None
        """As stored; ``None`` keeps state, order, lock and redemption as they are."""
        self.order_id: str | None = None
        """The order that holds or used the coupon."""
        self.lock_id: str | None = None
        self.lock_ends_at: datetime | None = None
        self.redemption_id: str | None = None
        self.discount_minor = 0
        self.valid_until: datetime | None = None
        """``None`` keeps it as it is."""

    def to(self, state: str, order_id: str | None = None) -> None:
        """Enter a state, without a lock or a redemption."""
        self.state = state
        self.order_id = order_id
        self.lock_id = self.lock_ends_at = self.redemption_id = None
        self.discount_minor = 0


def moves_of(events: Iterable[Recorded]) -> dict[str, Move]:
    """One move for each coupon stream among the events. Raises ``ValueError`` when a stream has a hole."""
    moves: dict[str, Move] = {}
    for position, _, event in events:
        step = _STEPS.get(type(event))
        if step is None:
            continue
        assert isinstance(event, CouponEvent)
        stream, version = event.originator_id, event.originator_version
        move = moves.get(stream)
        if move is None:
            moves[stream] = move = Move(event)
        if version != move.version + 1:
            raise ValueError(f"{stream} v{version} does not follow v{move.version}")
        step(move, event)
        move.version = version
        move.position = position
    return moves


def _issued(move: Move, event: CouponIssued) -> None:
    move.issued = event
    move.state = "UNUSED"
    move.valid_until = event.valid_until


def _locked(move: Move, event: CouponLocked) -> None:
    move.to("LOCKED", event.order_id)
    move.lock_id = event.lock_id
    move.lock_ends_at = event.lock_ends_at


def _unlocked(move: Move, _: CouponUnlocked) -> None:
    move.to("UNUSED")


def _used(move: Move, event: CouponUsed) -> None:
    move.to("USED", event.order_id)
    move.redemption_id = event.redemption_id
    move.discount_minor = event.discount_minor


def _returned(move: Move, event: CouponReturned) -> None:
    if event.restored:
        move.to("UNUSED")
    move.valid_until = event.valid_until


def _expired(move: Move, _: CouponExpired) -> None:
    move.to("EXPIRED")


def _voided(move: Move, _: CouponVoided) -> None:
    move.to("VOIDED")


_STEPS: dict[type[Event], Callable[[Move, Any], None]] = {
    CouponIssued: _issued,
    CouponLocked: _locked,
    CouponUnlocked: _unlocked,
    CouponUsed: _used,
    CouponReturned: _returned,
    CouponExpired: _expired,
    CouponVoided: _voided,
}

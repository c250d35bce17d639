"""What a chunk of events does to each coupon, collapsed to one move a coupon.

Each coupon event is one step (docstring of ``ledger/coupon.py``): it leaves the same state whatever was before, or the
state as it was. So rows are written without being read: a coupon that was issued, locked and used within one chunk is
one insert.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from ledger.events import (
    CouponCredited,
    CouponDebited,
    CouponEvent,
    CouponExpired,
    CouponExtended,
    CouponIssued,
    CouponLocked,
    CouponLockExtended,
    CouponReturned,
    CouponShared,
    CouponTransferred,
    CouponUnlocked,
    CouponUsed,
    CouponVoided,
    Event,
    Recorded,
)

COUPON_EVENTS: tuple[type[Event], ...] = (
    CouponIssued,
    CouponLocked,
    CouponLockExtended,
    CouponUnlocked,
    CouponUsed,
    CouponDebited,
    CouponCredited,
    CouponReturned,
    CouponExpired,
    CouponVoided,
    CouponExtended,
    CouponTransferred,
    CouponShared,
)


class Move:
    """One coupon's row after a chunk: where it was, and what its changing columns become."""

    __slots__ = (
        "balance_minor",
        "coupon_id",
        "discount_minor",
        "first_version",
        "holder_id",
        "issued",
        "lock_ends_at",
        "lock_id",
        "merchant_id",
        "order_id",
        "position",
        "redemption_id",
        "state",
        "to_user_id",
        "user_id",
        "valid_until",
        "version",
    )

    def __init__(self, first: CouponEvent) -> None:
        self.coupon_id = first.originator_id[7:]
        self.merchant_id = first.merchant_id
        self.user_id = first.user_id
        """Whose it was before the chunk, and of a new coupon who got it."""
        self.to_user_id: str | None = None
        """Whose it is after it, where it was given away; ``None`` where it was not."""
        self.first_version = first.originator_version
        """The stream version of the coupon's first event in the chunk."""
        self.version = self.first_version - 1
        self.position = 0
        self.issued: CouponIssued | None = None
        """Set when the coupon is new."""
        self.state: str | None = None
        """As stored; ``None`` keeps state, order, holder, lock and redemption as they are."""
        self.order_id: str | None = None
        """The order that holds or used the coupon."""
        self.holder_id: str | None = None
        """The friend who holds or used it; ``None`` where its owner does."""
        self.lock_id: str | None = None
        self.lock_ends_at: datetime | None = None
        """Where ``state`` is ``None``, the later end of the same lock, if it was extended."""
        self.redemption_id: str | None = None
        self.discount_minor = 0
        self.valid_until: datetime | None = None
        """``None`` keeps it as it is."""
        self.balance_minor: int | None = None
        """Likewise."""

    def to(self, state: str, order_id: str | None = None) -> None:
        """Enter a state, without a lock or a redemption."""
        self.state = state
        self.order_id = order_id
        self.holder_id = self.lock_id = self.lock_ends_at = self.redemption_id = None
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
    move.holder_id = _friend(event)
    move.lock_id = event.lock_id
    move.lock_ends_at = event.lock_ends_at


def _lock_extended(move: Move, event: CouponLockExtended) -> None:
    move.lock_ends_at = event.lock_ends_at


def _unlocked(move: Move, _: CouponUnlocked) -> None:
    move.to("UNUSED")


def _used(move: Move, event: CouponUsed) -> None:
    move.to("USED", event.order_id)
    move.holder_id = _friend(event)
    move.redemption_id = event.redemption_id
    move.discount_minor = event.discount_minor


def _debited(move: Move, event: CouponDebited) -> None:
    move.to("UNUSED")
    move.balance_minor = event.balance_minor


def _credited(move: Move, event: CouponCredited) -> None:
    if event.restored:
        move.to("UNUSED")
    move.balance_minor = event.balance_minor


def _returned(move: Move, event: CouponReturned) -> None:
    if event.restored:
        move.to("UNUSED")
    move.valid_until = event.valid_until


def _expired(move: Move, _: CouponExpired) -> None:
    move.to("EXPIRED")


def _voided(move: Move, _: CouponVoided) -> None:
    move.to("VOIDED")


def _extended(move: Move, event: CouponExtended) -> None:
    move.valid_until = event.valid_until


def _transferred(move: Move, event: CouponTransferred) -> None:
    move.to_user_id = event.to_user_id


def _shared(_move: Move, _: CouponShared) -> None:
    """With whom is the business of ``shared_coupons`` alone; here it is one more version."""


def _friend(event: CouponLocked | CouponUsed) -> str | None:
    return event.holder_id if event.holder_id != event.user_id else None


_STEPS: dict[type[Event], Callable[[Move, Any], None]] = {
    CouponIssued: _issued,
    CouponLocked: _locked,
    CouponLockExtended: _lock_extended,
    CouponUnlocked: _unlocked,
    CouponUsed: _used,
    CouponDebited: _debited,
    CouponCredited: _credited,
    CouponReturned: _returned,
    CouponExpired: _expired,
    CouponVoided: _voided,
    CouponExtended: _extended,
    CouponTransferred: _transferred,
    CouponShared: _shared,
}

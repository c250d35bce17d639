"""A coupon at a moment: its state, and what made it so."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ledger import events
from ledger.aggregate import text_of
from ledger.coupon import Coupon
from ledger.events import Recorded
from ledger.history.moment import Cut, Moment
from ledger.work import fold

STEPS: dict[str, tuple[type[events.Event], ...]] = {
    "UNUSED": (
        events.CouponIssued,
        events.CouponUnlocked,
        events.CouponDebited,
        events.CouponReturned,
        events.CouponCredited,
    ),
    "LOCKED": (events.CouponLocked,),
    "USED": (events.CouponUsed,),
    "EXPIRED": (events.CouponExpired,),
    "VOIDED": (events.CouponVoided,),
}
"""Which events lead to a state, as ``ledger/coupon_state.py`` says."""


def coupon_moment(history: Sequence[Recorded], moment: Moment) -> dict[str, Any]:
    """The coupon as the log knew it and as it was, and where the two part.

    ``true_only`` are the positions of events that had occurred by then and were recorded later; ``known_only`` of those
    that were recorded with a later business time; ``left_out`` of those that had occurred by then and follow one that
    had not, so that they could not be folded.
    """
    known, true = moment.known.of(history), moment.true.of(history)
    return {
        "known": coupon_state(known, moment.known),
        "true": coupon_state(true, moment.true),
        "true_only": [recorded.position for recorded in true[len(known) :]],
        "known_only": [recorded.position for recorded in known[len(true) :]],
        "left_out": [recorded.position for recorded in history[len(true) :] if recorded.event.occurred_at <= moment.at],
    }


def coupon_state(history: Sequence[Recorded], cut: Cut) -> dict[str, Any] | None:
    """The coupon after these events, at the cut's instant; ``None`` where it was not issued yet.

    ``state`` asks the clock too, ``stored_state`` the events alone. ``decided_by`` says what made the state: events by
    their positions, and the clock by the moment that it has or has not passed.
    """
    if not history:
        return None
    coupon = folded(history)
    used = coupon.redemption_id is not None
    return {
        "state": coupon.state_at(cut.at),
        "stored_state": stored_state(coupon),
        "decided_by": list(_reasons(coupon, history, cut)),
        "batch_id": coupon.batch_id,
        "template_id": coupon.template_id,
        "template_version": coupon.template_version,
        "user_id": coupon.user_id,
        "shared_with": list(coupon.shared_with),
        "valid_from": text_of(coupon.valid_from),
        "valid_until": text_of(coupon.valid_until),
        "lock": _lock(coupon) if coupon.state_at(cut.at) == "LOCKED" else None,
        "redemption": _redemption(coupon) if used else None,
        "balance_minor": 0 if used and coupon.balance_minor is not None else coupon.balance_minor,
        "version": coupon.version,
        "position": history[-1].position,
    }


def folded(history: Sequence[Recorded]) -> Coupon:
    """The coupon after these events, which are at least its issue."""
    return fold(Coupon(history[0].event.originator_id), [recorded.event for recorded in history])


def stored_state(coupon: Coupon) -> str:
    """The state as its events say it, without the clock: neither PENDING nor an end that nobody wrote down."""
    if coupon.voided or coupon.expired:
        return "VOIDED" if coupon.voided else "EXPIRED"
    if coupon.redemption_id is not None:
        return "USED"
    return "UNUSED" if coupon.lock_id is None else "LOCKED"


def last_of(history: Sequence[Recorded], *kinds: type[events.Event]) -> Recorded | None:
    """The last of these events that is of one of these kinds."""
    return next((recorded for recorded in reversed(history) if isinstance(recorded.event, kinds)), None)


def _reasons(coupon: Coupon, history: Sequence[Recorded], cut: Cut) -> Iterator[dict[str, Any]]:
    stored, state = stored_state(coupon), coupon.state_at(cut.at)
    steps = [recorded for recorded in history if isinstance(recorded.event, STEPS[stored]) and _moves(recorded.event)]
    if steps:
        yield _event(steps[-1])
    if stored == "LOCKED":
        assert coupon.lock_ends_at is not None
        extended = last_of(history, events.CouponLocked, events.CouponLockExtended)
        if extended is not None and extended is not steps[-1]:
            yield _event(extended)
        yield _clock("lock_live" if state == "LOCKED" else "lock_ended", coupon.lock_ends_at)
    if state == "EXPIRED" and stored != "EXPIRED":
        moved = last_of(history, events.CouponExtended, events.CouponReturned)
        if moved is not None and moved is not steps[-1]:
            yield _event(moved)
        yield _clock("validity_over", coupon.valid_until)
    if state == "PENDING":
        yield _clock("not_started", coupon.valid_from)


def _moves(event: events.Event) -> bool:
    """Whether the event is a step: a return that keeps the coupon used is none."""
    return not isinstance(event, events.CouponReturned | events.CouponCredited) or event.restored


def _event(recorded: Recorded) -> dict[str, Any]:
    moment = text_of(recorded.event.occurred_at)
    return {"what": recorded.event.TOPIC, "position": recorded.position, "moment": moment}


def _clock(what: str, moment: Any) -> dict[str, Any]:
    return {"what": what, "position": None, "moment": text_of(moment)}


def _lock(coupon: Coupon) -> dict[str, Any]:
    assert coupon.locked is not None
    return {
        "order_id": coupon.order_id,
        "lock_id": coupon.lock_id,
        "lock_ends_at": text_of(coupon.lock_ends_at),
        "holder_id": coupon.locked.holder_id,
        "discount_minor": coupon.locked.discount_minor,
        "allocation": coupon.locked.allocation,
    }


def _redemption(coupon: Coupon) -> dict[str, Any]:
    assert coupon.used is not None
    return {
        "order_id": coupon.used_order_id,
        "redemption_id": coupon.redemption_id,
        "discount_minor": coupon.discount_minor,
        "holder_id": coupon.used.holder_id,
        "allocation": coupon.used.allocation,
        "returned_minor": sum(coupon.returned_by_reason.values()),
    }

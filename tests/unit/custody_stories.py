"""Coupons extended, given away and shared, as stories for any backend."""

from __future__ import annotations

from datetime import timedelta, timezone

from ledger import errors, events
from tests.unit.coupon_facts import (
    EXPIRED,
    FRESH,
    HELD,
    LAPSED,
    PENDING,
    SHAREABLE,
    SHARED,
    TRANSFERABLE,
    TTL,
    USED,
    VALID_END,
    VOIDED,
    extend,
    extended,
    hold,
    lock,
    locked,
    on_coupon,
    share,
    shared,
    transfer,
    transferred,
    use,
    voided,
    with_terms,
)
from tests.unit.specs import COUPON, INSTANT, USER, Story, after, created_template, issued

EXTEND_STORIES = [
    Story("an unused coupon", FRESH, extend(after(20)), [extended(after(20))],
          {"coupon_id": COUPON, "state": "UNUSED", "valid_until": "2026-01-21T00:00:00Z"}),
    Story("a pending coupon", PENDING, extend(after(3)), [extended(after(3), after(2))]),
    Story("a coupon whose lock ran out", HELD, extend(after(20), at=after(1)), [extended(after(20))]),
    Story("in another zone", FRESH, extend(after(20).astimezone(timezone(timedelta(hours=8)))), [extended(after(20))]),
    Story("not to where it ends already", FRESH, extend(VALID_END), errors.InvalidPeriod),
    Story("nor to before that", FRESH, extend(VALID_END - INSTANT), errors.InvalidPeriod),
    Story("nor to a time without a zone", FRESH, extend(after(20).replace(tzinfo=None)), errors.InvalidPeriod),
    Story("a held coupon", HELD, extend(after(20)), errors.CouponLocked),
    Story("a used coupon", USED, extend(after(20)), errors.CouponUsed),
    Story("an expired coupon", FRESH, extend(after(20), at=VALID_END), errors.CouponExpired),
    Story("an expired coupon in the log", EXPIRED, extend(after(20)), errors.CouponExpired),
    Story("a voided coupon", VOIDED, extend(after(20)), errors.CouponVoid),
    Story("an unknown coupon", [], extend(after(20)), errors.CouponNotFound),
    Story("without a reason", FRESH, extend(after(20), reason=""), errors.InvalidField),
    Story("another version", FRESH, extend(after(20), expected_version=2), errors.VersionConflict),
    Story("it is usable until its new end", [*FRESH, extended(after(20))], lock(at=after(20) - INSTANT), [locked(
          ends=after(20, seconds=TTL) - INSTANT)]),
]  # fmt: skip

GIVEN = [*with_terms(TRANSFERABLE), transferred()]
TRANSFER_STORIES = [
    Story("to another user", with_terms(TRANSFERABLE), transfer(), [transferred()],
          {"coupon_id": COUPON, "state": "UNUSED", "user_id": "user-2"}),
    Story("and on to a third", GIVEN, transfer("user-3", user_id="user-2"), [transferred("user-3", "user-2")]),
    Story("and back", GIVEN, transfer(USER, user_id="user-2"), [transferred(USER, "user-2")]),
    Story("before it is effective", [created_template(TRANSFERABLE), issued(valid_from=after(1))], transfer(),
          [transferred()]),
    Story("by who gave it away", GIVEN, transfer("user-3"), errors.NotOwner),
    Story("by a friend", SHARED, transfer("user-3", user_id="user-2"), errors.NotOwner),
    Story("its sharing ends with it", [*SHARED, transferred("user-9")], lock(user_id="user-3"), errors.NotOwner),
    Story("to oneself", with_terms(TRANSFERABLE), transfer(USER), errors.InvalidField),
    Story("where the terms do not allow it", FRESH, transfer(), errors.NotTransferable),
    Story("while it is held", with_terms(TRANSFERABLE, hold()), transfer(), errors.CouponLocked),
    Story("after its lock ran out, whose end is written down", with_terms(TRANSFERABLE, hold()), transfer(at=after(1)),
          [LAPSED, transferred()]),
    Story("a used coupon", with_terms(TRANSFERABLE, hold(), use()), transfer(), errors.CouponUsed),
    Story("an expired coupon", with_terms(TRANSFERABLE), transfer(at=VALID_END), errors.CouponExpired),
    Story("a voided coupon", with_terms(TRANSFERABLE, voided()), transfer(), errors.CouponVoid),
    Story("another version", with_terms(TRANSFERABLE), transfer(expected_version=2), errors.VersionConflict),
    Story("an unknown coupon", [], transfer(), errors.CouponNotFound),
]  # fmt: skip

SHARE_STORIES = [
    Story("with two friends", with_terms(SHAREABLE), share("user-2", "user-3"), [shared("user-2", "user-3")],
          {"coupon_id": COUPON, "state": "UNUSED", "shared_with": ["user-2", "user-3"]}),
    Story("with fifty", with_terms(SHAREABLE), share(*(f"user-{n}" for n in range(2, 52))),
          [on_coupon(events.CouponShared)]),
    Story("with fifty-one", with_terms(SHAREABLE), share(*(f"user-{n}" for n in range(2, 53))), errors.InvalidField),
    Story("with others instead", SHARED, share("user-4"), [shared("user-4")]),
    Story("with nobody any more", SHARED, share(), [shared()], {"shared_with": []}),
    Story("with the same friends again", SHARED, share("user-2", "user-3"), []),
    Story("with a friend named twice", with_terms(SHAREABLE), share("user-2", "user-2"), errors.InvalidField),
    Story("with oneself", with_terms(SHAREABLE), share("user-2", USER), errors.InvalidField),
    Story("by a friend", SHARED, share("user-4", user_id="user-2"), errors.NotOwner),
    Story("where the terms do not allow it", FRESH, share("user-2"), errors.NotShareable),
    Story("while a friend holds it, who keeps it", [*SHARED, hold()], share(), [shared()], {"state": "LOCKED"}),
    Story("a used coupon", with_terms(SHAREABLE, hold(), use()), share("user-2"), errors.CouponUsed),
    Story("an expired coupon", with_terms(SHAREABLE), share("user-2", at=VALID_END), errors.CouponExpired),
    Story("a voided coupon", with_terms(SHAREABLE, voided()), share("user-2"), errors.CouponVoid),
    Story("another version", with_terms(SHAREABLE), share("user-2", expected_version=2), errors.VersionConflict),
    Story("an unknown coupon", [], share("user-2"), errors.CouponNotFound),
]  # fmt: skip

"""Every transition and every refusal of a coupon, as stories for any backend."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from ledger import errors, events, use_cases
from ledger.coupon import Redemption
from ledger.events import Event
from ledger.terms import Benefit, ReturnPolicy, Scope, Terms
from tests.unit.specs import (
    BATCH,
    COUPON,
    INSTANT,
    T0,
    TERMS,
    USER,
    Command,
    Fact,
    Story,
    after,
    created_template,
    issued,
)

TTL = 900
LOCK_END = after(seconds=TTL)
VALID_END = after(10)


def on_coupon(kind: type[Event], at: datetime | None = None, **payload: Any) -> Fact:
    return Fact(kind, f"coupon-{COUPON}", {"batch_id": BATCH, "user_id": USER, **payload}, at)


def locked(order: str = "order-1", ends: datetime = LOCK_END, **payload: Any) -> Fact:
    return on_coupon(events.CouponLocked, order_id=order, lock_ends_at=ends, **payload)


def hold(order: str = "order-1", ends: datetime = LOCK_END) -> Fact:
    """A lock of the past, whole."""
    return locked(order, ends, lock_id=f"lock-{order}", order_total_minor=None, quote_digest=None)


def unlocked(order: str = "order-1", reason: str = "cancelled", at: datetime | None = None) -> Fact:
    return on_coupon(events.CouponUnlocked, at, order_id=order, lock_id=f"lock-{order}", reason=reason)


def use(order: str = "order-1", redemption: str = "redemption-1", discount: int = 500) -> Fact:
    """A use of the past, whole."""
    return on_coupon(
        events.CouponUsed,
        order_id=order,
        lock_id=f"lock-{order}",
        redemption_id=redemption,
        currency="EUR",
        discount_minor=discount,
        merchant_funded_minor=discount,
        platform_funded_minor=0,
        order_total_minor=None,
        paid_minor=None,
        allocation=[],
    )


def returned(
    *, restored: bool, reason: str = "order_cancelled", valid_until: datetime = VALID_END, redemption: str = "1"
) -> Fact:
    return on_coupon(
        events.CouponReturned,
        order_id="order-1",
        redemption_id=f"redemption-{redemption}",
        reason=reason,
        restored=restored,
        valid_until=valid_until,
        returned_minor=500,
        lines=[],
    )


def expired(valid_until: datetime = VALID_END) -> Fact:
    return on_coupon(events.CouponExpired, valid_until, valid_until=valid_until)


def voided(reason: str = "fraud") -> Fact:
    return on_coupon(events.CouponVoided, reason=reason)


def lock(order: str = "order-1", at: datetime = T0, **arguments: Any) -> Command:
    return Command(use_cases.lock, {"order_id": order, "user_id": USER, "coupon_ids": [COUPON], **arguments}, at)


def confirm(order: str = "order-1", at: datetime = T0, discount: int = 500, **arguments: Any) -> Command:
    redemption = Redemption(coupon_id=COUPON, discount_minor=discount)
    return Command(use_cases.confirm, {"order_id": order, "redemptions": [redemption], **arguments}, at)


def confirm_line(product: str) -> Command:
    line = {"line_id": "1", "product_id": product, "discount_minor": 500}
    redemption = Redemption(coupon_id=COUPON, discount_minor=500, allocation=[line])
    return Command(use_cases.confirm, {"order_id": "order-1", "redemptions": [redemption]}, T0)


def unlock(order: str = "order-1", at: datetime = T0, **arguments: Any) -> Command:
    return Command(
        use_cases.unlock, {"order_id": order, "coupon_ids": [COUPON], "reason": "cancelled", **arguments}, at
    )


def give_back(order: str = "order-1", at: datetime = T0, reason: str = "order_cancelled") -> Command:
    return Command(use_cases.return_coupons, {"order_id": order, "coupon_ids": [COUPON], "reason": reason}, at)


def void(at: datetime = T0, **arguments: Any) -> Command:
    return Command(use_cases.void, {"coupon_id": COUPON, "reason": "fraud", **arguments}, at)


def expire(at: datetime = T0) -> Command:
    return Command(use_cases.expire, {"coupon_id": COUPON}, at)


def with_terms(terms: Terms, *then: Fact) -> list[Fact]:
    return [created_template(terms), issued(), *then]


def policy(**rules: Any) -> Terms:
    return Terms(benefit=TERMS.benefit, currency="EUR", return_policy=ReturnPolicy(**rules))


def benefit(**terms: Any) -> Benefit:
    return Benefit(**terms)


FRESH: Sequence[Fact] = with_terms(TERMS)
HELD = [*FRESH, hold()]
USED = [*HELD, use()]
KEPT = [*USED, returned(restored=False)]
EXPIRED = [*FRESH, expired()]
VOIDED = [*FRESH, voided()]
PENDING = [created_template(), issued(valid_from=after(1), valid_until=after(2))]
GRACE = policy(order_cancelled="restore_with_grace", grace_days=3)
STATED = Terms(benefit=benefit(kind="order_stated", max_discount_minor=700), currency="EUR")
PERCENT = Terms(benefit=benefit(kind="percent_off", percent_permyriad=1_250), currency="EUR")
SPLIT = Terms(benefit=TERMS.benefit, currency="EUR", merchant_share_permyriad=3_333)
SCOPED = Terms(benefit=TERMS.benefit, currency="EUR", scope=Scope(products=("tea",)))
LEAST = Terms(benefit=TERMS.benefit, currency="EUR", min_spend_minor=2_000)
ALLOCATED = Redemption(
    coupon_id=COUPON,
    discount_minor=500,
    allocation=[
        {"line_id": "1", "product_id": "p", "discount_minor": 167},
        {"line_id": "2", "product_id": "q", "discount_minor": 333},
    ],
)

LOCK_STORIES = [
    Story("an unused coupon is locked for the template's time", FRESH, lock(), [locked()], {"order_id": "order-1"}),
    Story("a lock's own time wins", FRESH, lock(ttl_seconds=1), [locked(ends=after(seconds=1))]),
    Story("a lock of a day is the longest", FRESH, lock(ttl_seconds=86_400), [locked(ends=after(1))]),
    Story("no lock is longer", FRESH, lock(ttl_seconds=86_401), errors.InvalidField),
    Story("no lock is empty", FRESH, lock(ttl_seconds=0), errors.InvalidField),
    Story("the order's facts are kept", FRESH, lock(order_total_minor=2_000, quote_digest="q"),
          [locked(order_total_minor=2_000, quote_digest="q")]),
    Story("at the first instant of validity", [created_template(), issued(valid_from=after(1))], lock(at=after(1)),
          [locked(ends=after(1, seconds=TTL))]),
    Story("an instant before validity", PENDING, lock(at=after(1) - INSTANT), errors.CouponNotStarted),
    Story("at the last instant of validity", FRESH, lock(at=VALID_END - INSTANT),
          [locked(ends=VALID_END - INSTANT + (LOCK_END - T0))]),
    Story("at the end of validity", FRESH, lock(at=VALID_END), errors.CouponExpired),
    Story("a held coupon for another order", HELD, lock("order-2"), errors.CouponLocked,
          facts={"lock_ends_at": "2026-01-01T00:15:00Z"}),
    Story("again for the same order, which keeps its lock", HELD, lock(at=after(seconds=10)), [],
          {"locks": [{"coupon_id": COUPON, "lock_id": "lock-order-1", "lock_ends_at": "2026-01-01T00:15:00Z"}]}),
    Story("an instant before the lock's end", HELD, lock("order-2", LOCK_END - INSTANT), errors.CouponLocked),
    Story("taken over at the lock's end", HELD, lock("order-2", LOCK_END),
          [unlocked(reason="lock_ended", at=LOCK_END), locked("order-2", after(seconds=2 * TTL))]),
    Story("taken over long after the lock's end", HELD, lock("order-2", after(5)),
          [unlocked(reason="lock_ended", at=LOCK_END), locked("order-2", after(5, seconds=TTL))]),
    Story("again by the same order after the lock's end", HELD, lock(at=LOCK_END),
          [unlocked(reason="lock_ended", at=LOCK_END), locked(ends=after(seconds=2 * TTL))]),
    Story("after an unlock", [*HELD, unlocked()], lock("order-2"), [locked("order-2")]),
    Story("after a return that restored", [*USED, returned(restored=True)], lock("order-2"), [locked("order-2")]),
    Story("after a return that kept it used", KEPT, lock("order-2"), errors.CouponUsed),
    Story("a used coupon", USED, lock("order-2"), errors.CouponUsed),
    Story("a used coupon for the order that used it", USED, lock(), errors.CouponUsed),
    Story("an expired coupon", EXPIRED, lock(), errors.CouponExpired, facts={"valid_until": "2026-01-11T00:00:00Z"}),
    Story("a voided coupon", VOIDED, lock(), errors.CouponVoid),
    Story("somebody else's coupon", FRESH, lock(user_id="user-2"), errors.NotOwner),
    Story("somebody else's coupon, expired", EXPIRED, lock(user_id="user-2"), errors.NotOwner),
    Story("below the least spend", with_terms(LEAST), lock(order_total_minor=1_999), errors.NotApplicable,
          facts={"min_spend_minor": 2_000, "order_total_minor": 1_999}),
    Story("of an unknown total, with a least spend", with_terms(LEAST), lock(), errors.NotApplicable),
    Story("at the least spend", with_terms(LEAST), lock(order_total_minor=2_000), [locked()]),
    Story("an unknown coupon", [], lock(), errors.CouponNotFound),
    Story("another merchant's coupon", FRESH, Command(use_cases.lock, lock().arguments, merchant_id="merchant-2"),
          errors.CouponNotFound),
]  # fmt: skip

CONFIRM_STORIES = [
    Story("the holder pays", HELD, confirm(), [on_coupon(events.CouponUsed, order_id="order-1", lock_id="lock-order-1",
          currency="EUR", discount_minor=500, merchant_funded_minor=500, platform_funded_minor=0, allocation=[])]),
    Story("with the lock's token", HELD, confirm(lock_id="lock-order-1"), [on_coupon(events.CouponUsed)]),
    Story("with another token", HELD, confirm(lock_id="lock-order-2"), errors.LockMismatch),
    Story("by another order", HELD, confirm("order-2"), errors.LockMismatch),
    Story("at the last instant of the lock", HELD, confirm(at=LOCK_END - INSTANT), [on_coupon(events.CouponUsed)]),
    Story("at the lock's end", HELD, confirm(at=LOCK_END), errors.LockExpired,
          facts={"lock_ended_at": "2026-01-01T00:15:00Z"}),
    Story("late, though nobody else wants it", HELD, confirm(at=after(5)), errors.LockExpired),
    Story("late, after the end of validity", HELD, confirm(at=VALID_END), errors.LockExpired),
    Story("after another order took it over", [*HELD, unlocked(reason="lock_ended"), hold("order-2", after(1))],
          confirm(at=LOCK_END), errors.LockMismatch),
    Story("a live lock outlasts validity", [*FRESH, hold(ends=after(11))], confirm(at=after(10.5)),
          [on_coupon(events.CouponUsed)]),
    Story("without a lock", FRESH, confirm(), errors.NotLocked),
    Story("after an unlock", [*HELD, unlocked()], confirm(), errors.NotLocked),
    Story("without a lock, expired by the clock", FRESH, confirm(at=VALID_END), errors.NotLocked),
    Story("without a lock, expired in the log", EXPIRED, confirm(), errors.NotLocked),
    Story("without a lock, pending", PENDING, confirm(), errors.NotLocked),
    Story("twice by the same order, at the same discount", USED, confirm(), []),
    Story("twice by the same order, at another discount", USED, confirm(discount=1), errors.CouponUsed),
    Story("a used coupon by another order", USED, confirm("order-2"), errors.CouponUsed),
    Story("a voided coupon", VOIDED, confirm(), errors.CouponVoid),
    Story("an unknown coupon", [], confirm(), errors.CouponNotFound),
    Story("less than the benefit", HELD, confirm(discount=499), [on_coupon(events.CouponUsed, discount_minor=499)]),
    Story("nothing", HELD, confirm(discount=0), [on_coupon(events.CouponUsed, discount_minor=0)]),
    Story("more than the benefit", HELD, confirm(discount=501), errors.NotApplicable, facts={"most_minor": 500}),
    Story("more than the order", HELD, confirm(order_total_minor=499), errors.NotApplicable,
          facts={"most_minor": 499}),
    Story("up to the stated most", with_terms(STATED, hold()), confirm(discount=700), [on_coupon(events.CouponUsed)]),
    Story("above the stated most", with_terms(STATED, hold()), confirm(discount=701), errors.NotApplicable),
    Story("a percentage, rounded up at most", with_terms(PERCENT, hold()), confirm(discount=13, order_total_minor=101),
          [on_coupon(events.CouponUsed, discount_minor=13)]),
    Story("more than the percentage", with_terms(PERCENT, hold()), confirm(discount=14, order_total_minor=101),
          errors.NotApplicable),
    Story("a percentage of an unknown total", with_terms(PERCENT, hold()), confirm(discount=14), errors.NotApplicable),
    Story("below the least spend", with_terms(LEAST, hold()), confirm(order_total_minor=1_999), errors.NotApplicable),
    Story("of an unknown total, with a least spend", with_terms(LEAST, hold()), confirm(), errors.NotApplicable),
    Story("of products in scope", with_terms(SCOPED, hold()), confirm_line("tea"), [on_coupon(events.CouponUsed)]),
    Story("of a product out of scope", with_terms(SCOPED, hold()), confirm_line("car"), errors.NotApplicable,
          facts={"product_id": "car"}),
    Story("funders share it, the platform takes the remainder", with_terms(SPLIT, hold()), confirm(),
          [on_coupon(events.CouponUsed, merchant_funded_minor=166, platform_funded_minor=334)]),
    Story("the allocation is kept", HELD, confirm(redemptions=[ALLOCATED]),
          [on_coupon(events.CouponUsed, allocation=list(ALLOCATED.allocation))]),
    Story("the order's sums are kept", HELD, confirm(order_total_minor=2_000, paid_minor=1_500),
          [on_coupon(events.CouponUsed, order_total_minor=2_000, paid_minor=1_500)]),
]  # fmt: skip

UNLOCK_STORIES = [
    Story("the holder lets go", HELD, unlock(), [unlocked()],
          {"coupons": [{"coupon_id": COUPON, "state": "UNUSED"}]}),
    Story("with the lock's token", HELD, unlock(lock_id="lock-order-1"), [unlocked()]),
    Story("with another token", HELD, unlock(lock_id="lock-order-2"), errors.LockMismatch),
    Story("by another order", HELD, unlock("order-2"), errors.LockMismatch),
    Story("after the lock's end", HELD, unlock(at=LOCK_END), [unlocked()]),
    Story("after the end of validity", HELD, unlock(at=VALID_END), [unlocked()],
          {"coupons": [{"coupon_id": COUPON, "state": "EXPIRED"}]}),
    Story("after another order took it over", [*HELD, unlocked(reason="lock_ended"), hold("order-2", after(1))],
          unlock(at=LOCK_END), errors.LockMismatch),
    Story("twice", [*HELD, unlocked()], unlock(), errors.NotLocked),
    Story("never locked", FRESH, unlock(), errors.NotLocked),
    Story("a used coupon", USED, unlock(), errors.CouponUsed),
    Story("a voided coupon", VOIDED, unlock(), errors.CouponVoid),
    Story("an expired coupon", EXPIRED, unlock(), errors.NotLocked),
    Story("an unknown coupon", [], unlock(), errors.CouponNotFound),
    Story("without a reason", HELD, unlock(reason=""), errors.InvalidField),
    Story("with a reason of two lines", HELD, unlock(reason="a\nb"), errors.InvalidField),
]  # fmt: skip

RETURN_STORIES = [
    Story("restored when the order is cancelled", USED, give_back(), [returned(restored=True)],
          {"coupons": [{"coupon_id": COUPON, "state": "UNUSED"}]}),
    Story("restored when the merchant refunds", USED, give_back(reason="merchant_refund"),
          [returned(restored=True, reason="merchant_refund")]),
    Story("kept used when the buyer asks", USED, give_back(reason="buyer_refund"),
          [returned(restored=False, reason="buyer_refund")], {"coupons": [{"coupon_id": COUPON, "state": "USED"}]}),
    Story("kept used, as the policy may say for any reason", with_terms(policy(order_cancelled="keep_used"), hold(),
          use()), give_back(), [returned(restored=False)]),
    Story("restored to the buyer, as the policy may say", with_terms(policy(buyer_refund="restore"), hold(), use()),
          give_back(reason="buyer_refund"), [returned(restored=True, reason="buyer_refund")]),
    Story("restored though its validity has ended", USED, give_back(at=VALID_END), [returned(restored=True)],
          {"coupons": [{"coupon_id": COUPON, "state": "EXPIRED"}]}),
    Story("grace moves the end of validity", with_terms(GRACE, hold(), use()), give_back(at=after(9)),
          [returned(restored=True, valid_until=after(12))]),
    Story("grace after the end of validity", with_terms(GRACE, hold(), use()), give_back(at=after(20)),
          [returned(restored=True, valid_until=after(23))], {"coupons": [{"coupon_id": COUPON, "state": "UNUSED"}]}),
    Story("grace never shortens validity", with_terms(GRACE, hold(), use()), give_back(at=after(1)),
          [returned(restored=True, valid_until=VALID_END)]),
    Story("by another order", USED, give_back("order-2"), errors.LockMismatch),
    Story("for an unknown reason", USED, give_back(reason="regret"), errors.InvalidField),
    Story("twice, restored", [*USED, returned(restored=True)], give_back(), errors.NotUsed),
    Story("twice, kept used", KEPT, give_back(), errors.NotUsed),
    Story("a second use of a restored coupon", [*USED, returned(restored=True), hold(), use(redemption="redemption-2")],
          give_back(), [returned(restored=True, redemption="2")]),
    Story("a held coupon", HELD, give_back(), errors.NotUsed),
    Story("an unused coupon", FRESH, give_back(), errors.NotUsed),
    Story("an expired coupon", EXPIRED, give_back(), errors.NotUsed),
    Story("a voided coupon", VOIDED, give_back(), errors.CouponVoid),
    Story("an unknown coupon", [], give_back(), errors.CouponNotFound),
]  # fmt: skip

VOID_STORIES = [
    Story("an unused coupon", FRESH, void(), [voided()], {"coupon_id": COUPON, "state": "VOIDED"}),
    Story("a pending coupon", PENDING, void(), [voided()]),
    Story("a held coupon, whose lock ends with it", HELD, void(at=after(seconds=10)),
          [unlocked(reason="voided", at=after(seconds=10)), voided()]),
    Story("a coupon whose lock ran out", HELD, void(at=after(1)), [unlocked(reason="voided", at=LOCK_END), voided()]),
    Story("a live lock outlasts validity", [*FRESH, hold(ends=after(11))], void(at=after(10.5)),
          [unlocked(reason="voided", at=after(10.5)), voided()]),
    Story("a restored coupon", [*USED, returned(restored=True)], void(), [voided()]),
    Story("a used coupon", USED, void(), errors.CouponUsed),
    Story("a coupon that a return kept used", KEPT, void(), errors.CouponUsed),
    Story("at the end of validity", FRESH, void(at=VALID_END), errors.CouponExpired),
    Story("an expired coupon", EXPIRED, void(), errors.CouponExpired),
    Story("twice", VOIDED, void(), errors.CouponVoid),
    Story("an unknown coupon", [], void(), errors.CouponNotFound),
    Story("the expected version", HELD, void(expected_version=2), [unlocked(reason="voided"), voided()]),
    Story("another version", HELD, void(expected_version=1), errors.VersionConflict,
          facts={"expected": 1, "version": 2}),
    Story("without a reason", FRESH, void(reason=""), errors.InvalidField),
]  # fmt: skip

EXPIRE_STORIES = [
    Story("at the end of validity", FRESH, expire(at=VALID_END), [expired()]),
    Story("an instant before", FRESH, expire(at=VALID_END - INSTANT), errors.CouponNotExpired,
          facts={"state": "UNUSED"}),
    Story("long after, told as of the end", FRESH, expire(at=after(50)), [expired()]),
    Story("pending", PENDING, expire(), errors.CouponNotExpired, facts={"state": "PENDING"}),
    Story("a lock that ran out ends first", HELD, expire(at=VALID_END),
          [unlocked(reason="lock_ended", at=LOCK_END), expired()]),
    Story("a live lock outlasts validity", [*FRESH, hold(ends=after(11))], expire(at=after(11) - INSTANT),
          errors.CouponNotExpired, facts={"state": "LOCKED"}),
    Story("when that lock ends", [*FRESH, hold(ends=after(11))], expire(at=after(11)),
          [unlocked(reason="lock_ended", at=after(11)), expired()]),
    Story("a restored coupon with grace", [*with_terms(GRACE, hold(), use()), returned(restored=True,
          valid_until=after(12))], expire(at=after(12)), [expired(after(12))]),
    Story("a restored coupon within its grace", [*with_terms(GRACE, hold(), use()), returned(restored=True,
          valid_until=after(12))], expire(at=VALID_END), errors.CouponNotExpired),
    Story("a used coupon never expires", USED, expire(at=after(50)), errors.CouponNotExpired),
    Story("nor one that a return kept used", KEPT, expire(at=after(50)), errors.CouponNotExpired),
    Story("a voided coupon", VOIDED, expire(at=after(50)), errors.CouponNotExpired),
    Story("twice", EXPIRED, expire(at=after(50)), errors.CouponNotExpired),
    Story("an unknown coupon", [], expire(), errors.CouponNotFound),
]  # fmt: skip

PINNED_STORIES = [
    Story("a revision does not touch a coupon that pinned the first version",
          [created_template(), created_template(SPLIT, events.TemplateRevised), issued(), hold()], confirm(),
          [on_coupon(events.CouponUsed, merchant_funded_minor=500)]),
    Story("a coupon of the revision has the new terms",
          [created_template(), created_template(SPLIT, events.TemplateRevised), issued(template_version=2), hold()],
          confirm(), [on_coupon(events.CouponUsed, merchant_funded_minor=166)]),
    Story("nor does a later revision change a return",
          [created_template(GRACE), created_template(TERMS, events.TemplateRevised), issued(), hold(), use()],
          give_back(at=after(9)), [returned(restored=True, valid_until=after(12))]),
]  # fmt: skip

SECOND = "d~"
TWO = [*FRESH, issued(coupon=SECOND)]
BOTH = {"coupon_ids": [SECOND, COUPON]}
ORDER_STORIES = [
    Story("coupons of an order are locked together, in the order of their ids", TWO, lock(**BOTH),
          [locked(), Fact(events.CouponLocked, f"coupon-{SECOND}", {"order_id": "order-1"})]),
    Story("one held by another order stops all", [*TWO, hold("order-2")], lock(**BOTH), errors.CouponLocked),
    Story("one that is not there stops all", FRESH, lock(**BOTH), errors.CouponNotFound),
    Story("one unlocked stops all unlocks", [*TWO, hold()], unlock(**BOTH), errors.NotLocked),
    Story("one not held stops all confirmations", [*TWO, hold()],
          confirm(redemptions=[Redemption(coupon_id=id, discount_minor=1) for id in (COUPON, SECOND)]),
          errors.NotLocked),
    Story("a coupon named twice", FRESH, lock(coupon_ids=[COUPON, COUPON]), errors.InvalidField),
    Story("no coupon", FRESH, lock(coupon_ids=[]), errors.InvalidField),
    Story("a hundred and one coupons", FRESH, lock(coupon_ids=[f"c{n}" for n in range(101)]), errors.InvalidField),
]  # fmt: skip

COUPON_STORIES = {
    "lock": LOCK_STORIES,
    "confirm": CONFIRM_STORIES,
    "unlock": UNLOCK_STORIES,
    "return": RETURN_STORIES,
    "void": VOID_STORIES,
    "expire": EXPIRE_STORIES,
    "pinned": PINNED_STORIES,
    "order": ORDER_STORIES,
}

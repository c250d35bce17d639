"""What a coupon's stories are told with: facts of its past, and commands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from ledger import events, use_cases
from ledger.benefit import Benefit
from ledger.coupon import Redemption
from ledger.events import Event
from ledger.scope import Scope, UseHours
from ledger.terms import ReturnPolicy, Terms
from tests.unit.specs import (
    BATCH,
    COUPON,
    T0,
    TERMS,
    USER,
    Command,
    Fact,
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


def use(order: str = "order-1", redemption: str = "redemption-1", discount: int = 500, **payload: Any) -> Fact:
    """A use of the past, whole."""
    whole: dict[str, Any] = {
        "order_id": order,
        "lock_id": f"lock-{order}",
        "redemption_id": redemption,
        "currency": "EUR",
        "discount_minor": discount,
        "merchant_funded_minor": discount,
        "platform_funded_minor": 0,
        "order_total_minor": None,
        "paid_minor": None,
        "allocation": [],
    }
    return on_coupon(events.CouponUsed, **(whole | payload))


def returned(
    *,
    restored: bool,
    reason: str = "order_cancelled",
    valid_until: datetime = VALID_END,
    redemption: str = "1",
    **payload: Any,
) -> Fact:
    whole: dict[str, Any] = {
        "order_id": "order-1",
        "redemption_id": f"redemption-{redemption}",
        "reason": reason,
        "restored": restored,
        "valid_until": valid_until,
        "returned_minor": 500,
        "lines": [],
    }
    return on_coupon(events.CouponReturned, **(whole | payload))


def expired(valid_until: datetime = VALID_END) -> Fact:
    return on_coupon(events.CouponExpired, valid_until, valid_until=valid_until)


def voided(reason: str = "fraud") -> Fact:
    return on_coupon(events.CouponVoided, reason=reason)


def lock(order: str = "order-1", at: datetime = T0, **arguments: Any) -> Command:
    return Command(use_cases.lock, {"order_id": order, "user_id": USER, "coupon_ids": [COUPON], **arguments}, at)


def confirm(order: str = "order-1", at: datetime = T0, discount: int | None = 500, **arguments: Any) -> Command:
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


def give_back(order: str = "order-1", at: datetime = T0, reason: str = "order_cancelled", **more: Any) -> Command:
    arguments = {"order_id": order, "coupon_ids": [COUPON], "reason": reason, **more}
    return Command(use_cases.return_coupons, arguments, at)


def void(at: datetime = T0, **arguments: Any) -> Command:
    return Command(use_cases.void, {"coupon_id": COUPON, "reason": "fraud", **arguments}, at)


def expire(at: datetime = T0) -> Command:
    return Command(use_cases.expire, {"coupon_id": COUPON}, at)


def redeem(order: str = "order-1", at: datetime = T0, **arguments: Any) -> Command:
    """A till's use; 500 off unless told otherwise."""
    return Command(use_cases.redeem, {"order_id": order, "coupon_id": COUPON, "discount_minor": 500, **arguments}, at)


def extend(until: datetime, at: datetime = T0, **arguments: Any) -> Command:
    return Command(use_cases.extend, {"coupon_id": COUPON, "valid_until": until, "reason": "sorry", **arguments}, at)


def transfer(to: str = "user-2", at: datetime = T0, **arguments: Any) -> Command:
    return Command(use_cases.transfer, {"coupon_id": COUPON, "user_id": USER, "to_user_id": to, **arguments}, at)


def share(*friends: str, at: datetime = T0, **arguments: Any) -> Command:
    return Command(use_cases.share, {"coupon_id": COUPON, "user_id": USER, "with_user_ids": friends, **arguments}, at)


def extended(until: datetime, before: datetime = VALID_END, reason: str = "sorry") -> Fact:
    return on_coupon(events.CouponExtended, valid_until_before=before, valid_until=until, reason=reason)


def transferred(to: str = "user-2", giver: str = USER) -> Fact:
    return on_coupon(events.CouponTransferred, user_id=giver, to_user_id=to)


def shared(*friends: str) -> Fact:
    return on_coupon(events.CouponShared, with_user_ids=list(friends))


def debited(order: str, discount: int, left: int, **payload: Any) -> Fact:
    """A use of a part of a voucher, as far as it matters."""
    named = {"order_id": order, "discount_minor": discount, "balance_minor": left}
    return on_coupon(events.CouponDebited, **named, **payload)


def debit(order: str, discount: int, left: int, **payload: Any) -> Fact:
    """The same of the past, whole."""
    lock_id, redemption_id = f"lock-{order}", f"redemption-{order}"
    rest = {"currency": "EUR", "merchant_funded_minor": discount, "platform_funded_minor": 0, "allocation": [],
            "order_total_minor": None, "paid_minor": None, "holder_id": USER, "channel": "online", "late": False,
            "lock_id": lock_id, "redemption_id": redemption_id}  # fmt: skip
    return debited(order, discount, left, **rest | payload)


def credited(order: str, credit: int, balance: int, reason: str = "order_cancelled", **payload: Any) -> Fact:
    named = {"order_id": order, "credited_minor": credit, "balance_minor": balance, "reason": reason}
    whole = {"redemption_id": f"redemption-{order}", "restored": False, "lines": [], **named, **payload}
    return on_coupon(events.CouponCredited, **whole)


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
PRICED = locked(
    lock_id="lock-order-1", order_total_minor=4_000, quote_digest=None, holder_id=USER, discount_minor=450,
    allocation=[{"line_id": "1", "product_id": "tea", "discount_minor": 450}],
)  # fmt: skip
"""A hold of the past whose discount the ledger found itself."""
LATE = replace(TERMS, late_confirm="accept")
LAPSED = unlocked(reason="lock_ended", at=LOCK_END)
SHARED_LATE = replace(TERMS, shareable=True, late_confirm="accept")
GIFT = Terms(benefit=benefit(kind="gift", products=("p",)), currency="EUR")
AT_MOST = Terms(benefit=benefit(kind="gift", products=("p",), max_discount_minor=400), currency="EUR")
MONDAYS = replace(TERMS, use_hours=(UseHours(weekdays=(1,)),), time_zone="Asia/Shanghai")
VOUCHER = Terms(benefit=benefit(kind="cash_voucher", value_minor=1_000, leaves_balance=True), currency="EUR")
ALL_OR_NOTHING = Terms(benefit=benefit(kind="cash_voucher", value_minor=1_000), currency="EUR")
TRANSFERABLE = replace(TERMS, transferable=True, late_confirm="accept")
SHAREABLE = replace(TERMS, shareable=True, transferable=True)
SHARED = with_terms(SHAREABLE, shared("user-2", "user-3"))
IN_STORE = replace(TERMS, scope=Scope(channels=("in_store",)))

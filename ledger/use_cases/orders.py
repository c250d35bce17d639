"""Use cases of an order: hold coupons (Try, Confirm and Cancel of TCC), and undo their use after a refund."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from ledger.aggregate import text_of
from ledger.commit import Unit
from ledger.coupon import Coupon, Redemption
from ledger.request import Request
from ledger.use_cases.checks import check_id, check_money, check_reason, checked_coupon_ids, coupon_streams, unit_of
from ledger.work import Loaded, Work


def lock(
    request: Request,
    order_id: str,
    *,
    user_id: str,
    coupon_ids: Sequence[str],
    ttl_seconds: int | None = None,
    order_total_minor: int | None = None,
    quote_digest: str | None = None,
) -> Work:
    """Hold coupons for an order, all or none (Try of TCC). Answers each coupon's ``lock_id`` and ``lock_ends_at``."""
    check_id("order_id", order_id)
    check_id("user_id", user_id)
    check_money("order_total_minor", order_total_minor)
    coupon_ids = checked_coupon_ids(coupon_ids)

    def decide(loaded: Loaded) -> Unit:
        coupons = [loaded.coupon(id) for id in coupon_ids]
        for coupon in coupons:
            terms = loaded.terms(coupon.template_id, coupon.template_version)
            coupon.lock(
                request,
                loaded.now,
                terms,
                order_id=order_id,
                user_id=user_id,
                ttl_seconds=ttl_seconds,
                order_total_minor=order_total_minor,
                quote_digest=quote_digest,
            )
        locks = [
            {"coupon_id": coupon.key, "lock_id": coupon.lock_id, "lock_ends_at": text_of(coupon.lock_ends_at)}
            for coupon in coupons
        ]
        return unit_of(request, {"order_id": order_id, "locks": locks}, *coupons)

    return Work(request, coupon_streams(coupon_ids), decide)


def confirm(
    request: Request,
    order_id: str,
    redemptions: Sequence[Redemption],
    *,
    lock_id: str | None = None,
    order_total_minor: int | None = None,
    paid_minor: int | None = None,
) -> Work:
    """Spend the coupons that the paid order holds, all or none (Confirm of TCC). Answers the redemptions."""
    check_id("order_id", order_id)
    check_money("order_total_minor", order_total_minor)
    check_money("paid_minor", paid_minor)
    by_id = {redemption.coupon_id: redemption for redemption in redemptions}
    coupon_ids = checked_coupon_ids([redemption.coupon_id for redemption in redemptions])

    def decide(loaded: Loaded) -> Unit:
        coupons = [loaded.coupon(id) for id in coupon_ids]
        for coupon in coupons:
            terms = loaded.terms(coupon.template_id, coupon.template_version)
            coupon.confirm(
                request,
                loaded.now,
                terms,
                by_id[coupon.key],
                order_id=order_id,
                lock_id=lock_id,
                order_total_minor=order_total_minor,
                paid_minor=paid_minor,
            )
        redeemed = [
            {
                "coupon_id": coupon.key,
                "redemption_id": coupon.redemption_id,
                "discount_minor": coupon.discount_minor,
            }
            for coupon in coupons
        ]
        return unit_of(request, {"order_id": order_id, "redemptions": redeemed}, *coupons)

    return Work(request, coupon_streams(coupon_ids), decide)


def unlock(
    request: Request, order_id: str, *, coupon_ids: Sequence[str], reason: str, lock_id: str | None = None
) -> Work:
    """Let coupons go that an unpaid order holds, all or none (Cancel of TCC)."""
    check_id("order_id", order_id)
    check_reason(reason)
    coupon_ids = checked_coupon_ids(coupon_ids)

    def decide(loaded: Loaded) -> Unit:
        coupons = [loaded.coupon(id) for id in coupon_ids]
        for coupon in coupons:
            coupon.unlock(request, loaded.now, order_id=order_id, lock_id=lock_id, reason=reason)
        return unit_of(request, _states_answer(order_id, coupons, loaded.now), *coupons)

    return Work(request, coupon_streams(coupon_ids), decide)


def return_coupons(request: Request, order_id: str, *, coupon_ids: Sequence[str], reason: str) -> Work:
    """Undo the use of coupons after a refund, all or none, as each one's pinned return policy says."""
    check_id("order_id", order_id)
    coupon_ids = checked_coupon_ids(coupon_ids)

    def decide(loaded: Loaded) -> Unit:
        coupons = [loaded.coupon(id) for id in coupon_ids]
        for coupon in coupons:
            terms = loaded.terms(coupon.template_id, coupon.template_version)
            coupon.return_(request, loaded.now, terms, order_id=order_id, reason=reason)
        return unit_of(request, _states_answer(order_id, coupons, loaded.now), *coupons)

    return Work(request, coupon_streams(coupon_ids), decide)


def _states_answer(order_id: str, coupons: Sequence[Coupon], now: datetime) -> dict[str, Any]:
    states = [{"coupon_id": coupon.key, "state": coupon.state_at(now)} for coupon in coupons]
    return {"order_id": order_id, "coupons": states}

"""Use cases of a single coupon: withdrawn, or its validity over."""

from __future__ import annotations

from datetime import datetime

from ledger.commit import Unit
from ledger.events import CouponExpired
from ledger.request import Request
from ledger.use_cases.checks import check_reason, check_version, unit_of
from ledger.work import Loaded, Work


def void(request: Request, coupon_id: str, *, reason: str, expected_version: int | None = None) -> Work:
    """Withdraw one coupon that is not used."""
    check_reason(reason)

    def decide(loaded: Loaded) -> Unit:
        coupon = loaded.coupon(coupon_id)
        check_version(coupon, expected_version)
        coupon.void(request, loaded.now, reason=reason)
        return unit_of(request, {"coupon_id": coupon_id, "state": coupon.state_at(loaded.now)}, coupon)

    return Work(request, (f"coupon-{coupon_id}",), decide)


def expire(request: Request, coupon_id: str) -> Work:
    """Write down that a coupon's validity has ended. Refused while it has not."""

    def decide(loaded: Loaded) -> Unit:
        coupon = loaded.coupon(coupon_id)
        coupon.expire(request, loaded.now)
        return unit_of(request, {"coupon_id": coupon_id}, coupon)

    return Work(request, (f"coupon-{coupon_id}",), decide)


def expired_unit(
    request: Request, coupon_id: str, *, version: int, batch_id: str, user_id: str, valid_until: datetime
) -> Unit:
    """The unit of an expiry whose coupon is known at this version, for sweeping without loading.

    The version is the guard: if the coupon moved since, the verdict is ``conflict`` and nothing is written.
    """
    event = CouponExpired(
        originator_id=f"coupon-{coupon_id}",
        originator_version=version + 1,
        merchant_id=request.merchant_id,
        actor=request.actor,
        request_id=request.request_id,
        occurred_at=valid_until,
        batch_id=batch_id,
        user_id=user_id,
        valid_until=valid_until,
    )
    return Unit([event])

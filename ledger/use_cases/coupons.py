"""Use cases of coupons by themselves: withdrawn, extended, given away, shared, or their validity over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from ledger.aggregate import text_of
from ledger.commit import Unit
from ledger.coupon import FRIEND_LIMIT, Coupon
from ledger.errors import InvalidField, Refusal
from ledger.events import CouponExpired
from ledger.request import Request
from ledger.use_cases.checks import (
    check_id,
    check_reason,
    check_version,
    checked_coupon_ids,
    coupon_streams,
    released,
    terms_of,
    unit_of,
)
from ledger.work import Loaded, Work


def void(request: Request, coupon_id: str, *, reason: str, expected_version: int | None = None) -> Work:
    """Withdraw one coupon that is not used."""
    check_reason(reason)

    def decide(loaded: Loaded) -> Unit:
        coupon = loaded.coupon(coupon_id)
        check_version(coupon, expected_version)
        coupon.void(request, loaded.now, reason=reason)
        unit = unit_of(request, {"coupon_id": coupon_id, "state": coupon.state_at(loaded.now)}, coupon)
        return released(unit, loaded, [coupon])

    return Work(request, (f"coupon-{coupon_id}",), decide)


def void_all(request: Request, coupon_ids: Sequence[str], *, reason: str) -> Work:
    """Withdraw those of 1 to 100 coupons that can be, so that what a job or a batch issued by mistake is undone.

    Answers ``{"voided": [coupon id], "refused": [{"coupon_id", "code"}]}``; a refusal of one stops none of the others.
    """
    check_reason(reason)
    coupon_ids = checked_coupon_ids(coupon_ids)

    def decide(loaded: Loaded) -> Unit:
        voided: list[Coupon] = []
        refused = []
        for id in coupon_ids:
            try:
                coupon = loaded.coupon(id)
                coupon.void(request, loaded.now, reason=reason)
                voided.append(coupon)
            except Refusal as refusal:
                refused.append({"coupon_id": id, "code": refusal.code()})
        answer = {"voided": [coupon.key for coupon in voided], "refused": refused}
        return released(unit_of(request, answer, *voided), loaded, voided)

    return Work(request, coupon_streams(coupon_ids), decide)


def expire(request: Request, coupon_id: str) -> Work:
    """Write down that a coupon's validity has ended. Refused while it has not."""

    def decide(loaded: Loaded) -> Unit:
        coupon = loaded.coupon(coupon_id)
        coupon.expire(request, loaded.now)
        return released(unit_of(request, {"coupon_id": coupon_id}, coupon), loaded, [coupon])

    return Work(request, (f"coupon-{coupon_id}",), decide)


def extend(
    request: Request, coupon_id: str, *, valid_until: datetime, reason: str, expected_version: int | None = None
) -> Work:
    """Let one unused coupon be valid for longer. Answers its new end."""
    check_reason(reason)

    def step(coupon: Coupon, loaded: Loaded) -> dict[str, Any]:
        coupon.extend(request, loaded.now, valid_until=valid_until, reason=reason)
        return {"valid_until": text_of(coupon.valid_until)}

    return _on_one(request, coupon_id, expected_version, step)


def transfer(
    request: Request, coupon_id: str, *, user_id: str, to_user_id: str, expected_version: int | None = None
) -> Work:
    """Give ``user_id``'s coupon to another user, where its terms allow that. Answers whose it is.

    The chain of custody is the coupon's history. The receiver's limits are not charged: a limit says how many a user
    may be issued, so a template that lets coupons change hands does not limit how many one may collect.
    """
    check_id("user_id", user_id)
    check_id("to_user_id", to_user_id)

    def step(coupon: Coupon, loaded: Loaded) -> dict[str, Any]:
        coupon.transfer(request, loaded.now, terms_of(loaded, coupon), user_id=user_id, to_user_id=to_user_id)
        return {"user_id": coupon.user_id}

    return _on_one(request, coupon_id, expected_version, step)


def share(
    request: Request,
    coupon_id: str,
    *,
    user_id: str,
    with_user_ids: Sequence[str],
    expected_version: int | None = None,
) -> Work:
    """Let at most 50 friends use ``user_id``'s coupon too, where its terms allow that; the first to lock it holds it.

    The list takes the place of the one before; an empty one ends the sharing. Answers with whom it is shared.
    """
    check_id("user_id", user_id)
    if len(with_user_ids) > FRIEND_LIMIT:
        raise InvalidField(f"a coupon is shared with at most {FRIEND_LIMIT} users", field="with_user_ids")
    if len(set(with_user_ids)) < len(with_user_ids):
        raise InvalidField("a user is named twice", field="with_user_ids")
    for friend in with_user_ids:
        check_id("with_user_ids", friend)

    def step(coupon: Coupon, loaded: Loaded) -> dict[str, Any]:
        coupon.share(request, loaded.now, terms_of(loaded, coupon), user_id=user_id, with_user_ids=with_user_ids)
        return {"shared_with": list(coupon.shared_with)}

    return _on_one(request, coupon_id, expected_version, step)


def _on_one(
    request: Request,
    coupon_id: str,
    expected_version: int | None,
    step: Callable[[Coupon, Loaded], dict[str, Any]],
) -> Work:
    """Work that takes one step with one coupon; it answers the coupon's state and what the step says."""

    def decide(loaded: Loaded) -> Unit:
        coupon = loaded.coupon(coupon_id)
        check_version(coupon, expected_version)
        said = step(coupon, loaded)
        answer = {"coupon_id": coupon_id, "state": coupon.state_at(loaded.now), **said}
        return released(unit_of(request, answer, coupon), loaded, [coupon] if coupon.order_id is None else [])

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

"""Orders: lock, confirm, unlock and return the coupons of one order, all or none (Try, Confirm, Cancel)."""

from __future__ import annotations

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from api import answers, contract
from api.access import operation_name
from api.bodies import ConfirmBody, LockBody, ReturnBody, UnlockBody
from api.exchange import command, perform
from api.wire import OrderPath
from ledger import errors, use_cases

orders = APIBlueprint(
    "orders",
    __name__,
    url_prefix="/v1",
    abp_tags=[Tag(name="orders", description="What an order holds, uses and gives back, all or none.")],
    operation_id_callback=operation_name,
)


@orders.post(
    "/orders/<callers_id:order_id>/locks",
    responses=contract.write(
        200,
        answers.Locks,
        errors.CouponNotFound,
        errors.CouponNotStarted,
        errors.CouponLocked,
        errors.CouponUsed,
        errors.CouponExpired,
        errors.CouponVoid,
        errors.NotApplicable,
    ),
)
def lock_coupons(path: OrderPath, body: LockBody) -> Response:
    """Hold coupons for an order. Coupons that the order already holds keep their lock."""
    work = use_cases.lock(
        command(),
        path.order_id,
        user_id=body.user_id,
        coupon_ids=body.coupon_ids,
        ttl_seconds=body.ttl_seconds,
        order_total_minor=body.order_total_minor,
        quote_digest=body.quote_digest,
    )
    return perform(work)


@orders.post(
    "/orders/<callers_id:order_id>/confirmations",
    responses=contract.write(
        200,
        answers.Redemptions,
        errors.CouponNotFound,
        errors.NotLocked,
        errors.LockMismatch,
        errors.LockExpired,
        errors.CouponUsed,
        errors.CouponVoid,
        errors.NotApplicable,
    ),
)
def confirm_coupons(path: OrderPath, body: ConfirmBody) -> Response:
    """Spend the coupons that a paid order holds."""
    work = use_cases.confirm(
        command(),
        path.order_id,
        [redemption.to_redemption() for redemption in body.redemptions],
        lock_id=body.lock_id,
        order_total_minor=body.order_total_minor,
        paid_minor=body.paid_minor,
    )
    return perform(work)


@orders.post(
    "/orders/<callers_id:order_id>/unlocks",
    responses=contract.write(
        200,
        answers.OrderCouponStates,
        errors.CouponNotFound,
        errors.NotLocked,
        errors.LockMismatch,
        errors.CouponUsed,
        errors.CouponVoid,
    ),
)
def unlock_coupons(path: OrderPath, body: UnlockBody) -> Response:
    """Let go of coupons that an unpaid order holds; allowed after the end of the lock too."""
    work = use_cases.unlock(
        command(), path.order_id, coupon_ids=body.coupon_ids, reason=body.reason, lock_id=body.lock_id
    )
    return perform(work)


@orders.post(
    "/orders/<callers_id:order_id>/returns",
    responses=contract.write(
        200,
        answers.OrderCouponStates,
        errors.CouponNotFound,
        errors.NotUsed,
        errors.LockMismatch,
        errors.CouponVoid,
    ),
)
def return_coupons(path: OrderPath, body: ReturnBody) -> Response:
    """Undo the use of coupons after a refund, as each one's return policy says for the reason."""
    work = use_cases.return_coupons(command(), path.order_id, coupon_ids=body.coupon_ids, reason=body.reason)
    return perform(work)

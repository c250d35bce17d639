"""Orders: lock, confirm, unlock and return the coupons of one order, all or none (Try, Confirm, Cancel)."""

from __future__ import annotations

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from api import contract, coupon_answers
from api.access import caller, operation_name
from api.exchange import answer, command, ledger, perform
from api.order_bodies import ConfirmBody, LockBody, ReturnBody, UnlockBody
from api.wire import NoQuery, OrderPath
from ledger import errors, use_cases
from ledger.request import Request

orders = APIBlueprint(
    "orders",
    __name__,
    url_prefix="/v1",
    abp_tags=[Tag(name="orders", description="What an order holds, uses and gives back, all or none.")],
    operation_id_callback=operation_name,
)


@orders.get(
    "/orders/<callers_id:order_id>/coupons",
    responses=contract.read(coupon_answers.OrderCoupons, errors.QueueFull),
)
def list_order_coupons(path: OrderPath, query: NoQuery) -> Response:  # noqa: ARG001
    """Read which coupons an order holds and which it has used, returned ones among them, on their newest events.

    What it locked and let go is not shown. Whom the ledger does not know has none.
    """
    found = caller()
    # The request's id has a space, so it is none that a caller's write can have.
    request = Request(found.merchant_id, f"key:{found.key_id}", "order coupons")
    return answer(ledger().ask(use_cases.order_coupons(request, path.order_id)).answer)


@orders.post(
    "/orders/<callers_id:order_id>/locks",
    responses=contract.write(
        200,
        coupon_answers.Locks,
        errors.CouponNotFound,
        errors.CouponNotStarted,
        errors.CouponLocked,
        errors.CouponUsed,
        errors.CouponExpired,
        errors.CouponVoid,
        errors.LockLimitReached,
        errors.NotApplicable,
        errors.BelowMinSpend,
        errors.OutOfHours,
        errors.OutOfScope,
        errors.ExclusiveConflict,
        errors.QuoteChanged,
    ),
)
def lock_coupons(path: OrderPath, body: LockBody) -> Response:
    """Hold coupons for an order. Those that it already holds keep their lock, or have it extended by ttl_seconds.

    Where the total, the digest or the basket is another one, they are judged anew and get another lock. Whether coupons
    may be used together is judged among those of one call, so name all of the order's.
    """
    work = use_cases.lock(
        command(),
        path.order_id,
        user_id=body.user_id,
        coupon_ids=body.coupon_ids,
        ttl_seconds=body.ttl_seconds,
        order_total_minor=body.order_total_minor,
        quote_digest=body.quote_digest,
        basket=body.basket.to_basket() if body.basket else None,
    )
    return perform(work)


@orders.post(
    "/orders/<callers_id:order_id>/confirmations",
    responses=contract.write(
        200,
        coupon_answers.Redemptions,
        errors.CouponNotFound,
        errors.NotLocked,
        errors.LockMismatch,
        errors.LockExpired,
        errors.CouponUsed,
        errors.CouponVoid,
        errors.NotApplicable,
        errors.BelowMinSpend,
        errors.OutOfScope,
        errors.ExclusiveConflict,
    ),
)
def confirm_coupons(path: OrderPath, body: ConfirmBody) -> Response:
    """Spend the coupons that a paid order holds. Answers which line carries what, where the call does not say it."""
    work = use_cases.confirm(
        command(),
        path.order_id,
        [redemption.to_redemption() for redemption in body.redemptions],
        lock_id=body.lock_id,
        order_total_minor=body.order_total_minor,
        paid_minor=body.paid_minor,
        channel=body.channel,
    )
    return perform(work)


@orders.post(
    "/orders/<callers_id:order_id>/unlocks",
    responses=contract.write(
        200,
        coupon_answers.OrderCouponStates,
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
        coupon_answers.OrderReturns,
        errors.CouponNotFound,
        errors.NotUsed,
        errors.LockMismatch,
        errors.CouponVoid,
        errors.ReturnNotAllowed,
    ),
)
def return_coupons(path: OrderPath, body: ReturnBody) -> Response:
    """Undo the use of coupons after a refund, whole or by line, as each one's return policy says for the reason.

    A coupon comes back with the return that completes the whole. Of what an order spent of a voucher's balance, each
    return puts its part back at once. A line that none of the coupons has is refused.
    """
    work = use_cases.return_coupons(
        command(),
        path.order_id,
        coupon_ids=body.coupon_ids,
        reason=body.reason,
        lines=[line.to_line() for line in body.lines],
    )
    return perform(work)

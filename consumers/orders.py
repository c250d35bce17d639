"""What an order message asks of the ledger: a step of its coupons, and of a paid one what the rules issue for it.

The order's messages carry no ``lock_id``: they are in order by key, so the order's own hold is the one that counts.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from consumers.asked import Asked
from consumers.messages import Message
from consumers.payloads import (
    BasketLine,
    OrderBasket,
    OrderCancelled,
    OrderClosed,
    OrderCreated,
    OrderPaid,
    OrderPaymentTimeout,
    OrderRefunded,
    OrderReleased,
    Payload,
    facts_of,
)
from ledger import use_cases
from ledger.basket import Basket, Line
from ledger.commit import Unit
from ledger.coupon import Coupon, Redemption
from ledger.errors import CouponLocked, CouponNotFound, LockLimitReached, LockMismatch, NotLocked, NotUsed, Refusal
from ledger.request import Request
from ledger.rules import Occasion
from ledger.work import Loaded, Receipt, Work

KINDS = (OrderCreated, OrderPaid, OrderCancelled, OrderClosed, OrderPaymentTimeout, OrderRefunded)

# The issue of a coupon is told on another topic, or asked for over HTTP, and may be behind its order: CouponNotFound.
_HOLDS_NOTHING_YET = (CouponNotFound, NotLocked, LockMismatch)
"""The order's own lock is not there yet. Where another order held the coupon last, that shows as a mismatch."""
CURABLE: dict[type[Payload], tuple[type[Refusal], ...]] = {
    # Another order, whose messages may be in another partition, is about to let the coupon go.
    OrderCreated: (CouponNotFound, CouponLocked, LockLimitReached),
    OrderPaid: _HOLDS_NOTHING_YET,
    OrderCancelled: _HOLDS_NOTHING_YET,
    OrderClosed: _HOLDS_NOTHING_YET,
    OrderPaymentTimeout: _HOLDS_NOTHING_YET,
    # The payment is not told yet.
    OrderRefunded: (CouponNotFound, NotUsed),
}
"""By type of message, the refusals after which it waits for what it needs. All others are of facts that no other
message undoes (used, void, expired), or of the message itself."""


def asked(message: Message, request: Request) -> Asked:
    """Lock, confirm, unlock or return the order's coupons. Raises ``InvalidInput`` where the fields disagree."""
    request = replace(request, body_hash=message.body_hash())
    occasion = _occasion(message.payload, request) if isinstance(message.payload, OrderPaid) else None
    return Asked(request, _work(message, request), occasion, CURABLE[type(message.payload)])


def _occasion(order: OrderPaid, request: Request) -> Occasion | None:
    """A payment for the rules, where the message says who paid and how much."""
    if order.user_id is None or order.paid_minor is None:
        return None
    use_cases.check_id("user_id", order.user_id)
    use_cases.check_id("order_id", order.order_id)
    return Occasion(
        trigger="order_paid",
        user_id=order.user_id,
        facts=facts_of(order.facts),
        order_id=order.order_id,
        paid_minor=order.paid_minor,
        currency=order.currency,
        at=request.at,
    )


def _work(message: Message, request: Request) -> Work | None:
    match message.payload:
        case OrderCreated() as order:
            return use_cases.lock(
                request,
                order.order_id,
                user_id=order.user_id,
                coupon_ids=order.coupon_ids,
                ttl_seconds=order.ttl_seconds,
                order_total_minor=order.order_total_minor,
                quote_digest=order.quote_digest,
                basket=None if order.basket is None else _basket(order.basket),
            )
        case OrderPaid() as order:
            if not order.redemptions:
                return None
            redemptions = [Redemption(**redemption.model_dump()) for redemption in order.redemptions]
            return use_cases.confirm(
                request,
                order.order_id,
                redemptions,
                order_total_minor=order.order_total_minor,
                paid_minor=order.paid_minor,
                channel=order.channel,
            )
        case OrderReleased() as order:
            return use_cases.unlock(request, order.order_id, coupon_ids=order.coupon_ids, reason=order.REASON)
        case OrderRefunded() as order:
            return _refund(order, request)
    raise AssertionError(f"{type(message.payload).__name__} is not an order message")


def _refund(order: OrderRefunded, request: Request) -> Work:
    """The return; but where all is returned already, telling it once more is no mistake and changes nothing."""
    work = use_cases.return_coupons(
        request,
        order.order_id,
        coupon_ids=order.coupon_ids,
        reason=order.reason,
        lines=[line.model_dump() for line in order.lines],
    )

    def decide(loaded: Loaded) -> Unit | Receipt:
        coupons = [loaded.coupon(id) for id in order.coupon_ids]
        return Unit([], request, {}) if all(_is_over(coupon, loaded.now) for coupon in coupons) else work.decide(loaded)

    def _is_over(coupon: Coupon, now: datetime) -> bool:
        # What the order holds again is yet to be paid again, and this may be the refund of that.
        held = coupon.state_at(now) == "LOCKED" and coupon.order_id == order.order_id
        return order.order_id in coupon.returned_orders and not held

    return work if order.lines else replace(work, decide=decide)


def _basket(said: OrderBasket) -> Basket:
    lines = tuple(_line(line) for line in said.lines)
    return Basket(**{**vars(said), "lines": lines, "user_types": tuple(said.user_types)})


def _line(said: BasketLine) -> Line:
    # The lock writes these two down, and a return has to be able to name the line.
    use_cases.check_id("line_id", said.line_id)
    use_cases.check_id("product_id", said.product_id)
    return Line(**{**vars(said), "categories": tuple(said.categories)})

"""What an order message asks of the ledger.

The order's messages carry no ``lock_id``: they are in order by key, so the order's own hold is the one that counts.
"""

from __future__ import annotations

from dataclasses import replace

from consumers.messages import Message
from consumers.payloads import (
    OrderCancelled,
    OrderClosed,
    OrderCreated,
    OrderPaid,
    OrderPaymentTimeout,
    OrderRefunded,
    OrderReleased,
)
from ledger import use_cases
from ledger.coupon import Redemption
from ledger.request import Request
from ledger.work import Work

KINDS = (OrderCreated, OrderPaid, OrderCancelled, OrderClosed, OrderPaymentTimeout, OrderRefunded)


def work_of(message: Message, request: Request) -> Work:
    """Lock, confirm, unlock or return the order's coupons. Raises ``InvalidInput`` where the fields disagree."""
    request = replace(request, body_hash=message.body_hash())
    match message.payload:
        case OrderCreated() as order:
            return use_cases.lock(
                request,
                order.order_id,
                user_id=order.user_id,
                coupon_ids=order.coupon_ids,
                ttl_seconds=order.ttl_seconds,
                order_total_minor=order.order_total_minor,
            )
        case OrderPaid() as order:
            redemptions = [Redemption(**redemption.model_dump()) for redemption in order.redemptions]
            return use_cases.confirm(
                request,
                order.order_id,
                redemptions,
                order_total_minor=order.order_total_minor,
                paid_minor=order.paid_minor,
            )
        case OrderReleased() as order:
            return use_cases.unlock(request, order.order_id, coupon_ids=order.coupon_ids, reason=order.REASON)
        case OrderRefunded() as order:
            return use_cases.return_coupons(request, order.order_id, coupon_ids=order.coupon_ids, reason=order.reason)
    raise AssertionError(f"{type(message.payload).__name__} is not an order message")

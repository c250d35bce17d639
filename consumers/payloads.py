"""What the messages say: one model for each type of message.

A type's name ends with its major version. Inside a major version fields are only added, and a reader ignores what it
does not know, so old readers stand new messages; what it does know it checks strictly. JSON Schemas made from these
models are the published contract (docs/contracts).
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from ledger.coupon import ALLOCATION_LIMIT
from ledger.terms import LOCK_TTL_LIMIT_SECONDS, MONEY_LIMIT_MINOR, ReturnReason
from ledger.use_cases import ID_LIMIT, ORDER_COUPON_LIMIT

# No control characters and no space around it. The ledger's own rule is a little stricter for ids beyond ASCII.
_VISIBLE = r"^[^\x00-\x20\x7f]([^\x00-\x1f\x7f]*[^\x00-\x20\x7f])?$"

Id = Annotated[str, StringConstraints(min_length=1, max_length=ID_LIMIT, pattern=_VISIBLE)]
Minor = Annotated[int, Field(ge=0, lt=MONEY_LIMIT_MINOR)]
CouponIds = Annotated[list[Id], Field(min_length=1, max_length=ORDER_COUPON_LIMIT)]


class Part(BaseModel):
    """An object inside a payload."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


class Payload(Part):
    """The data of one type of message."""

    TYPE: ClassVar[str]

    merchant_id: Id

    @property
    def key(self) -> str:
        """The Kafka key: the thing whose messages must stay in order."""
        raise NotImplementedError


class IssueRequested(Payload):
    """One coupon of a batch is to be issued to one user. The same message id has one effect within a batch."""

    TYPE: ClassVar[str] = "coupon.issue.requested.v1"

    batch_id: Id
    user_id: Id
    channel: Id = "issue"

    @property
    def key(self) -> str:
        """The user."""
        return self.user_id


class OrderPayload(Payload):
    """What all order messages name."""

    order_id: Id

    @property
    def key(self) -> str:
        """The order."""
        return self.order_id


class OrderLine(Part):
    """One line of the order. ``amount_minor`` is the whole line before any coupon."""

    line_id: Id
    product_id: Id
    quantity: Annotated[int, Field(ge=1, lt=MONEY_LIMIT_MINOR)] = 1
    amount_minor: Minor


class OrderCreated(OrderPayload):
    """An order was placed with these coupons: they are locked, all or none."""

    TYPE: ClassVar[str] = "order.created.v1"

    user_id: Id
    coupon_ids: CouponIds
    order_total_minor: Minor | None = None
    ttl_seconds: Annotated[int, Field(ge=1, le=LOCK_TTL_LIMIT_SECONDS)] | None = None
    lines: Annotated[list[OrderLine], Field(max_length=ALLOCATION_LIMIT)] = []


class AllocationLine(Part):
    """The part of a discount that one line of the order got."""

    line_id: Id
    product_id: Id
    discount_minor: Minor


class RedeemedCoupon(Part):
    """One coupon's use. Where there is an allocation, it sums to the discount."""

    coupon_id: Id
    discount_minor: Minor
    allocation: Annotated[list[AllocationLine], Field(max_length=ALLOCATION_LIMIT)] = []


class OrderPaid(OrderPayload):
    """The order was paid: the coupons that it holds are used, all or none."""

    TYPE: ClassVar[str] = "order.paid.v1"

    redemptions: Annotated[list[RedeemedCoupon], Field(min_length=1, max_length=ORDER_COUPON_LIMIT)]
    order_total_minor: Minor | None = None
    paid_minor: Minor | None = None


class OrderReleased(OrderPayload):
    """The order ended unpaid: the coupons that it holds are unlocked, all or none."""

    REASON: ClassVar[str]

    coupon_ids: CouponIds


class OrderCancelled(OrderReleased):
    """The buyer cancelled the unpaid order."""

    TYPE: ClassVar[str] = "order.cancelled.v1"
    REASON: ClassVar[str] = "cancelled"


class OrderClosed(OrderReleased):
    """The order system closed the unpaid order."""

    TYPE: ClassVar[str] = "order.closed.v1"
    REASON: ClassVar[str] = "closed"


class OrderPaymentTimeout(OrderReleased):
    """The order was not paid in time."""

    TYPE: ClassVar[str] = "order.payment_timeout.v1"
    REASON: ClassVar[str] = "payment_timeout"


class OrderRefunded(OrderPayload):
    """The paid order was refunded: its coupons come back as each one's return policy says for the reason."""

    TYPE: ClassVar[str] = "order.refunded.v1"

    coupon_ids: CouponIds
    reason: ReturnReason


PAYLOADS: dict[str, type[Payload]] = {
    kind.TYPE: kind
    for kind in (
        IssueRequested,
        OrderCreated,
        OrderPaid,
        OrderCancelled,
        OrderClosed,
        OrderPaymentTimeout,
        OrderRefunded,
    )
}

"""What callers send of orders. Each body says how it becomes the domain's own value, which checks it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from api.basket_bodies import BasketBody
from api.wire import Body, Digest, Id, Minor, Reason, obeying
from ledger.basket import Channel as OrderChannel
from ledger.coupon import ALLOCATION_LIMIT, Redemption
from ledger.terms import LOCK_TTL_LIMIT_SECONDS, ReturnReason
from ledger.use_cases import ORDER_COUPON_LIMIT

OrderCoupons = Annotated[
    list[Id], Field(min_length=1, max_length=ORDER_COUPON_LIMIT, json_schema_extra={"uniqueItems": True})
]


_TTL = "The template's where left out. A lock that the order holds already is extended by it, never shortened."


class LockBody(Body):
    """Which coupons an order wants to hold for a user, who owns them or with whom they are shared, all or none."""

    user_id: Id
    coupon_ids: OrderCoupons
    ttl_seconds: Annotated[int, Field(ge=1, le=LOCK_TTL_LIMIT_SECONDS, description=_TTL)] | None = None
    order_total_minor: Annotated[Minor | None, Field(description="The basket's, where there is one.")] = None
    quote_digest: Annotated[
        Digest | None, Field(description="Of the quote that the shopper saw; compared where there is a basket.")
    ] = None
    basket: Annotated[
        BasketBody | None,
        Field(description="Prices the coupons on it again; a confirmation need not say then what they take off."),
    ] = None


class AllocationBody(Body):
    """The part of a discount that one line of the order carries."""

    line_id: Id
    product_id: Id | None = None
    discount_minor: Minor


class RedemptionBody(Body):
    """What one coupon took off; where an allocation is given, its parts sum to the discount.

    Where the lock came with a basket, both may be left out: the lock's own are taken.
    """

    coupon_id: Id
    discount_minor: Minor | None = None
    allocation: Annotated[list[AllocationBody], Field(max_length=ALLOCATION_LIMIT)] = Field(default=[])

    @model_validator(mode="after")
    def _obeys(self) -> RedemptionBody:
        obeying(self.to_redemption)
        return self

    def to_redemption(self) -> Redemption:
        """The domain's value."""
        parts = [dict(vars(part)) for part in self.allocation]
        return Redemption(coupon_id=self.coupon_id, discount_minor=self.discount_minor, allocation=parts)


class ConfirmBody(Body):
    """The coupons that a paid order used, all or none."""

    redemptions: Annotated[list[RedemptionBody], Field(min_length=1, max_length=ORDER_COUPON_LIMIT)]
    lock_id: Id | None = None
    order_total_minor: Minor | None = None
    paid_minor: Minor | None = None
    channel: Annotated[
        OrderChannel | None,
        Field(description="Where left out, that of the lock's basket, and `online` where there was none."),
    ] = None


class UnlockBody(Body):
    """The coupons that an order lets go, all or none."""

    coupon_ids: OrderCoupons
    reason: Reason
    lock_id: Id | None = None


class ReturnedLineBody(Body):
    """A line of the order whose part of the discount is given back; all that is left of it without an amount."""

    line_id: Id
    discount_minor: Minor | None = None

    def to_line(self) -> dict[str, Any]:
        """The domain's form."""
        return dict(vars(self))


class ReturnBody(Body):
    """The used coupons whose order was undone, all or none; with lines, only what these lines carried."""

    coupon_ids: OrderCoupons
    reason: ReturnReason
    lines: Annotated[list[ReturnedLineBody], Field(max_length=ALLOCATION_LIMIT)] = Field(default=[])

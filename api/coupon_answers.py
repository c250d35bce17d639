"""What callers get about coupons: issued, held, used, returned, and as they are."""

from __future__ import annotations

from pydantic import BaseModel, Field

from api.answers import CouponState, Time


class IssuedCoupon(BaseModel):
    """A coupon that a user just got."""

    coupon_id: str
    batch_id: str
    user_id: str
    valid_from: Time
    valid_until: Time


class IssuedCoupons(BaseModel):
    """The coupons in the order of the user ids asked for."""

    batch_id: str
    coupons: list[IssuedCoupon]


class LineDiscount(BaseModel):
    """The part of a discount that one line carries."""

    line_id: str
    product_id: str
    discount_minor: int


class SpentLine(BaseModel):
    """The part of a use's discount that one line carries, as the order system or the lock told it."""

    line_id: str
    product_id: str | None = None
    discount_minor: int


class Lock(BaseModel):
    """A hold. Whoever names its lock_id later is refused when another hold took its place."""

    coupon_id: str
    lock_id: str
    lock_ends_at: Time
    discount_minor: int | None = Field(None, description="Where the lock came with a basket: what it takes off.")
    allocation: list[LineDiscount] | None = Field(None, description="The same by line, without shipping.")


class Locks(BaseModel):
    """What the order holds."""

    order_id: str
    locks: list[Lock]
    quote_digest: str | None = Field(None, description="Where the lock came with a basket: of what it priced.")
    discount_minor: int | None = Field(None, description="Of all its coupons.")


class Redemption(BaseModel):
    """A use."""

    coupon_id: str
    redemption_id: str
    discount_minor: int
    balance_minor: int | None = Field(None, description="Of a voucher that leaves a balance: what is left on it.")
    allocation: list[SpentLine] | None = Field(
        None,
        description="Where the call told no allocation: the discount by line, as the ledger found it. Empty where it is"
        " off the shipping, or there was no basket.",
    )


class Redemptions(BaseModel):
    """What the order used."""

    order_id: str
    redemptions: list[Redemption]


class CouponInState(BaseModel):
    """A coupon and its state."""

    coupon_id: str
    state: CouponState


class ExtendedCoupon(CouponInState):
    """A coupon and the end of its validity."""

    valid_until: Time


class TransferredCoupon(CouponInState):
    """A coupon and whose it is now."""

    user_id: str


class SharedCoupon(CouponInState):
    """A coupon and who may use it besides its owner."""

    shared_with: list[str]


class ReturnedCoupon(CouponInState):
    """A coupon whose use was undone, in part or whole."""

    returned_minor: int = Field(
        description="Of the discount, what this return gave back: 0 where the policy keeps the coupon used."
    )


class RefusedVoid(BaseModel):
    """A coupon that was not voided, and the code of the refusal."""

    coupon_id: str
    code: str


class Voids(BaseModel):
    """What one call voided of a batch."""

    voided: int
    refused: list[RefusedVoid]
    next_cursor: str | None = Field(description="Pass it to void what follows; null when nothing does.")


class OrderCouponStates(BaseModel):
    """The order's coupons after a write."""

    order_id: str
    coupons: list[CouponInState]


class OrderHold(BaseModel):
    """The order's live hold of a coupon."""

    lock_id: str
    lock_ends_at: Time
    holder_id: str = Field(description="The user who is to use it: its owner, or a friend with whom it is shared.")
    discount_minor: int | None = Field(description="What it takes off, where the lock came with a basket.")
    allocation: list[LineDiscount] = Field(description="The same by line, without shipping.")


class OrderUse(BaseModel):
    """The order's last use of a coupon."""

    redemption_id: str
    used_at: Time
    holder_id: str
    channel: str
    discount_minor: int
    allocation: list[SpentLine]
    returned_minor: int = Field(description="What returns gave back of it: nothing where the policy keeps it used.")


class OrderCoupon(CouponInState):
    """A coupon that an order holds, or has used."""

    template_id: str
    template_version: int
    lock: OrderHold | None = Field(description="null where the order does not hold it now.")
    redemption: OrderUse | None = Field(description="null where the order never used it.")


class OrderCoupons(BaseModel):
    """What an order holds and has used."""

    order_id: str
    coupons: list[OrderCoupon]
    as_of: Time = Field(description="The moment that the states are for.")


class OrderReturns(BaseModel):
    """The order's coupons after a return."""

    order_id: str
    coupons: list[ReturnedCoupon]


class CouponHold(BaseModel):
    """The live hold of a coupon."""

    order_id: str
    lock_id: str
    lock_ends_at: Time


class CouponUse(BaseModel):
    """The use of a coupon."""

    order_id: str
    redemption_id: str
    discount_minor: int
    allocation: list[SpentLine] = Field(description="The same by line, without shipping, where it is known by line.")


class Coupon(BaseModel):
    """A coupon at one moment."""

    coupon_id: str
    batch_id: str
    template_id: str
    template_version: int
    user_id: str
    state: CouponState
    valid_from: Time
    valid_until: Time
    lock: CouponHold | None
    redemption: CouponUse | None
    balance_minor: int | None = Field(description="What is left on a voucher that was spent in part; null before that.")
    shared_with: list[str] = Field(description="The friends who may use it too.")
    version: int = Field(description="Events of this coupon that the answer counts.")
    position: int = Field(description="The position of the last of them.")
    as_of: Time = Field(description="The moment that the state is for.")


class WalletCoupon(BaseModel):
    """A coupon in a wallet."""

    coupon_id: str
    batch_id: str
    template_id: str
    template_version: int
    state: CouponState
    valid_from: Time
    valid_until: Time
    order_id: str | None = Field(description="The order that holds, held last or used it.")
    holder_id: str | None = Field(
        description="The friend of its owner who holds, held last or used it; null where its owner does."
    )
    balance_minor: int | None = Field(
        description="Left on a voucher that was spent in part, not counting the present use; null before it was."
    )
    shared_by: str | None = Field(
        description="Its owner, who shares it with the user; null where it is the user's own."
    )
    version: int


class Wallet(BaseModel):
    """A page of what a user has and of what friends share with the user, the soonest to expire first."""

    user_id: str
    coupons: list[WalletCoupon]
    next_cursor: str | None
    position: int = Field(description="The position of the log that the page shows at least.")

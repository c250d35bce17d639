"""What callers get. These models describe; the answers of writes are stored with the events and sent as they are."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, WithJsonSchema

Time = Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"})]
"""RFC 3339 in UTC with a Z."""

CouponState = Literal["PENDING", "UNUSED", "LOCKED", "USED", "EXPIRED", "VOIDED"]
BatchState = Literal["DRAFT", "IN_REVIEW", "APPROVED", "RUNNING", "PAUSED", "STOPPED", "ENDED"]


class FieldProblem(BaseModel):
    """One field that was refused."""

    pointer: str = Field("", description="JSON pointer to a member of the body.")
    parameter: str = Field("", description="Name of a parameter in the address.")
    code: str
    detail: str


class Problem(BaseModel):
    """A refusal (RFC 9457). Programs decide on code; title and detail are for people."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    errors: list[FieldProblem] = Field([], description="The fields that were refused.")
    facts: dict[str, Any] = Field({}, description="What the refusal was about.")


class Finding(BaseModel):
    """What the linter finds risky about terms or a plan."""

    code: str
    severity: Literal["refuse", "warn"] = Field(description="refuse where the risk was accepted.")
    field: str
    message: str


class TemplateVersion(BaseModel):
    """A template and the version that the write made."""

    template_id: str
    version: int
    warnings: list[Finding]


class Template(BaseModel):
    """A template as it is."""

    template_id: str
    version: int
    name: str
    description: str = Field(description="What the offer is, for people; empty where nobody said.")
    terms: dict[str, Any]


class BatchStep(BaseModel):
    """A batch after a write."""

    batch_id: str
    state: BatchState
    quantity: int
    budget_minor: int | None
    version: int


class PlannedBatch(BatchStep):
    """A batch just planned."""

    warnings: list[Finding]


class Audience(BaseModel):
    """Who may get a coupon: all of these conditions."""

    users: int = Field(description="How many users are named; 0 where anybody may.")
    newcomers: bool
    tiers: list[str]
    min_points: int | None
    tags: list[str]


class Batch(BatchStep):
    """A batch as it is."""

    template_id: str
    template_version: int
    name: str
    campaign: str
    per_user_limit: int | None
    claim_from: Time | None
    claim_until: Time | None
    valid_from: Time | None
    valid_until: Time | None
    valid_delay_seconds: int
    valid_for_seconds: int | None
    time_zone: str
    ends_at_day_close: bool
    per_day_limit: int | None
    per_user_day_limit: int | None
    per_person_limit: int | None
    audience: Audience
    needs_approval: bool


class Balance(BaseModel):
    """Where a batch's coupons are: issued = pending + unused + locked + used + expired + voided."""

    batch_id: str
    state: BatchState
    quantity: int
    issued: int
    pending: int
    unused: int
    locked: int
    used: int
    expired: int
    voided: int
    returned: int = Field(
        description="Returns in whole or in part, whether or not the coupon came back, and credits of vouchers."
    )
    discount_minor: int = Field(description="Of all uses, and of what was spent of vouchers.")
    returned_minor: int = Field(description="Given back by returns, and put on vouchers again.")
    budget_minor: int | None = Field(description="What its coupons may be worth together.")
    position: int = Field(description="The position of the log that the figures show at least.")
    as_of: Time = Field(description="The moment that the states are for.")


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
    allocation: list[LineDiscount] | None = Field(
        None,
        description="Where a till sent a basket and no allocation of its own: the discount by line; none where"
        " the till took less off.",
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

    returned_minor: int = Field(description="The discount that this return gave back.")


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


class PublishedEvent(BaseModel):
    """A fact, as the ledger tells it."""

    position: int = Field(description="The place in the log.")
    recorded_at: Time = Field(description="When the ledger stored it.")
    occurred_at: Time = Field(description="When it happened; earlier than recorded_at for imported history.")
    stream: str = Field(description="Category, hyphen, id.")
    version: int = Field(description="The place in the stream, from 1.")
    topic: str
    payload: dict[str, Any]


class CouponEvents(BaseModel):
    """A page of a coupon's history, oldest first."""

    coupon_id: str
    events: list[PublishedEvent]
    next_cursor: str | None


class EventPage(BaseModel):
    """A page of the merchant's part of the log, in the order of positions."""

    events: list[PublishedEvent]
    next: int = Field(description="What to pass as `after` for what follows, now or later.")
    more: bool = Field(description="Whether asking again at once may find more.")


class Health(BaseModel):
    """Whether the service can do its work."""

    status: Literal["ok", "failed"]
    checks: dict[str, Any]

"""What auditors get about the past: timelines, states and differences."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from api.answers import BatchState, CouponState, PublishedEvent, Time
from api.coupon_answers import OrderCoupon, OrderHold, SpentLine


class Timeline(BaseModel):
    """A page of facts, in the order of the log."""

    events: list[PublishedEvent]
    next: int = Field(description="What to pass as `after` for what follows, now or later.")
    more: bool = Field(description="Whether more follows already.")


class Reason(BaseModel):
    """What made a state: an event, or the clock."""

    what: str = Field(
        description="The topic of an event; or of the clock `not_started`, `lock_live`, `lock_ended`, `validity_over`,"
        " `claims_over`."
    )
    position: int | None = Field(description="Of the event.")
    moment: Time = Field(description="When it occurred; or the moment that the clock has, or has not, passed.")


class PastHold(OrderHold):
    """A live hold."""

    order_id: str


class PastUse(BaseModel):
    """A use."""

    order_id: str
    redemption_id: str
    discount_minor: int
    holder_id: str
    allocation: list[SpentLine]
    returned_minor: int


class CouponThen(BaseModel):
    """A coupon at a past moment."""

    state: CouponState = Field(description="By its events and the clock.")
    stored_state: CouponState = Field(description="By its events alone.")
    decided_by: list[Reason]
    batch_id: str
    template_id: str
    template_version: int
    user_id: str
    shared_with: list[str]
    valid_from: Time
    valid_until: Time
    lock: PastHold | None
    redemption: PastUse | None
    balance_minor: int | None
    version: int = Field(description="Events of the coupon that count.")
    position: int = Field(description="The position of the last of them.")


class BalanceThen(BaseModel):
    """Where a batch's coupons were: issued = pending + unused + locked + used + expired + voided."""

    issued: int
    pending: int
    unused: int
    locked: int
    used: int
    expired: int
    voided: int
    returned: int
    discount_minor: int
    returned_minor: int


class BatchThen(BaseModel):
    """A batch at a past moment."""

    state: BatchState
    stored_state: BatchState = Field(description="By its events alone.")
    decided_by: list[Reason]
    template_id: str
    template_version: int
    quantity: int
    budget_minor: int | None
    version: int
    position: int
    balance: BalanceThen | None = Field(
        description="null where its coupons have more events than one call reads; the command line reads them all."
    )


class AsOf(BaseModel):
    """Which moment was asked for."""

    at: Time = Field(description="What the clock showed.")
    known_at: Time | None = Field(description="When the log was as far as `known` says; null where asked by position.")
    known_position: int = Field(description="The last position that the log held then.")


class Parting(AsOf):
    """Where what was known parts from what was true."""

    true_only: list[int] = Field(description="Positions of events that had occurred by then, recorded later.")
    known_only: list[int] = Field(description="Positions of events recorded by then, with a later business time.")
    left_out: list[int] = Field(
        description="Positions of events that had occurred by then, but follow one that had not in the same stream."
    )


class CouponPast(Parting):
    """A coupon as the log knew it, and as it was; null where it was not issued yet."""

    coupon_id: str
    known: CouponThen | None = Field(description="By what was recorded by then: what the ledger would have answered.")
    true: CouponThen | None = Field(description="By what had occurred by then, whenever it was recorded.")


class BatchPast(Parting):
    """A batch as the log knew it, and as it was; null where it was not planned yet."""

    batch_id: str
    known: BatchThen | None
    true: BatchThen | None


class OrderPast(AsOf):
    """What an order held and had used, as the log knew it and as it was."""

    order_id: str
    known: list[OrderCoupon]
    true: list[OrderCoupon]


class WalletCouponThen(BaseModel):
    """A coupon that a user had, or could use."""

    coupon_id: str
    batch_id: str
    template_id: str
    template_version: int
    state: CouponState
    valid_from: Time
    valid_until: Time
    balance_minor: int | None
    order_id: str | None = Field(description="The order that held or had used it.")
    shared_by: str | None = Field(description="Its owner; null where it was the user's own.")
    version: int
    position: int


class UserPast(AsOf):
    """A page of what a user had, as the log knew it and as it was, by coupon id."""

    user_id: str
    known: list[WalletCouponThen]
    true: list[WalletCouponThen]
    next: str | None = Field(description="What to pass as `after` for the next page; null at the end.")


class Change(BaseModel):
    """A member of a state, before and after."""

    before: Any
    after: Any


class Span(BaseModel):
    """Between which two moments."""

    begin: AsOf
    end: AsOf


class Difference(Span):
    """What differs between two moments; members of members have dotted names."""

    changed: dict[str, Change]
    events: list[PublishedEvent] = Field(description="Between the two, of the object's own stream.")


class CouponDifference(Difference):
    """A coupon at two moments."""

    coupon_id: str
    before: CouponThen | None
    after: CouponThen | None


class BatchDifference(Difference):
    """A batch at two moments."""

    batch_id: str
    before: BatchThen | None
    after: BatchThen | None


class OrderCouponChange(BaseModel):
    """A coupon of an order at two moments; null where the order neither held it nor had used it."""

    before: OrderCoupon | None
    after: OrderCoupon | None


class OrderDifference(Span):
    """What an order held and had used at two moments."""

    order_id: str
    changed: dict[str, OrderCouponChange] = Field(description="By coupon id.")
    events: list[PublishedEvent] = Field(description="Between the two, of all coupons that the order had locked.")


class WalletCouponChange(BaseModel):
    """A coupon of a user at two moments; null where the user neither had it nor could use it."""

    before: WalletCouponThen | None
    after: WalletCouponThen | None


class UserDifference(Span):
    """A page of what a user had at two moments, by coupon id."""

    user_id: str
    changed: dict[str, WalletCouponChange] = Field(description="By coupon id.")
    events: list[PublishedEvent] = Field(description="Between the two, of all coupons that the page looked at.")
    next: str | None = Field(description="What to pass as `after` for the next page; null at the end.")

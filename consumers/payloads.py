"""What the messages say: one model for each type of message.

A type's name ends with its major version. Inside a major version fields are only added or become optional, and a
reader ignores what it does not know; what it does know it checks strictly. JSON Schemas made from these
models are the published contract (docs/contracts).
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from ledger.audience import POINTS_LIMIT, Facts
from ledger.basket import CATEGORY_LIMIT, LINE_LIMIT, QUANTITY_LIMIT, Channel
from ledger.benefit import MONEY_LIMIT_MINOR
from ledger.coupon import ALLOCATION_LIMIT
from ledger.scope import WORD_LIMIT
from ledger.terms import LOCK_TTL_LIMIT_SECONDS, ReturnReason
from ledger.use_cases import ID_LIMIT, ORDER_COUPON_LIMIT, check_id

# No control characters and no space around it. The ledger's own rule is a little stricter for ids beyond ASCII.
_VISIBLE = r"^[^\x00-\x20\x7f]([^\x00-\x1f\x7f]*[^\x00-\x20\x7f])?$"

Id = Annotated[str, StringConstraints(min_length=1, max_length=ID_LIMIT, pattern=_VISIBLE)]
Minor = Annotated[int, Field(ge=0, lt=MONEY_LIMIT_MINOR)]
Currency = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]
Digest = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9:_+/=-]{1,128}$")]
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


class UserFacts(Part):
    """What the sender knows of the user, for batches that have conditions. The person is an opaque key."""

    person: Id | None = None
    newcomer: bool | None = None
    tier: Id | None = None
    points: Annotated[int, Field(ge=0, le=POINTS_LIMIT)] | None = None
    tags: Annotated[list[Id], Field(max_length=WORD_LIMIT)] | None = None


NO_FACTS = Facts()


def facts_of(said: UserFacts | None) -> Facts:
    """The ledger's value. Raises ``InvalidField`` where its rules for a text are stricter."""
    if said is None:
        return NO_FACTS
    if said.person is not None:
        check_id("facts.person", said.person)
    return Facts(**vars(said) | {"tags": None if said.tags is None else tuple(said.tags)})


class IssueRequested(Payload):
    """One coupon of a batch is to be issued to one user. The same message id has one effect within a batch."""

    TYPE: ClassVar[str] = "coupon.issue.requested.v1"

    batch_id: Id
    user_id: Id
    channel: Id = "issue"
    facts: UserFacts | None = None
    points_receipt: Id | None = None
    """Of a batch that is exchanged for points: the receipt of the points that were paid."""

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


class BasketLine(Part):
    """One line of a basket: it costs its units without ``discounted_minor``, price cuts that are not coupons."""

    line_id: Id
    product_id: Id
    quantity: Annotated[int, Field(ge=1, le=QUANTITY_LIMIT)] = 1
    unit_price_minor: Minor
    discounted_minor: Minor = 0
    categories: Annotated[list[Id], Field(max_length=CATEGORY_LIMIT)] = []
    shop_id: Id | None = None


class OrderBasket(Part):
    """What is bought, and how the order is placed. Each line has an id of its own."""

    lines: Annotated[list[BasketLine], Field(min_length=1, max_length=LINE_LIMIT)]
    currency: Currency
    shipping_minor: Minor = 0
    order_type: Id = "standard"
    channel: Channel = "online"
    user_types: Annotated[list[Id], Field(max_length=WORD_LIMIT)] = []


class OrderCreated(OrderPayload):
    """An order was placed with these coupons: they are locked, all or none.

    With a ``basket`` the ledger prices them, and a payment need not say what they take off; its total then stands for
    ``order_total_minor``. ``lines`` are what order systems told before there were baskets: nothing is decided by them.
    """

    TYPE: ClassVar[str] = "order.created.v1"

    user_id: Id
    coupon_ids: CouponIds
    order_total_minor: Minor | None = None
    ttl_seconds: Annotated[int, Field(ge=1, le=LOCK_TTL_LIMIT_SECONDS)] | None = None
    lines: Annotated[list[OrderLine], Field(max_length=ALLOCATION_LIMIT)] = []
    basket: OrderBasket | None = None
    quote_digest: Digest | None = None
    """Of the quote that the shopper saw. With a basket, coupons that take off something else now are not locked."""


class AllocationLine(Part):
    """The part of a discount that one line of the order got."""

    line_id: Id
    product_id: Id
    discount_minor: Minor


class RedeemedCoupon(Part):
    """One coupon's use. Where there is an allocation, it sums to the discount.

    Both may be left out where the order was created with a basket: what the lock found is taken.
    """

    coupon_id: Id
    discount_minor: Minor | None = None
    allocation: Annotated[list[AllocationLine], Field(max_length=ALLOCATION_LIMIT)] = []


class OrderPaid(OrderPayload):
    """The order was paid: the coupons that it holds are used, all or none, and rules for paid orders issue theirs.

    A paid order without coupons is told for the rules alone. They need to know who paid and how much, and in which
    currency where one has an amount.
    """

    TYPE: ClassVar[str] = "order.paid.v1"

    redemptions: Annotated[list[RedeemedCoupon], Field(max_length=ORDER_COUPON_LIMIT)] = []
    order_total_minor: Minor | None = None
    paid_minor: Minor | None = None
    currency: Currency | None = None
    """Of ``paid_minor``."""
    channel: Channel | None = None
    """That of the basket with which the order was created where left out, and ``online`` where there was none."""
    user_id: Id | None = None
    facts: UserFacts | None = None


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


class ReturnedLine(Part):
    """A line of the order whose part of the discount is given back; without an amount, all that is left of it."""

    line_id: Id
    discount_minor: Minor | None = None


class OrderRefunded(OrderPayload):
    """The paid order was refunded: its coupons come back as each one's return policy says for the reason.

    With ``lines`` only what these lines carried is given back, and the coupon with the return that completes the
    whole. An amount of a line is for one coupon only.
    """

    TYPE: ClassVar[str] = "order.refunded.v1"

    coupon_ids: CouponIds
    reason: ReturnReason
    lines: Annotated[list[ReturnedLine], Field(max_length=ALLOCATION_LIMIT)] = []


class MemberPayload(Payload):
    """What all member messages name."""

    user_id: Id
    facts: UserFacts | None = None

    @property
    def key(self) -> str:
        """The user."""
        return self.user_id


class MemberRegistered(MemberPayload):
    """A new member: rules for newcomers issue theirs, once a user. Who registers is a newcomer unless facts differ."""

    TYPE: ClassVar[str] = "member.registered.v1"


class MemberReferred(MemberPayload):
    """The user is new, and another member brought them: rules for referrals reward either or both, once a new user."""

    TYPE: ClassVar[str] = "member.referred.v1"

    referrer_id: Id
    referrer_facts: UserFacts | None = None


class MemberTierChanged(MemberPayload):
    """A member reached a tier: rules for it issue theirs, once a rule and user."""

    TYPE: ClassVar[str] = "member.tier_changed.v1"

    tier: Id


class ReminderDue(Payload):
    """A user is to be told that coupons end, or that claims of a batch have opened. The ledger's scanner sends it."""

    TYPE: ClassVar[str] = "coupon.reminder.due.v1"

    user_id: Id
    batch_id: Id
    reminder: Literal["expiry", "claim_opens"]
    notify_day: date
    """On the merchant's calendar. A user is told once of a batch, day and kind of reminder."""
    ends_at: datetime
    """When the last of the coupons ends; of ``claim_opens``, when it was due."""
    coupon_ids: Annotated[list[Id], Field(max_length=ORDER_COUPON_LIMIT)] = []
    """Of ``expiry``: the coupons that end, or the first hundred of them."""

    @property
    def key(self) -> str:
        """The user."""
        return self.user_id


class CouponAlert(Payload):
    """A batch crossed a threshold that it was planned with. The ledger sends it, once for each crossing."""

    TYPE: ClassVar[str] = "coupon.alert.v1"

    batch_id: Id
    template_id: Id
    alert: Literal["stock_below", "budget_spent", "claims_per_minute"]
    number: Annotated[int, Field(ge=1)]
    """Which crossing of this threshold it is."""
    position: Annotated[int, Field(ge=1)]
    """Of the event that crossed it, in the log."""
    threshold: int
    """Units left, permyriad of the budget, or coupons a minute."""
    level: int
    """Units issued, minor units spent, or coupons issued in the minute."""
    capacity: int | None = None
    """The quantity or the budget; of ``claims_per_minute`` there is none."""

    @property
    def key(self) -> str:
        """The batch."""
        return self.batch_id


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
        MemberRegistered,
        MemberReferred,
        MemberTierChanged,
        ReminderDue,
        CouponAlert,
    )
}

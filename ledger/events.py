"""The catalogue: every fact that the ledger can record.

A class is an event, a topic and a version for ever: rename the class freely, never the topic. A changed payload
means ``class_version + 1``, one ``upcast_vN_vM`` and a new stored sample under ``tests/contract/events``. The
topic table is an allow-list, so a row with any other topic in the store is refused, not imported.

Payloads are flat: text, whole numbers, UTC times, and lists or mappings of those where the fact is a list.
Money is integer minor units of ``currency``; shares are permyriad (1/10,000).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, ClassVar, NamedTuple, Self

EVENTS: dict[str, type[Event]] = {}


@dataclass(frozen=True, kw_only=True)
class Event:
    """A fact, as one aggregate's stream records it.

    It satisfies the ``eventsourcing`` library's ``CanMutateProtocol``: folding a stream is ``mutate`` in turn.
    """

    TOPIC: ClassVar[str] = ""
    class_version: ClassVar[int] = 1
    field_names: ClassVar[frozenset[str]] = frozenset()
    time_fields: ClassVar[tuple[str, ...]] = ()

    originator_id: str
    """The stream: category, hyphen, id."""
    originator_version: int
    """The place in the stream, from 1 without holes."""
    merchant_id: str
    """Whose ledger entry this is; no read or write crosses it."""
    actor: str
    """Who asked: the API key, consumer or job, never a person's name."""
    request_id: str
    """The caller's key of the request that caused this."""
    occurred_at: datetime
    """Business time in UTC: when it happened, which for imported history is not when it was stored."""

    def __init_subclass__(cls, topic: str = "", **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if not topic:  # what several events share
            return
        if topic in EVENTS:
            raise TypeError(f"topic {topic} is taken by {EVENTS[topic].__name__}")
        cls.TOPIC = topic
        EVENTS[topic] = cls

    @classmethod
    def made(cls, fields: dict[str, Any]) -> Self:
        """The event with exactly these fields, at a quarter of what the checks of a call cost."""
        event = object.__new__(cls)
        event.__dict__.update(fields)
        return event

    def mutate(self, aggregate: Any) -> Any:
        """Fold this event into the aggregate and return it.

        Raises ``ValueError`` when it is not the stream's next event: a hole or a foreign row is a broken store.
        """
        if self.originator_id != aggregate.id or self.originator_version != aggregate.version + 1:
            raise ValueError(
                f"{self.originator_id} v{self.originator_version} does not follow {aggregate.id} v{aggregate.version}"
            )
        self.apply(aggregate)
        aggregate.version = self.originator_version
        return aggregate

    def apply(self, aggregate: Any) -> None:
        """Change the aggregate's state as this fact says."""
        raise NotImplementedError


class Recorded(NamedTuple):
    """An event as the store holds it."""

    position: int
    """The place in the whole log, from 1 without holes."""
    recorded_at: datetime
    """When the store took it, by the database clock, in UTC."""
    event: Event


# --- templates --------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class TemplateCreated(Event, topic="template.created"):
    """Terms of an offer were defined. ``terms`` is ``Terms.to_payload()``; product lists live only here."""

    name: str
    terms: dict[str, Any]

    def apply(self, aggregate: Any) -> None:
        aggregate.merchant_id = self.merchant_id
        aggregate.name = self.name
        aggregate.terms = self.terms


@dataclass(frozen=True, kw_only=True)
class TemplateRevised(Event, topic="template.revised"):
    """The terms changed for batches to come; coupons already issued keep the version that they pinned."""

    name: str
    terms: dict[str, Any]

    def apply(self, aggregate: Any) -> None:
        aggregate.name = self.name
        aggregate.terms = self.terms


# --- batches ----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class BatchCreated(Event, topic="batch.created"):
    """One issue of coupons was planned: how many, to whom at most, when.

    Coupons are valid in ``[valid_from, valid_until)``, or from ``valid_delay_seconds`` after issue for
    ``valid_for_seconds``, or the part of the second that lies within the first where both are given.
    """

    template_id: str
    template_version: int
    name: str
    campaign: str
    quantity: int
    per_user_limit: int | None
    claim_from: datetime | None
    claim_until: datetime | None
    valid_from: datetime | None
    valid_until: datetime | None
    valid_delay_seconds: int
    valid_for_seconds: int | None

    def apply(self, aggregate: Any) -> None:
        aggregate.merchant_id = self.merchant_id
        aggregate.created = self
        aggregate.quantity = self.quantity
        aggregate.stored_state = "DRAFT"


@dataclass(frozen=True, kw_only=True)
class BatchStarted(Event, topic="batch.started"):
    """The batch began to issue."""

    def apply(self, aggregate: Any) -> None:
        aggregate.stored_state = "RUNNING"


@dataclass(frozen=True, kw_only=True)
class BatchPaused(Event, topic="batch.paused"):
    """The batch stopped issuing for a while; coupons already issued stay valid."""

    reason: str

    def apply(self, aggregate: Any) -> None:
        aggregate.stored_state = "PAUSED"


@dataclass(frozen=True, kw_only=True)
class BatchResumed(Event, topic="batch.resumed"):
    """A paused batch issues again."""

    def apply(self, aggregate: Any) -> None:
        aggregate.stored_state = "RUNNING"


@dataclass(frozen=True, kw_only=True)
class BatchStopped(Event, topic="batch.stopped"):
    """The batch issues no more, for good; coupons already issued stay valid."""

    reason: str

    def apply(self, aggregate: Any) -> None:
        aggregate.stored_state = "STOPPED"


@dataclass(frozen=True, kw_only=True)
class BatchQuantityChanged(Event, topic="batch.quantity_changed"):
    """The most that the batch may issue was changed by compare-and-set."""

    quantity_before: int
    quantity: int

    def apply(self, aggregate: Any) -> None:
        aggregate.quantity = self.quantity


# --- coupons ----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class CouponEvent(Event):
    """Says of which batch and whose the coupon is, so that a read model folds it without looking anything up."""

    batch_id: str
    user_id: str
    """The caller's opaque id; never a name, phone number or address."""


@dataclass(frozen=True, kw_only=True)
class CouponIssued(CouponEvent, topic="coupon.issued"):
    """A user got a coupon. The template's version is pinned: later revisions never touch this coupon."""

    template_id: str
    template_version: int
    channel: str
    """How it reached the user: ``issue``, ``claim``, or a caller's word for its own channel."""
    valid_from: datetime
    valid_until: datetime
    """Half-open: at this instant the coupon is expired."""

    def apply(self, aggregate: Any) -> None:
        aggregate.merchant_id = self.merchant_id
        aggregate.batch_id = self.batch_id
        aggregate.template_id = self.template_id
        aggregate.template_version = self.template_version
        aggregate.user_id = self.user_id
        aggregate.valid_from = self.valid_from
        aggregate.valid_until = self.valid_until
        aggregate.issued_request_id = self.request_id


@dataclass(frozen=True, kw_only=True)
class CouponLocked(CouponEvent, topic="coupon.locked"):
    """An order holds the coupon until ``lock_ends_at``, when the hold ends whether or not anybody writes it down."""

    order_id: str
    lock_id: str
    """The fencing token: who confirms or unlocks with another one is refused."""
    lock_ends_at: datetime
    order_total_minor: int | None
    quote_digest: str | None
    """Digest of the quote that the order system was shown, where it asked for one."""

    def apply(self, aggregate: Any) -> None:
        aggregate.order_id = self.order_id
        aggregate.lock_id = self.lock_id
        aggregate.lock_ends_at = self.lock_ends_at
        aggregate.locked_total_minor = self.order_total_minor


@dataclass(frozen=True, kw_only=True)
class CouponUnlocked(CouponEvent, topic="coupon.unlocked"):
    """The order let the coupon go, or the end of its hold was written down (``lock_ended``, ``voided``)."""

    order_id: str
    lock_id: str
    reason: str

    def apply(self, aggregate: Any) -> None:
        aggregate.order_id = aggregate.lock_id = aggregate.lock_ends_at = None


@dataclass(frozen=True, kw_only=True)
class CouponUsed(CouponEvent, topic="coupon.used"):
    """The order was paid and the coupon spent.

    ``merchant_funded_minor + platform_funded_minor == discount_minor`` and the allocation sums to it too, so a
    partial refund is computed from here and never from today's terms.
    """

    order_id: str
    lock_id: str
    redemption_id: str
    currency: str
    discount_minor: int
    merchant_funded_minor: int
    platform_funded_minor: int
    order_total_minor: int | None
    paid_minor: int | None
    allocation: list[dict[str, Any]]
    """``[{"line_id", "product_id", "discount_minor"}]``: the discount split over the order's lines."""

    def apply(self, aggregate: Any) -> None:
        aggregate.redemption_id = self.redemption_id
        aggregate.used_order_id = self.order_id
        aggregate.discount_minor = self.discount_minor
        aggregate.order_id = aggregate.lock_id = aggregate.lock_ends_at = None


@dataclass(frozen=True, kw_only=True)
class CouponReturned(CouponEvent, topic="coupon.returned"):
    """The order of a used coupon was undone. The template's return policy decided whether the coupon came back."""

    order_id: str
    redemption_id: str
    reason: str
    """``order_cancelled``, ``merchant_refund`` or ``buyer_refund``."""
    restored: bool
    """Whether the coupon can be used again (inside its validity)."""
    valid_until: datetime
    """The end of validity from now on, which a grace of the policy may have moved."""
    returned_minor: int
    """The discount given back."""
    lines: list[dict[str, Any]]
    """``[{"line_id", "discount_minor"}]``; empty when the whole order was undone."""

    def apply(self, aggregate: Any) -> None:
        aggregate.returned_redemption_id = self.redemption_id
        aggregate.valid_until = self.valid_until
        if self.restored:
            aggregate.redemption_id = aggregate.used_order_id = None
            aggregate.discount_minor = 0


@dataclass(frozen=True, kw_only=True)
class CouponExpired(CouponEvent, topic="coupon.expired"):
    """The end of validity was written down; it was true by the clock since ``valid_until``."""

    valid_until: datetime

    def apply(self, aggregate: Any) -> None:
        aggregate.expired = True


@dataclass(frozen=True, kw_only=True)
class CouponVoided(CouponEvent, topic="coupon.voided"):
    """The merchant withdrew this one coupon."""

    reason: str

    def apply(self, aggregate: Any) -> None:
        aggregate.voided = True
        aggregate.order_id = aggregate.lock_id = aggregate.lock_ends_at = None


for _event_class in EVENTS.values():
    _event_class.field_names = frozenset(f.name for f in fields(_event_class))
    # Decoding turns these from text into times.
    _event_class.time_fields = tuple(f.name for f in fields(_event_class) if "datetime" in str(f.type))

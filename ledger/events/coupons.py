"""Events of coupons."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar

from ledger.events.base import Event


@dataclass(frozen=True, kw_only=True)
class CouponEvent(Event):
    """Says of which batch and whose the coupon is, so that a read model folds it without looking anything up."""

    batch_id: str
    user_id: str
    """The caller's opaque id; never a name, phone number or address."""


@dataclass(frozen=True, kw_only=True)
class CouponIssued(CouponEvent, topic="coupon.issued"):
    """A user got a coupon. The template's version is pinned: later revisions never touch this coupon."""

    class_version: ClassVar[int] = 2

    template_id: str
    template_version: int
    channel: str
    """How it reached the user: ``issue``, ``claim``, or a caller's word for its own channel."""
    valid_from: datetime
    valid_until: datetime
    """Half-open: at this instant the coupon is expired."""
    facts: dict[str, Any]
    """What the asking system said of the user and the decision used (``Facts.to_payload()``), and what was given for
    it: ``points_receipt``, ``codes_id``."""

    @staticmethod
    def upcast_v1_v2(payload: dict[str, Any]) -> None:
        """Version 1 asked nothing of a user."""
        payload["facts"] = {}

    def apply(self, aggregate: Any) -> None:
        aggregate.merchant_id = self.merchant_id
        aggregate.batch_id = self.batch_id
        aggregate.template_id = self.template_id
        aggregate.template_version = self.template_version
        aggregate.user_id = self.user_id
        aggregate.valid_from = self.valid_from
        aggregate.valid_until = self.valid_until


@dataclass(frozen=True, kw_only=True)
class CouponLocked(CouponEvent, topic="coupon.locked"):
    """An order holds the coupon until ``lock_ends_at``, when the hold ends whether or not anybody writes it down."""

    class_version: ClassVar[int] = 4

    order_id: str
    lock_id: str
    """The fencing token: who confirms or unlocks with another one is refused."""
    lock_ends_at: datetime
    order_total_minor: int | None
    quote_digest: str | None
    """Digest of the quote that the order system was shown, where it asked for one."""
    holder_id: str
    """Who uses it: its owner, or a friend with whom it is shared."""
    discount_minor: int | None
    """What the ledger itself found it to be worth, where the lock came with a basket."""
    allocation: list[dict[str, Any]]
    """That discount by line, as in ``coupon.used``."""
    channel: str | None
    """How the basket is bought, ``online`` or ``in_store``, where the lock came with one."""
    lines_in_scope: list[dict[str, Any]]
    """``[{"line_id", "product_id", "amount_minor"}]``: the basket's lines in scope and what each costs, where the order
    system says what comes off them. Empty where the ledger found that itself, or saw no basket."""

    @staticmethod
    def upcast_v1_v2(payload: dict[str, Any]) -> None:
        """Version 1 knew no sharing and no baskets."""
        payload |= {"holder_id": payload["user_id"], "discount_minor": None, "allocation": []}

    @staticmethod
    def upcast_v2_v3(payload: dict[str, Any]) -> None:
        """Version 2 judged the channel of a basket and did not keep it."""
        payload["channel"] = None

    @staticmethod
    def upcast_v3_v4(payload: dict[str, Any]) -> None:
        """Version 3 kept no lines, so of its locks the basket's total alone bounds what an order system says."""
        payload["lines_in_scope"] = []

    def apply(self, aggregate: Any) -> None:
        aggregate.order_id = self.order_id
        aggregate.lock_id = self.lock_id
        aggregate.lock_ends_at = self.lock_ends_at
        aggregate.locked = self
        if aggregate.let_go_by != self.request_id:
            aggregate.held_since = self.occurred_at


@dataclass(frozen=True, kw_only=True)
class CouponLockExtended(CouponEvent, topic="coupon.lock_extended"):
    """The order that holds the coupon holds it longer, under the same lock."""

    order_id: str
    lock_id: str
    lock_ends_at: datetime

    def apply(self, aggregate: Any) -> None:
        aggregate.lock_ends_at = self.lock_ends_at


@dataclass(frozen=True, kw_only=True)
class CouponUnlocked(CouponEvent, topic="coupon.unlocked"):
    """The order let the coupon go, or the end of its hold was written down (``lock_ended``, ``voided``)."""

    order_id: str
    lock_id: str
    reason: str

    def apply(self, aggregate: Any) -> None:
        aggregate.order_id = aggregate.lock_id = aggregate.lock_ends_at = None
        aggregate.let_go_by = self.request_id if self.reason == "locked_again" else None


@dataclass(frozen=True, kw_only=True)
class CouponSpent(CouponEvent):
    """What a paid order took off with a coupon, whole or in part.

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
    holder_id: str
    """Who used it: its owner, or a friend with whom it is shared."""
    channel: str
    """``online`` or ``in_store``."""
    late: bool
    """Whether the lock had ended, and the terms let it count all the same."""


@dataclass(frozen=True, kw_only=True)
class CouponUsed(CouponSpent, topic="coupon.used"):
    """The order was paid and the coupon spent."""

    class_version: ClassVar[int] = 2

    @staticmethod
    def upcast_v1_v2(payload: dict[str, Any]) -> None:
        """Version 1 knew no sharing, no tills and no late confirmations."""
        payload |= {"holder_id": payload["user_id"], "channel": "online", "late": False}

    def apply(self, aggregate: Any) -> None:
        aggregate.redemption_id = self.redemption_id
        aggregate.used_order_id = self.order_id
        aggregate.discount_minor = self.discount_minor
        aggregate.used = self
        aggregate.returned_lines = {}
        aggregate.returned_by_reason = {}
        aggregate.returned_orders.discard(self.order_id)
        aggregate.order_id = aggregate.lock_id = aggregate.lock_ends_at = None


@dataclass(frozen=True, kw_only=True)
class CouponDebited(CouponSpent, topic="coupon.debited"):
    """A paid order spent a part of a voucher; the rest stays on it, so it is unused again."""

    balance_minor: int
    """What is left on it."""

    def apply(self, aggregate: Any) -> None:
        aggregate.debits[self.order_id] = self
        aggregate.balance_minor = self.balance_minor
        aggregate.returned_orders.discard(self.order_id)
        aggregate.order_id = aggregate.lock_id = aggregate.lock_ends_at = None


@dataclass(frozen=True, kw_only=True)
class CouponCredited(CouponEvent, topic="coupon.credited"):
    """An order that had spent a part of a voucher was undone, and that part is on it again."""

    order_id: str
    redemption_id: str
    reason: str
    credited_minor: int
    """What was put back: nothing, where the return policy keeps it."""
    balance_minor: int
    """What is on it now."""
    restored: bool
    """Whether that made a voucher unused again which a later order had used up. Where that order is not returned, its
    use is a part of the balance from now on."""
    lines: list[dict[str, Any]]
    """``[{"line_id", "discount_minor"}]``; empty when all that was left of the order's part was undone."""

    def apply(self, aggregate: Any) -> None:
        undone = aggregate.undone_lines.setdefault(self.order_id, {})
        for part in self.lines:
            undone[part["line_id"]] = undone.get(part["line_id"], 0) + part["discount_minor"]
        debit = aggregate.debits.get(self.order_id)
        if not self.lines or (debit is not None and sum(undone.values()) == debit.discount_minor):
            aggregate.debits.pop(self.order_id, None)
            del aggregate.undone_lines[self.order_id]
            aggregate.returned_orders.add(self.order_id)
        aggregate.balance_minor = self.balance_minor
        if self.restored:
            if not aggregate.returned_whole():
                aggregate.debits[aggregate.used_order_id] = aggregate.used
                aggregate.undone_lines[aggregate.used_order_id] = dict(aggregate.returned_lines)
            aggregate.redemption_id = aggregate.used_order_id = None
            aggregate.discount_minor = 0


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
    """The discount given back: nothing, where the return policy keeps the coupon used."""
    lines: list[dict[str, Any]]
    """``[{"line_id", "discount_minor"}]``; empty when the whole order was undone."""

    def apply(self, aggregate: Any) -> None:
        for part in self.lines:
            line_id = part["line_id"]
            aggregate.returned_lines[line_id] = aggregate.returned_lines.get(line_id, 0) + part["discount_minor"]
        by_reason = aggregate.returned_by_reason
        by_reason[self.reason] = by_reason.get(self.reason, 0) + self.returned_minor
        if not self.lines or sum(aggregate.returned_lines.values()) == aggregate.discount_minor:
            aggregate.returned_redemption_id = self.redemption_id
            aggregate.returned_orders.add(self.order_id)
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


@dataclass(frozen=True, kw_only=True)
class CouponExtended(CouponEvent, topic="coupon.extended"):
    """An unused coupon is valid for longer."""

    valid_until_before: datetime
    valid_until: datetime
    reason: str

    def apply(self, aggregate: Any) -> None:
        aggregate.valid_until = self.valid_until


@dataclass(frozen=True, kw_only=True)
class CouponTransferred(CouponEvent, topic="coupon.transferred"):
    """The owner, ``user_id``, gave the coupon to another user, whose it is from now on."""

    to_user_id: str

    def apply(self, aggregate: Any) -> None:
        aggregate.user_id = self.to_user_id
        aggregate.shared_with = ()


@dataclass(frozen=True, kw_only=True)
class CouponShared(CouponEvent, topic="coupon.shared"):
    """The owner lets these friends use the coupon too; the first to lock it holds it. Nobody, where empty."""

    with_user_ids: list[str]

    def apply(self, aggregate: Any) -> None:
        aggregate.shared_with = tuple(self.with_user_ids)

"""Events of batches."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar

from ledger.events.base import Event


@dataclass(frozen=True, kw_only=True)
class BatchCreated(Event, topic="batch.created"):
    """One issue of coupons was planned: how many, to whom at most, when.

    Coupons are valid in ``[valid_from, valid_until)``, or from ``valid_delay_seconds`` after issue for
    ``valid_for_seconds``, or the part of the second that lies within the first where both are given.
    """

    class_version: ClassVar[int] = 3

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
    time_zone: str
    """The merchant's IANA zone: where a day begins and ends."""
    ends_at_day_close: bool
    """Whether validity runs on to the close of the merchant's day."""
    per_day_limit: int | None
    """Coupons of this batch a day; likewise a user and a day, and a natural person."""
    per_user_day_limit: int | None
    per_person_limit: int | None
    budget_minor: int | None
    """What the issued coupons may be worth together, each at the most that it can take off."""
    audience: dict[str, Any]
    """``Audience.to_payload()``: who may get one."""
    needs_approval: bool
    """Whether a second person must approve it before it starts."""
    alerts: dict[str, Any]
    """``Alerts.to_payload()``: thresholds whose crossing is told."""

    def apply(self, aggregate: Any) -> None:
        aggregate.merchant_id = self.merchant_id
        aggregate.created = self
        aggregate.quantity = self.quantity
        aggregate.budget_minor = self.budget_minor
        aggregate.stored_state = "DRAFT"

    @staticmethod
    def upcast_v1_v2(payload: dict[str, Any]) -> None:
        """Version 2 knows more limits; batches of version 1 had none of them."""
        limits = ("per_day_limit", "per_user_day_limit", "per_person_limit", "budget_minor")
        payload |= dict.fromkeys(limits) | {
            "time_zone": "UTC",
            "ends_at_day_close": False,
            "audience": {},
            "needs_approval": False,
        }

    @staticmethod
    def upcast_v2_v3(payload: dict[str, Any]) -> None:
        """Version 3 knows alerts; batches of version 2 had none."""
        payload["alerts"] = {}


@dataclass(frozen=True, kw_only=True)
class BatchSubmitted(Event, topic="batch.submitted"):
    """The plan was put before a second person."""

    def apply(self, aggregate: Any) -> None:
        aggregate.stored_state = "IN_REVIEW"
        aggregate.submitted_by = self.actor


@dataclass(frozen=True, kw_only=True)
class BatchApproved(Event, topic="batch.approved"):
    """A second person agreed to the plan."""

    def apply(self, aggregate: Any) -> None:
        aggregate.stored_state = "APPROVED"


@dataclass(frozen=True, kw_only=True)
class BatchRejected(Event, topic="batch.rejected"):
    """The plan was sent back to be a draft: by a second person, or because what was approved was raised."""

    reason: str

    def apply(self, aggregate: Any) -> None:
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


@dataclass(frozen=True, kw_only=True)
class BatchBudgetChanged(Event, topic="batch.budget_changed"):
    """What the batch's coupons may be worth together was changed by compare-and-set."""

    budget_before_minor: int
    budget_minor: int

    def apply(self, aggregate: Any) -> None:
        aggregate.budget_minor = self.budget_minor

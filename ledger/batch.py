"""The batch: one issue of coupons, with its quantity, limits and windows.

The batch stream holds only its own life. Counting issued coupons is not its business: the stock guard in the
commit transaction holds promise 1 under any concurrency (design.md section 5).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ledger.aggregate import Aggregate
from ledger.errors import (
    BatchNotFound,
    BatchNotOpen,
    BatchStateConflict,
    InvalidField,
    InvalidPeriod,
    InvalidQuantity,
    QuantityConflict,
)
from ledger.events import (
    BatchCreated,
    BatchPaused,
    BatchQuantityChanged,
    BatchResumed,
    BatchStarted,
    BatchStopped,
)
from ledger.request import Request

QUANTITY_LIMIT = 1_000_000_000
DURATION_LIMIT_SECONDS = 10 * 366 * 86_400


@dataclass(frozen=True, kw_only=True)
class BatchPlan:
    """What a batch is planned to be; the fields are those of ``batch.created``."""

    name: str
    campaign: str = ""
    quantity: int
    per_user_limit: int | None = 1
    claim_from: datetime | None = None
    claim_until: datetime | None = None
    valid_from: datetime | None = None
    valid_until: datetime | None = None
    valid_delay_seconds: int = 0
    valid_for_seconds: int | None = None

    def __post_init__(self) -> None:
        check_quantity(self.quantity)
        if not 1 <= len(self.name) <= 200 or not self.name.isprintable():
            raise InvalidField("name has 1 to 200 printable characters", field="name")
        if len(self.campaign) > 200 or not self.campaign.isprintable():
            raise InvalidField("campaign has at most 200 printable characters", field="campaign")
        if self.per_user_limit is not None and not _whole(self.per_user_limit, 1, QUANTITY_LIMIT):
            raise InvalidQuantity("per_user_limit is a whole number from 1", field="per_user_limit")
        _check_period("claim", self.claim_from, self.claim_until)
        _check_period("valid", self.valid_from, self.valid_until)
        for name in ("claim_from", "claim_until", "valid_from", "valid_until"):
            if (moment := getattr(self, name)) is not None:
                object.__setattr__(self, name, moment.astimezone(UTC))
        if self.valid_until is None and self.valid_for_seconds is None:
            raise InvalidPeriod("a batch needs valid_until, valid_for_seconds or both", field="valid_until")
        if not _whole(self.valid_delay_seconds, 0, DURATION_LIMIT_SECONDS):
            raise InvalidPeriod("valid_delay_seconds is out of bounds", field="valid_delay_seconds")
        if self.valid_for_seconds is not None and not _whole(self.valid_for_seconds, 1, DURATION_LIMIT_SECONDS):
            raise InvalidPeriod("valid_for_seconds is out of bounds", field="valid_for_seconds")


class Batch(Aggregate):
    """One issue of coupons."""

    category = "batch"
    created: BatchCreated
    quantity: int
    stored_state: str
    _last_issuing: tuple[tuple[int, datetime], tuple[datetime, datetime]] | None = None

    def state_at(self, now: datetime) -> str:
        """DRAFT, RUNNING, PAUSED, STOPPED, or ENDED once the claim window is over by the clock."""
        until = self.created.claim_until
        if self.stored_state in ("RUNNING", "PAUSED") and until is not None and now >= until:
            return "ENDED"
        return self.stored_state

    def create(self, request: Request, now: datetime, plan: BatchPlan, template_id: str, template_version: int) -> None:
        """Plan the batch on one version of a template."""
        self.trigger(
            BatchCreated, request, now, template_id=template_id, template_version=template_version, **vars(plan)
        )

    def start(self, request: Request, now: datetime) -> None:
        """Begin to issue."""
        self._step(now, "DRAFT")
        self.trigger(BatchStarted, request, now)

    def pause(self, request: Request, now: datetime, reason: str) -> None:
        """Issue nothing for a while."""
        self._step(now, "RUNNING")
        self.trigger(BatchPaused, request, now, reason=reason)

    def resume(self, request: Request, now: datetime) -> None:
        """Issue again after a pause."""
        self._step(now, "PAUSED")
        self.trigger(BatchResumed, request, now)

    def stop(self, request: Request, now: datetime, reason: str) -> None:
        """End issuing for good."""
        self._step(now, "DRAFT", "RUNNING", "PAUSED", "ENDED")
        self.trigger(BatchStopped, request, now, reason=reason)

    def change_quantity(self, request: Request, now: datetime, *, expected: int, target: int) -> None:
        """Set the quantity if it is still the expected one; the guard refuses a target below what is issued."""
        self._step(now, "DRAFT", "RUNNING", "PAUSED")
        check_quantity(target)
        if self.quantity != expected:
            raise QuantityConflict(expected=expected, quantity=self.quantity)
        self.trigger(BatchQuantityChanged, request, now, quantity_before=self.quantity, quantity=target)

    def check_open(self, now: datetime) -> None:
        """Raise ``BatchNotOpen`` unless coupons may be issued now."""
        state = self.state_at(now)
        begins = self.created.claim_from
        if state != "RUNNING":
            raise BatchNotOpen(f"the batch is {state}", batch_id=self.key, state=state)
        if begins is not None and now < begins:
            raise BatchNotOpen("the claim window has not begun", batch_id=self.key, claim_from=begins.isoformat())

    def issuing_at(self, now: datetime) -> tuple[datetime, datetime]:
        """``[valid_from, valid_until)`` of a coupon issued now. Raises ``BatchNotOpen``.

        The last answer is kept: the messages of one poll happen at one instant.
        """
        asked, last = (self.version, now), self._last_issuing
        if last is None or last[0] != asked:
            self.check_open(now)
            last = self._last_issuing = (asked, self.validity_from(now))
        return last[1]

    def validity_from(self, issued_at: datetime) -> tuple[datetime, datetime]:
        """``[valid_from, valid_until)`` of a coupon issued now. Raises ``BatchNotOpen`` when nothing is left of it."""
        plan = self.created
        begin = issued_at + timedelta(seconds=plan.valid_delay_seconds)
        if plan.valid_from is not None:
            begin = max(begin, plan.valid_from) if plan.valid_for_seconds else plan.valid_from
        ends = [plan.valid_until] if plan.valid_until is not None else []
        if plan.valid_for_seconds is not None:
            ends.append(begin + timedelta(seconds=plan.valid_for_seconds))
        end = min(ends)
        if end <= max(begin, issued_at):
            raise BatchNotOpen("a coupon issued now would already be expired", batch_id=self.key)
        return begin, end

    def _step(self, now: datetime, *allowed: str) -> None:
        if not self.version:
            raise BatchNotFound(batch_id=self.key)
        state = self.state_at(now)
        if state not in allowed:
            raise BatchStateConflict(f"the batch is {state}", batch_id=self.key, state=state)


def check_quantity(quantity: int) -> None:
    """Raise ``InvalidQuantity`` unless it is a whole number from 1 to a thousand million."""
    if not _whole(quantity, 1, QUANTITY_LIMIT):
        raise InvalidQuantity(f"a quantity is a whole number from 1 to {QUANTITY_LIMIT}", field="quantity")


def _whole(value: int, least: int, most: int) -> bool:
    return type(value) is int and least <= value <= most


def _check_period(name: str, begin: datetime | None, end: datetime | None) -> None:
    for field, moment in ((f"{name}_from", begin), (f"{name}_until", end)):
        if moment is not None and (moment.tzinfo is None or not 1970 <= moment.year <= 9000):
            raise InvalidPeriod(f"{field} needs a time zone and a year from 1970 to 9000", field=field)
    if begin is not None and end is not None and begin >= end:
        raise InvalidPeriod(f"{name}_from must lie before {name}_until", field=f"{name}_until")

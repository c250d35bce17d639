"""The batch: one issue of coupons, with its quantity, limits and windows.

The batch stream holds only its own life. Counting issued coupons is not its business: the stock guard in the
commit transaction holds the quantity under any concurrency.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property

from ledger import events
from ledger.aggregate import Aggregate
from ledger.alerts import Alerts
from ledger.audience import Audience, Facts
from ledger.benefit import bounded, bounded_if_given
from ledger.calendar import day_close, zone
from ledger.errors import (
    BatchNotFound,
    BatchNotOpen,
    BatchStateConflict,
    BudgetConflict,
    InvalidField,
    InvalidPeriod,
    InvalidQuantity,
    NotInAudience,
    QuantityConflict,
    SelfApproval,
)
from ledger.request import Request

QUANTITY_LIMIT = 1_000_000_000
BUDGET_LIMIT_MINOR = 10**15
"""Below 2^53, so that every reader of JSON knows it exactly."""
DURATION_LIMIT_SECONDS = 10 * 366 * 86_400
LIMITS = ("per_user_limit", "per_day_limit", "per_user_day_limit", "per_person_limit")


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
    time_zone: str = "UTC"
    """The merchant's IANA zone: where days begin and end."""
    ends_at_day_close: bool = False
    """Validity runs on to the close of the merchant's day."""
    per_day_limit: int | None = None
    per_user_day_limit: int | None = None
    per_person_limit: int | None = None
    budget_minor: int | None = None
    """What the issued coupons may be worth together, each at the most that it can take off."""
    audience: Audience = field(default_factory=Audience)
    needs_approval: bool = False
    alerts: Alerts = field(default_factory=Alerts)

    def __post_init__(self) -> None:
        check_quantity(self.quantity)
        if not 1 <= len(self.name) <= 200 or not self.name.isprintable():
            raise InvalidField("name has 1 to 200 printable characters", field="name")
        if len(self.campaign) > 200 or not self.campaign.isprintable():
            raise InvalidField("campaign has at most 200 printable characters", field="campaign")
        for name in LIMITS:
            if getattr(self, name) is not None and not _whole(getattr(self, name), 1, QUANTITY_LIMIT):
                raise InvalidQuantity(f"{name} is a whole number from 1 to {QUANTITY_LIMIT}", field=name)
        bounded_if_given("budget_minor", self.budget_minor, 1, BUDGET_LIMIT_MINOR)
        self.alerts.check_budget(self.budget_minor)
        for name in ("ends_at_day_close", "needs_approval"):
            if type(getattr(self, name)) is not bool:
                raise InvalidField(f"{name} is true or false", field=name)
        self._check_times()

    def _check_times(self) -> None:
        zone(self.time_zone)
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
        if self.valid_delay_seconds and self.valid_from is not None and self.valid_for_seconds is None:
            raise InvalidPeriod("a validity that begins at valid_from has no delay", field="valid_delay_seconds")


class Batch(Aggregate):
    """One issue of coupons."""

    category = "batch"
    created: events.BatchCreated
    quantity: int
    budget_minor: int | None
    stored_state: str
    submitted_by: str
    """Who put it before a second person last."""
    _last_issuing: tuple[tuple[int, datetime], tuple[datetime, datetime]] | None = None

    def state_at(self, now: datetime) -> str:
        """DRAFT, IN_REVIEW, APPROVED, RUNNING, PAUSED, STOPPED, or ENDED once the claim window is over by the clock."""
        until = self.created.claim_until
        if self.stored_state in ("RUNNING", "PAUSED") and until is not None and now >= until:
            return "ENDED"
        return self.stored_state

    def create(self, request: Request, now: datetime, plan: BatchPlan, template_id: str, template_version: int) -> None:
        """Plan the batch on one version of a template."""
        self.trigger(
            events.BatchCreated,
            request,
            now,
            template_id=template_id,
            template_version=template_version,
            **vars(plan) | {"audience": plan.audience.to_payload(), "alerts": plan.alerts.to_payload()},
        )

    def submit(self, request: Request, now: datetime) -> None:
        """Put the plan before a second person."""
        self._step(now, "DRAFT")
        self.trigger(events.BatchSubmitted, request, now)

    def approve(self, request: Request, now: datetime) -> None:
        """Agree to the plan. Raises ``SelfApproval`` when the same actor planned or submitted it."""
        self._step(now, "IN_REVIEW")
        if request.actor in (self.created.actor, self.submitted_by):
            raise SelfApproval("who planned or submitted a batch cannot approve it", batch_id=self.key)
        self.trigger(events.BatchApproved, request, now)

    def reject(self, request: Request, now: datetime, reason: str) -> None:
        """Send the plan back to be a draft; who submitted it may do so too, to withdraw it."""
        self._step(now, "IN_REVIEW")
        self.trigger(events.BatchRejected, request, now, reason=reason)

    def start(self, request: Request, now: datetime) -> None:
        """Begin to issue. A plan that needs approval must have it."""
        if self.version and self.created.needs_approval:
            self._step(now, "APPROVED")
        else:
            self._step(now, "DRAFT", "APPROVED")
        self.trigger(events.BatchStarted, request, now)

    def pause(self, request: Request, now: datetime, reason: str) -> None:
        """Issue nothing for a while."""
        self._step(now, "RUNNING")
        self.trigger(events.BatchPaused, request, now, reason=reason)

    def resume(self, request: Request, now: datetime) -> None:
        """Issue again after a pause."""
        self._step(now, "PAUSED")
        self.trigger(events.BatchResumed, request, now)

    def stop(self, request: Request, now: datetime, reason: str) -> None:
        """End issuing for good."""
        self._step(now, "DRAFT", "IN_REVIEW", "APPROVED", "RUNNING", "PAUSED", "ENDED")
        self.trigger(events.BatchStopped, request, now, reason=reason)

    def change_quantity(self, request: Request, now: datetime, *, expected: int, target: int) -> None:
        """Set the quantity if it is still the expected one; the guard refuses a target below what is issued.

        Not while a second person reviews it, who must agree to what is there. What was approved and is raised goes
        back to be a draft, so that a second person agrees again; what runs is paused before that.
        """
        self._step(now, "DRAFT", "APPROVED", "RUNNING", "PAUSED")
        check_quantity(target)
        if self.quantity != expected:
            raise QuantityConflict(expected=expected, quantity=self.quantity)
        reviewed_again = target > expected and self._reviews_again()
        self.trigger(events.BatchQuantityChanged, request, now, quantity_before=self.quantity, quantity=target)
        if reviewed_again:
            self.trigger(events.BatchRejected, request, now, reason="the quantity was raised")

    def change_budget(self, request: Request, now: datetime, *, expected_minor: int, target_minor: int) -> None:
        """The same for the budget. A batch planned without one gets none later: what it issued was not counted."""
        self._step(now, "DRAFT", "APPROVED", "RUNNING", "PAUSED")
        bounded("target_minor", target_minor, 1, BUDGET_LIMIT_MINOR)
        before = self.budget_minor
        if before is None or before != expected_minor:
            raise BudgetConflict(expected_minor=expected_minor, budget_minor=before)
        reviewed_again = target_minor > before and self._reviews_again()
        self.trigger(events.BatchBudgetChanged, request, now, budget_before_minor=before, budget_minor=target_minor)
        if reviewed_again:
            self.trigger(events.BatchRejected, request, now, reason="the budget was raised")

    @cached_property
    def audience(self) -> Audience:
        """Who may get a coupon."""
        return Audience.from_payload(self.created.audience)

    @cached_property
    def facts_asked(self) -> frozenset[str]:
        """Names of the facts about a user that the audience or a limit needs, and that issuing records."""
        audience = self.audience
        asked = {
            "newcomer": audience.newcomers,
            "tier": bool(audience.tiers),
            "points": audience.min_points is not None,
            "tags": bool(audience.tags),
            "person": self.created.per_person_limit is not None,
        }
        return frozenset(name for name, needed in asked.items() if needed)

    @cached_property
    def counts_more_than_users(self) -> bool:
        """Whether other limits than a user's count what is issued: a person's or a day's."""
        return any(getattr(self.created, name) is not None for name in LIMITS[1:])

    def check_audience(self, user_id: str, facts: Facts) -> None:
        """Raise ``NotInAudience`` unless the batch is for this user; ``FactRequired`` when that cannot be judged."""
        if self._named_users and user_id not in self._named_users:
            raise NotInAudience(condition="users")
        if self.facts_asked:
            self._conditions.check(user_id, facts)

    @cached_property
    def _named_users(self) -> frozenset[str]:
        return frozenset(self.audience.users)

    @cached_property
    def _conditions(self) -> Audience:
        """The audience without its list, which is long and looked up as a set."""
        return replace(self.audience, users=())

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
        """``[valid_from, valid_until)`` of a coupon issued now. Raises ``BatchNotOpen`` when nothing is left of it.

        With ``ends_at_day_close`` the end, fixed or relative, moves to the close of its day in the merchant's zone.
        """
        plan = self.created
        begin = issued_at + timedelta(seconds=plan.valid_delay_seconds)
        if plan.valid_from is not None:
            begin = max(begin, plan.valid_from) if plan.valid_for_seconds else plan.valid_from
        ends = [plan.valid_until] if plan.valid_until is not None else []
        if plan.valid_for_seconds is not None:
            ends.append(begin + timedelta(seconds=plan.valid_for_seconds))
        end = min(ends)
        if plan.ends_at_day_close:
            end = day_close(end, plan.time_zone)
        if end <= max(begin, issued_at):
            raise BatchNotOpen("a coupon issued now would already be expired", batch_id=self.key)
        return begin, end

    def _reviews_again(self) -> bool:
        """Whether raising it takes an approval back. Raises ``BatchStateConflict`` while it issues by that approval."""
        if not self.created.needs_approval or self.stored_state == "DRAFT":
            return False
        if self.stored_state == "RUNNING":
            # Otherwise raising it would end the issuing of what was approved, which nobody asked for.
            why = "what is raised is reviewed again: pause it first"
            raise BatchStateConflict(why, batch_id=self.key, state="RUNNING")
        return True

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
    for bound, moment in ((f"{name}_from", begin), (f"{name}_until", end)):
        if moment is not None and (moment.tzinfo is None or not 1970 <= moment.year <= 9000):
            raise InvalidPeriod(f"{bound} needs a time zone and a year from 1970 to 9000", field=bound)
    if begin is not None and end is not None and begin >= end:
        raise InvalidPeriod(f"{name}_from must lie before {name}_until", field=f"{name}_until")

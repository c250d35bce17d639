"""One batch folded anew: its plan, its state, its limits, and what was issued of it."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from zoneinfo import ZoneInfo

from coupon_ledger_audit.broken import (
    I2,
    I3,
    I7,
    I17,
    SECOND,
    expect,
    moment,
    moment_if_given,
    whole,
    whole_if_given,
)
from coupon_ledger_audit.coupon_fold import EXPIRED, LOCKED, UNUSED, USED, VOIDED
from coupon_ledger_audit.spending import Event
from coupon_ledger_audit.terms import Terms, least

STATES = (UNUSED, LOCKED, USED, EXPIRED, VOIDED)
COUNTERS = ("issued", *STATES, "returned", "discount_minor", "returned_minor")
"""What a batch's totals count: coupons by stored state, returns, and money in minor units."""
DRAFT, IN_REVIEW, APPROVED, RUNNING, PAUSED, STOPPED = "draft", "in review", "approved", "running", "paused", "stopped"
_OPEN = (DRAFT, APPROVED, RUNNING, PAUSED)
STEPS: dict[str, dict[str, str]] = {
    "batch.submitted": {DRAFT: IN_REVIEW},
    "batch.approved": {IN_REVIEW: APPROVED},
    "batch.rejected": dict.fromkeys((IN_REVIEW, APPROVED, PAUSED), DRAFT),
    "batch.started": dict.fromkeys((DRAFT, APPROVED), RUNNING),
    "batch.paused": {RUNNING: PAUSED},
    "batch.resumed": {PAUSED: RUNNING},
    "batch.stopped": dict.fromkeys((DRAFT, IN_REVIEW, APPROVED, RUNNING, PAUSED), STOPPED),
    "batch.quantity_changed": {state: state for state in _OPEN},
    "batch.budget_changed": {state: state for state in _OPEN},
}
"""The state after each event, by the state before it."""
NOT_REVIEWED = "what was approved is raised, and not sent back to be approved again"

LONGEST_DAY = 32 * 3_600 * SECOND
"""In microseconds; the longest day of any zone since 1970 had 31 hours."""


class Batch:
    """A batch's state, limits and totals."""

    def __init__(self, event: Event) -> None:
        self.merchant_id: str = event["merchant_id"]
        self.template = (f"template-{event['template_id']}", event["template_version"])
        self.state = DRAFT
        self.needs_approval = event.get("needs_approval", False) is True
        self.planned_by: str = event["actor"]
        self.submitted_by: str | None = None
        self.raised = False
        """Whether what was approved was raised, and not yet sent back to be approved again."""
        self.claim_from, self.claim_until = (moment_if_given(event, name) for name in ("claim_from", "claim_until"))
        self.valid_from, self.valid_until = (moment_if_given(event, name) for name in ("valid_from", "valid_until"))
        self.valid_delay = whole(event, "valid_delay_seconds", I7) * SECOND
        seconds = whole_if_given(event, "valid_for_seconds", I7)
        self.valid_for = None if seconds is None else seconds * SECOND
        expect(self.valid_until is not None or self.valid_for is not None, I7, "a batch whose coupons never end")
        self.ends_at_day_close = event.get("ends_at_day_close", False) is True
        self.quantity = whole(event, "quantity", I2)
        self.budget_minor = whole_if_given({"budget_minor": None} | event, "budget_minor", I17)
        self.per_user_limit = event["per_user_limit"]
        self.per_person_limit = event.get("per_person_limit")
        self.per_day_limit = event.get("per_day_limit")
        self.per_user_day_limit = event.get("per_user_day_limit")
        self.time_zone: str = event.get("time_zone", "UTC")
        self.taken: Counter[str | tuple[str, ...]] = Counter()
        """What was issued to each user, person and day that a limit is about."""
        self.counts = dict.fromkeys(COUNTERS, 0)

    def apply(self, topic: str, event: Event, worth_minor: int | None) -> None:
        """Judge an event after the first, and change with it. ``worth_minor`` is the most that a coupon takes off."""
        expect(event["merchant_id"] == self.merchant_id, I2, "an event of another merchant than the batch's")
        steps = STEPS[topic]
        unapproved = topic == "batch.started" and self.needs_approval and self.state != APPROVED
        expect(self.state in steps and not unapproved, I2, f"{topic} of a batch that is {self.state}")
        before, self.state = self.state, steps[self.state]
        self._review(topic, event, before)
        if topic == "batch.quantity_changed":
            expect(event["quantity_before"] == self.quantity, I2, "the quantity before was another")
            known, self.quantity = self.quantity, whole(event, "quantity", I2)
            self._raise(self.quantity > known, before)
            expect(self.counts["issued"] <= self.quantity, I2, "a quantity below what is issued")
        elif topic == "batch.budget_changed":
            known = whole(event, "budget_before_minor", I17)
            expect(known == self.budget_minor, I17, "the budget before was another")
            self.budget_minor = whole(event, "budget_minor", I17)
            self._raise(self.budget_minor > known, before)
            taken = self.counts["issued"] * (worth_minor or 0)
            expect(taken <= self.budget_minor, I17, "a budget below what is issued")

    def _review(self, topic: str, event: Event, before: str) -> None:
        """What a second person must agree to."""
        if topic == "batch.submitted":
            self.submitted_by = event["actor"]
        elif topic == "batch.approved":
            own = event["actor"] in (self.planned_by, self.submitted_by)
            expect(not own, I2, "a batch is approved by who planned or submitted it")
        if topic == "batch.rejected":
            expect(self.raised or before == IN_REVIEW, I2, f"{topic} of a batch that is {before}, and was not raised")
            self.raised = False
        else:
            expect(not self.raised, I2, NOT_REVIEWED)

    def _raise(self, higher: bool, before: str) -> None:
        """A raise of what was approved, which is reviewed again."""
        if higher and self.needs_approval and before != DRAFT:
            expect(before != RUNNING, I2, "what runs by an approval is raised")
            self.raised = True

    def issue(self, event: Event, terms: Terms, unknown_zones: set[str]) -> None:
        """Count a coupon, which must be within every limit; zones without data are told to ``unknown_zones``."""
        expect(self.state == RUNNING, I2, f"a coupon of a batch that is {self.state}")
        at = moment(event["occurred_at"])
        begun = self.claim_from is None or at >= self.claim_from
        expect(begun and (self.claim_until is None or at < self.claim_until), I2, "a coupon outside the claim window")
        self._check_validity(event, at)
        counts = self.counts
        counts["issued"] += 1
        counts[UNUSED] += 1
        expect(counts["issued"] <= self.quantity, I2, f"coupon {counts['issued']} of a quantity of {self.quantity}")
        if self.budget_minor is not None and terms.worth_minor is not None:
            taken = counts["issued"] * terms.worth_minor
            expect(taken <= self.budget_minor, I17, f"coupons worth {taken} of a budget of {self.budget_minor}")
        user_id = event["user_id"]
        self._take(self.per_user_limit, user_id, "a user")
        if self.per_person_limit is not None:
            self._take(self.per_person_limit, ("person", event["facts"]["person"]), "a person")
        if self.per_day_limit is not None or self.per_user_day_limit is not None:
            try:
                zone = ZoneInfo(self.time_zone)
            except (KeyError, OSError):  # not found, or the name of a folder of zones
                unknown_zones.add(self.time_zone)
            else:
                day = str(datetime.fromisoformat(event["occurred_at"]).astimezone(zone).date())
                self._take(self.per_day_limit, ("day", day), "a day")
                self._take(self.per_user_day_limit, ("day", day, user_id), "a user's day")

    def _check_validity(self, event: Event, at: int) -> None:
        """A coupon of that moment is valid as the batch planned it."""
        begin = at + self.valid_delay
        if self.valid_from is not None:
            begin = self.valid_from if self.valid_for is None else max(begin, self.valid_from)
        relative = None if self.valid_for is None else begin + self.valid_for
        end = least(self.valid_until, relative)
        assert end is not None
        valid_until = moment(event["valid_until"])
        expect(
            moment(event["valid_from"]) == begin, I7, "the coupon's validity begins otherwise than its batch planned"
        )
        # When a day ends there is known by the data of zones of the time when the coupon was issued, not by the log.
        planned = end <= valid_until < end + LONGEST_DAY if self.ends_at_day_close else valid_until == end
        expect(planned, I7, "the coupon's validity ends otherwise than its batch planned")
        expect(valid_until > max(begin, at), I7, "a coupon that is over when it is issued")

    def _take(self, most: int | None, owner: str | tuple[str, ...], named: str) -> None:
        if most is None:
            return
        self.taken[owner] += 1
        taken = self.taken[owner]
        expect(taken <= most, I3, f"{named} gets {taken} coupons of a batch that allows {most}")

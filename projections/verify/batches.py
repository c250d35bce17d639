"""A batch as its stream says: its plan, by which coupons of it are judged, and what they take of it."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from datetime import UTC, datetime, timedelta, tzinfo

from ledger.calendar import zone
from ledger.errors import InvalidField
from projections.verify.report import Broken
from projections.verify.rows import Payload, true, whole, whole_if_given
from projections.verify.terms import Terms

LONGEST_DAY = timedelta(hours=32)
"""Before so long a day's close comes: the longest day of any zone since 1970 had 31 hours. When exactly is not judged:
the rules of a zone change, and those by which the coupon was issued may not be this machine's."""


class Supply:
    """A most that changes now and then, and what was taken of it between the changes."""

    def __init__(self) -> None:
        self.since: list[int] = []
        self.mosts: list[int] = []
        self.taken: list[int] = []
        self.last = 0
        """Position of the last event that counts."""

    def set(self, position: int, most: int) -> None:
        """From this position on."""
        self.since.append(position)
        self.mosts.append(most)
        self.taken.append(0)
        self.last = max(self.last, position)

    def take(self, position: int, amount: int) -> None:
        """At this position, which may come in any order."""
        self.taken[max(0, bisect_right(self.since, position) - 1) if len(self.since) > 1 else 0] += amount
        self.last = max(self.last, position)

    @property
    def total(self) -> int:
        """All that was taken."""
        return sum(self.taken)

    def first_excess(self) -> tuple[int, int] | None:
        """(Most, position of the change after it or the log's end as 0) of the first time when too much was taken."""
        total = 0
        for index, (most, taken) in enumerate(zip(self.mosts, self.taken, strict=True)):
            total += taken
            if total > most:
                return most, self.since[index + 1] if index + 1 < len(self.since) else 0
        return None


class Batch:
    """One batch. Raises ``ValueError`` and the like for a plan that is none."""

    __slots__ = (
        "_begins", "_delay", "_lasts", "_to_day_close", "_until",
        "budget", "claim_from", "claim_until", "day_zone", "id", "issued", "limits", "merchant_id", "needs_approval",
        "planned_by", "quantity", "raised_at", "running", "states", "submitted_by", "template", "terms",
    )  # fmt: skip

    def __init__(self, created: Payload, terms: Terms | None, position: int) -> None:
        self.id: str = created["originator_id"].removeprefix("batch-")
        self.merchant_id: str = created["merchant_id"]
        self.template: tuple[str, int] = (created["template_id"], whole(created, "template_version"))
        self.terms = terms
        self.quantity, self.budget = Supply(), Supply()
        self.quantity.set(position, whole(created, "quantity"))
        if created["budget_minor"] is not None:
            self.budget.set(position, whole(created, "budget_minor"))
        self.limits = (
            whole_if_given(created, "per_user_limit"),
            whole_if_given(created, "per_user_day_limit"),
            whole_if_given(created, "per_day_limit"),
            whole_if_given(created, "per_person_limit"),
        )
        self.day_zone = _zone(created["time_zone"])
        self.claim_from, self.claim_until = _moment(created["claim_from"]), _moment(created["claim_until"])
        self._begins, self._until = _moment(created["valid_from"]), _moment(created["valid_until"])
        self._delay = timedelta(seconds=whole(created, "valid_delay_seconds"))
        lasts = whole_if_given(created, "valid_for_seconds")
        self._lasts = None if lasts is None else timedelta(seconds=lasts)
        if self._lasts is None and self._until is None:
            raise ValueError("no end of validity is planned")
        self._to_day_close = true(created, "ends_at_day_close")
        self.needs_approval = true(created, "needs_approval")
        self.planned_by: str = created["actor"]
        self.submitted_by = ""
        self.raised_at: int | None = None
        """Where what was approved was raised, until it is sent back to be approved again."""
        self.running: list[int] = []
        """Positions from which on it runs, does not run, runs again, and so on."""
        self.states: Counter[str] = Counter()
        """Its coupons, by the state that their own events say."""
        self.issued = 0

    def runs_at(self, position: int) -> bool:
        """Whether it issued at that position."""
        return bisect_right(self.running, position) % 2 == 1

    def check_validity(self, at: datetime, valid_from: datetime, valid_until: datetime) -> None:
        """Raise ``Broken`` unless a coupon issued at that moment is valid in that time."""
        begin = at + self._delay
        if self._begins is not None and (self._lasts is None or begin < self._begins):
            begin = self._begins
        end = self._until
        if self._lasts is not None and (end is None or begin + self._lasts < end):
            end = begin + self._lasts
        assert end is not None
        ends = end <= valid_until < end + LONGEST_DAY if self._to_day_close else valid_until == end
        if valid_from != begin or not ends or valid_until <= max(begin, at):
            planned = f"a coupon that is valid in [{begin.isoformat()}, {end.isoformat()}), as planned"
            if self._to_day_close:
                planned += ", and to the close of that day"
            raise Broken("I7", planned, f"in [{valid_from.isoformat()}, {valid_until.isoformat()})")

    def check_step(self, topic: str, event: Payload, before: str) -> None:
        """Raise ``Broken`` for a step that only a second person's approval allows."""
        if self.raised_at is not None and topic != "batch.rejected":
            raise Broken("plans", "that what was raised is sent back to be approved again", topic)
        if topic == "batch.submitted":
            self.submitted_by = event["actor"]
        elif topic == "batch.approved" and event["actor"] in (self.planned_by, self.submitted_by):
            raise Broken("plans", "an approval by somebody who neither planned nor submitted it", f"{event['actor']!r}")
        elif topic == "batch.rejected":
            if before != "IN_REVIEW" and self.raised_at is None:
                raise Broken("plans", "a rejection in review, or of what was raised", f"from {before}")
            self.raised_at = None
        elif topic == "batch.started" and before == "DRAFT" and self.needs_approval:
            raise Broken("plans", "a start after the approval that the plan needs", f"from {before}")

    def check_change(self, name: str, event: Payload, before: str, position: int) -> None:
        """Take in another quantity or budget. Raises ``Broken`` unless it was known and may be changed so."""
        supply = self.quantity if name == "quantity" else self.budget
        old, new = ("quantity_before", name) if name == "quantity" else ("budget_before_minor", "budget_minor")
        known, most = supply.mosts[-1] if supply.mosts else None, whole(event, new)
        supply.set(position, most)
        if known is None or known != whole(event, old):
            raise Broken("plans", f"a change from {known}", f"from {event[old]}")
        if most > known and self.needs_approval and before != "DRAFT":
            if before == "RUNNING":
                raise Broken("plans", "no raise of what runs by an approval", f"from {known} to {most}")
            self.raised_at = position


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    found = datetime.fromisoformat(text)
    if found.tzinfo is None:
        raise ValueError(f"the time {text} has no zone")
    return found


def _zone(name: str) -> tzinfo:
    try:
        return UTC if name == "UTC" else zone(name)
    except InvalidField as error:
        raise ValueError(f"{name!r}: {error.detail}") from None

"""What the ledger should answer of offers and batches: its rules again, said as plainly as can be."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

VALUE = 500
"""What each coupon takes off at most, in minor units; what a voucher has on it."""
GRACE = timedelta(days=1)
LOCK_TTL = timedelta(seconds=30)
SHANGHAI = timedelta(hours=8)
"""Ahead of UTC, the whole year: the merchant's days begin at 16:00 UTC."""


class Refused(Exception):
    """The codes of the refusals that are due. Where several rules say no, the ledger may name any."""

    def __init__(self, *codes: str) -> None:
        super().__init__(*codes)
        self.codes = set(codes)


@dataclass(frozen=True)
class Offer:
    """Terms, as far as they decide what may be done with a coupon."""

    returns: dict[str, str]
    voucher: bool = False
    alone: bool = False
    late: bool = False
    given_away: bool = False
    shared: bool = False
    points: bool = False
    """Whether it is exchanged for points, of which there is a receipt."""
    live_locks: int | None = None


OFFERS = {
    "strict": Offer(
        {"order_cancelled": "restore", "merchant_refund": "restore", "buyer_refund": "keep_used"}, alone=True
    ),
    "generous": Offer(
        {
            "order_cancelled": "restore_with_grace",
            "merchant_refund": "keep_used",
            "buyer_refund": "restore_with_grace",
        },
        late=True,
        given_away=True,
        shared=True,
    ),
    "voucher": Offer(
        {"order_cancelled": "restore", "merchant_refund": "restore_with_grace", "buyer_refund": "keep_used"},
        voucher=True,
        late=True,
        shared=True,
    ),
    "for points": Offer(
        {"order_cancelled": "restore", "merchant_refund": "restore", "buyer_refund": "keep_used"},
        shared=True,
        points=True,
        live_locks=1,
    ),
}


@dataclass(frozen=True)
class Given:
    """What comes with a wish for a coupon."""

    person: str | None = None
    tier: str | None = None
    receipt: str | None = None
    receipts: set[str] = field(default_factory=set)
    """The merchant's receipts of points that were exchanged before."""


NOTHING = Given()


@dataclass(frozen=True)
class Limits:
    """The most coupons, for everything that is counted."""

    user: int | None = None
    day: int | None = None
    user_day: int | None = None
    person: int | None = None


@dataclass
class BatchModel:
    id: str
    offer: Offer
    quantity: int
    limits: Limits
    budget: int | None
    claim_until: datetime | None
    delay: timedelta
    lasting: timedelta
    reviewed: bool
    tiers: tuple[str, ...] = ()
    """Whose members alone it is for; anybody, where empty."""
    stored: str = "DRAFT"
    planned_by: str = "test"
    submitted_by: str = ""
    issued: Counter[str] = field(default_factory=Counter)
    days: Counter[date] = field(default_factory=Counter)
    user_days: Counter[tuple[date, str]] = field(default_factory=Counter)
    persons: Counter[str] = field(default_factory=Counter)
    codes: dict[int, str | None] = field(default_factory=dict)
    """Its codes by number, and who exchanged each."""

    def state(self, now: datetime) -> str:
        over = self.claim_until is not None and now >= self.claim_until
        return "ENDED" if over and self.stored in ("RUNNING", "PAUSED") else self.stored

    def step(self, now: datetime, to: str, *allowed: str) -> None:
        if self.state(now) not in allowed:
            raise Refused("batch_state_conflict")
        self.stored = to

    def submit(self, now: datetime, actor: str) -> None:
        self.step(now, "IN_REVIEW", "DRAFT")
        self.submitted_by = actor

    def approve(self, now: datetime, actor: str) -> None:
        if self.stored == "IN_REVIEW" and actor in (self.planned_by, self.submitted_by):
            raise Refused("self_approval")
        self.step(now, "APPROVED", "IN_REVIEW")

    def start(self, now: datetime) -> None:
        self.step(now, "RUNNING", *(["APPROVED"] if self.reviewed else ["DRAFT", "APPROVED"]))

    def _check_open_to_change(self, now: datetime) -> None:
        if self.state(now) not in ("DRAFT", "APPROVED", "RUNNING", "PAUSED"):
            raise Refused("batch_state_conflict")

    def _review_again(self) -> None:
        """What was approved and is raised must be approved again."""
        if self.reviewed and self.stored == "RUNNING":
            raise Refused("batch_state_conflict")
        if self.reviewed:
            self.stored = "DRAFT"

    def change_quantity(self, now: datetime, expected: int, target: int) -> None:
        self._check_open_to_change(now)
        if expected != self.quantity or target < self.issued.total():
            raise Refused("quantity_conflict")
        if target > self.quantity:
            self._review_again()
        self.quantity = target

    def change_budget(self, now: datetime, expected: int, target: int) -> None:
        self._check_open_to_change(now)
        if self.budget is None or expected != self.budget or target < self.issued.total() * VALUE:
            raise Refused("budget_conflict")
        if target > self.budget:
            self._review_again()
        self.budget = target

    def exchange(self, now: datetime, number: int, user_id: str, given: Given) -> None:
        if (by := self.codes[number]) is not None:
            raise Refused("code_used" if by == user_id else "code_not_found")
        self.issue(now, [user_id], given)
        self.codes[number] = user_id

    def issue(self, now: datetime, user_ids: list[str], given: Given = NOTHING) -> None:
        if self.state(now) != "RUNNING":
            raise Refused("batch_not_open")
        if self.tiers and given.tier not in self.tiers:
            raise Refused("fact_required" if given.tier is None else "not_in_audience")
        person = given.person
        if self.limits.person is not None and person is None:
            raise Refused("fact_required")
        if self.offer.points != (given.receipt is not None):
            raise Refused("fact_required" if self.offer.points else "invalid_field")
        today, asked = (now + SHANGHAI).date(), Counter(user_ids)
        number = self.issued.total() + len(user_ids)

        def beyond(most: int | None, *counts: int) -> bool:
            return most is not None and max(counts) > most

        reasons = {
            "user_limit_reached": beyond(self.limits.user, *(self.issued[user] + n for user, n in asked.items())),
            "day_limit_reached": beyond(self.limits.day, self.days[today] + len(user_ids)),
            "user_day_limit_reached": beyond(
                self.limits.user_day, *(self.user_days[today, user] + n for user, n in asked.items())
            ),
            "person_limit_reached": beyond(self.limits.person, self.persons[person or ""] + len(user_ids)),
            "points_receipt_used": self.offer.points and given.receipt in given.receipts,
            "sold_out": beyond(self.quantity, number),
            "budget_spent": beyond(self.budget, number * VALUE),
        }
        if due := [code for code, says_no in reasons.items() if says_no]:
            raise Refused(*due)
        self.issued += asked
        self.days[today] += len(user_ids)
        for user, count in asked.items():
            self.user_days[today, user] += count
        if self.limits.person is not None:
            self.persons[person or ""] += len(user_ids)
        if self.offer.points and given.receipt is not None:
            given.receipts.add(given.receipt)

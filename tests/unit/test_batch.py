"""The batch decides: its stories in memory, its plan's bounds, and its state by the clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from ledger.audience import Facts
from ledger.batch import DURATION_LIMIT_SECONDS, Batch, BatchPlan
from ledger.errors import BatchNotFound, InvalidField, InvalidPeriod, InvalidQuantity, LedgerError, NotInAudience
from ledger.request import Request
from ledger.work import fold
from tests.unit.batch_stories import (
    APPROVED,
    BATCH_STORIES,
    DRAFT,
    ENDED,
    PAUSED,
    REJECTED,
    RUNNING,
    STOPPED,
    SUBMITTED,
    WINDOWED,
)
from tests.unit.specs import INSTANT, T0, Fact, MemoryBackend, Story, after, bind, numbered, running_batch

STORIES = [
    pytest.param(story, id=f"{kind}: {story.name}")
    for kind, stories in BATCH_STORIES.items()
    for story in stories
    if kind != "template"
]


@pytest.mark.parametrize("story", STORIES)
def test_story(story: Story) -> None:
    story.tell(MemoryBackend())


def batch_after(*facts: Fact) -> Batch:
    events = [event for event in numbered(bind(facts, "")) if event.originator_id == "batch-b"]
    return fold(Batch("batch-b"), events)


@pytest.mark.parametrize(
    ("facts", "at", "state"),
    [
        (DRAFT, T0, "DRAFT"),
        (RUNNING, after(10_000), "RUNNING"),
        (PAUSED, T0, "PAUSED"),
        ([*ENDED[:2], SUBMITTED], T0, "IN_REVIEW"),
        ([*ENDED[:2], SUBMITTED, APPROVED], T0, "APPROVED"),
        ([*ENDED[:2], SUBMITTED, REJECTED], T0, "DRAFT"),
        (STOPPED, T0, "STOPPED"),
        (WINDOWED, T0, "RUNNING"),
        (WINDOWED, after(2) - INSTANT, "RUNNING"),
        (WINDOWED, after(2), "ENDED"),
        (ENDED, T0 - INSTANT, "RUNNING"),
        (ENDED, T0, "ENDED"),
    ],
)
def test_state_is_derived_from_the_clock(facts: list[Fact], at: datetime, state: str) -> None:
    assert batch_after(*facts).state_at(at) == state


def test_a_batch_that_was_never_planned_refuses_every_step() -> None:
    request = Request("merchant-1", "test", "request-1")
    batch = Batch("batch-b")
    for step in (
        lambda: batch.submit(request, T0),
        lambda: batch.approve(request, T0),
        lambda: batch.reject(request, T0, "r"),
        lambda: batch.change_budget(request, T0, expected_minor=1, target_minor=2),
        lambda: batch.start(request, T0),
        lambda: batch.pause(request, T0, "r"),
        lambda: batch.resume(request, T0),
        lambda: batch.stop(request, T0, "r"),
        lambda: batch.change_quantity(request, T0, expected=1, target=2),
    ):
        with pytest.raises(BatchNotFound):
            step()
    assert batch.collect_events() == []


NAIVE = datetime(2026, 1, 1)
YEAR_9001 = T0.replace(year=9001)


@pytest.mark.parametrize(
    ("field", "value", "refusal"),
    [
        ("quantity", 0, InvalidQuantity),
        ("quantity", -1, InvalidQuantity),
        ("quantity", 1_000_000_001, InvalidQuantity),
        ("quantity", 1.0, InvalidQuantity),
        ("quantity", True, InvalidQuantity),
        ("quantity", "1", InvalidQuantity),
        ("per_user_limit", 0, InvalidQuantity),
        ("per_user_limit", 1_000_000_001, InvalidQuantity),
        ("per_user_limit", 1.5, InvalidQuantity),
        ("per_user_limit", True, InvalidQuantity),
        ("name", "", InvalidField),
        ("name", "n" * 201, InvalidField),
        ("name", "a\x00b", InvalidField),
        ("campaign", "c" * 201, InvalidField),
        ("campaign", "a\nb", InvalidField),
        ("claim_from", NAIVE, InvalidPeriod),
        ("claim_until", YEAR_9001, InvalidPeriod),
        ("valid_from", T0.replace(year=1969), InvalidPeriod),
        ("valid_until", NAIVE, InvalidPeriod),
        ("valid_for_seconds", None, InvalidPeriod),
        ("valid_for_seconds", 0, InvalidPeriod),
        ("valid_for_seconds", 1.5, InvalidPeriod),
        ("valid_for_seconds", DURATION_LIMIT_SECONDS + 1, InvalidPeriod),
        ("valid_delay_seconds", -1, InvalidPeriod),
        ("valid_delay_seconds", 0.5, InvalidPeriod),
        ("valid_delay_seconds", DURATION_LIMIT_SECONDS + 1, InvalidPeriod),
        ("per_day_limit", 0, InvalidQuantity),
        ("per_day_limit", 1.5, InvalidQuantity),
        ("per_user_day_limit", 1_000_000_001, InvalidQuantity),
        ("per_person_limit", True, InvalidQuantity),
        ("budget_minor", 0, InvalidField),
        ("budget_minor", 10**15 + 1, InvalidField),
        ("budget_minor", 1.5, InvalidField),
        ("time_zone", "Mars/Olympus", InvalidField),
        ("time_zone", "", InvalidField),
        ("ends_at_day_close", 1, InvalidField),
        ("needs_approval", "yes", InvalidField),
    ],
)
def test_a_plan_has_bounds(field: str, value: Any, refusal: type[LedgerError]) -> None:
    plan = {"name": "Batch", "quantity": 1, "valid_for_seconds": 60, field: value}
    with pytest.raises(refusal) as caught:
        BatchPlan(**plan)
    assert caught.value.facts["field"]


@pytest.mark.parametrize("window", ["claim", "valid"])
@pytest.mark.parametrize("length", [timedelta(0), -INSTANT])
def test_a_window_is_not_empty(window: str, length: timedelta) -> None:
    with pytest.raises(InvalidPeriod):
        BatchPlan(
            name="Batch", quantity=1, valid_for_seconds=1, **{f"{window}_from": T0, f"{window}_until": T0 + length}
        )


def test_a_plan_at_its_bounds() -> None:
    plan = BatchPlan(
        name="n" * 200,
        campaign="c" * 200,
        quantity=1_000_000_000,
        per_user_limit=1_000_000_000,
        per_day_limit=1_000_000_000,
        per_user_day_limit=1,
        per_person_limit=1_000_000_000,
        budget_minor=10**15,
        time_zone="Asia/Shanghai",
        claim_from=T0,
        claim_until=T0 + INSTANT,
        valid_until=T0.replace(year=9000),
        valid_for_seconds=DURATION_LIMIT_SECONDS,
        valid_delay_seconds=DURATION_LIMIT_SECONDS,
    )
    assert plan.quantity == 1_000_000_000


def test_a_delay_is_of_a_relative_validity() -> None:
    """A validity that begins at ``valid_from`` has none, and a delay that nobody looks at is not passed over."""
    fixed = {"name": "n", "quantity": 1, "valid_from": T0, "valid_until": T0 + timedelta(days=1)}
    with pytest.raises(InvalidPeriod) as caught:
        BatchPlan(**fixed, valid_delay_seconds=1)
    assert caught.value.facts["field"] == "valid_delay_seconds"
    assert BatchPlan(**fixed, valid_delay_seconds=1, valid_for_seconds=60).valid_delay_seconds == 1


def test_a_plans_times_are_kept_in_utc() -> None:
    there = T0.astimezone(timezone(timedelta(hours=8)))
    plan = BatchPlan(name="n", quantity=1, claim_from=there, valid_until=there + timedelta(days=1))
    assert str(plan.claim_from) == "2026-01-01 00:00:00+00:00"
    assert str(plan.valid_until) == "2026-01-02 00:00:00+00:00"


@pytest.mark.parametrize(
    ("time_zone", "issued_at", "lasting", "until"),
    [
        ("Europe/Berlin", "2026-03-28T12:00", 86_400, "2026-03-29T22:00"),  # the next day has 23 hours
        ("Europe/Berlin", "2026-10-24T12:00", 86_400, "2026-10-25T23:00"),  # and here 25
        ("Asia/Shanghai", "2028-02-28T12:00", 86_400, "2028-02-29T16:00"),
        ("Asia/Shanghai", "2027-02-27T12:00", 86_400, "2027-02-28T16:00"),
        ("America/Sao_Paulo", "2018-11-02T12:00", 86_400, "2018-11-04T03:00"),  # the midnight that was skipped
        ("Pacific/Apia", "2011-12-29T09:00", 86_400, "2011-12-30T10:00"),  # the day that was skipped
    ],
)
def test_validity_runs_on_to_the_close_of_the_merchants_day(
    time_zone: str, issued_at: str, lasting: int, until: str
) -> None:
    plan = {"ends_at_day_close": True, "time_zone": time_zone, "valid_for_seconds": lasting}
    batch = batch_after(*running_batch(**plan))
    begin = datetime.fromisoformat(issued_at).replace(tzinfo=UTC)
    assert batch.issuing_at(begin) == (begin, datetime.fromisoformat(until).replace(tzinfo=UTC))


def test_an_audience_of_fifty_thousand_is_looked_up_as_a_set() -> None:
    users = [f"user-{n}" for n in range(50_000)]
    batch = batch_after(*running_batch(audience={"users": users, "tiers": ["gold"]}))
    for user_id in users:
        batch.check_audience(user_id, Facts(tier="gold"))
    with pytest.raises(NotInAudience):
        batch.check_audience("user-50000", Facts(tier="gold"))
    assert batch.facts_asked == {"tier"}

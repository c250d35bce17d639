"""A refusal is explained from the log: it is refused for real, then other things happen, then somebody asks why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ledger import errors, use_cases
from ledger.application import Ledger
from ledger.audience import Audience, Facts
from ledger.commit import Unit, commit_group
from ledger.coupon import Redemption
from ledger.errors import Refusal
from ledger.events import BatchStopped, CouponVoided, Event
from ledger.history import explaining
from ledger.history.explaining import Explanation, explain
from ledger.history.moment import Cut, moment
from ledger.work import Work
from projections.runner import Runner
from projections.timelines import user_streams
from tests.clock import clock
from tests.conftest import Shop
from tests.postgres.test_use_cases import STORIES, PostgresBackend
from tests.postgres.tools import picture
from tests.unit.specs import TERMS, Command, Outcome, Story

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def why(ledger: Ledger, work: Work, cut: Cut, limit: int | None = None) -> Explanation:
    """The explanation, which must leave no trace."""

    def streams_of(user_id: str) -> Sequence[str]:
        return user_streams(connection, work.request.merchant_id, user_id, cut.position)

    with ledger.store.connection() as connection:
        return explain(ledger.store, connection, work, cut, streams_of, limit)


# --- every story of the domain ------------------------------------------------------------------------


class ExplainedBackend(PostgresBackend):
    """Performs as the other does; then the world goes on, and the log is asked what it would have said."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(ledger)
        self._given: list[Event] = []

    def given(self, events: Sequence[Event]) -> None:
        super().given(events)
        self._given = list(events)

    def perform(self, command: Command) -> Outcome:
        store, work = self._ledger.store, command.work()
        cut = Cut(store.now(), store.head())
        try:
            done = super().perform(command)
        except Refusal as refusal:
            self._go_on()
            found = why(self._ledger, work, cut)
            assert found.refusal is not None
            told, expected = found.refusal, refusal
            assert (told.code(), told.detail, told.facts) == (expected.code(), expected.detail, expected.facts)
            own = {each.event.merchant_id for each in found.because}
            assert own <= {command.merchant_id}
            assert all(each.position <= cut.position for each in found.because)
            assert found.answer is None
            raise
        found = why(self._ledger, work, cut)
        assert found.refusal is None
        assert (found.answer or done[0].answer) == done[0].answer
        if done[1]:  # what wrote no event is known as a repeat already at the position that it found
            assert (found.replayed_position, found.unknown) == (None, [])
        return done

    def _go_on(self) -> None:
        """Whatever was given is over now: coupons are voided, batches stopped."""
        last = {event.originator_id: event for event in self._given}
        over: list[Event] = []
        for stream, event in last.items():
            next_one = {
                name: getattr(event, name) for name in ("merchant_id", "actor", "request_id", "occurred_at")
            } | {"originator_id": stream, "originator_version": event.originator_version + 1, "reason": "over"}
            if stream.startswith("coupon-"):
                whose: Any = event
                over.append(CouponVoided(**next_one, batch_id=whose.batch_id, user_id=whose.user_id))
            elif stream.startswith("batch-"):
                over.append(BatchStopped(**next_one))
        if over:
            with self._ledger.store.connection() as connection:
                [verdict] = commit_group(self._ledger.store, connection, [Unit(over)])
            assert verdict.word == "done"


@pytest.mark.parametrize("story", STORIES)
def test_each_story_is_explained_as_it_was_told(story: Story, shared_ledger: Ledger) -> None:
    story.tell(ExplainedBackend(shared_ledger))


# --- guards, which are counted again from the events ------------------------------------------------------


def claim(shop: Shop, batch_id: str, user_id: str = "user-1", at: datetime | None = None, **given: Any) -> Work:
    return use_cases.claim(shop.request(at=at), batch_id, user_id, **given)


def refused(shop: Shop, work: Work, kind: type[Refusal], after: Sequence[Work] = ()) -> Explanation:
    """It is refused for real; then the rest happens; then it is explained, by the moment and by the position."""
    ledger = shop.ledger
    with pytest.raises(kind) as caught:
        ledger.do(work)
    at, position = clock(ledger), ledger.store.head()
    for each in after:
        ledger.do(each)
    Runner(ledger.store.database).catch_up()
    before = picture(ledger.store.database)
    with ledger.store.connection() as connection:
        then = moment(connection, at=at)
    assert then.known.position == position
    found = why(ledger, work, Cut(then.at, then.known.position), 1_000)
    assert type(found.refusal) is kind
    assert (found.refusal.detail, found.refusal.facts) == (caught.value.detail, caught.value.facts)
    assert found.unknown == []
    assert picture(ledger.store.database) == before
    return found


def topics(found: Explanation) -> list[str]:
    return [each.event.TOPIC for each in found.because]


def test_sold_out_though_there_is_more_now(shop: Shop) -> None:
    batch_id = shop.batch(quantity=2, per_user_limit=None)
    for _ in range(2):
        shop.ledger.do(claim(shop, batch_id))
    more = use_cases.change_quantity(shop.request(), batch_id, expected=2, target=5)
    found = refused(shop, claim(shop, batch_id), errors.SoldOut, [more, claim(shop, batch_id)])
    assert topics(found) == ["batch.created", "coupon.issued", "coupon.issued"]
    assert found.terms[0]["template_version"] == 1


def test_a_budget_that_was_spent(shop: Shop) -> None:
    batch_id = shop.batch(budget_minor=1_000, per_user_limit=None)
    for _ in range(2):
        shop.ledger.do(claim(shop, batch_id))
    more = use_cases.change_budget(shop.request(), batch_id, expected_minor=1_000, target_minor=2_000)
    refused(shop, claim(shop, batch_id), errors.BudgetSpent, [more])


@pytest.mark.parametrize(
    ("plan", "kind", "given"),
    [
        ({"per_user_limit": 2}, errors.UserLimitReached, {}),
        ({"per_user_day_limit": 2, "per_user_limit": None}, errors.UserDayLimitReached, {"at": NOON}),
        ({"per_day_limit": 2, "per_user_limit": None}, errors.DayLimitReached, {"at": NOON}),
        ({"per_person_limit": 2, "per_user_limit": None}, errors.PersonLimitReached, {"facts": Facts(person="p")}),
    ],
)
def test_a_limit_that_was_reached(plan: dict[str, Any], kind: type[Refusal], given: dict[str, Any], shop: Shop) -> None:
    batch_id = shop.batch(time_zone="Asia/Shanghai", **plan)
    for _ in range(2):
        shop.ledger.do(claim(shop, batch_id, **given))
    if "at" in given:  # before midnight of the batch's zone, which is a day of its own
        yesterday = given["at"].replace(hour=15) - timedelta(days=1)
        shop.ledger.do(claim(shop, batch_id, at=yesterday))
    stopped = use_cases.stop_batch(shop.request(), batch_id, reason="over")
    found = refused(shop, claim(shop, batch_id, **given), kind, [stopped])
    assert topics(found) == ["batch.created", "coupon.issued", "coupon.issued"]
    assert why(shop.ledger, claim(shop, batch_id, "user-1", **given), Cut(shop.ledger.store.now(), 3)).refusal is None


def test_a_receipt_that_was_used(shop: Shop) -> None:
    batch_id = shop.batch(terms=replace(TERMS, points_price=10), per_user_limit=None)
    shop.ledger.do(claim(shop, batch_id, points_receipt="r"))
    refused(shop, claim(shop, batch_id, "user-2", points_receipt="r"), errors.PointsReceiptUsed)
    other = shop.batch(terms=replace(TERMS, points_price=10), per_user_limit=None)
    cut = Cut(shop.ledger.store.now(), shop.ledger.store.head())
    found = why(shop.ledger, claim(shop, other, points_receipt="r"), cut)
    assert (found.refusal, len(found.unknown)) == (None, 1), "used for a coupon of another batch: when, nothing tells"
    assert why(shop.ledger, claim(shop, other, points_receipt="s"), cut).unknown == []


def test_claims_that_the_batch_refused(shop: Shop) -> None:
    paused = shop.batch(per_user_limit=None)
    shop.ledger.do(use_cases.pause_batch(shop.request(), paused, reason="stock"))
    resumed = use_cases.resume_batch(shop.request(), paused)
    found = refused(shop, claim(shop, paused), errors.BatchNotOpen, [resumed])
    assert topics(found) == ["batch.created", "batch.paused"]
    listed = shop.batch(audience=Audience(users=("user-2",)))
    assert topics(refused(shop, claim(shop, listed), errors.NotInAudience)) == ["batch.created"]
    tiered = shop.batch(audience=Audience(tiers=("gold",)))
    refused(shop, claim(shop, tiered), errors.FactRequired)
    assert topics(refused(shop, claim(shop, "nowhere"), errors.BatchNotFound)) == []


def test_a_lock_too_many_at_once(shop: Shop) -> None:
    batch_id = shop.batch(
        terms=replace(TERMS, live_locks_per_user=1, shareable=True, stacking_mode="stackable"), per_user_limit=None
    )
    mine, other, friends = (shop.coupon(user, batch_id) for user in ("user-1", "user-1", "user-2"))
    share = use_cases.share(shop.request(), friends, user_id="user-2", with_user_ids=["user-1"])
    shop.ledger.do(share)

    def lock(coupon_id: str, order_id: str) -> Work:
        return use_cases.lock(shop.request(), order_id, user_id="user-1", coupon_ids=[coupon_id])

    shop.ledger.do(lock(friends, "order-1"))
    held = shop.ledger.store.head()
    unlock = use_cases.unlock(shop.request(), "order-1", coupon_ids=[friends], reason="left")
    found = refused(shop, lock(mine, "order-2"), errors.LockLimitReached, [unlock, lock(other, "order-3")])
    assert held in [each.position for each in found.because]
    two = use_cases.lock(shop.request(), "order-4", user_id="user-1", coupon_ids=[mine, other])
    shop.ledger.do(use_cases.unlock(shop.request(), "order-3", coupon_ids=[other], reason="left"))
    refused(shop, two, errors.LockLimitReached)


def test_a_limit_that_needs_the_wallets_is_not_judged_without_them(shop: Shop) -> None:
    batch_id = shop.batch(terms=replace(TERMS, live_locks_per_user=1), per_user_limit=None)
    coupon_id = shop.coupon(batch_id=batch_id)
    work = use_cases.lock(shop.request(), "order-1", user_id="user-1", coupon_ids=[coupon_id])
    cut = Cut(shop.ledger.store.now(), shop.ledger.store.head())
    with pytest.raises(errors.NotCaughtUp):
        why(shop.ledger, work, cut)
    Runner(shop.ledger.store.database).catch_up()
    assert why(shop.ledger, work, cut).refusal is None


def test_a_lock_whose_end_the_clock_made(shop: Shop) -> None:
    """Confirmed too late; meanwhile another order holds the coupon. The clock of then decides, not that of now."""
    coupon_id = shop.coupon()
    lock = use_cases.lock(shop.request(), "order-1", user_id="user-1", coupon_ids=[coupon_id], ttl_seconds=60)
    shop.ledger.do(lock)
    position = shop.ledger.store.head()
    redemption = Redemption(coupon_id=coupon_id, discount_minor=5)
    confirm = use_cases.confirm(shop.request(), "order-1", [redemption])
    at = shop.ledger.store.now()
    late = why(shop.ledger, confirm, Cut(at + timedelta(seconds=61), position))
    assert isinstance(late.refusal, errors.LockExpired)
    assert topics(late) == ["coupon.locked"]
    assert why(shop.ledger, confirm, Cut(at, position)).refusal is None


def test_what_another_merchant_has_is_not_shown(shop: Shop) -> None:
    coupon_id, batch_id = shop.coupon(), shop.batch()
    stranger = Shop(shop.ledger, "merchant-2")
    cut = Cut(shop.ledger.store.now(), shop.ledger.store.head())
    lock = use_cases.lock(stranger.request(), "order-1", user_id="user-1", coupon_ids=[coupon_id])
    for work, kind in ((lock, errors.CouponNotFound), (claim(stranger, batch_id), errors.BatchNotFound)):
        found = why(shop.ledger, work, cut)
        assert type(found.refusal) is kind
        assert (found.because, found.terms) == ([], [])


def test_a_repeat_is_never_refused(shop: Shop) -> None:
    batch_id = shop.batch(quantity=1)
    work = claim(shop, batch_id)
    receipt = shop.ledger.do(work)
    before = Cut(shop.ledger.store.now(), receipt.position - 1)
    assert why(shop.ledger, work, before).replayed_position is None
    found = why(shop.ledger, work, replace(before, position=receipt.position))
    assert (found.refusal, found.replayed_position, found.answer) == (None, receipt.position, receipt.answer)


def test_a_batch_too_large_to_be_counted_is_named(shop: Shop) -> None:
    batch_id = shop.batch(quantity=3, per_user_limit=None)
    for _ in range(3):
        shop.ledger.do(claim(shop, batch_id))
    cut = Cut(shop.ledger.store.now(), shop.ledger.store.head())
    found = why(shop.ledger, claim(shop, batch_id), cut, 2)
    assert found.refusal is None
    assert batch_id in found.unknown[0]
    assert isinstance(why(shop.ledger, claim(shop, batch_id), cut, 3).refusal, errors.SoldOut)


def test_each_refusal_of_the_table_is_a_refusal() -> None:
    assert all(issubclass(kind, Refusal) for kind in explaining.DECISIVE)

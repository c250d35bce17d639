"""The stories of the aggregates again, through the use cases on PostgreSQL; and what only guards can promise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from ledger import use_cases
from ledger.application import Ledger
from ledger.commit import Unit, commit_group
from ledger.coupon import Redemption
from ledger.errors import (
    CouponLocked,
    IdempotencyKeyReused,
    LedgerError,
    QuantityConflict,
    Refusal,
    SoldOut,
    UserLimitReached,
)
from ledger.events import BatchCreated, CouponIssued, CouponSpent, Event
from ledger.limits import uses_key
from ledger.scope import Scope
from ledger.work import Receipt
from tests.conftest import Shop
from tests.postgres.tools import assert_guards_equal_events, at_once, picture, whole_log
from tests.unit.batch_stories import BATCH_STORIES
from tests.unit.coupon_stories import COUPON_STORIES
from tests.unit.specs import TERMS, Command, Outcome, Story

STORIES = [
    pytest.param(story, id=f"{kind}: {story.name}")
    for table in (COUPON_STORIES, BATCH_STORIES)
    for kind, stories in table.items()
    for story in stories
]


class PostgresBackend:
    """Facts are written to the log with the guards that they imply; commands go through the ledger, twice."""

    _numbers = count(1)

    def __init__(self, ledger: Ledger) -> None:
        self.tag = f"-{next(self._numbers)}"
        self._ledger = ledger

    def given(self, events: Sequence[Event]) -> None:
        """One unit, as if one request had caused it all."""
        plans = [event for event in events if isinstance(event, BatchCreated)]
        unit = Unit(events, supply={plan.originator_id.removeprefix("batch-"): plan.quantity for plan in plans})
        uses = Counter(uses_key(each.merchant_id, each.order_id) for each in events if isinstance(each, CouponSpent))
        unit.quota |= {key: (number, number) for key, number in uses.items()}
        with self._ledger.store.connection() as connection:
            verdicts = commit_group(self._ledger.store, connection, [unit] if events else [])
        assert {verdict.word for verdict in verdicts} <= {"done"}

    def perform(self, command: Command) -> Outcome:
        """The first time it has its effect or is refused without a trace; the second time it has neither."""
        store, head = self._ledger.store, self._ledger.store.head()
        try:
            receipt = self._ledger.do(command.work())
        except Refusal:
            assert store.head() == head
            raise
        with store.connection() as connection:
            recorded = list(store.read(connection, head, 10_000))
        again = self._ledger.do(command.work())
        assert (again.answer, again.replayed) == (receipt.answer or again.answer, True)
        assert store.head() == head + len(recorded)
        assert receipt.position == head + len(recorded)
        return replace(receipt, answer=again.answer), [entry.event for entry in recorded]


@pytest.fixture
def backend(shared_ledger: Ledger) -> PostgresBackend:
    return PostgresBackend(shared_ledger)


@pytest.mark.parametrize("story", STORIES)
def test_story(story: Story, backend: PostgresBackend) -> None:
    story.tell(backend)


# --- totals and limits -------------------------------------------------------------------------------


def tally(results: Sequence[Any]) -> Counter[str]:
    """How often each refusal came, and how many were granted."""
    return Counter(type(result).__name__ if isinstance(result, LedgerError) else "granted" for result in results)


def owners(ledger: Ledger) -> Counter[str]:
    """How many coupons each user got, by the log."""
    return Counter(entry.event.user_id for entry in whole_log(ledger.store) if isinstance(entry.event, CouponIssued))


def test_one_coupon_and_64_who_want_it(ledger: Ledger, shop: Shop) -> None:
    batch_id = shop.batch(quantity=1)
    results = at_once(64, lambda n: ledger.do(use_cases.claim(shop.request(f"claim-{n}"), batch_id, f"user-{n}")))
    assert tally(results) == {"granted": 1, "SoldOut": 63}
    assert sum(owners(ledger).values()) == 1
    assert_guards_equal_events(ledger.store.database)


def test_500_coupons_three_a_user_and_250_users_who_ask_too_often(ledger: Ledger, shop: Shop) -> None:
    batch_id = shop.batch(quantity=500, per_user_limit=3)

    def ask(thread: int) -> Counter[str]:
        mine: list[Any] = []
        for n in range(thread, 250 * 4, 64):
            request = shop.request(f"claim-{n}")
            try:
                mine.append(ledger.do(use_cases.claim(request, batch_id, f"user-{n % 250}")))
            except Refusal as refusal:
                mine.append(refusal)
        return tally(mine)

    total: Counter[str] = Counter()
    for result in at_once(64, ask):
        assert isinstance(result, Counter), result
        total += result
    got = owners(ledger)
    assert sum(got.values()) == total["granted"] == 500
    assert max(got.values()) <= 3
    assert set(total) <= {"granted", "SoldOut", "UserLimitReached"}
    assert_guards_equal_events(ledger.store.database)


def test_a_user_asks_64_times_at_once(ledger: Ledger, shop: Shop) -> None:
    batch_id = shop.batch(quantity=500, per_user_limit=3)
    results = at_once(64, lambda n: ledger.do(use_cases.claim(shop.request(f"claim-{n}"), batch_id, "user-1")))
    assert tally(results) == {"granted": 3, "UserLimitReached": 61}


def test_an_issue_is_all_or_none(ledger: Ledger, shop: Shop) -> None:
    batch_id = shop.batch(quantity=3, per_user_limit=2)
    before = picture(ledger.store.database)
    for user_ids, refusal in ((["a", "b", "c", "d"], SoldOut), (["a", "a", "a"], UserLimitReached)):
        with pytest.raises(refusal):
            ledger.do(use_cases.issue(shop.request(), batch_id, user_ids))
    assert picture(ledger.store.database) == before
    assert len(ledger.do(use_cases.issue(shop.request(), batch_id, ["a", "b", "a"])).answer["coupons"]) == 3


def test_a_quantity_never_falls_below_what_is_issued(ledger: Ledger, shop: Shop) -> None:
    batch_id = shop.batch(quantity=10, per_user_limit=None)
    ledger.do(use_cases.issue(shop.request(), batch_id, ["u"] * 5))
    before = picture(ledger.store.database)
    with pytest.raises(QuantityConflict, match="already issued"):
        ledger.do(use_cases.change_quantity(shop.request(), batch_id, expected=10, target=4))
    assert picture(ledger.store.database) == before
    ledger.do(use_cases.change_quantity(shop.request(), batch_id, expected=10, target=5))
    with pytest.raises(SoldOut):
        ledger.do(use_cases.claim(shop.request(), batch_id, "u"))
    ledger.do(use_cases.change_quantity(shop.request(), batch_id, expected=5, target=6))
    ledger.do(use_cases.claim(shop.request(), batch_id, "u"))
    assert_guards_equal_events(ledger.store.database)


def test_claims_and_changes_of_the_quantity_at_once(ledger: Ledger, shop: Shop) -> None:
    batch_id = shop.batch(quantity=40, per_user_limit=None)

    def ask(n: int) -> Receipt:
        if n % 8 == 0:
            return ledger.do(use_cases.change_quantity(shop.request(f"q-{n}"), batch_id, expected=40, target=20 + n))
        return ledger.do(use_cases.claim(shop.request(f"c-{n}"), batch_id, "u"))

    results = at_once(64, ask)
    assert not [error for error in results if isinstance(error, LedgerError) and not isinstance(error, Refusal)]
    assert_guards_equal_events(ledger.store.database)


# --- repeats ------------------------------------------------------------------------------------------


def test_the_same_request_from_64_threads(ledger: Ledger, shop: Shop) -> None:
    batch_id = shop.batch(per_user_limit=None)
    claim = use_cases.claim(shop.request("same"), batch_id, "user-1")
    claimed = [result for result in at_once(64, lambda _: ledger.do(claim)) if isinstance(result, Receipt)]
    lock = use_cases.lock(
        shop.request("lock"), "order-1", user_id="user-1", coupon_ids=[claimed[0].answer["coupon_id"]]
    )
    locked = [result for result in at_once(64, lambda _: ledger.do(lock)) if isinstance(result, Receipt)]
    for receipts in (claimed, locked):
        assert len(receipts) == 64
        assert len({str(receipt.answer) for receipt in receipts}) == 1
        assert len({receipt.position for receipt in receipts}) == 1
        assert sum(not receipt.replayed for receipt in receipts) == 1
    assert [entry.event.TOPIC for entry in whole_log(ledger.store)][-2:] == ["coupon.issued", "coupon.locked"]
    assert owners(ledger) == {"user-1": 1}


def test_the_same_message_from_64_threads(ledger: Ledger, shop: Shop) -> None:
    batch_id = shop.batch(per_user_limit=None)
    work = use_cases.issue_by_message(shop.request("same"), batch_id, "user-1", channel="c")
    results = at_once(64, lambda _: ledger.do(work))
    assert tally(results) == {"granted": 64}
    assert owners(ledger) == {"user-1": 1}


def test_another_body_under_the_same_key_is_refused_for_good(ledger: Ledger, shop: Shop) -> None:
    batch_id = shop.batch(per_user_limit=None)
    first = ledger.do(use_cases.claim(shop.request("key", body_hash="a"), batch_id, "user-1"))
    before = picture(ledger.store.database)
    others = at_once(16, lambda n: ledger.do(use_cases.claim(shop.request("key", body_hash="b"), batch_id, f"u{n}")))
    assert tally(others) == {"IdempotencyKeyReused": 16}
    assert picture(ledger.store.database) == before
    assert ledger.do(use_cases.claim(shop.request("key", body_hash="a"), batch_id, "user-1")).answer == first.answer


def test_the_same_key_of_two_merchants_is_two_requests(ledger: Ledger, shop: Shop) -> None:
    other = Shop(ledger, "merchant-2")
    ours, theirs = shop.batch(), other.batch()
    answers = [
        ledger.do(use_cases.claim(owner.request("key"), batch_id, "user-1")).answer["coupon_id"]
        for owner, batch_id in ((shop, ours), (other, theirs))
    ]
    assert len(set(answers)) == 2


def test_a_refused_request_is_decided_afresh(ledger: Ledger, shop: Shop) -> None:
    batch_id = shop.batch(start=False)
    claim = use_cases.claim(shop.request("claim"), batch_id, "user-1")
    with pytest.raises(Refusal):
        ledger.do(claim)
    ledger.do(use_cases.start_batch(shop.request(), batch_id))
    assert ledger.do(claim).replayed is False


def test_a_repeat_finds_its_answer_though_the_world_moved_on(ledger: Ledger, shop: Shop) -> None:
    batch_id = shop.batch(quantity=1)
    claim = use_cases.claim(shop.request("claim"), batch_id, "user-1")
    message = use_cases.issue_by_message(shop.request("claim"), batch_id, "user-1", channel="c")
    first = ledger.do(claim)
    ledger.do(use_cases.void(shop.request(), first.answer["coupon_id"], reason="fraud"))
    ledger.do(use_cases.stop_batch(shop.request(), batch_id, reason="over"))
    again = ledger.do(claim)
    assert (again.answer, again.position, again.replayed) == (first.answer, first.position, True)
    with pytest.raises(IdempotencyKeyReused):
        ledger.do(replace(message, request=shop.request("claim", body_hash="other")))


# --- coupons of one order ------------------------------------------------------------------------------


def test_coupons_of_an_order_move_together_or_not_at_all(ledger: Ledger, shop: Shop) -> None:
    batch_id = shop.batch(per_user_limit=None)
    ids = [shop.coupon(batch_id=batch_id) for _ in range(3)]
    ledger.do(use_cases.lock(shop.request(), "order-2", user_id="user-1", coupon_ids=ids[2:]))
    before = picture(ledger.store.database)
    with pytest.raises(CouponLocked):
        ledger.do(use_cases.lock(shop.request(), "order-1", user_id="user-1", coupon_ids=ids))
    with pytest.raises(Refusal):
        ledger.do(
            use_cases.confirm(shop.request(), "order-2", [Redemption(coupon_id=i, discount_minor=1) for i in ids])
        )
    assert picture(ledger.store.database) == before


def test_orders_in_a_ring_all_come_to_an_end(ledger: Ledger, shop: Shop) -> None:
    batch_id = shop.batch(per_user_limit=None)
    ids = [shop.coupon(batch_id=batch_id) for _ in range(8)]

    def ask(n: int) -> Receipt:
        three = [ids[(n + step) % 8] for step in (0, 3, 6)]
        return ledger.do(use_cases.lock(shop.request(f"lock-{n}"), f"order-{n}", user_id="user-1", coupon_ids=three))

    results = at_once(32, ask)
    assert set(tally(results)) <= {"granted", "CouponLocked"}
    held = Counter(
        lock["coupon_id"] for receipt in results if isinstance(receipt, Receipt) for lock in receipt.answer["locks"]
    )
    assert 1 <= tally(results)["granted"] <= 2
    assert max(held.values()) == 1


# --- texts ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["na\u00efve \U0001f600 \u7528\u6237", "'; drop table events; --", '{"\\u0000": "\\"}', "%s {0}"]
)
def test_ids_of_callers_come_back_as_they_were(text: str, ledger: Ledger, shop: Shop) -> None:
    batch_id = shop.batch(per_user_limit=2)
    coupon_id = ledger.do(use_cases.claim(shop.request(), batch_id, text)).answer["coupon_id"]
    lock = use_cases.lock(shop.request(), text, user_id=text, coupon_ids=[coupon_id], quote_digest=text)
    assert ledger.do(lock).answer["order_id"] == text
    issued, locked = (entry.event for entry in ledger.store.history(f"coupon-{coupon_id}"))
    assert (issued.user_id, locked.order_id, locked.quote_digest) == (text, text, text)  # type: ignore[attr-defined]
    assert_guards_equal_events(ledger.store.database)


@pytest.mark.parametrize("text", ["a\u2028b", "line\nfeed", "\u202e", "\ufeff", "\ufffe"])
def test_keys_and_digests_come_back_as_they_were(text: str, ledger: Ledger, shop: Shop) -> None:
    request = replace(shop.request(), request_id=text, actor=text)
    claim = use_cases.claim(request, shop.batch(), "user-1", channel=text)
    coupon_id = ledger.do(claim).answer["coupon_id"]
    assert ledger.do(claim).replayed
    event: Any = ledger.store.history(f"coupon-{coupon_id}")[0].event
    assert (event.channel, event.actor, event.request_id) == (text, text, text)
    with ledger.store.connection() as connection:
        query = "select payload->>'channel' as channel from event_log where stream = %s"
        assert connection.execute(query, (f"coupon-{coupon_id}",)).fetchone() == {"channel": text}


def test_terms_of_fifty_thousand_products(ledger: Ledger, shop: Shop) -> None:
    products = tuple(f"product-{n:08}" for n in range(50_000))
    batch_id = shop.batch(terms=replace(TERMS, scope=Scope(products=products)))
    coupon_id = shop.coupon(batch_id=batch_id)
    ledger.do(use_cases.lock(shop.request(), "order-1", user_id="user-1", coupon_ids=[coupon_id]))
    template: Any = whole_log(ledger.store)[0].event
    assert template.terms["scope"]["products"] == list(products)

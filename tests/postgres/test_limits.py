"""Limits under any concurrency: of a day, a user and day, a person, a budget, a receipt; and the second person."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import psycopg
import pytest

from ledger import limits, use_cases
from ledger.application import Ledger
from ledger.audience import Facts
from ledger.benefit import Benefit
from ledger.calendar import local_day
from ledger.errors import (
    BudgetConflict,
    BudgetSpent,
    DayLimitReached,
    LedgerError,
    PersonLimitReached,
    PointsReceiptUsed,
    Refusal,
    SelfApproval,
    SoldOut,
    UserDayLimitReached,
    UserLimitReached,
)
from ledger.events import BatchCreated, CouponIssued, TemplateCreated
from ledger.terms import Terms
from ledger.work import Receipt
from tests.conftest import Shop
from tests.postgres.tools import at_once, picture, whole_log, writers_blocked
from tests.unit.specs import TERMS

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
CALLERS = 24


def tally(results: list[Any]) -> Counter[str]:
    return Counter(type(result).__name__ if isinstance(result, LedgerError) else "granted" for result in results)


def assert_guards_hold_what_the_log_says(ledger: Ledger) -> None:
    """Every row of stock and of quotas, counted again from the events and the plans that they were decided on."""
    terms: dict[str, Terms] = {}
    plans: dict[str, BatchCreated] = {}
    stock: Counter[str] = Counter()
    quota: Counter[tuple[str, str]] = Counter()
    for event in (entry.event for entry in whole_log(ledger.store)):
        key = event.originator_id.partition("-")[2]
        if isinstance(event, TemplateCreated):
            terms[key] = Terms.from_payload(event.terms)
        elif isinstance(event, BatchCreated):
            plans[key] = event
            stock[key] += 0
            if event.budget_minor is not None:
                stock[limits.budget_key(key)] += 0
        elif isinstance(event, CouponIssued):
            plan, batch = plans[event.batch_id], event.batch_id
            day = local_day(event.occurred_at, plan.time_zone)
            stock[batch] += 1
            if plan.budget_minor is not None:
                stock[limits.budget_key(batch)] += terms[plan.template_id].benefit.worth_minor or 0
            owners = {
                event.user_id: plan.per_user_limit,
                limits.person_key(str(event.facts.get("person"))): plan.per_person_limit,
                limits.day_key(day, event.user_id): plan.per_user_day_limit,
                limits.day_key(day): plan.per_day_limit,
            }
            quota.update((batch, owner) for owner, most in owners.items() if most is not None)
            if "points_receipt" in event.facts:
                quota[limits.points_key(event.merchant_id), event.facts["points_receipt"]] += 1
    with ledger.store.connection() as connection:
        rows = connection.execute("select batch_id, issued from batch_stock").fetchall()
        assert {row["batch_id"]: row["issued"] for row in rows} == dict(stock)
        rows = connection.execute("select batch_id, user_id, issued from user_quota").fetchall()
        assert {(row["batch_id"], row["user_id"]): row["issued"] for row in rows} == dict(quota)


def claim(shop: Shop, batch_id: str, user_id: str, at: datetime | None = None, **given: Any) -> Any:
    return use_cases.claim(shop.request(at=at), batch_id, user_id, **given)


# --- a few coupons, and many who ask at the same moment -------------------------------------------------


@pytest.mark.parametrize("key", ["per_day_limit", "per_user_day_limit", "per_person_limit"])
def test_a_limit_holds_whoever_asks_at_once(key: str, ledger: Ledger, shop: Shop) -> None:
    plan: dict[str, Any] = {"quantity": 100, "per_user_limit": None, key: 3}
    batch_id = shop.batch(**plan)
    facts = Facts(person="p") if key == "per_person_limit" else Facts()
    works = [
        use_cases.claim(shop.request(at=NOON), batch_id, f"user-{0 if key == 'per_user_day_limit' else n}", facts=facts)
        for n in range(CALLERS)
    ]
    refusal = {
        "per_day_limit": DayLimitReached,
        "per_user_day_limit": UserDayLimitReached,
        "per_person_limit": PersonLimitReached,
    }[key]
    results = at_once(CALLERS, lambda n: ledger.do(works[n]))
    assert tally(results) == {"granted": 3, refusal.__name__: CALLERS - 3}
    assert_guards_hold_what_the_log_says(ledger)


def test_a_budget_holds_whoever_asks_at_once(ledger: Ledger, shop: Shop) -> None:
    batch_id = shop.batch(budget_minor=1_999)  # three coupons of 500, and not quite a fourth
    works = [claim(shop, batch_id, f"user-{n}") for n in range(CALLERS)]
    results = at_once(CALLERS, lambda n: ledger.do(works[n]))
    assert tally(results) == {"granted": 3, "BudgetSpent": CALLERS - 3}
    assert_guards_hold_what_the_log_says(ledger)


def test_a_receipt_is_good_for_one_coupon_of_all_batches(ledger: Ledger, shop: Shop) -> None:
    batch_ids = [shop.batch(terms=replace(TERMS, points_price=300)) for _ in range(3)]
    works = [claim(shop, batch_ids[n % 3], f"user-{n}", points_receipt="r") for n in range(CALLERS)]
    results = at_once(CALLERS, lambda n: ledger.do(works[n]))
    assert tally(results) == {"granted": 1, "PointsReceiptUsed": CALLERS - 1}
    other = Shop(ledger, "merchant-2")
    theirs = other.batch(terms=replace(TERMS, points_price=300))
    ledger.do(claim(other, theirs, "user-1", points_receipt="r"))
    assert_guards_hold_what_the_log_says(ledger)


def test_every_limit_at_once(ledger: Ledger, shop: Shop) -> None:
    """Users of two accounts each ask on two days; no limit is ever passed, and nothing that fits is left over."""
    batch_id = shop.batch(
        quantity=30, per_user_limit=3, per_day_limit=12, per_user_day_limit=2, per_person_limit=4, budget_minor=11_000
    )
    days = [NOON, NOON + timedelta(days=1)]
    works = [
        claim(shop, batch_id, f"user-{n % 8}", days[n % 2 ^ (n // 8) % 2], facts=Facts(person=f"p{n % 4}"))
        for n in range(64)
    ]
    results = at_once(64, lambda n: ledger.do(works[n]))
    assert not [error for error in results if isinstance(error, LedgerError) and not isinstance(error, Refusal)]
    issued = [entry.event for entry in whole_log(ledger.store) if isinstance(entry.event, CouponIssued)]
    assert tally(results)["granted"] == len(issued)
    assert max(Counter(event.user_id for event in issued).values()) <= 3
    assert max(Counter(event.occurred_at for event in issued).values()) <= 12
    assert max(Counter((event.user_id, event.occurred_at) for event in issued).values()) <= 2
    assert max(Counter(event.facts["person"] for event in issued).values()) <= 4
    assert len(issued) == 16  # four persons, four each: all else has room for more
    assert_guards_hold_what_the_log_says(ledger)


def test_one_of_many_second_persons_approves(ledger: Ledger, shop: Shop) -> None:
    batch_id = shop.batch(start=False, needs_approval=True)
    ledger.do(use_cases.submit_batch(shop.request(), batch_id))
    with pytest.raises(SelfApproval):
        ledger.do(use_cases.approve_batch(shop.request(), batch_id))
    requests = [replace(shop.request(), actor=f"key:{n}") for n in range(8)]
    results = at_once(8, lambda n: ledger.do(use_cases.approve_batch(requests[n], batch_id)))
    assert tally(results) == {"granted": 1, "BatchStateConflict": 7}
    ledger.do(use_cases.start_batch(shop.request(), batch_id))
    ledger.do(claim(shop, batch_id, "user-1"))


# --- days ------------------------------------------------------------------------------------------------


def test_a_day_is_the_merchants(ledger: Ledger, shop: Shop) -> None:
    batch_id = shop.batch(per_user_limit=None, per_day_limit=1, time_zone="Asia/Shanghai")
    midnight = datetime(2026, 3, 1, 16, tzinfo=UTC)  # of March 2 there
    ledger.do(claim(shop, batch_id, "a", midnight - timedelta(hours=23)))
    with pytest.raises(DayLimitReached) as caught:
        ledger.do(claim(shop, batch_id, "b", midnight - timedelta(microseconds=1)))
    assert caught.value.facts == {"batch_id": batch_id, "day": "2026-03-01"}
    ledger.do(claim(shop, batch_id, "b", midnight))
    with pytest.raises(DayLimitReached):
        ledger.do(claim(shop, batch_id, "c", midnight + timedelta(hours=23)))
    assert_guards_hold_what_the_log_says(ledger)


def test_an_issue_to_many_counts_each_of_them(ledger: Ledger, shop: Shop) -> None:
    batch_id = shop.batch(per_user_limit=None, per_user_day_limit=2, per_day_limit=4)
    before = picture(ledger.store.database)

    def issue(*users: str) -> Receipt:
        return ledger.do(use_cases.issue(shop.request(at=NOON), batch_id, users))

    with pytest.raises(UserDayLimitReached):
        issue("a", "a", "a")
    with pytest.raises(DayLimitReached):
        issue("a", "b", "c", "d", "e")
    assert picture(ledger.store.database) == before
    issue("a", "b", "a")
    with pytest.raises(DayLimitReached):
        issue("c", "d")
    issue("c")
    assert_guards_hold_what_the_log_says(ledger)


def test_a_user_id_that_looks_like_a_day_is_a_user(ledger: Ledger, shop: Shop) -> None:
    batch_id = shop.batch(per_user_limit=1, per_day_limit=2)
    today = limits.day_key(date(2026, 3, 1)).strip()
    for user_id in (today, f"{today} a"):
        ledger.do(claim(shop, batch_id, user_id, NOON))
    assert_guards_hold_what_the_log_says(ledger)
    with pytest.raises(Refusal):  # no id begins with a space, as the ledger's own keys do
        claim(shop, batch_id, limits.day_key(date(2026, 3, 1)))


# --- budgets ---------------------------------------------------------------------------------------------


def test_a_budget_never_falls_below_what_is_issued(ledger: Ledger, shop: Shop) -> None:
    batch_id = shop.batch(budget_minor=10_000, per_user_limit=None)
    ledger.do(use_cases.issue(shop.request(), batch_id, ["u"] * 5))

    def change(expected: int, target: int) -> Receipt:
        return ledger.do(
            use_cases.change_budget(shop.request(), batch_id, expected_minor=expected, target_minor=target)
        )

    before = picture(ledger.store.database)
    with pytest.raises(BudgetConflict, match="already issued"):
        change(10_000, 2_499)
    assert picture(ledger.store.database) == before
    assert change(10_000, 2_500).answer["budget_minor"] == 2_500
    with pytest.raises(BudgetSpent):
        ledger.do(claim(shop, batch_id, "u"))
    change(2_500, 3_000)
    ledger.do(claim(shop, batch_id, "u"))
    assert_guards_hold_what_the_log_says(ledger)


def test_of_many_who_change_a_budget_at_once_one_does(ledger: Ledger, shop: Shop) -> None:
    batch_id = shop.batch(budget_minor=10_000)
    works = [
        use_cases.change_budget(shop.request(), batch_id, expected_minor=10_000, target_minor=20_000 + n)
        for n in range(8)
    ]
    assert tally(at_once(8, lambda n: ledger.do(works[n]))) == {"granted": 1, "BudgetConflict": 7}
    assert_guards_hold_what_the_log_says(ledger)


def test_the_largest_worth_times_the_most_users_has_room(ledger: Ledger, shop: Shop) -> None:
    terms = replace(TERMS, benefit=Benefit(kind="amount_off", value_minor=10**12))
    batch_id = shop.batch(terms=terms, quantity=10_000, per_user_limit=None, budget_minor=10**15)
    ledger.do(use_cases.issue(shop.request(), batch_id, ["u"] * 1_000))
    with pytest.raises(BudgetSpent):
        ledger.do(claim(shop, batch_id, "u"))
    assert_guards_hold_what_the_log_says(ledger)


def test_a_spent_budget_is_not_taken_for_the_end_of_the_batch(ledger: Ledger, shop: Shop) -> None:
    batch_id = shop.batch(quantity=2, budget_minor=500)
    ledger.do(claim(shop, batch_id, "a"))
    with pytest.raises(BudgetSpent):
        ledger.do(claim(shop, batch_id, "b"))
    ledger.do(use_cases.change_budget(shop.request(), batch_id, expected_minor=500, target_minor=2_000))
    ledger.do(claim(shop, batch_id, "b"))
    for _ in range(2):
        with pytest.raises(SoldOut):
            ledger.do(claim(shop, batch_id, "c"))
    with writers_blocked(ledger.store.database), pytest.raises(SoldOut):
        ledger.do(claim(shop, batch_id, "d"))


# --- which refusal, and what a repeat hears ---------------------------------------------------------------


def test_of_several_limits_the_narrowest_is_named(ledger: Ledger, shop: Shop) -> None:
    batch_id = shop.batch(
        quantity=1, per_user_limit=1, per_person_limit=1, per_user_day_limit=1, per_day_limit=1, budget_minor=500
    )
    p = Facts(person="p")
    ledger.do(claim(shop, batch_id, "a", NOON, facts=p))
    later = NOON + timedelta(days=1)
    for user_id, at, person, refusal in (
        ("a", NOON, p, UserLimitReached),
        ("b", NOON, p, PersonLimitReached),
        ("b", NOON, Facts(person="q"), DayLimitReached),
        ("b", later, Facts(person="q"), SoldOut),
        # Now that the batch is known as sold out, it is looked at first.
        ("a", later, p, UserLimitReached),
    ):
        with pytest.raises(refusal):
            ledger.do(claim(shop, batch_id, user_id, at, facts=person))
    assert_guards_hold_what_the_log_says(ledger)


def test_a_repeat_has_the_first_answer_although_the_limit_is_reached(ledger: Ledger, shop: Shop) -> None:
    batch_id = shop.batch(terms=replace(TERMS, points_price=1), per_day_limit=1)
    work = claim(shop, batch_id, "a", NOON, points_receipt="r")
    first = ledger.do(work)
    assert (ledger.do(work).answer, ledger.do(work).replayed) == (first.answer, True)
    with pytest.raises(PointsReceiptUsed):
        ledger.do(claim(shop, batch_id, "b", NOON + timedelta(days=1), points_receipt="r"))


def test_a_group_in_a_callers_transaction_names_each_limit(ledger: Ledger, shop: Shop) -> None:
    batch_id = shop.batch(per_user_limit=None, per_person_limit=1, per_day_limit=2)

    def message(n: int, person: str) -> Any:
        return use_cases.issue_by_message(
            shop.request(at=NOON), batch_id, f"user-{n}", channel="c", facts=Facts(person=person)
        )

    with ledger.store.connection() as connection, connection.transaction():
        results = ledger.do_all([message(1, "p"), message(2, "p"), message(3, "q"), message(4, "r")], connection)
    assert [type(result) for result in results] == [Receipt, PersonLimitReached, Receipt, DayLimitReached]
    assert_guards_hold_what_the_log_says(ledger)


# --- what one user holds at once ---------------------------------------------------------------------------


def test_a_user_holds_no_more_than_the_terms_allow_however_many_orders_ask_at_once(ledger: Ledger, shop: Shop) -> None:
    batch_id = shop.batch(terms=replace(TERMS, live_locks_per_user=2), per_user_limit=None)
    coupon_ids = [shop.coupon("user-1", batch_id) for _ in range(8)]
    works = [
        use_cases.lock(shop.request(), f"order-{n}", user_id="user-1", coupon_ids=[coupon_id])
        for n, coupon_id in enumerate(coupon_ids)
    ]
    results = at_once(8, lambda n: ledger.do(works[n]))
    assert tally(results) == {"granted": 2, "LockLimitReached": 6}
    held = [n for n, result in enumerate(results) if isinstance(result, Receipt)]
    refused = next(n for n in range(8) if n not in held)
    ledger.do(
        use_cases.unlock(shop.request(), f"order-{held[0]}", coupon_ids=[coupon_ids[held[0]]], reason="cancelled")
    )
    ledger.do(works[refused])
    with ledger.store.connection() as connection:
        rows = connection.execute("select coupon_id, owner from user_holds").fetchall()
    assert {row["coupon_id"] for row in rows} == {coupon_ids[held[1]], coupon_ids[refused]}
    assert len({row["owner"] for row in rows}) == 1


@pytest.mark.parametrize(
    "statement",
    [
        "insert into user_holds values ('c', 'o', now())",
        "delete from user_holds",
        "select take_holds('[]', '[]', now())",
    ],
)
def test_holds_are_written_by_the_commit_alone(statement: str, ledger: Ledger, shop: Shop) -> None:
    shop.batch()
    with ledger.store.connection() as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(statement)  # type: ignore[call-overload]

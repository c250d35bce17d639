"""What use cases hand to the commit: streams, guards and answers; and ids that a retry makes again."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta, timezone
from typing import Any

import pytest

from ledger import use_cases
from ledger.aggregate import coupon_id, derived_id, text_of
from ledger.basket import Basket, Line
from ledger.batch import Batch, BatchPlan
from ledger.benefit import Benefit
from ledger.commit import Unit
from ledger.coupon import Redemption
from ledger.errors import IdempotencyKeyReused, InvalidField, InvalidPeriod, InvalidQuantity, Refusal
from ledger.events import Event
from ledger.request import Request
from ledger.terms import Terms
from ledger.undoing import Issued
from ledger.work import Loaded, Receipt, Work, fold
from tests.unit.batch_stories import RUNNING
from tests.unit.coupon_facts import hold
from tests.unit.specs import T0, TERMS, bind, created_template, issued, numbered, running_batch

REQUEST = Request("merchant-1", "test", "request-1", "body", T0)


def decide(work: Work, events: list[Event]) -> Unit | Receipt:
    streams: dict[str, list[Event]] = {}
    for event in events:
        streams.setdefault(event.originator_id, []).append(event)
    batch = fold(Batch("batch-b"), streams.get("batch-b", ()))
    return work.decide(Loaded("merchant-1", T0, streams, lambda _: batch, lambda *_: TERMS))


def unit_of(work: Work, events: list[Event]) -> Unit:
    unit = decide(work, events)
    assert isinstance(unit, Unit)
    return unit


def history(*facts: Any) -> list[Event]:
    return numbered(bind(list(facts), ""))


def test_a_claim_takes_one_of_the_stock_and_none_of_a_quota_that_is_not_there() -> None:
    unit = unit_of(use_cases.claim(REQUEST, "b", "u"), history(*RUNNING))
    assert (unit.stock, unit.quota, unit.reads) == ({"b": 1}, {}, {"batch-b": 2})
    assert unit.request is REQUEST


def test_an_issue_takes_of_each_users_quota_as_often_as_the_user_is_named() -> None:
    unit = unit_of(use_cases.issue(REQUEST, "b", ["u", "v", "u"]), history(*running_batch(per_user_limit=2)))
    assert unit.stock == {"b": 3}
    assert unit.quota == {("b", "u"): (2, 2), ("b", "v"): (1, 2)}
    assert [coupon["user_id"] for coupon in unit.answer["coupons"]] == ["u", "v", "u"]


def test_new_streams_are_not_loaded_first() -> None:
    for work in (
        use_cases.claim(REQUEST, "b", "u"),
        use_cases.issue(REQUEST, "b", ["u"]),
        use_cases.issue_by_message(REQUEST, "b", "u", channel="c"),
    ):
        assert work.issues_from == "b"


def test_planning_a_batch_supplies_its_stock_and_reads_the_template() -> None:
    work = use_cases.create_batch(REQUEST, BatchPlan(name="n", quantity=7, valid_for_seconds=1), template_id="t")
    unit = unit_of(work, history(created_template()))
    assert (list(unit.supply.values()), unit.reads) == ([7], {"template-t": 1})


def test_changing_the_quantity_supplies_the_new_one() -> None:
    unit = unit_of(use_cases.change_quantity(REQUEST, "b", expected=10, target=3), history(*RUNNING))
    assert unit.supply == {"b": 3}


def test_a_message_leaves_no_request_and_a_repeat_finds_its_coupon() -> None:
    work = use_cases.issue_by_message(REQUEST, "b", "u", channel="c")
    unit = unit_of(work, history(*RUNNING))
    assert unit.request is None
    repeat = decide(work, [*history(*RUNNING), *unit.events])
    assert isinstance(repeat, Receipt) and repeat.replayed
    assert repeat.answer["coupon_id"] == coupon_id("b", "request-1", 0)
    with pytest.raises(IdempotencyKeyReused):
        decide(use_cases.issue_by_message(REQUEST, "b", "v", channel="c"), [*history(*RUNNING), *unit.events])


@pytest.mark.parametrize(
    "work", [use_cases.claim(REQUEST, "b", "u"), use_cases.issue(REQUEST, "b", ["u"])], ids=["claim", "issue"]
)
def test_a_key_that_a_message_used_issues_nothing_more(work: Work) -> None:
    issued = unit_of(use_cases.issue_by_message(REQUEST, "b", "u", channel="c"), history(*RUNNING))
    with pytest.raises(IdempotencyKeyReused):
        decide(work, [*history(*RUNNING), *issued.events])


LIMITED = replace(TERMS, live_locks_per_user=2, transferable=True)


def limited(work: Work, *facts: Any, terms: Terms = LIMITED) -> Unit:
    """What comes of work on one coupon whose template lets a user hold two at once."""
    streams: dict[str, list[Event]] = {}
    for event in history(created_template(terms), issued(), *facts):
        streams.setdefault(event.originator_id, []).append(event)
    unit = work.decide(Loaded("merchant-1", T0, streams, lambda _: Batch("batch-b"), lambda *_: terms))
    assert isinstance(unit, Unit)
    return unit


HELD_BY_USER = ("merchant-1 t user-1", T0 + timedelta(seconds=900), 2)


def test_a_lock_counts_against_the_users_live_locks() -> None:
    work = use_cases.lock(REQUEST, "order-1", user_id="user-1", coupon_ids=["c"])
    assert limited(work).holds == {"c": HELD_BY_USER}
    assert limited(work, terms=TERMS).holds == {}


def test_an_extended_lock_counts_until_its_new_end() -> None:
    work = use_cases.lock(REQUEST, "order-1", user_id="user-1", coupon_ids=["c"], ttl_seconds=1_800)
    assert limited(work, hold()).holds == {"c": ("merchant-1 t user-1", T0 + timedelta(seconds=1_800), 2)}


REDEMPTION = Redemption(coupon_id="c", discount_minor=1)
ONLINE = Basket(lines=(Line(line_id="1", product_id="p", unit_price_minor=1_000),), currency="EUR")


@pytest.mark.parametrize(
    ("work", "facts"),
    [
        (use_cases.confirm(REQUEST, "order-1", [REDEMPTION]), [hold()]),
        (use_cases.unlock(REQUEST, "order-1", coupon_ids=["c"], reason="r"), [hold()]),
        (use_cases.void(REQUEST, "c", reason="r"), [hold()]),
        (use_cases.void_all(REQUEST, ["c"], reason="r"), [hold()]),
        (use_cases.redeem(REQUEST, "order-1", coupon_id="c", discount_minor=1), []),
        (use_cases.transfer(REQUEST, "c", user_id="user-1", to_user_id="user-2"), []),
    ],
    ids=["confirm", "unlock", "void", "void_all", "redeem", "transfer"],
)
def test_what_ends_a_lock_lets_go_of_its_count(work: Work, facts: list[Any]) -> None:
    unit = limited(work, *facts)
    assert (unit.holds, unit.releases) == ({}, ["c"])
    unit = limited(work, *facts, terms=replace(TERMS, transferable=True))
    assert (unit.holds, list(unit.releases)) == ({}, [])


def test_a_till_locks_and_uses_in_one_unit() -> None:
    unit = limited(use_cases.redeem(REQUEST, "order-1", coupon_id="c", discount_minor=1))
    assert [event.TOPIC for event in unit.events] == ["coupon.locked", "coupon.used"]
    assert [event.originator_version for event in unit.events] == [2, 3]
    assert unit.answer["redemptions"][0].items() >= {"coupon_id": "c", "discount_minor": 1}.items()


def test_a_voucher_answers_what_is_left_on_it() -> None:
    terms = replace(TERMS, benefit=Benefit(kind="cash_voucher", value_minor=1_000, leaves_balance=True))
    for discount, left in ((400, 600), (1_000, 0)):
        work = use_cases.redeem(REQUEST, "order-1", coupon_id="c", discount_minor=discount)
        (redeemed,) = limited(work, terms=terms).answer["redemptions"]
        assert (redeemed["discount_minor"], redeemed["balance_minor"]) == (discount, left)


def test_ids_come_from_what_makes_the_object() -> None:
    assert derived_id("a", "b") == derived_id("a", "b") != derived_id("a", "c")
    assert derived_id("ab", "c") != derived_id("a", "bc")
    assert len(derived_id("a")) == 26
    id = coupon_id("batch-id-of-26-digits", "request-1", 0)
    assert id.startswith("batch-id") and len(id) == 26
    assert id not in (coupon_id("batch-id-of-26-digits", "request-1", 1), coupon_id("batch-idX", "request-1", 0))


def test_a_request_of_another_merchant_names_other_objects() -> None:
    other = Request("merchant-2", "test", "request-1", "body", T0)
    assert (
        use_cases.create_template(REQUEST, name="n", terms=TERMS).streams
        != use_cases.create_template(other, name="n", terms=TERMS).streams
    )


def test_answers_show_times_in_utc() -> None:
    assert text_of(T0) == "2026-01-01T00:00:00Z"
    assert text_of(None) is None


def test_business_time_is_kept_in_utc_and_needs_a_zone() -> None:
    there = T0.astimezone(timezone(timedelta(hours=8)))
    assert Request("m", "a", "r", at=there).at == T0
    assert text_of(Request("m", "a", "r", at=there).at) == "2026-01-01T00:00:00Z"
    with pytest.raises(InvalidPeriod):
        Request("m", "a", "r", at=T0.replace(tzinfo=None))


@pytest.mark.parametrize(
    "id", ["", "a" * 129, "a\n", " a", "a ", "\x00", "a\x00b", "\u2028", "\ud800", "\u202ea", "\t"]
)
@pytest.mark.parametrize("field", ["user_id", "order_id", "coupon_id"])
def test_ids_are_printable_and_bounded(id: str, field: str) -> None:
    with pytest.raises(InvalidField) as caught:
        use_cases.check_id(field, id)
    assert caught.value.facts == {"field": field}


@pytest.mark.parametrize(
    "id", ["a", "a" * 128, "a b", "用户-1", "ü😀", "'; drop table events --", '{"a": 1}', "\\u0000"]
)
def test_ids_may_be_any_callers_words(id: str) -> None:
    use_cases.check_id("user_id", id)


@pytest.mark.parametrize(
    ("make", "refusal"),
    [
        (lambda: use_cases.issue(REQUEST, "b", []), InvalidQuantity),
        (lambda: use_cases.issue(REQUEST, "b", ["u"] * 1_001), InvalidQuantity),
        (lambda: use_cases.issue(REQUEST, "b", ["u", ""]), InvalidField),
        (lambda: use_cases.claim(REQUEST, "b", ""), InvalidField),
        (lambda: use_cases.lock(REQUEST, "", user_id="u", coupon_ids=["c"]), InvalidField),
        (lambda: use_cases.lock(REQUEST, "o", user_id="", coupon_ids=["c"]), InvalidField),
        (lambda: use_cases.lock(REQUEST, "o", user_id="u", coupon_ids=["\n"]), InvalidField),
        (lambda: use_cases.confirm(REQUEST, "o", []), InvalidField),
        (lambda: use_cases.void(REQUEST, "c", reason=""), InvalidField),
        (lambda: use_cases.void(REQUEST, "c", reason="a\nb"), InvalidField),
        (lambda: use_cases.void_all(REQUEST, [], reason="r"), InvalidField),
        (lambda: use_cases.redeem(REQUEST, "o", coupon_id="c", discount_minor=-1), InvalidField),
        (lambda: use_cases.redeem(REQUEST, "o", coupon_id="c", discount_minor=1, channel="fax"), InvalidField),
        (lambda: use_cases.redeem(REQUEST, "o", coupon_id="c"), InvalidField),
        (lambda: use_cases.redeem(REQUEST, "o", coupon_id="c", basket=ONLINE), InvalidField),
        (lambda: Issued(by="r", by_prefix="r"), InvalidField),
        (lambda: Issued(by="r", codes_id="c"), InvalidField),
        (lambda: Issued(by_prefix="r", codes_id="c"), InvalidField),
        (lambda: use_cases.transfer(REQUEST, "c", user_id="u", to_user_id=" "), InvalidField),
        (lambda: use_cases.share(REQUEST, "c", user_id="u", with_user_ids=["v"] * 51), InvalidField),
        (lambda: use_cases.share(REQUEST, "c", user_id="u", with_user_ids=[""]), InvalidField),
    ],
)
def test_bad_input_is_refused_before_anything_is_read(make: Any, refusal: type[Refusal]) -> None:
    with pytest.raises(refusal):
        make()

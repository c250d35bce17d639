"""What a lock found on a basket, what an order that locks again gets, and what is confirmed of it, as stories."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ledger import errors, events
from ledger.basket import Line
from ledger.coupon import Redemption
from ledger.scope import Scope
from ledger.terms import Terms
from tests.unit.coupon_facts import (
    FRESH,
    IN_STORE,
    LAPSED,
    LEAST,
    PRICED,
    SCOPED,
    SHARED,
    STATED,
    benefit,
    confirm,
    hold,
    lock,
    locked,
    on_coupon,
    redeem,
    with_terms,
)
from tests.unit.order_stories import AT_TILL, ONLINE, hold_of, told
from tests.unit.specs import COUPON, TERMS, Command, Fact, Story, after

DEAR = replace(TERMS, benefit=benefit(kind="fixed_price", value_minor=5_000))
SHIPPING = replace(TERMS, benefit=benefit(kind="free_shipping"))
SCOPED_GIFT = Terms(benefit=benefit(kind="gift", products=("mug",)), currency="EUR", scope=Scope(products=("tea",)))
GIVEN_AT_MOST = replace(SCOPED_GIFT, benefit=replace(SCOPED_GIFT.benefit, max_discount_minor=500))
ON_TWO_LINES = [
    {"line_id": "1", "product_id": "tea", "discount_minor": 300},
    {"line_id": "2", "product_id": "cup", "discount_minor": 150},
]


def priced(**payload: Any) -> Fact:
    """A lock of the past that was priced."""
    return replace(PRICED, payload={**PRICED.payload, **payload})


def told_of(total: int | None = None, digest: str | None = None) -> Fact:
    """A lock of the past without a basket."""
    return replace(hold(), payload={**hold().payload, "order_total_minor": total, "quote_digest": digest})


LOCK_AGAIN_STORIES = [
    Story("again on another total, which is judged anew", with_terms(LEAST, told_of(4_200)),
          lock(order_total_minor=100), errors.BelowMinSpend),
    Story("again on another total, which is another lock", [*FRESH, told_of(4_200, "q")], lock(order_total_minor=100),
          [on_coupon(events.CouponUnlocked, reason="locked_again", lock_id="lock-order-1"),
           locked(order_total_minor=100, quote_digest=None)]),
    Story("again with another digest", [*FRESH, told_of(4_200, "q")], lock(quote_digest="r"),
          [on_coupon(events.CouponUnlocked, reason="locked_again"), locked(quote_digest="r")]),
    Story("again on the same total", [*FRESH, told_of(4_200, "q")], lock(order_total_minor=4_200), []),
    Story("again, with nothing said of what was priced", [*FRESH, PRICED], lock(), []),
    Story("again without the basket, on another total", [*FRESH, PRICED], lock(order_total_minor=100),
          [on_coupon(events.CouponUnlocked, reason="locked_again"), locked(discount_minor=None, allocation=[])]),
    Story("again on another basket, which shortens nothing", [*FRESH, priced(lock_ends_at=after(0.9))],
          lock(basket=ONLINE), [on_coupon(events.CouponUnlocked), locked(ends=after(0.9), discount_minor=300)]),
    Story("again on another basket, after the end of validity", [*FRESH, priced(lock_ends_at=after(10.6))],
          lock(at=after(10.5), basket=ONLINE), [on_coupon(events.CouponUnlocked, at=after(10.5)),
          locked(ends=after(10.6), discount_minor=300)]),
    Story("a coupon that the order system values, on another basket", with_terms(STATED, priced(quote_digest="q",
          order_total_minor=1_000, discount_minor=None, allocation=[])), lock(basket=ONLINE),
          [on_coupon(events.CouponUnlocked), locked(order_total_minor=300, discount_minor=None)]),
    Story("a lock says how the basket is bought", FRESH, lock(basket=AT_TILL), [locked(channel="in_store")]),
    Story("again by the friend who holds it", [*SHARED, hold_of("user-3")], lock(user_id="user-3"), []),
    Story("which another friend holds for the same order", [*SHARED, hold_of("user-2")], lock(user_id="user-3"),
          errors.CouponLocked, facts={"lock_ends_at": "2026-01-01T00:15:00Z"}),
    Story("which its owner holds for the same order", [*SHARED, hold()], lock(user_id="user-3", basket=ONLINE),
          errors.CouponLocked),
    Story("a fixed price above all prices", with_terms(DEAR), lock(basket=ONLINE), errors.NotApplicable,
          facts={"coupon_id": COUPON}),
    Story("free shipping where nothing is shipped", with_terms(SHIPPING), lock(basket=ONLINE), errors.NotApplicable),
]  # fmt: skip

PRICED_STORIES = [
    Story("less than the lock found, in proportion to what it found", [*FRESH, priced(allocation=ON_TWO_LINES)],
          confirm(discount=400), [on_coupon(events.CouponUsed, discount_minor=400, allocation=[
          {"line_id": "1", "product_id": "tea", "discount_minor": 267},
          {"line_id": "2", "product_id": "cup", "discount_minor": 133}])]),
    Story("too little for every line", [*FRESH, priced(allocation=ON_TWO_LINES)], confirm(discount=1),
          [on_coupon(events.CouponUsed, allocation=[{"line_id": "1", "product_id": "tea", "discount_minor": 1}])]),
    Story("less of what is off no line", with_terms(SHIPPING, priced(allocation=[])), confirm(discount=400),
          [on_coupon(events.CouponUsed, discount_minor=400, allocation=[])]),
    Story("a gift of a product that need not be in scope", with_terms(SCOPED_GIFT, priced(allocation=[
          {"line_id": "2", "product_id": "mug", "discount_minor": 450}])), confirm(discount=None),
          [on_coupon(events.CouponUsed, discount_minor=450)]),
    Story("said by the order system", with_terms(SCOPED_GIFT, priced(allocation=[
          {"line_id": "2", "product_id": "mug", "discount_minor": 450}])),
          confirm(redemptions=[told("mug", 450, "2")]), [on_coupon(events.CouponUsed)]),
    Story("and without a basket", with_terms(GIVEN_AT_MOST, hold()), confirm(redemptions=[told("mug", 450)]),
          [on_coupon(events.CouponUsed)]),
    Story("a product that it does not give", with_terms(GIVEN_AT_MOST, hold()),
          confirm(redemptions=[told("tea", 450)]), errors.OutOfScope, facts={"product_id": "tea"}),
    Story("nothing off a product out of scope", with_terms(SCOPED, hold()), confirm(redemptions=[Redemption(
          coupon_id=COUPON, discount_minor=500, allocation=[*told("tea", 500).allocation,
          *told("car", 0, "2").allocation])]), [on_coupon(events.CouponUsed)]),
    Story("nothing off a line that the lock did not find", [*FRESH, PRICED], confirm(redemptions=[Redemption(
          coupon_id=COUPON, discount_minor=450, allocation=[*told("tea", 450).allocation,
          *told("car", 0, "2").allocation])]), [on_coupon(events.CouponUsed)]),
    Story("through the channel of the lock, where none is said", with_terms(IN_STORE, priced(channel="in_store")),
          confirm(discount=None), [on_coupon(events.CouponUsed, channel="in_store")]),
    Story("late, through the channel of the lock", with_terms(replace(IN_STORE, late_confirm="accept"),
          priced(channel="in_store"), LAPSED), confirm(at=after(5), discount=None), [locked(ends=after(5),
          channel="in_store"), on_coupon(events.CouponUsed, channel="in_store")]),
    Story("through another channel than the lock's", with_terms(IN_STORE, priced(channel="in_store")),
          confirm(discount=None, channel="online"), errors.OutOfScope),
    Story("a fixed price above all prices", with_terms(DEAR), redeem(discount_minor=None, basket=AT_TILL),
          errors.NotApplicable, facts={"coupon_id": COUPON}),
    Story("which a friend holds for the same order", [*SHARED, hold_of("user-2")], redeem(), errors.CouponLocked),
    Story("nothing at a till", FRESH, redeem(discount_minor=0, basket=AT_TILL), errors.NotApplicable),
    Story("nothing at a till that values it", with_terms(STATED), redeem(discount_minor=0), errors.NotApplicable),
]  # fmt: skip

STATED_TEA = replace(STATED, scope=Scope(products=("tea",)))
TEA_AND_CAR = replace(AT_TILL, lines=(
    Line(line_id="1", product_id="tea", unit_price_minor=100),
    Line(line_id="2", product_id="car", unit_price_minor=9_900),
    Line(line_id="3", product_id="tea", unit_price_minor=50),
))  # fmt: skip
TEA = [
    {"line_id": "1", "product_id": "tea", "amount_minor": 100},
    {"line_id": "3", "product_id": "tea", "amount_minor": 50},
]
SEEN_TEA = priced(discount_minor=None, allocation=[], order_total_minor=10_050, channel="online", lines_in_scope=TEA)
SEEN = priced(discount_minor=None, allocation=[], order_total_minor=200, channel="online")


def scan(discount: int, *parts: tuple[str, int]) -> Command:
    """A till that states what comes off the basket, and off which of its lines."""
    lines = [{"line_id": line_id, "product_id": None, "discount_minor": part} for line_id, part in parts]
    return redeem(discount_minor=discount, allocation=lines, basket=TEA_AND_CAR)


def stated_on(discount: int, *parts: tuple[str, int]) -> Command:
    """An order system that states what came off a locked coupon's lines."""
    lines = [{"line_id": line_id, "product_id": None, "discount_minor": part} for line_id, part in parts]
    return confirm(redemptions=[Redemption(coupon_id=COUPON, discount_minor=discount, allocation=lines)])


STATED_STORIES = [
    Story("a lock keeps the lines in scope of what it does not value itself", with_terms(STATED_TEA),
          lock(basket=replace(TEA_AND_CAR, channel="online")), [locked(discount_minor=None, lines_in_scope=TEA)]),
    Story("and of what it values none", FRESH, lock(basket=ONLINE), [locked(discount_minor=300, lines_in_scope=[])]),
    Story("what an order system states is put on the lines that the lock kept", with_terms(STATED_TEA, SEEN_TEA),
          stated_on(90), [on_coupon(events.CouponUsed, allocation=[
          {"line_id": "1", "product_id": "tea", "discount_minor": 60},
          {"line_id": "3", "product_id": "tea", "discount_minor": 30}])]),
    Story("it is not more than they cost", with_terms(STATED_TEA, SEEN_TEA), stated_on(151), errors.NotApplicable,
          facts={"discount_minor": 151, "most_minor": 150}),
    Story("nor off another line", with_terms(STATED_TEA, SEEN_TEA), stated_on(100, ("2", 100)), errors.NotApplicable,
          facts={"line_id": "2", "most_minor": 0}),
    Story("nor off a line more than it costs", with_terms(STATED_TEA, SEEN_TEA), stated_on(51, ("3", 51)),
          errors.NotApplicable, facts={"line_id": "3", "most_minor": 50}),
    Story("nothing off them", with_terms(STATED_TEA, SEEN_TEA), stated_on(0),
          [on_coupon(events.CouponUsed, discount_minor=0, allocation=[])]),
    Story("late, on the lines of the lock", with_terms(replace(STATED_TEA, late_confirm="accept"), SEEN_TEA, LAPSED),
          confirm(at=after(5), discount=151), errors.NotApplicable, facts={"most_minor": 150}),
    Story("what a till states is put on the lines in scope", with_terms(STATED_TEA), scan(90), [
          locked(discount_minor=None), on_coupon(events.CouponUsed, discount_minor=90, allocation=[
          {"line_id": "1", "product_id": "tea", "discount_minor": 60},
          {"line_id": "3", "product_id": "tea", "discount_minor": 30}])]),
    Story("all that is in scope", with_terms(STATED_TEA), scan(150), [locked(), on_coupon(events.CouponUsed)]),
    Story("not more than is in scope", with_terms(STATED_TEA), scan(151), errors.NotApplicable,
          facts={"discount_minor": 151, "most_minor": 150}),
    Story("on lines that the till names", with_terms(STATED_TEA), scan(101, ("1", 100), ("3", 1)),
          [locked(), on_coupon(events.CouponUsed, discount_minor=101)]),
    Story("not off a line out of scope", with_terms(STATED_TEA), scan(100, ("2", 100)), errors.NotApplicable,
          facts={"line_id": "2", "most_minor": 0}),
    Story("nor off one that is not in the basket", with_terms(STATED), scan(100, ("nope", 100)), errors.NotApplicable,
          facts={"line_id": "nope", "most_minor": 0}),
    Story("nor more than a line costs", with_terms(STATED), scan(101, ("1", 101)), errors.NotApplicable,
          facts={"line_id": "1", "most_minor": 100}),
    Story("nor so in two parts", with_terms(STATED), scan(101, ("1", 100), ("1", 1)), errors.NotApplicable),
    Story("up to the basket that the lock saw", with_terms(STATED, SEEN), confirm(discount=200,
          order_total_minor=10_000), [on_coupon(events.CouponUsed, discount_minor=200, order_total_minor=10_000)]),
    Story("and not more, whatever the order is said to cost", with_terms(STATED, SEEN), confirm(discount=201,
          order_total_minor=10_000), errors.NotApplicable, facts={"most_minor": 200}),
    Story("nor more than a smaller order costs", with_terms(STATED, SEEN), confirm(discount=101,
          order_total_minor=100), errors.NotApplicable, facts={"most_minor": 100}),
    Story("where no basket was seen, as the order is said to cost", with_terms(STATED, told_of(200)),
          confirm(discount=201, order_total_minor=300), [on_coupon(events.CouponUsed)]),
]  # fmt: skip

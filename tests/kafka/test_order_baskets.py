"""An order's messages with its basket: the lock prices it, the payment need not say, and lines come back in parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from consumers.inputs import ORDERS
from consumers.messages import Wire
from consumers.payloads import (
    AllocationLine,
    BasketLine,
    OrderBasket,
    OrderCreated,
    OrderPaid,
    OrderRefunded,
    RedeemedCoupon,
)
from ledger import use_cases
from ledger.application import Ledger
from ledger.basket import Basket, Line
from ledger.benefit import Benefit
from ledger.scope import Scope
from ledger.terms import Terms
from tests.conftest import Shop
from tests.kafka.broker import MERCHANT, message
from tests.kafka.partition import Partition

Sql = Callable[..., list[tuple[Any, ...]]]
LINES = [
    BasketLine(line_id="1", product_id="tea", quantity=2, unit_price_minor=1_300, discounted_minor=80),
    BasketLine(line_id="2", product_id="cup", unit_price_minor=1_680, categories=["kitchen"], shop_id="shop-1"),
]
FOUND = [
    {"line_id": "1", "product_id": "tea", "discount_minor": 300},
    {"line_id": "2", "product_id": "cup", "discount_minor": 200},
]
"""Five off 25.20 and 16.80, by largest remainder."""
SHIPPED = Basket(
    lines=tuple(Line(**{**vars(line), "categories": tuple(line.categories)}) for line in LINES),
    currency="EUR",
    shipping_minor=490,
)
LIFE = "select topic, payload->>'request_id' from event_log where stream = 'coupon-' || %s order by position"
PRICED = """
select (payload->>'discount_minor')::int, payload->'allocation' from event_log where topic = %s order by position
"""
RETURNED = """
select (payload->>'returned_minor')::int, payload->'lines', (payload->>'restored')::bool
  from event_log where topic = 'coupon.returned' order by position
"""
REASONS = "select reason from dead_letters order by id"


def created(*coupons: str, id: str = "created", basket: dict[str, Any] | None = None, **more: Any) -> Wire:
    bought = OrderBasket(**{"lines": LINES, "currency": "EUR", **(basket or {})})
    fields = {"user_id": "user-1", "coupon_ids": list(coupons), "basket": bought, **more}
    return message(OrderCreated(merchant_id=MERCHANT, order_id="o-1", **fields), id)


def paid(*coupons: str, id: str = "paid", redeemed: dict[str, Any] | None = None, **more: Any) -> Wire:
    redemptions = [RedeemedCoupon(coupon_id=coupon, **(redeemed or {})) for coupon in coupons]
    return message(OrderPaid(merchant_id=MERCHANT, order_id="o-1", redemptions=redemptions, **more), id)


def refunded(*coupons: str, line: str, id: str = "", **amount: Any) -> Wire:
    fields: dict[str, Any] = {"coupon_ids": list(coupons), "lines": [{"line_id": line, **amount}]}
    payload = OrderRefunded(merchant_id=MERCHANT, order_id="o-1", reason="merchant_refund", **fields)
    return message(payload, id or f"refunded-{line}")


def story(coupon: str) -> list[Wire]:
    """Created with a basket, paid without a discount, refunded in two parts."""
    return [created(coupon), paid(coupon), refunded(coupon, line="1"), refunded(coupon, line="2")]


@pytest.fixture
def orders(ledger: Ledger) -> Partition:
    return Partition(ledger, ORDERS)


def polls_of(orders: Partition, wires: Sequence[Wire], polls: str) -> tuple[int, int, int]:
    """Effects, repeats and dead letters of these, taken in one poll or in one each."""
    taken = [orders.take(*wires)] if polls == "one" else [orders.take(wire) for wire in wires]
    return sum(each.effects for each in taken), sum(each.repeats for each in taken), sum(each.dead for each in taken)


def check_story(sql: Sql, coupon: str, *, first: str = "1", told: Sequence[str] = ("created", "paid")) -> None:
    """The coupon lived it once, and is the user's again."""
    last = "2" if first == "1" else "1"
    requests = [*(f"/tests {id}" for id in told), f"/tests refunded-{first}", f"/tests refunded-{last}"]
    topics = ["coupon.locked", "coupon.used", "coupon.returned", "coupon.returned"]
    assert sql(LIFE, coupon)[1:] == list(zip(topics, requests, strict=True))
    assert sql(PRICED, "coupon.locked") == sql(PRICED, "coupon.used") == [(500, FOUND)]
    parts = {part["line_id"]: {"line_id": part["line_id"], "discount_minor": part["discount_minor"]} for part in FOUND}
    amounts = {line: part["discount_minor"] for line, part in parts.items()}
    assert sql(RETURNED) == [(amounts[first], [parts[first]], False), (amounts[last], [parts[last]], True)]


@pytest.mark.parametrize("polls", ["one", "many"])
def test_a_story_of_which_each_message_comes_twice(orders: Partition, shop: Shop, sql: Sql, polls: str) -> None:
    coupon = shop.coupon()
    doubled = [wire for wire in story(coupon) for _ in range(2)]
    assert polls_of(orders, doubled, polls) == (4, 4, 0)
    check_story(sql, coupon)
    assert polls_of(orders, story(coupon)[::-1], polls) == (0, 4, 0)
    check_story(sql, coupon)


@pytest.mark.parametrize("polls", ["one", "many"])
@pytest.mark.parametrize("early", [0, 1, 2], ids=["paid", "refunded", "second part"])
def test_a_message_before_its_forerunner(orders: Partition, shop: Shop, sql: Sql, polls: str, early: int) -> None:
    """What came too early has its effect as soon as it can; the two parts of a refund have no order."""
    coupon = shop.coupon()
    wires = story(coupon)
    wires[early], wires[early + 1] = wires[early + 1], wires[early]
    assert polls_of(orders, [wire for wire in wires for _ in range(2)], polls) == (4, 4, 0)
    check_story(sql, coupon, first="2" if early == 2 else "1")


def test_the_digest_of_the_quote_that_the_shopper_saw(orders: Partition, shop: Shop, sql: Sql) -> None:
    coupon = shop.coupon()
    quote = use_cases.quote(shop.request(), "o-1", user_id="user-1", coupon_ids=[coupon], basket=SHIPPED)
    digest = shop.ledger.do(quote).answer["digest"]
    assert orders.take(created(coupon, id="cheaper", quote_digest=digest, basket={"shipping_minor": 0})).dead == 1
    assert sql(REASONS) == [("quote_changed",)]
    assert orders.take(created(coupon, quote_digest=digest, basket={"shipping_minor": 490})).effects == 1
    assert sql("select payload->>'quote_digest' from event_log where topic = 'coupon.locked'") == [(digest,)]


def test_a_lock_over_http_is_paid_by_a_message(orders: Partition, shop: Shop, sql: Sql) -> None:
    coupon = shop.coupon()
    shop.ledger.do(use_cases.lock(shop.request(), "o-1", user_id="user-1", coupon_ids=[coupon], basket=SHIPPED))
    assert orders.take(paid(coupon), created(coupon)).dead == 1
    assert sql(REASONS) == [("coupon_used",)]
    assert sql(PRICED, "coupon.used") == [(500, FOUND)]


def test_all_of_the_basket_decides(orders: Partition, shop: Shop, sql: Sql) -> None:
    """Each field that a scope compares, or a benefit takes from, reaches the ledger."""
    scope = Scope(
        categories=("kitchen",),
        shops=("shop-1",),
        order_types=("group_purchase",),
        user_types=("student",),
        channels=("in_store",),
    )
    benefit = Benefit(kind="percent_off", percent_permyriad=1_000)
    terms = Terms(benefit=benefit, currency="EUR", scope=scope, stacking_mode="stackable")
    shipped = Terms(benefit=Benefit(kind="free_shipping"), currency="EUR", stacking_mode="stackable")
    coupons = [shop.coupon(batch_id=shop.batch(terms=each)) for each in (terms, shipped)]
    told = {"order_type": "group_purchase", "user_types": ["student"], "channel": "in_store", "shipping_minor": 490}
    elsewhere = [LINES[0], LINES[1].model_copy(update={"shop_id": "shop-2"})]
    others = [{"order_type": "standard"}, {"user_types": []}, {"channel": "online"}, {"currency": "USD"}]
    others += [{"lines": LINES[:1]}, {"lines": elsewhere}]
    for number, other in enumerate(others):
        assert orders.take(created(*coupons, id=f"other-{number}", basket={**told, **other})).dead == 1
    assert sql(REASONS) == [("out_of_scope",)] * len(others)
    assert orders.take(created(*coupons, basket=told)).effects == 1
    priced = dict(sql(PRICED, "coupon.locked"))
    assert priced == {168: [{"line_id": "2", "product_id": "cup", "discount_minor": 168}], 490: []}
    assert orders.take(paid(*coupons, id="online", channel="online")).dead == 1
    assert orders.take(paid(*coupons)).effects == 1
    assert sql("select distinct payload->>'channel' from event_log where topic = 'coupon.used'") == [("in_store",)]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([LINES[0], LINES[0]], "a line is named twice"),
        ([LINES[0].model_copy(update={"discounted_minor": 2_601})], "after discounted_minor"),
        ([LINES[0].model_copy(update={"line_id": "1\u00ad"})], "line_id is"),
        ([LINES[0].model_copy(update={"product_id": "\u2028tea"})], "product_id is"),
    ],
)
def test_a_basket_that_contradicts_itself_is_a_dead_letter(
    orders: Partition, shop: Shop, sql: Sql, lines: list[BasketLine], said: str
) -> None:
    coupon = shop.coupon()
    assert orders.take(created(coupon, id="wrong", basket={"lines": lines}), created(coupon)).dead == 1
    ((reason, detail),) = sql("select reason, detail from dead_letters")
    assert reason == "invalid_field" and said in detail
    assert [topic for topic, _ in sql(LIFE, coupon)] == ["coupon.issued", "coupon.locked"]


def test_what_a_payment_may_say_after_a_basket(orders: Partition, shop: Shop, sql: Sql) -> None:
    coupon = shop.coupon()
    more = paid(coupon, id="more", redeemed={"discount_minor": 501})
    parts = paid(coupon, id="parts", redeemed={"allocation": FOUND})
    less = paid(coupon, id="less", redeemed={"discount_minor": 400})
    taken = orders.take(created(coupon), more, parts, less, paid(coupon))
    assert (taken.effects, taken.dead) == (3, 2)
    assert sorted(sql(REASONS)) == [("invalid_field",), ("not_applicable",)]
    parts = [part | {"discount_minor": less} for part, less in zip(FOUND, (240, 160), strict=True)]
    assert sql(PRICED, "coupon.used") == [(400, parts)]


def test_without_a_basket_a_payment_says_the_discount(orders: Partition, shop: Shop, sql: Sql) -> None:
    coupon = shop.coupon()
    plain = OrderCreated(merchant_id=MERCHANT, order_id="o-1", user_id="user-1", coupon_ids=[coupon])
    told = paid(coupon, id="told", redeemed={"discount_minor": 5})
    taken = orders.take(message(plain, "created"), paid(coupon), told)
    assert (taken.effects, taken.dead) == (2, 1)
    assert sql(REASONS) == [("invalid_field",)]
    assert sql(PRICED, "coupon.used") == [(5, [])]


def test_a_refund_by_amounts_gives_back_no_more_than_is_left(orders: Partition, shop: Shop, sql: Sql) -> None:
    coupon = shop.coupon()
    orders.take(created(coupon), paid(coupon))
    taken = orders.take(
        refunded(coupon, line="1", id="a", discount_minor=100),
        refunded(coupon, line="1", id="b", discount_minor=201),
        refunded(coupon, line="3", id="c"),
        refunded(coupon, line="1", id="d"),
        refunded(coupon, line="1", id="e"),
        refunded(coupon, line="2", id="f", discount_minor=200),
    )
    assert (taken.effects, taken.dead) == (3, 3)
    assert sql(REASONS) == [("return_not_allowed",)] * 3
    assert [(minor, restored) for minor, _, restored in sql(RETURNED)] == [(100, False), (200, False), (200, True)]


@pytest.mark.parametrize("field", ["line_id", "product_id"])
@pytest.mark.parametrize("id", ["1\u200b", "\u00a01", "\u2028"])
def test_an_allocation_names_lines_and_products_as_http_does(
    field: str, id: str, ledger: Ledger, shop: Shop, sql: Sql
) -> None:
    """A return could not name a line again whose id no other request may hold."""
    coupon = shop.coupon()
    part = {"line_id": "1", "product_id": "tea", "discount_minor": 500} | {field: id}
    taken = Partition(ledger, ORDERS).take(
        created(coupon), paid(coupon, redeemed={"discount_minor": 500, "allocation": [AllocationLine(**part)]})
    )
    assert (taken.messages, taken.effects, taken.dead) == (2, 1, 1)
    assert sql(REASONS) == [("invalid_field",)]
    assert sql(PRICED, "coupon.used") == []

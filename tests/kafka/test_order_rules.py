"""A paid order issues by the merchant's rules for the amount spent, in the transaction of its confirmations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from consumers import dead_letters
from consumers.inputs import ORDERS
from consumers.messages import Wire
from consumers.payloads import OrderPaid, RedeemedCoupon
from ledger import use_cases
from ledger.application import Ledger
from ledger.audience import Audience
from ledger.database import Database
from ledger.errors import SoldOut
from tests.conftest import Shop
from tests.kafka.broker import MERCHANT, Broker, consume, message, wait_until
from tests.kafka.partition import Partition, create_rule
from tests.kafka.test_crashes import OFFSET, WAITS_FOR_TABLE, Spawn, finish, kill, spawn
from tests.kafka.test_orders import created

Sql = Callable[..., list[tuple[Any, ...]]]
ISSUED = (
    "select payload->>'user_id' from event_log where topic = 'coupon.issued'"
    " and payload->>'channel' = 'rule.order_paid' order by position"
)
USED = "select count(*)::int from event_log where topic = 'coupon.used'"
REFUSED = "select rule_id, code, refused::int from rule_refusals order by code"
__all__ = ["spawn"]


def paid(order: str, *coupons: str, user: str | None = "user-1", id: str = "", **more: Any) -> Wire:
    redemptions = [RedeemedCoupon(coupon_id=coupon, discount_minor=500) for coupon in coupons]
    fields = {"redemptions": redemptions, "paid_minor": 5_000, "currency": "EUR", "user_id": user, **more}
    return message(OrderPaid(merchant_id=MERCHANT, order_id=order, **fields), id or f"paid-{order}")


@pytest.fixture
def orders(ledger: Ledger) -> Partition:
    return Partition(ledger, ORDERS)


def test_a_rule_issues_from_its_amount_on(orders: Partition, shop: Shop, sql: Sql) -> None:
    rule = create_rule(shop, "order_paid", min_paid_minor=5_000, currency="EUR")
    coupon = shop.coupon()
    taken = orders.take(
        created("o-1", coupon),
        paid("o-1", coupon),
        paid("o-2", user="user-2", paid_minor=4_999),
        paid("o-3", user="user-3", paid_minor=5_000),
        paid("o-4", user="user-4", currency="JPY"),
        paid("o-5", user="user-5", currency=None),
    )
    assert (taken.messages, taken.effects, taken.dead) == (6, 3, 0)
    assert sql(ISSUED) == [("user-1",), ("user-3",)]
    assert sql(USED) == [(1,)]
    requests = sql("select payload->>'request_id' from event_log where topic = 'coupon.issued' order by position")
    assert [id for (id,) in requests[1:]] == [f" rule {rule} order_paid {order}" for order in ("o-1", "o-3")]


def test_without_a_user_or_an_amount_no_rule_is_asked(orders: Partition, shop: Shop, sql: Sql) -> None:
    create_rule(shop, "order_paid")
    taken = orders.take(paid("o-1", user=None), paid("o-2", paid_minor=None))
    assert (taken.messages, taken.effects, taken.dead) == (2, 0, 0)
    assert sql(ISSUED) == []


def test_an_order_issues_once_however_often_its_payment_is_told(orders: Partition, shop: Shop, sql: Sql) -> None:
    create_rule(shop, "order_paid")
    coupon = shop.coupon()
    wires = [created("o-1", coupon), paid("o-1", coupon), paid("o-2")]
    told_otherwise = [paid("o-1", coupon, id="other"), paid("o-2", id="another")]
    taken = [orders.take(*wires, *wires, *told_otherwise), orders.take(*reversed(wires), *told_otherwise)]
    assert [each.dead for each in taken] == [0, 0]
    assert sql(ISSUED) == [("user-1",), ("user-1",)]
    assert sql(USED) == [(1,)]
    assert sql(REFUSED) == []


def test_a_payment_that_waits_for_its_order_issues_nothing_until_then(orders: Partition, shop: Shop, sql: Sql) -> None:
    create_rule(shop, "order_paid")
    coupon = shop.coupon()
    assert orders.take(paid("o-1", coupon)).early == 1
    assert sql(ISSUED) == []
    assert orders.take(created("o-1", coupon)).effects == 2
    assert (sql(ISSUED), sql(USED)) == ([("user-1",)], [(1,)])


def test_an_order_whose_coupons_are_refused_issues_nothing_until_it_is_retried(
    ledger: Ledger, shop: Shop, sql: Sql
) -> None:
    orders = Partition(ledger, ORDERS, wait_seconds=0)
    create_rule(shop, "order_paid")
    coupon = shop.coupon()
    orders.take(paid("o-1", coupon))
    assert orders.try_again().dead == 1
    assert sql(ISSUED) == []
    orders.take(created("o-1", coupon))
    ((letter,),) = sql("select id from dead_letters")
    assert dead_letters.retry(ledger, letter, actor="operator").settlement == "retried"
    assert (sql(ISSUED), sql(USED)) == ([("user-1",)], [(1,)])


def test_a_rule_that_may_not_issue_leaves_the_order_alone(orders: Partition, shop: Shop, sql: Sql) -> None:
    scarce = create_rule(shop, "order_paid", shop.batch(quantity=1, per_user_limit=None))
    once = create_rule(shop, "order_paid", shop.batch(per_user_limit=1))
    gold = create_rule(shop, "order_paid", shop.batch(audience=Audience(tiers=("gold",)), per_user_limit=None))
    coupons = [shop.coupon() for _ in range(3)]
    wires = [wire for n, coupon in enumerate(coupons) for wire in (created(f"o-{n}", coupon), paid(f"o-{n}", coupon))]
    taken = orders.take(*wires)
    assert (taken.effects, taken.dead) == (6, 0)
    assert sql(USED) == [(3,)]
    assert sql(ISSUED) == [("user-1",), ("user-1",)]
    assert sorted(sql(REFUSED)) == sorted(
        [(scarce, SoldOut.code(), 2), (once, "user_limit_reached", 2), (gold, "fact_required", 3)]
    )


def test_a_stopped_batch_never_holds_up_the_orders(orders: Partition, shop: Shop, sql: Sql) -> None:
    batch = shop.batch()
    rule = create_rule(shop, "order_paid", batch)
    shop.ledger.do(use_cases.stop_batch(shop.request(), batch, reason="over"))
    assert orders.take(paid("o-1")).dead == 0
    assert sql(REFUSED) == [(rule, "batch_not_open", 1)]


def test_killed_between_effects_and_offset(
    broker: Broker,
    database: Database,
    ledger: Ledger,
    shop: Shop,
    sql: Sql,
    spawn: Spawn,
) -> None:
    """Locks, uses and what the rules issue stand in one transaction: none may remain, then each once."""
    create_rule(shop, "order_paid", min_paid_minor=1, currency="EUR")
    coupons = [shop.coupon() for _ in range(6)]
    wires = [wire for n, coupon in enumerate(coupons) for wire in (created(f"o-{n}", coupon), paid(f"o-{n}", coupon))]
    broker.send(ORDERS.topic, [*wires, wires[0]._replace(value=b"poison"), *wires], partition=0)
    with psycopg.connect(database.url, options=f"-c search_path={database.schema}") as holder:
        holder.execute("lock table dead_letters in share mode")
        child = spawn(name="orders")
        wait_until(lambda: sql(WAITS_FOR_TABLE), "the consumer waits after its effects")
        kill(child)
    assert (sql(ISSUED), sql(USED), sql(OFFSET)) == ([], [(0,)], [(0,)])
    child = spawn(name="orders")
    wait_until(lambda: sql(OFFSET) == [(25,)], "all are taken")
    finish(child)
    assert (len(sql(ISSUED)), sql(USED)) == (6, [(6,)])
    again = consume(broker.worker(ledger, ORDERS, group=f"{broker.group}-anew"), 25).health()
    assert (again.effects, again.repeats, again.dead) == (0, 24, 1)
    assert (len(sql(ISSUED)), sql(USED)) == (6, [(6,)])

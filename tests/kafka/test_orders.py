"""Order messages lock, use, let go and return coupons."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from consumers.inbox import Inbox
from consumers.inputs import ISSUANCE, ORDERS
from consumers.messages import Wire
from consumers.payloads import (
    AllocationLine,
    OrderCancelled,
    OrderClosed,
    OrderCreated,
    OrderLine,
    OrderPaid,
    OrderPaymentTimeout,
    OrderRefunded,
    RedeemedCoupon,
)
from ledger.application import Ledger
from tests.conftest import Shop
from tests.kafka.broker import MERCHANT, Broker, consume, issue, message

Sql = Callable[..., list[tuple[Any, ...]]]
LIFE = "select topic from event_log where stream = 'coupon-' || %s order by version"


def created(order: str, *coupons: str, user: str = "user-1", **more: Any) -> Wire:
    payload = OrderCreated(merchant_id=MERCHANT, order_id=order, user_id=user, coupon_ids=list(coupons), **more)
    return message(payload, f"created-{order}")


def paid(order: str, *coupons: str, discount_minor: int = 500, time: datetime | None = None) -> Wire:
    redemptions = [RedeemedCoupon(coupon_id=coupon, discount_minor=discount_minor) for coupon in coupons]
    payload = OrderPaid(merchant_id=MERCHANT, order_id=order, redemptions=redemptions, paid_minor=1_500)
    return message(payload, f"paid-{order}", time=time)


def test_created_and_paid_of_one_order_in_one_poll(broker: Broker, ledger: Ledger, shop: Shop, sql: Sql) -> None:
    coupon = shop.coupon()
    line = OrderLine(line_id="1", product_id="apple", quantity=2, amount_minor=2_000)
    broker.send(ORDERS.topic, [created("o-1", coupon, lines=[line], order_total_minor=2_000), paid("o-1", coupon)])
    polled: dict[tuple[str, int], list[Any]] = {}
    for record in broker.records(ORDERS.topic, 2, partitions=4):
        polled.setdefault((record.topic, record.partition), []).append(record)
    assert [len(records) for records in polled.values()] == [2]
    inbox = Inbox(ledger, ORDERS, broker.group, "live")
    inbox.begin(polled)
    taken = inbox.take(polled)
    assert (taken.messages, taken.effects, taken.dead) == (2, 2, 0)
    assert sql(LIFE, coupon) == [("coupon.issued",), ("coupon.locked",), ("coupon.used",)]


def test_every_type_of_message(broker: Broker, ledger: Ledger, shop: Shop, sql: Sql) -> None:
    coupons = [shop.coupon() for _ in range(5)]
    wires = [created(f"o-{number}", coupon) for number, coupon in enumerate(coupons)]
    wires += [paid("o-0", coupons[0])]
    ends = [OrderCancelled, OrderClosed, OrderPaymentTimeout]
    for number, kind in enumerate(ends, 1):
        payload = kind(merchant_id=MERCHANT, order_id=f"o-{number}", coupon_ids=[coupons[number]])
        wires.append(message(payload, f"end-{number}"))
    refund = OrderRefunded(merchant_id=MERCHANT, order_id="o-0", coupon_ids=[coupons[0]], reason="merchant_refund")
    wires.append(message(refund, "refund"))
    broker.send(ORDERS.topic, wires)
    health = consume(broker.worker(ledger, ORDERS), 10).health()
    assert (health.effects, health.dead) == (10, 0)
    lives = [[topic.removeprefix("coupon.") for (topic,) in sql(LIFE, coupon)] for coupon in coupons]
    assert lives[0] == ["issued", "locked", "used", "returned"]
    assert lives[1:4] == [["issued", "locked", "unlocked"]] * 3
    assert lives[4] == ["issued", "locked"]
    reasons = sql("select payload->>'reason' from event_log where topic = 'coupon.unlocked' order by 1")
    assert reasons == [("cancelled",), ("closed",), ("payment_timeout",)]


def test_all_messages_twice_have_their_effects_once(broker: Broker, ledger: Ledger, shop: Shop, sql: Sql) -> None:
    coupons = [shop.coupon() for _ in range(10)]
    wires = [created(f"o-{number}", coupon) for number, coupon in enumerate(coupons)]
    wires += [paid(f"o-{number}", coupon) for number, coupon in enumerate(coupons)]
    broker.send(ORDERS.topic, wires)
    broker.send(ORDERS.topic, wires)
    health = consume(broker.worker(ledger, ORDERS), 40).health()
    assert (health.effects, health.repeats, health.dead) == (20, 20, 0)
    again = consume(broker.worker(ledger, ORDERS, group=f"{broker.group}-anew"), 40).health()
    assert (again.effects, again.repeats) == (0, 40)
    assert sql("select count(*) from event_log where topic in ('coupon.locked', 'coupon.used')") == [(20,)]


def test_the_same_id_with_another_body_is_a_dead_letter(broker: Broker, ledger: Ledger, shop: Shop, sql: Sql) -> None:
    coupon = shop.coupon()
    wires = [created("o-1", coupon), paid("o-1", coupon, discount_minor=400), paid("o-1", coupon, discount_minor=500)]
    broker.send(ORDERS.topic, wires)
    health = consume(broker.worker(ledger, ORDERS), 3).health()
    assert (health.effects, health.dead) == (2, 1)
    assert sql("select reason from dead_letters") == [("idempotency_key_reused",)]
    assert sql("select (payload->>'discount_minor')::int from event_log where topic = 'coupon.used'") == [(400,)]


def test_layout_and_order_of_fields_are_no_other_body(broker: Broker, ledger: Ledger, shop: Shop) -> None:
    first = created("o-1", shop.coupon())
    assert first.value is not None
    fields = dict(item.split(b":", 1) for item in first.value.strip(b"{}").split(b',"') if item)
    assert len(fields) == 4
    backwards = b', "'.join(name.lstrip(b'"').join((b"", b" : " + value)) for name, value in reversed(fields.items()))
    broker.send(ORDERS.topic, [first, first._replace(value=b'{ "' + backwards + b" }")])
    health = consume(broker.worker(ledger, ORDERS), 2).health()
    assert (health.effects, health.repeats, health.dead) == (1, 1, 0)


def test_the_allocation_to_lines_is_recorded(broker: Broker, ledger: Ledger, shop: Shop, sql: Sql) -> None:
    coupon = shop.coupon()
    parts = [AllocationLine(line_id=id, product_id=f"p-{id}", discount_minor=250) for id in ("1", "2")]
    redemption = RedeemedCoupon(coupon_id=coupon, discount_minor=500, allocation=parts)
    wires = [
        created("o-1", coupon),
        message(OrderPaid(merchant_id=MERCHANT, order_id="o-1", redemptions=[redemption]), "paid"),
        message(
            OrderPaid(
                merchant_id=MERCHANT,
                order_id="o-1",
                redemptions=[redemption.model_copy(update={"discount_minor": 501})],
            ),
            "paid-wrong",
        ),
    ]
    broker.send(ORDERS.topic, wires)
    consume(broker.worker(ledger, ORDERS), 3)
    used = sql("select payload->'allocation' from event_log where topic = 'coupon.used'")
    assert used == [([part.model_dump() for part in parts],)]
    assert sql("select reason from dead_letters") == [("invalid_field",)]


def test_a_year_is_imported_at_its_own_pace(
    broker: Broker, ledger: Ledger, shop: Shop, sql: Sql, long_ago: datetime
) -> None:
    """The lock ends by the messages' clock, so a payment a minute later is in time and one a day later is not."""
    batch = shop.batch(valid_from=long_ago, valid_until=long_ago + timedelta(days=30), valid_for_seconds=None)
    broker.send(ISSUANCE.topic, [issue(batch, number, time=long_ago) for number in (1, 2)])
    consume(broker.worker(ledger, business_time="message"), 2)
    coupons = dict(sql("select payload->>'user_id', substr(stream, 8) from event_log where topic = 'coupon.issued'"))
    moment = long_ago + timedelta(days=3)
    wires = []
    for number in (1, 2):
        payload = OrderCreated(
            merchant_id=MERCHANT,
            order_id=f"o-{number}",
            user_id=f"user-{number}",
            coupon_ids=[coupons[f"user-{number}"]],
            ttl_seconds=600,
        )
        wires.append(message(payload, f"created-{number}", time=moment))
    wires.append(paid("o-1", coupons["user-1"], time=moment + timedelta(minutes=1)))
    wires.append(paid("o-2", coupons["user-2"], time=moment + timedelta(days=1)))
    broker.send(ORDERS.topic, wires)
    health = consume(broker.worker(ledger, ORDERS, business_time="message"), 4).health()
    assert (health.effects, health.dead) == (3, 1)
    assert sql("select reason from dead_letters") == [("lock_expired",)]
    times = dict(
        sql("select topic, max(payload->>'occurred_at') from event_log where topic like 'coupon.%%' group by 1")
    )
    assert datetime.fromisoformat(times["coupon.locked"]) == moment
    assert datetime.fromisoformat(times["coupon.used"]) == moment + timedelta(minutes=1)

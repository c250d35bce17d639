"""Messages that come too early wait for what they need, for a bounded time and in the order of their key."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import product
from typing import Any

import pytest

from consumers import waiting
from consumers.asked import Asked
from consumers.inputs import ORDERS
from consumers.messages import Message, Wire
from consumers.payloads import (
    AllocationLine,
    OrderCancelled,
    OrderClosed,
    OrderCreated,
    OrderPaid,
    OrderPaymentTimeout,
    OrderRefunded,
    RedeemedCoupon,
    ReturnedLine,
)
from ledger import use_cases
from ledger.aggregate import coupon_id
from ledger.application import Ledger
from ledger.benefit import Benefit
from ledger.coupon import Coupon
from ledger.request import Request
from ledger.terms import ReturnPolicy, Terms
from ledger.work import fold
from tests.conftest import Shop
from tests.kafka.broker import MERCHANT, Broker, consume, message, running, wait_until
from tests.kafka.partition import Partition

Sql = Callable[..., list[tuple[Any, ...]]]
LIFE = "select topic from event_log where stream = 'coupon-' || %s order by version"
WAITING = 'select reason, attempts from waiting_messages order by "offset"'
DEAD = 'select reason from dead_letters order by "offset"'
DUE = "update waiting_messages set next_try_at = clock_timestamp() returning 1"
OVER = "update waiting_messages set next_try_at = clock_timestamp(), waits_until = clock_timestamp() returning 1"

STEPS = {
    ("UNUSED", "created"): "LOCKED",
    ("UNUSED", "paid"): "not_locked",
    ("UNUSED", "cancelled"): "not_locked",
    ("UNUSED", "closed"): "not_locked",
    ("UNUSED", "payment_timeout"): "not_locked",
    ("UNUSED", "refunded"): "not_used",
    ("LOCKED", "created"): "LOCKED",
    ("LOCKED", "paid"): "USED",
    ("LOCKED", "cancelled"): "LET GO",
    ("LOCKED", "closed"): "LET GO",
    ("LOCKED", "payment_timeout"): "LET GO",
    ("LOCKED", "refunded"): "not_used",
    ("USED", "created"): "coupon_used",
    ("USED", "paid"): "USED",
    ("USED", "cancelled"): "coupon_used",
    ("USED", "closed"): "coupon_used",
    ("USED", "payment_timeout"): "coupon_used",
    ("USED", "refunded"): "OVER",
    ("LET GO", "created"): "LOCKED",
    ("LET GO", "paid"): "not_locked",
    ("LET GO", "cancelled"): "LET GO",
    ("LET GO", "closed"): "LET GO",
    ("LET GO", "payment_timeout"): "LET GO",
    ("LET GO", "refunded"): "not_used",
    ("OVER", "created"): "LOCKED",
    ("OVER", "paid"): "not_locked",
    ("OVER", "cancelled"): "OVER",
    ("OVER", "closed"): "OVER",
    ("OVER", "payment_timeout"): "OVER",
    ("OVER", "refunded"): "OVER",
}
"""State of the order's coupon and type of message, to its next state or the refusal. LET GO is UNUSED, after this very
order held it and did not use it; OVER is UNUSED, after it used it and returned it whole."""
FREE = {"LET GO": "UNUSED", "OVER": "UNUSED"}
KINDS = list(dict.fromkeys(kind for _, kind in STEPS))
CURABLE = {"not_locked", "not_used"}


def create(order: str, *coupons: str, id: str = "", time: datetime | None = None, **more: Any) -> Wire:
    payload = OrderCreated(merchant_id=MERCHANT, order_id=order, user_id="user-1", coupon_ids=list(coupons), **more)
    return message(payload, id or f"created-{order}", time=time)


def pay(order: str, coupon: str, id: str = "", time: datetime | None = None) -> Wire:
    redemptions = [RedeemedCoupon(coupon_id=coupon, discount_minor=500)]
    payload = OrderPaid(merchant_id=MERCHANT, order_id=order, redemptions=redemptions)
    return message(payload, id or f"paid-{order}", time=time)


def told(kind: str, order: str, coupon: str, id: str = "") -> Wire:
    """A message of this type; each has an id of its own unless one is given."""
    id = id or f"{kind}-{order}"
    named: dict[str, Any] = {"merchant_id": MERCHANT, "order_id": order, "coupon_ids": [coupon]}
    match kind:
        case "created":
            return create(order, coupon, id=id)
        case "paid":
            return pay(order, coupon, id=id)
        case "cancelled":
            return message(OrderCancelled(**named), id)
        case "closed":
            return message(OrderClosed(**named), id)
        case "payment_timeout":
            return message(OrderPaymentTimeout(**named), id)
    return message(OrderRefunded(**named, reason="merchant_refund"), id)


class Foretold:
    """What becomes of an order's coupon and messages, one after the other."""

    def __init__(self, kinds: Sequence[str]) -> None:
        self.state = "UNUSED"
        self.waits: list[str] = []
        self.dead: list[str] = []
        for kind in kinds:
            self.tell(kind)
        self.reasons = sorted(STEPS[self.state, kind] for kind in self.waits)

    def tell(self, kind: str) -> None:
        refusal = self.refusal(kind)
        if refusal is None:
            while self.tell_again():
                pass
        elif refusal in CURABLE or self.waits:
            self.waits.append(kind)
        else:
            self.dead.append(refusal)

    def tell_again(self) -> bool:
        """Whether one of those that wait had its effect."""
        for kind in list(self.waits):
            refusal = self.refusal(kind)
            if refusal is None:
                self.waits.remove(kind)
                return True
            if refusal not in CURABLE and kind == self.waits[0]:
                self.waits.remove(kind)
                self.dead.append(refusal)
        return False

    def refusal(self, kind: str) -> str | None:
        found = STEPS[self.state, kind]
        if not found.isupper():
            return found
        self.state = found
        return None


STARTS = ((), ("created",), ("created", "paid"), ("created", "cancelled"), ("created", "paid", "refunded"))
PAIRS = [(*start, *pair) for start in STARTS for pair in product(KINDS, repeat=2)]
TRIPLES = list(product(KINDS, repeat=3))


@pytest.mark.parametrize("polls", ["one", "many"])
@pytest.mark.parametrize("stories", [PAIRS, TRIPLES], ids=["pairs", "triples"])
def test_messages_in_every_order_and_each_twice(
    ledger: Ledger, shop: Shop, sql: Sql, polls: str, stories: list[tuple[str, ...]]
) -> None:
    """Every pair of types, from each state that a coupon can be in, and all triples; in one poll or in many."""
    batch = shop.batch(quantity=1_000, per_user_limit=None)
    issued = ledger.do(use_cases.issue(shop.request(), batch, ["user-1"] * len(stories))).answer["coupons"]
    coupons = [coupon["coupon_id"] for coupon in issued]
    orders = Partition(ledger, ORDERS)
    wires = [
        [told(kind, f"o-{number}", coupon, f"{number} {place}") for place, kind in enumerate(story) for _ in "ab"]
        for number, (story, coupon) in enumerate(zip(stories, coupons, strict=True))
    ]
    if polls == "one":
        for first in range(0, len(wires), 30):
            orders.take(*(wire for story in wires[first : first + 30] for wire in story))
    else:
        for place in range(max(map(len, wires))):
            orders.take(*(story[place] for story in wires if place < len(story)))
    now = ledger.store.now()
    for number, (story, coupon) in enumerate(zip(stories, coupons, strict=True)):
        key = f"o-{number}".encode()
        waits = sql("select reason from waiting_messages where key = %s order by reason", key)
        dead = sql("select reason from dead_letters where key = %s order by reason", key)
        expected = Foretold(story)
        found = ledger.store.load([f"coupon-{coupon}"])
        assert state_of(found.streams[f"coupon-{coupon}"], now) == FREE.get(expected.state, expected.state), story
        assert [reason for (reason,) in waits] == sorted(expected.reasons * 2), story
        assert [reason for (reason,) in dead] == sorted(expected.dead * 2), story


def state_of(events: Any, now: datetime) -> str:
    coupon: Coupon = fold(Coupon(events[0].originator_id), events)
    return coupon.state_at(now)


@pytest.mark.parametrize("swept", [False, True])
@pytest.mark.parametrize("taken_over", [False, True])
def test_the_end_of_an_order_whose_lock_is_over(
    ledger: Ledger, shop: Shop, sql: Sql, long_ago: datetime, swept: bool, taken_over: bool
) -> None:
    """An unpaid order's normal end: its coupon is free by the clock, or another's, whether or not that is written."""
    batch = shop.batch(valid_from=long_ago, valid_until=long_ago + timedelta(days=9_999), valid_for_seconds=None)
    issue = use_cases.issue(shop.request(at=long_ago), batch, ["user-1"])
    (coupon,) = (each["coupon_id"] for each in ledger.do(issue).answer["coupons"])
    named = {"coupon_ids": [coupon]}
    ledger.do(use_cases.lock(shop.request(at=long_ago), "o-1", user_id="user-1", ttl_seconds=1, **named))
    if swept:
        over = shop.request(at=long_ago + timedelta(seconds=1))
        ledger.do(use_cases.unlock(over, "o-1", reason="lock_ended", **named))
    if taken_over:
        ledger.do(use_cases.lock(shop.request(), "o-2", user_id="user-1", **named))
    before = ledger.store.head()
    orders = Partition(ledger, ORDERS)
    ends = ("payment_timeout", "cancelled", "closed")
    taken = orders.take(*(told(kind, "o-1", coupon) for kind in ends), *(told(kind, "o-9", coupon) for kind in ends))
    assert (taken.effects, taken.early, taken.dead) == (3, 3, 0)
    assert ledger.store.head() == before
    assert {reason for reason, _ in sql(WAITING)} == {"lock_mismatch" if taken_over else "not_locked"}


@pytest.mark.parametrize("policy", ["restore", "keep_used"])
@pytest.mark.parametrize("taken_over", [False, True])
def test_the_end_of_an_order_that_was_returned_whole(
    ledger: Ledger, shop: Shop, sql: Sql, policy: Any, taken_over: bool
) -> None:
    """Line by line, and told once more: whatever the policy made of the coupon, and whoever has used it since."""
    terms = Terms(
        benefit=Benefit(kind="amount_off", value_minor=500),
        currency="EUR",
        stacking_mode="stackable",
        return_policy=ReturnPolicy(merchant_refund=policy),
    )
    coupon = shop.coupon(batch_id=shop.batch(terms=terms))
    parts = [AllocationLine(line_id=line, product_id="tea", discount_minor=250) for line in ("1", "2")]
    redeemed = RedeemedCoupon(coupon_id=coupon, discount_minor=500, allocation=parts)
    named: dict[str, Any] = {"merchant_id": MERCHANT, "order_id": "o-1"}
    refund = {**named, "coupon_ids": [coupon], "reason": "merchant_refund"}
    halves = [message(OrderRefunded(**refund, lines=[ReturnedLine(line_id=line)]), f"line {line}") for line in "12"]
    orders = Partition(ledger, ORDERS)
    orders.take(create("o-1", coupon), message(OrderPaid(**named, redemptions=[redeemed]), "paid"), halves[0])
    assert (orders.take(told("closed", "o-1", coupon, id="half")).dead, sql(DEAD)) == (1, [("coupon_used",)])
    orders.take(halves[1])
    if taken_over and policy == "restore":
        orders.take(create("o-2", coupon), pay("o-2", coupon))
    before = ledger.store.head()
    taken = orders.take(*(told(kind, "o-1", coupon) for kind in ("refunded", "cancelled", "closed", "payment_timeout")))
    assert (taken.effects, taken.early, taken.dead) == (4, 0, 0)
    assert ledger.store.head() == before


def test_an_order_before_its_coupon(ledger: Ledger, shop: Shop, sql: Sql) -> None:
    """The coupon comes over HTTP or on another topic, so only time tells."""
    batch = shop.batch()
    coupon = coupon_id(batch, "claim", 0)
    orders = Partition(ledger, ORDERS)
    assert orders.take(pay("o-1", coupon), create("o-1", coupon)).early == 2
    assert sql(WAITING) == [("coupon_not_found", 1)] * 2
    assert orders.try_again().effects == 0  # nothing is due yet
    assert ledger.do(use_cases.claim(shop.request("claim"), batch, "user-1")).answer["coupon_id"] == coupon
    sql(DUE)
    taken = orders.try_again()
    assert (taken.messages, taken.effects, taken.dead) == (0, 2, 0)
    assert sql(LIFE, coupon) == [("coupon.issued",), ("coupon.locked",), ("coupon.used",)]
    assert (sql(WAITING), sql(DEAD)) == ([], [])


def test_an_order_before_the_end_of_another_in_another_partition(ledger: Ledger, shop: Shop, sql: Sql) -> None:
    coupon = shop.coupon()
    first, second = Partition(ledger, ORDERS), Partition(ledger, ORDERS, number=1)
    first.take(create("o-1", coupon))
    assert second.take(pay("o-2", coupon), create("o-2", coupon)).early == 2
    assert sql(WAITING) == [("lock_mismatch", 1), ("coupon_locked", 1)]
    first.take(told("cancelled", "o-1", coupon))
    sql(DUE)
    assert first.try_again().effects == 0  # they are of the other partition
    assert second.try_again().effects == 2
    assert sql("select payload->>'order_id' from event_log where topic = 'coupon.used'") == [("o-2",)]


def test_it_is_tried_less_and_less_often_and_dies_with_the_last_reason(ledger: Ledger, shop: Shop, sql: Sql) -> None:
    coupon = shop.coupon()
    orders = Partition(ledger, ORDERS)
    wire = pay("o-1", coupon)
    wire = wire._replace(headers=[*wire.headers, ("odd", None), ("zero\x00", b"\x00")])
    orders.take(wire)
    pauses = []
    for attempts in (1, 2, 3):
        assert sql(WAITING) == [("not_locked", attempts)]
        assert orders.try_again().dead == 0
        sql(DUE)
        orders.try_again()
        pauses += sql("select round(extract(epoch from next_try_at - clock_timestamp()))::int from waiting_messages")
    assert pauses == [(2,), (4,), (8,)]
    ledger.do(use_cases.lock(shop.request(), "o-2", user_id="user-1", coupon_ids=[coupon]))
    sql(OVER)
    assert orders.try_again().dead == 1
    assert sql(WAITING) == []
    ((reason, key, value, headers, attempts),) = sql(
        "select reason, key, value, headers, attempts from dead_letters where settled_at is null"
    )
    assert (reason, key, value, attempts) == ("lock_mismatch", wire.key, wire.value, 5)
    assert headers[-2:] == [["odd", None], ["zero\x00", "AA=="]]
    assert orders.take(create("o-1", coupon)).early == 1
    assert sql(DEAD) == [("lock_mismatch",)]


def test_it_dies_at_once_of_what_cannot_be_cured(ledger: Ledger, shop: Shop, sql: Sql) -> None:
    coupon = shop.coupon()
    orders = Partition(ledger, ORDERS)
    orders.take(pay("o-1", coupon))
    ledger.do(use_cases.void(shop.request(), coupon, reason="fraud"))
    sql(DUE)
    assert orders.try_again().dead == 1
    assert (sql(WAITING), sql(DEAD)) == ([], [("coupon_void",)])


def test_what_is_refused_behind_a_waiting_message_waits_too(ledger: Ledger, shop: Shop, sql: Sql) -> None:
    """An earlier message may yet change what its refusal was about; what no state could accept is dead at once."""
    coupon, used = shop.coupon(), shop.coupon()
    shop.ledger.do(use_cases.redeem(shop.request(), "till-1", coupon_id=used, discount_minor=1))
    orders = Partition(ledger, ORDERS)
    taken = orders.take(
        pay("o-1", coupon), create("o-1", used), pay("o-2", used), create("o-1", coupon, coupon, id="x")
    )
    assert (taken.effects, taken.early, taken.dead) == (0, 2, 2)
    assert [reason for reason, _ in sql(WAITING)] == ["not_locked", "coupon_used"]
    assert sql(DEAD) == [("coupon_used",), ("invalid_field",)]
    sql("update waiting_messages set next_try_at = clock_timestamp() where reason = 'coupon_used' returning 1")
    orders.try_again()
    assert sql(WAITING) == [("not_locked", 2), ("coupon_used", 2)]
    sql("update waiting_messages set waits_until = clock_timestamp() where reason = 'not_locked' returning 1")
    sql(DUE)
    orders.try_again()
    assert [reason for reason, _ in sql(WAITING)] == ["coupon_used"]
    sql(DUE)
    assert orders.try_again().dead == 1
    assert sql(WAITING) == []


def test_the_same_id_with_another_body_does_not_wait(ledger: Ledger, shop: Shop, sql: Sql) -> None:
    coupon, other = shop.coupon(), shop.coupon()
    orders = Partition(ledger, ORDERS)
    orders.take(create("o-1", coupon), pay("o-1", other, id="p"))
    assert [reason for reason, _ in sql(WAITING)] == ["not_locked"]
    taken = orders.take(create("o-1", other))
    assert (taken.early, taken.dead) == (0, 1)
    assert sql(DEAD) == [("idempotency_key_reused",)]


def test_a_key_has_room_for_so_many(ledger: Ledger, shop: Shop, sql: Sql, monkeypatch: Any) -> None:
    monkeypatch.setattr("consumers.inbox.KEY_LIMIT", 3)
    coupon = shop.coupon()
    orders = Partition(ledger, ORDERS)
    taken = orders.take(*(pay("o-1", coupon, id=f"p-{number}") for number in range(5)), pay("o-2", coupon))
    assert (taken.early, taken.dead) == (4, 2)
    assert orders.take(pay("o-1", coupon, id="p-5")).dead == 1
    assert orders.take(create("o-1", coupon)).effects == 4
    assert [reason for reason, _ in sql(WAITING)] == ["not_locked"]


def test_history_waits_at_its_own_time(ledger: Ledger, shop: Shop, sql: Sql, long_ago: datetime) -> None:
    """Also where live messages are read already when it is tried again."""
    batch = shop.batch(valid_from=long_ago, valid_until=long_ago + timedelta(days=30), valid_for_seconds=None)
    issue = use_cases.issue(shop.request(at=long_ago), batch, ["user-1"])
    (coupon,) = (each["coupon_id"] for each in ledger.do(issue).answer["coupons"])
    paid_at = long_ago + timedelta(minutes=5)
    past = Partition(ledger, ORDERS, business_time="message")
    past.take(pay("o-1", coupon, time=paid_at))
    locked = use_cases.lock(shop.request(at=long_ago), "o-1", user_id="user-1", coupon_ids=[coupon])
    ledger.do(locked)
    sql(DUE)
    assert Partition(ledger, ORDERS).try_again().effects == 1
    assert sql("select (payload->>'occurred_at')::timestamptz from event_log where topic = 'coupon.used'") == [
        (paid_at,)
    ]


def test_a_waiting_message_that_makes_its_group_fail_is_found(ledger: Ledger, shop: Shop, sql: Sql) -> None:
    failing = []

    def asked_by(message: Message, request: Request) -> Asked:
        asked = ORDERS.asked_by(message, request)
        assert asked.work is not None
        if message.request_id.removeprefix("/tests ") in failing:

            def decide(loaded: Any) -> Any:
                raise RuntimeError("never foreseen")

            return asked._replace(work=replace(asked.work, decide=decide))
        return asked

    coupons = [shop.coupon(), shop.coupon()]
    orders = Partition(ledger, replace(ORDERS, asked_by=asked_by))
    orders.take(*(pay(f"o-{number}", coupon) for number, coupon in enumerate(coupons)))
    failing.append("paid-o-0")
    taken = orders.take(*(create(f"o-{number}", coupon) for number, coupon in enumerate(coupons)))
    assert (taken.effects, taken.dead) == (3, 1)
    assert sql(DEAD) == [("unexpected_error",)]
    assert sql(WAITING) == []


def test_many_keys_are_tried_a_piece_at_a_time(ledger: Ledger, shop: Shop, sql: Sql, monkeypatch: Any) -> None:
    monkeypatch.setattr(waiting, "DUE_LIMIT", 2)
    batch = shop.batch(per_user_limit=None)
    coupons = [coupon_id(batch, "later", number) for number in range(5)]
    orders = Partition(ledger, ORDERS)
    assert orders.take(*(create(f"o-{n}", coupon) for n, coupon in enumerate(coupons))).early == 5
    ledger.do(use_cases.issue(shop.request("later"), batch, ["user-1"] * 5))
    sql(DUE)
    assert [orders.try_again().effects for _ in range(4)] == [2, 2, 1, 0]


def test_a_worker_tries_again_by_time(broker: Broker, ledger: Ledger, shop: Shop, sql: Sql) -> None:
    """What HTTP did meanwhile is found, and what never came ends as a dead letter with a copy."""
    coupon, other = shop.coupon(), shop.coupon()
    broker.send(ORDERS.topic, [pay("o-1", coupon), pay("o-2", other)])
    with running(broker.worker(ledger, ORDERS, wait_seconds=4)) as worker:
        wait_until(lambda: worker.health().early == 2, "both wait")
        ledger.do(use_cases.lock(shop.request(), "o-1", user_id="user-1", coupon_ids=[coupon]))
        wait_until(lambda: worker.health().effects == 1, "the first is paid")
        wait_until(lambda: worker.health().dead == 1, "the second is dead")
        wait_until(lambda: sql("select 1 from dead_letters where published_at is not null"), "it is copied")
    assert sql(LIFE, coupon)[-1] == ("coupon.used",)
    (copy,) = broker.records(f"{ORDERS.topic}.dlq", 1)
    assert dict(copy.headers)["dead_letter_reason"] == b"not_locked"
    assert int(dict(copy.headers)["dead_letter_attempts"]) > 1


def test_another_worker_takes_over_what_waits(broker: Broker, ledger: Ledger, shop: Shop, sql: Sql) -> None:
    coupon = shop.coupon()
    broker.send(ORDERS.topic, [pay("o-1", coupon)])
    assert consume(broker.worker(ledger, ORDERS), 1).health().early == 1
    broker.send(ORDERS.topic, [create("o-1", coupon), pay("o-1", coupon)])
    health = consume(broker.worker(ledger, ORDERS), 2).health()
    assert (health.effects, health.repeats, health.dead) == (2, 1, 0)
    assert sql(WAITING) == []

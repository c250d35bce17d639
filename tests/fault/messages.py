"""The messages of a schedule, and sending each of them twice and more."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from random import Random
from typing import Any

from kafka import KafkaProducer
from kafka.errors import KafkaError

from consumers import payloads, topics
from consumers.messages import Wire, encode
from tests.fault.load import ANSWER_SECONDS, SOURCE, Load, Order


def make(load: Load, chance: Random) -> None:
    """Add the schedule's messages to the load, in the order in which they are sent first."""
    merchant_id, schedule = load.merchant_id, load.schedule
    asks = [
        payloads.IssueRequested(merchant_id=merchant_id, batch_id=load.flash, user_id=f"user-{user}")
        for user in range(schedule.users)
        for _ in range(schedule.asks)
    ]
    chance.shuffle(asks)
    _add(load, topics.ISSUANCE, "ask", asks)
    members = [
        payloads.MemberRegistered(merchant_id=merchant_id, user_id=f"member-{user}") for user in range(schedule.members)
    ]
    _add(load, topics.MEMBERS, "member", members)
    told: list[list[payloads.Payload]] = []
    for order in load.orders:
        story = _story(merchant_id, order)
        if chance.random() < schedule.early:
            story.reverse()
        told.append(story)
    # Orders are mixed with each other, but each order's messages keep the order in which they are told.
    mixed: list[payloads.Payload] = []
    while told := [story for story in told if story]:
        mixed.append(chance.choice(told).pop(0))
    _add(load, topics.ORDERS, "order", mixed)
    _poison(load, chance)


def _poison(load: Load, chance: Random) -> None:
    """Messages that nobody can read, among the others and under their keys."""
    chosen = [chance.choice([each for each in load.messages if each[0] == topic]) for topic in load.message_ids]
    # Reminders are sent by the ledger itself, so there is none to take the envelope of.
    chosen.append((topics.REMINDERS, chosen[0][1]._replace(key=b"owner-0")))
    for topic, wire in chosen:
        for number in range(load.schedule.poison):
            id = f"{load.merchant_id}-{topic}-poison-{number}"
            said = dict(wire.headers) | {"ce_id": id.encode()}
            if topic == topics.REMINDERS:
                said["ce_type"] = payloads.ReminderDue.TYPE.encode()
            headers = list(said.items())
            value = chance.choice([b"", b"{", b"not JSON", b"\xff\x00", None])
            load.messages.insert(chance.randrange(len(load.messages)), (topic, Wire(wire.key, value, headers)))
            load.poison_ids.append(id)


def _add(load: Load, topic: str, word: str, said: Sequence[payloads.Payload]) -> None:
    ids = [f"{load.merchant_id}-{word}-{number}" for number in range(len(said))]
    load.message_ids[topic] = ids
    now = datetime.now(UTC)
    load.messages += [
        (topic, encode(payload, source=SOURCE, id=id, time=now)) for payload, id in zip(said, ids, strict=True)
    ]


def _story(merchant_id: str, order: Order) -> list[payloads.Payload]:
    named = {"merchant_id": merchant_id, "order_id": order.id}
    user_id = f"buyer-{order.id.rpartition('-')[2]}"
    ttl = 86_400 if order.story == "held" else 3_600
    said: list[payloads.Payload] = [
        payloads.OrderCreated(
            **named, user_id=user_id, coupon_ids=[order.coupon_id], order_total_minor=5_000, ttl_seconds=ttl
        )
    ]
    if order.story in ("used", "refunded"):
        redemption = payloads.RedeemedCoupon(coupon_id=order.coupon_id, discount_minor=500)
        said.append(payloads.OrderPaid(**named, redemptions=[redemption], order_total_minor=5_000, paid_minor=4_500))
    if order.story == "refunded":
        said.append(payloads.OrderRefunded(**named, coupon_ids=[order.coupon_id], reason="merchant_refund"))
    if order.story == "cancelled":
        said.append(payloads.OrderCancelled(**named, coupon_ids=[order.coupon_id]))
    if order.story == "timed_out":
        said.append(payloads.OrderPaymentTimeout(**named, coupon_ids=[order.coupon_id]))
    return said


def send(load: Load, bootstrap: Sequence[str], prefix: str) -> None:
    """Send each message twice, the second time much later, over the schedule's time; whatever happens to the broker."""
    chance = Random(load.schedule.seed + 1)
    producer = KafkaProducer(
        bootstrap_servers=list(bootstrap),
        acks="all",
        enable_idempotence=True,
        linger_ms=5,
        delivery_timeout_ms=30_000,
        request_timeout_ms=5_000,
        max_block_ms=30_000,
    )
    try:
        again = [each for each in load.messages if chance.random() < 0.3]
        plan = [*load.messages, *load.messages, *again]
        pause = load.schedule.load_seconds / max(1, len(plan) // 50)
        for start in range(0, len(plan), 50):
            _send_all(producer, [(prefix + topic, wire) for topic, wire in plan[start : start + 50]])
            time.sleep(pause)
    finally:
        producer.close(timeout=40)


def _send_all(producer: Any, wires: Sequence[tuple[str, Wire]]) -> None:
    """Until all are acknowledged; what may have arrived is sent again, as a careful producer does."""
    left = list(wires)
    ends_at = time.monotonic() + ANSWER_SECONDS
    while left:
        assert time.monotonic() < ends_at, "the broker did not come back"
        failed = []
        futures = []
        for topic, wire in left:
            try:
                futures.append((topic, wire, producer.send(topic, **wire._asdict())))
            except KafkaError:
                failed.append((topic, wire))
        for topic, wire, future in futures:
            try:
                future.get(timeout=35)
            except KafkaError:
                failed.append((topic, wire))
        left = failed

"""Issuance messages have one effect each."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

from consumers.inputs import ISSUANCE
from consumers.payloads import IssueRequested, UserFacts
from ledger.application import Ledger
from ledger.audience import Audience
from ledger.benefit import Benefit
from ledger.terms import Terms
from tests.conftest import Shop
from tests.kafka.broker import (
    MERCHANT,
    Broker,
    KafkaConsumer,
    TopicPartition,
    consume,
    issue,
    message,
    running,
    wait_until,
)
from tests.kafka.partition import Partition

Sql = Callable[..., list[tuple[Any, ...]]]
COUPONS = "select count(*), count(distinct payload->>'user_id') from event_log where topic = 'coupon.issued'"


def test_each_message_issues_one_coupon(broker: Broker, ledger: Ledger, shop: Shop, sql: Sql) -> None:
    batch = shop.batch(quantity=500)
    broker.send(ISSUANCE.topic, [issue(batch, number) for number in range(300)])
    health = consume(broker.worker(ledger), 300).health()
    assert (health.effects, health.repeats, health.dead) == (300, 0, 0)
    assert sql(COUPONS) == [(300, 300)]
    issued = sql(
        "select payload->>'actor', payload->>'request_id', payload->>'channel', payload->>'batch_id' from event_log"
        " where payload->>'user_id' = 'user-7'"
    )
    assert issued == [(f"consumer:{broker.group}", "/tests issue-7", "mail", batch)]


def test_lag_tools_see_in_kafka_where_the_group_stands(broker: Broker, ledger: Ledger, shop: Shop) -> None:
    batch = shop.batch()
    broker.send(ISSUANCE.topic, [issue(batch, number) for number in range(10)], partition=2)
    consume(broker.worker(ledger), 10)
    with closing(KafkaConsumer(bootstrap_servers=broker.bootstrap, group_id=broker.group)) as consumer:
        assert consumer.committed(TopicPartition(f"{broker.prefix}{ISSUANCE.topic}", 2)) == 10


def test_a_message_sent_twice_has_one_effect(broker: Broker, ledger: Ledger, shop: Shop, sql: Sql) -> None:
    batch = shop.batch(per_user_limit=None)
    wires = [issue(batch, number) for number in range(40)]
    broker.send(ISSUANCE.topic, wires + wires[:20])
    broker.send(ISSUANCE.topic, wires)
    health = consume(broker.worker(ledger), 100).health()
    assert (health.effects, health.repeats, health.dead) == (40, 60, 0)
    assert sql(COUPONS) == [(40, 40)]


def test_a_group_that_begins_anew_repeats_nothing(broker: Broker, ledger: Ledger, shop: Shop, sql: Sql) -> None:
    batch = shop.batch(per_user_limit=None)
    broker.send(ISSUANCE.topic, [issue(batch, number) for number in range(50)])
    consume(broker.worker(ledger), 50)
    health = consume(broker.worker(ledger, group=f"{broker.group}-anew"), 50).health()
    assert (health.effects, health.repeats) == (0, 50)
    assert sql(COUPONS) == [(50, 50)]


def test_a_repeat_is_acknowledged_even_when_the_batch_has_stopped(
    broker: Broker, ledger: Ledger, shop: Shop, sql: Sql
) -> None:
    batch = shop.batch(quantity=3)
    wires = [issue(batch, number) for number in range(3)]
    broker.send(ISSUANCE.topic, wires)
    consume(broker.worker(ledger), 3)
    broker.send(ISSUANCE.topic, [*wires, issue(batch, 3)])
    health = consume(broker.worker(ledger), 4).health()
    assert (health.effects, health.repeats, health.dead) == (0, 3, 1)
    assert sql("select reason from dead_letters") == [("sold_out",)]


def test_the_same_id_for_another_user_is_a_dead_letter(broker: Broker, ledger: Ledger, shop: Shop, sql: Sql) -> None:
    batch = shop.batch()
    broker.send(ISSUANCE.topic, [issue(batch, 1, id="same"), issue(batch, 2, id="same")], partition=0)
    health = consume(broker.worker(ledger), 2).health()
    assert (health.effects, health.dead) == (1, 1)
    assert sql("select reason from dead_letters") == [("idempotency_key_reused",)]
    assert sql(COUPONS) == [(1, 1)]


def test_limits_hold_and_each_refusal_is_a_dead_letter(broker: Broker, ledger: Ledger, shop: Shop, sql: Sql) -> None:
    batch = shop.batch(quantity=30, per_user_limit=2)
    wires = [issue(batch, number % 20, id=f"issue-{number}") for number in range(100)]
    broker.send(ISSUANCE.topic, wires)
    health = consume(broker.worker(ledger), 100).health()
    assert (health.effects, health.dead) == (30, 70)
    assert dict(sql("select reason, count(*) from dead_letters group by 1")).keys() == {
        "sold_out",
        "user_limit_reached",
    }
    assert sql("select issued from batch_stock") == [(30,)]


def test_imported_history_happened_when_its_messages_say(
    broker: Broker, ledger: Ledger, shop: Shop, sql: Sql, long_ago: datetime
) -> None:
    batch = shop.batch(valid_from=long_ago, valid_until=long_ago + timedelta(days=30), valid_for_seconds=None)
    times = [long_ago + timedelta(hours=number) for number in range(10)]
    broker.send(ISSUANCE.topic, [issue(batch, number, time=time) for number, time in enumerate(times)])
    broker.send(
        ISSUANCE.topic,
        [issue(batch, 98, time=datetime.now(UTC) + timedelta(hours=1)), issue(batch, 99, time=long_ago - timedelta(1))],
    )
    health = consume(broker.worker(ledger, business_time="message"), 12).health()
    assert (health.effects, health.dead) == (11, 1)
    occurred = sql("select payload->>'occurred_at' from event_log where topic = 'coupon.issued' order by 1")
    assert [datetime.fromisoformat(text) for (text,) in occurred] == [long_ago - timedelta(1), *times]
    assert sql("select reason, business_time from dead_letters") == [("time_in_future", "message")]


def test_a_live_message_happens_now_whatever_its_time(
    broker: Broker, ledger: Ledger, shop: Shop, sql: Sql, long_ago: datetime
) -> None:
    broker.send(ISSUANCE.topic, [issue(shop.batch(), 1, time=long_ago)])
    consume(broker.worker(ledger), 1)
    occurred = sql("select (payload->>'occurred_at')::timestamptz from event_log where topic = 'coupon.issued'")
    assert datetime.now(UTC) - occurred[0][0] < timedelta(minutes=5)


def test_a_worker_that_idles_knows_its_lag_and_that_the_broker_answers(
    broker: Broker, ledger: Ledger, monkeypatch: Any
) -> None:
    monkeypatch.setattr("consumers.worker.PROBE_SECONDS", 0.1)
    with running(broker.worker(ledger)) as worker:
        wait_until(lambda: worker.health().lag == 0 and worker.health().partitions == (0, 1, 2, 3), "it probed")
    assert worker.health().good_poll_age_seconds < 30


def test_facts_and_points_receipts_come_with_the_message(ledger: Ledger, shop: Shop, sql: Sql) -> None:
    terms = Terms(benefit=Benefit(kind="amount_off", value_minor=500), currency="EUR", points_price=300)
    batch = shop.batch(terms=terms, audience=Audience(tiers=("gold",)), per_user_limit=None)
    told = [
        {"facts": UserFacts(tier="gold", tags=["student"]), "points_receipt": "receipt-1"},
        {"facts": UserFacts(tier="gold"), "points_receipt": "receipt-1"},
        {"facts": UserFacts(tier="silver"), "points_receipt": "receipt-2"},
        {"points_receipt": "receipt-3"},
    ]
    payloads = [IssueRequested(merchant_id=MERCHANT, batch_id=batch, user_id="u", **each) for each in told]
    wires = [message(payload, f"issue-{number}") for number, payload in enumerate(payloads)]
    taken = Partition(ledger, ISSUANCE).take(*wires)
    assert (taken.effects, taken.dead) == (1, 3)
    issued = sql("select payload->'facts' from event_log where topic = 'coupon.issued'")
    assert issued == [({"tier": "gold", "points_receipt": "receipt-1"},)]
    reasons = sql('select reason from dead_letters order by "offset"')
    assert reasons == [("points_receipt_used",), ("not_in_audience",), ("fact_required",)]

"""Member messages issue coupons by the merchant's rules, each once whatever is delivered."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from consumers import asked
from consumers.inputs import MEMBERS
from consumers.messages import Wire
from consumers.payloads import MemberReferred, MemberRegistered, MemberTierChanged, UserFacts
from ledger import use_cases
from ledger.application import Ledger
from ledger.audience import Audience
from ledger.database import Database
from ledger.errors import Unavailable
from ledger.telling import messages
from ledger.telling.inbox import inbox
from tests.conftest import Shop
from tests.kafka.broker import MERCHANT, Broker, consume, message, wait_until
from tests.kafka.partition import Partition, create_rule
from tests.kafka.test_crashes import OFFSET, WAITS_FOR_TABLE, Spawn, finish, kill, spawn

Sql = Callable[..., list[tuple[Any, ...]]]
ISSUED = (
    "select payload->>'user_id', payload->>'channel' from event_log where topic = 'coupon.issued' order by position"
)
REFUSED = "select rule_id, code, refused::int from rule_refusals order by code"
__all__ = ["spawn"]


def registered(user: str, *, id: str = "", merchant: str = MERCHANT, **more: Any) -> Wire:
    return message(MemberRegistered(merchant_id=merchant, user_id=user, **more), id or f"registered-{user}")


def referred(user: str, referrer: str, *, id: str = "") -> Wire:
    return message(MemberReferred(merchant_id=MERCHANT, user_id=user, referrer_id=referrer), id or f"referred-{user}")


def reached(user: str, tier: str, **more: Any) -> Wire:
    return message(MemberTierChanged(merchant_id=MERCHANT, user_id=user, tier=tier, **more), f"{user}-is-{tier}")


@pytest.fixture
def members(ledger: Ledger) -> Partition:
    return Partition(ledger, MEMBERS)


def test_each_type_issues_by_its_rules(members: Partition, shop: Shop, sql: Sql) -> None:
    newcomer = create_rule(shop, "registered")
    create_rule(shop, "referred")
    create_rule(shop, "referred", receiver="referrer")
    create_rule(shop, "tier_changed", tiers=("gold",))
    taken = members.take(registered("a"), referred("b", "a"), reached("c", "silver"), reached("d", "gold"))
    assert (taken.messages, taken.effects, taken.repeats, taken.dead) == (4, 3, 0, 0)
    assert sql(ISSUED) == [
        ("a", "rule.registered"),
        ("b", "rule.referred"),
        ("a", "rule.referred"),
        ("d", "rule.tier_changed"),
    ]
    origin = sql("select payload->>'actor', payload->>'request_id' from event_log where topic = 'coupon.issued'")
    assert origin[0] == ("consumer:test", f" rule {newcomer} registered a")


def test_a_member_of_a_clock_ahead_gets_what_is_sent_from_now_on(
    members: Partition, ledger: Ledger, shop: Shop
) -> None:
    ahead = ledger.store.now() + timedelta(days=365)
    wire = message(MemberRegistered(merchant_id=MERCHANT, user_id="a"), "registered-a", time=ahead)
    assert members.take(wire).dead == 0
    messages.send(ledger, shop.request(), title="All", body="Text", user_ids=None)
    with ledger.store.connection() as connection:
        assert inbox(connection, MERCHANT, "a").unread == 1


def test_a_message_without_a_rule_is_taken_and_has_no_effect(members: Partition, sql: Sql) -> None:
    taken = members.take(registered("a"))
    assert (taken.messages, taken.effects, taken.repeats, taken.dead) == (1, 0, 0, 0)
    assert sql(OFFSET) == [(1,)]


@pytest.mark.parametrize("polls", ["one", "many"])
@pytest.mark.parametrize("backwards", [False, True])
def test_everything_twice_in_both_orders_and_under_other_ids(
    members: Partition, shop: Shop, sql: Sql, polls: str, backwards: bool
) -> None:
    for trigger, receiver in (("registered", "user"), ("referred", "user"), ("referred", "referrer")):
        create_rule(shop, trigger, receiver=receiver)
    create_rule(shop, "tier_changed")
    first = [registered("b"), referred("b", "a"), reached("b", "gold")]
    again = [registered("b", id="other"), referred("b", "a", id="another")]
    wires = [*first, *again, *first]
    if backwards:
        wires.reverse()
    for wire in [wires] if polls == "one" else [[wire] for wire in wires]:
        assert members.take(*wire).dead == 0
    assert sorted(sql(ISSUED)) == [
        ("a", "rule.referred"),
        ("b", "rule.referred"),
        ("b", "rule.registered"),
        ("b", "rule.tier_changed"),
    ]
    assert sql(REFUSED) == []
    assert sql("select sum(issued)::int from batch_stock") == [(4,)]


def test_a_new_member_is_referred_once_whoever_claims_to_have_done_it(members: Partition, shop: Shop, sql: Sql) -> None:
    rule = create_rule(shop, "referred", receiver="referrer")
    taken = members.take(referred("b", "a"), referred("b", "thief", id="other"), referred("c", "a"))
    assert (taken.effects, taken.dead) == (2, 0)
    assert sql(ISSUED) == [("a", "rule.referred"), ("a", "rule.referred")]
    assert sql(REFUSED) == [(rule, "idempotency_key_reused", 1)]


def test_who_refers_themselves_is_a_dead_letter(members: Partition, shop: Shop, sql: Sql) -> None:
    create_rule(shop, "referred", receiver="referrer")
    assert members.take(referred("a", "a")).dead == 1
    assert sql("select reason from dead_letters") == [("invalid_field",)]
    assert sql(ISSUED) == []


def test_what_a_rule_may_not_issue_is_counted_and_the_message_is_no_dead_letter(
    members: Partition, ledger: Ledger, shop: Shop, sql: Sql
) -> None:
    scarce, other = create_rule(shop, "registered", shop.batch(quantity=2)), create_rule(shop, "registered")
    draft = create_rule(shop, "registered", shop.batch(start=False))
    taken = members.take(*(registered(f"user-{number}") for number in range(5)))
    assert (taken.effects, taken.dead) == (5, 0)
    assert len(sql(ISSUED)) == 2 + 5
    assert sorted(sql(REFUSED)) == sorted([(scarce, "sold_out", 3), (draft, "batch_not_open", 5)])
    members.take(registered("user-4"), registered("user-5"))
    assert sorted(sql(REFUSED)) == sorted([(scarce, "sold_out", 5), (draft, "batch_not_open", 7)])
    assert {rule for (rule, _, _) in sql(REFUSED)} == {scarce, draft} != {other}


def test_what_was_refused_is_decided_afresh_when_told_again(members: Partition, shop: Shop, sql: Sql) -> None:
    batch = shop.batch(quantity=1)
    create_rule(shop, "registered", batch)
    members.take(registered("a"), registered("b"))
    shop.ledger.do(use_cases.change_quantity(shop.request(), batch, expected=1, target=2))
    taken = members.take(registered("a"), registered("b"))
    assert (taken.effects, taken.repeats) == (1, 1)
    assert sql(ISSUED) == [("a", "rule.registered"), ("b", "rule.registered")]


def test_facts_reach_the_batchs_audience(members: Partition, shop: Shop, sql: Sql) -> None:
    newcomers = create_rule(shop, "registered", shop.batch(audience=Audience(newcomers=True)))
    gold = shop.batch(audience=Audience(tiers=("gold",), min_points=100), per_user_limit=None)
    tier = create_rule(shop, "tier_changed", gold)
    points = UserFacts(points=100)
    members.take(
        registered("new"),
        registered("old", facts=UserFacts(newcomer=False)),
        reached("rich", "gold", facts=points),
        reached("silver", "silver", facts=points),
        reached("unknown", "gold"),
    )
    assert [user for user, _ in sql(ISSUED)] == ["new", "rich"]
    assert sorted(sql(REFUSED)) == sorted(
        [(newcomers, "not_in_audience", 1), (tier, "not_in_audience", 1), (tier, "fact_required", 1)]
    )


def test_rules_of_others_and_stopped_rules_issue_nothing(
    members: Partition, ledger: Ledger, shop: Shop, sql: Sql
) -> None:
    other = Shop(ledger, "merchant-2")
    create_rule(other, "registered")
    rule = create_rule(shop, "registered")
    shop.ledger.do(use_cases.stop_rule(shop.request(), rule, reason="over"))
    members.take(registered("a"), registered("a", id="other", merchant="merchant-2"))
    assert sql("select payload->>'merchant_id' from event_log where topic = 'coupon.issued'") == [("merchant-2",)]


def test_a_poll_reads_the_rules_once(
    members: Partition, ledger: Ledger, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_rule(shop, "registered")
    read: list[str] = []
    load = ledger.store.load

    def counting(streams: Any, *rest: Any, **more: Any) -> Any:
        read.extend(stream for stream in streams if stream.startswith("rules-"))
        return load(streams, *rest, **more)

    monkeypatch.setattr(ledger.store, "load", counting)
    assert members.take(*(registered(f"user-{number}") for number in range(50))).effects == 50
    assert read == [f"rules-{MERCHANT}"]


def test_nothing_is_issued_after_a_rules_stop(
    members: Partition, shop: Shop, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An operator stops the rule between the moment when it is read and the moment when its coupon is written."""
    rule, read = create_rule(shop, "registered"), asked._rules

    def read_and_stop(*given: Any) -> Any:
        rules = read(*given)
        shop.ledger.do(use_cases.stop_rule(shop.request(), rule, reason="over"))
        return rules

    records = members.records(registered("a"))
    monkeypatch.setattr(asked, "_rules", read_and_stop)
    with pytest.raises(Unavailable):
        members.poll(records)
    assert (sql(ISSUED), sql(OFFSET)) == ([], [(0,)])
    monkeypatch.setattr(asked, "_rules", read)
    assert members.poll(records).effects == 0
    assert (sql(ISSUED), sql(OFFSET)) == ([], [(1,)])


def test_imported_history_asks_only_rules_that_were_there(
    ledger: Ledger, shop: Shop, sql: Sql, long_ago: datetime
) -> None:
    create_rule(shop, "registered")
    members = Partition(ledger, MEMBERS, business_time="message")
    for user, time in (("before", long_ago), ("since", datetime.now(UTC))):
        members.take(message(MemberRegistered(merchant_id=MERCHANT, user_id=user), user, time=time))
    assert sql(ISSUED) == [("since", "rule.registered")]


def test_killed_between_effects_and_offset_and_everything_delivered_twice(
    broker: Broker,
    database: Database,
    ledger: Ledger,
    shop: Shop,
    sql: Sql,
    spawn: Spawn,
) -> None:
    """The coupons are written and the dead letter waits for a lock that the test holds: nothing may remain."""
    scarce = create_rule(shop, "registered", shop.batch(quantity=20))
    create_rule(shop, "referred")
    create_rule(shop, "referred", receiver="referrer")
    wires = [registered(f"user-{number}") for number in range(30)]
    wires += [referred(f"user-{number}", f"user-{number + 1}") for number in range(30)]
    broker.send(MEMBERS.topic, [*wires, wires[0]._replace(value=b"poison"), *wires], partition=0)
    with psycopg.connect(database.url, options=f"-c search_path={database.schema}") as holder:
        holder.execute("lock table dead_letters in share mode")
        child = spawn(name="members")
        wait_until(lambda: sql(WAITS_FOR_TABLE), "the consumer waits after its effects")
        kill(child)
    assert (sql(ISSUED), sql(REFUSED), sql(OFFSET)) == ([], [], [(0,)])
    child = spawn(name="members")
    wait_until(lambda: sql(OFFSET) == [(121,)], "all are taken")
    finish(child)
    issued = sql(ISSUED)
    assert len(issued) == 20 + 30 + 30
    assert [code for (rule, code, _) in sql(REFUSED) if rule == scarce] == ["sold_out"]
    again = consume(broker.worker(ledger, MEMBERS, group=f"{broker.group}-anew"), 121).health()
    assert (again.effects, again.dead) == (0, 1)
    assert sql(ISSUED) == issued

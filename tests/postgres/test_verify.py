"""Verification: an honest ledger has nothing wrong, and whatever is broken is found by the check that is about it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import orjson
import psycopg
import pytest
from psycopg import sql

from ledger import use_cases
from ledger.application import Ledger
from ledger.basket import Basket, Line
from ledger.benefit import Benefit
from ledger.coupon import Redemption
from ledger.database import PROJECTOR_ROLE, Database
from ledger.scope import Scope
from ledger.store import Store
from ledger.terms import Terms
from projections import checkpoints
from projections.catalogue import PROJECTIONS
from projections.runner import Runner
from projections.verify.report import IDS, Report
from projections.verify.run import verify
from tests.conftest import Shop
from tests.postgres.bustle import Bustle
from tests.postgres.trade import Trade

OF_LOG = [id for id in IDS if id not in ("I10", "I15")]
LATE = "2026-11-01T00:00:00Z"


class Break(NamedTuple):
    """Something that somebody with all rights does to the tables, and at which position it must be found."""

    check: str
    do: Callable[[Tampering], int | None]


class Tampering:
    """What a superuser can do to a ledger, triggers off."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self.connection = connection

    def ask(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        cursor = self.connection.execute(query.encode(), parameters or None)
        return cursor.fetchall() if cursor.description else []

    def find(self, condition: str) -> tuple[int, str, dict[str, Any]]:
        """Position, stream and payload of the first event that is so."""
        query = f"select position, stream, payload from event_log e where {condition} order by position limit 1"
        [(position, stream, payload)] = self.ask(query)
        return position, stream, payload

    def last_of(self, topic: str, also: str = "true") -> tuple[int, str, dict[str, Any]]:
        """The first event of that topic that is the last of its stream."""
        later = "exists (select from events l where l.originator_id = e.stream and l.originator_version > e.version)"
        return self.find(f"topic = '{topic}' and not {later} and {also}")

    def edit(self, position: int, **fields: Any) -> int:
        [(payload,)] = self.ask("select payload from event_log where position = %s", position)
        state = orjson.dumps(payload | fields)
        self.ask("update events set state = %s where notification_id = %s", state, position)
        return position

    def append(self, stream: str, topic: str, payload: dict[str, Any], *, answered: bool = True) -> int:
        """One more event, as if it had been asked for."""
        [(position, version)] = self.ask(
            "select (select max(notification_id) from events) + 1,"
            " (select coalesce(max(originator_version), 0) from events where originator_id = %s) + 1",
            stream,
        )
        payload = {"request_id": f"forged-{position}", "occurred_at": LATE} | payload
        self.ask(
            "insert into events values (%s, %s, %s, %s, %s, clock_timestamp())",
            *(stream, version, topic, orjson.dumps(payload), position),
        )
        if answered:
            row = (payload["merchant_id"], payload["request_id"], position)
            self.ask("insert into requests values (%s, %s, '', '{}', %s)", *row)
        return int(position)


@pytest.fixture(scope="module")
def busy(shared_ledger: Ledger) -> Database:
    """A ledger in which everything has happened, and whose read models are up to date."""
    database = shared_ledger.store.database
    story = Bustle(shared_ledger, 7)
    story.go_on(1_500)
    Bustle(shared_ledger, 8, "merchant-2").go_on(150)
    story.live()
    story.go_on(120)
    projector = Database(database.url, database.schema, PROJECTOR_ROLE)
    checkpoints.install(projector, PROJECTIONS)
    Runner(projector).catch_up()
    return database


@pytest.fixture
def tampering(busy: Database) -> Iterator[Tampering]:
    """All rights on that ledger; afterwards every table is as it was."""
    with psycopg.connect(busy.url, autocommit=True, options=f"-c search_path={busy.schema}") as connection:
        connection.execute("set session_replication_role = replica")
        query = "select tablename from pg_tables where schemaname = %s"
        tables = [sql.Identifier(name) for (name,) in connection.execute(query, (busy.schema,))]
        for table in tables:
            connection.execute(sql.SQL("create temporary table {} as table {}").format(_kept(table), table))
        connection.execute("alter table batch_stock drop constraint never_over_issued")
        try:
            yield Tampering(connection)
        finally:
            for table in tables:
                connection.execute(sql.SQL("delete from {}").format(table))
                overriding = sql.SQL("insert into {} overriding system value table {}")
                connection.execute(overriding.format(table, _kept(table)))
            connection.execute(
                "alter table batch_stock add constraint never_over_issued check (issued between 0 and quantity)"
            )


def _kept(table: sql.Identifier) -> sql.Identifier:
    return sql.Identifier("kept_" + table._obj[0])


def wrong(report: Report) -> dict[str, int | None]:
    """The first bad position by check."""
    return {check.id: check.first_bad_position for check in report.checks if not check.ok}


def test_nothing_is_wrong_where_everything_happened(busy: Database) -> None:
    told: list[tuple[str, int, int]] = []
    report = verify(busy, progress=lambda *said: told.append(said))
    assert wrong(report) == {}, [check for check in report.checks if not check.ok]
    assert report.ok and report.first_bad_position is None
    assert [check.id for check in report.checks] == list(IDS)
    not_looked_at = {check.id for check in report.checks if not check.looked_at}
    assert not_looked_at <= {"I12", "I15", "holds"}
    assert {part for part, _, _ in told} >= {"log", "guards", "read models"}
    assert [done for part, done, _ in told if part == "log"][-1] == report.position


@pytest.mark.parametrize("seed", [11, 12, 13])
def test_nothing_is_wrong_in_long_lives(ledger: Ledger, seed: int) -> None:
    story = Bustle(ledger, seed)
    story.go_on(2_500)
    report = verify(ledger.store.database, only=OF_LOG)
    assert wrong(report) == {}, [check for check in report.checks if not check.ok]
    assert len(story.refused) > 10


def test_an_empty_ledger_has_nothing_wrong(database: Database) -> None:
    assert wrong(verify(database)) == {}


def _twice_locked(by: Tampering) -> int:
    _, stream, payload = by.last_of("coupon.locked", "payload->>'channel' is null")
    return by.append(stream, "coupon.locked", payload | {"request_id": "thief", "order_id": "other"})


def _twice_used(by: Tampering) -> int:
    _, stream, payload = by.last_of("coupon.used")
    order = f" order {payload['merchant_id']}"
    by.ask(
        "update user_quota set issued = issued + 1, most = most + 1 where batch_id = %s and user_id = %s",
        *(order, payload["order_id"]),
    )
    return by.append(stream, "coupon.used", payload | {"request_id": "again"})


def _let_go_unheld(by: Tampering) -> int:
    _, stream, payload = by.last_of("coupon.unlocked")
    return by.append(stream, "coupon.unlocked", payload | {"request_id": "again"})


def _used_by_another_lock(by: Tampering) -> int:
    position, _, _ = by.find("topic = 'coupon.unlocked' and payload->>'reason' <> 'locked_again'")
    return by.edit(position, lock_id="stolen")


def _risen(by: Tampering) -> int:
    _, stream, payload = by.last_of("coupon.voided")
    _, _, lock = by.find("topic = 'coupon.locked'")
    named = {name: payload[name] for name in ("batch_id", "user_id", "merchant_id")}
    return by.append(stream, "coupon.locked", lock | named | {"request_id": "risen"})


def _returned_against_policy(by: Tampering) -> int:
    position, _, _ = by.find(
        "topic = 'coupon.returned' and (payload->>'restored')::bool and not exists ("
        "select from events l where l.originator_id = e.stream and l.originator_version > e.version)"
    )
    return by.edit(position, restored=False)


def _issued_twice(by: Tampering) -> int:
    _, batch, _ = by.find("topic = 'batch.created'")
    batch_id = batch.removeprefix("batch-")
    claimed = "topic = 'coupon.issued' and payload->>'channel' = 'claim'"
    _, stream, issued = by.find(f"{claimed} and payload->>'batch_id' = '{batch_id}'")
    by.ask("update batch_stock set issued = issued + 1 where batch_id = %s", batch_id)
    return by.append(stream, "coupon.issued", issued | {"request_id": "twice"})


def _issued_after_the_stop(by: Tampering) -> int:
    _, _, issued = by.find("topic = 'coupon.issued' and payload->>'channel' = 'issue'")
    _, stream, started = by.find(f"topic = 'batch.started' and stream = 'batch-{issued['batch_id']}'")
    by.append(stream, "batch.stopped", started | {"request_id": "stop", "reason": "over"})
    by.ask("update batch_stock set issued = issued + 1 where batch_id = %s", issued["batch_id"])
    return by.append("coupon-forged", "coupon.issued", issued | {"request_id": "after"})


def _over_issued(by: Tampering) -> int:
    _, _, issued = by.find("topic = 'coupon.issued' and payload->>'channel' = 'issue'")
    batch = issued["batch_id"]
    created, _, _ = by.find(f"topic = 'batch.created' and stream = 'batch-{batch}'")
    by.edit(created, quantity=5)
    by.ask("update batch_stock set quantity = 5 where batch_id = %s", batch)
    [(sixth,)] = by.ask(
        "select position from event_log where topic = 'coupon.issued' and payload->>'batch_id' = %s"
        " order by position offset 5 limit 1",
        batch,
    )
    return int(sixth)


def _over_the_users_limit(by: Tampering) -> int:
    position, stream, _ = by.find("topic = 'batch.created' and payload->>'per_user_limit' = '40'")
    by.edit(position, per_user_limit=2)
    [(third,)] = by.ask(
        "select min(position) from (select position, row_number() over (partition by payload->>'user_id'"
        " order by position) as nth from event_log where topic = 'coupon.issued' and payload->>'batch_id' = %s) e"
        " where nth = 3",
        stream.removeprefix("batch-"),
    )
    return int(third)


def _renumbered(by: Tampering) -> int:
    position, _, _ = by.last_of("coupon.unlocked")
    by.ask("update events set originator_version = originator_version + 1 where notification_id = %s", position)
    return position


def _hole(by: Tampering) -> int:
    _, stream, payload = by.last_of("coupon.shared")
    head = by.append(stream, "coupon.shared", payload | {"request_id": "last", "with_user_ids": []})
    by.ask("update requests set position = position + 1 where position = %s", head)
    by.ask("update events set notification_id = %s + 1 where notification_id = %s", head, head)
    return head + 1


def _clock_back(by: Tampering) -> int:
    by.ask("update events set recorded_at = recorded_at - interval '1 day' where notification_id = 77")
    return 77


def _answer_gone(by: Tampering) -> int:
    position, _, payload = by.find("topic = 'coupon.shared'")
    by.ask("delete from requests where request_id = %s and merchant_id = 'merchant-1'", payload["request_id"])
    return position


def _waits_ahead(by: Tampering) -> None:
    by.ask(
        'insert into waiting_messages (consumer_group, topic, partition, key, "offset", headers, business_time, reason,'
        " detail, waits_until, next_try_at) values ('g', 't', 0, 'k', 9, '[]', 'live', 'r', 'd', now(), now())"
    )
    by.ask("insert into kafka_offsets values ('g', 't', 0, 9)")


def _both_waiting_and_dead(by: Tampering) -> None:
    _waits_ahead(by)
    by.ask("update kafka_offsets set next_offset = 10")
    by.ask(
        'insert into dead_letters (consumer_group, topic, partition, "offset", headers, business_time, reason, detail)'
        " values ('g', 't', 0, 9, '[]', 'live', 'r', 'd')"
    )


def _tail_lost(by: Tampering) -> None:
    by.ask("insert into requests select 'merchant-1', 'lost', '', '{}', max(notification_id) + 3 from events")


def _object_lost(by: Tampering) -> None:
    by.ask("""insert into requests values ('merchant-1', 'lost', '', '{"coupon_id": "gone"}', 3)""")


def _second_effect(by: Tampering) -> int:
    _, stream, payload = by.last_of("coupon.shared")
    return by.append(stream, "coupon.shared", payload | {"with_user_ids": ["zoe"]}, answered=False)


def _other_merchant(by: Tampering) -> int:
    position, _, _ = by.find("topic = 'coupon.unlocked'")
    return by.edit(position, merchant_id="merchant-2")


def _too_much_off(by: Tampering) -> int:
    position, _, _ = by.find("topic = 'coupon.used' and (payload->>'merchant_funded_minor')::int > 0")
    discount = 10**6
    allocation = [{"line_id": "1", "product_id": None, "discount_minor": discount}]
    parts = {"discount_minor": discount, "merchant_funded_minor": discount, "platform_funded_minor": 0}
    return by.edit(position, **parts, allocation=allocation)


def _over_budget(by: Tampering) -> int:
    position, stream, _ = by.find("topic = 'batch.created' and payload->>'budget_minor' is not null")
    batch = stream.removeprefix("batch-")
    by.edit(position, budget_minor=450)
    by.ask("update batch_stock set quantity = 450 where batch_id = %s", f" budget {batch}")
    [(third,)] = by.ask(
        "select position from event_log where topic = 'coupon.issued' and payload->>'batch_id' = %s"
        " order by position offset 2 limit 1",
        batch,
    )
    return int(third)


def _foreign_topic(by: Tampering) -> int:
    position, _, _ = by.last_of("coupon.shared")
    by.ask("update events set topic = 'os:system' where notification_id = %s", position)
    return position


def _field_more(by: Tampering) -> int:
    position, _, _ = by.last_of("coupon.shared")
    return by.edit(position, name="Ann Smith")


def _anothers_coupon(by: Tampering) -> int:
    position, _, _ = by.find("topic = 'coupon.unlocked'")
    return by.edit(position, user_id="zoe")


def _expired_early(by: Tampering) -> int:
    """Written down before its time, and told as of its time."""
    _, stream, issued = by.last_of("coupon.issued", "(payload->>'valid_until')::timestamptz > now() + interval '1 d'")
    named = {name: issued[name] for name in ("merchant_id", "actor", "batch_id", "user_id", "valid_until")}
    return by.append(stream, "coupon.expired", named | {"occurred_at": issued["valid_until"]})


def _of_the_future(by: Tampering) -> int:
    position, _, _ = by.last_of("coupon.shared")
    by.ask("update events set recorded_at = recorded_at + interval '10 y' where notification_id > %s", position)
    [(later,)] = by.ask(
        "select to_json(recorded_at + interval '61 s') from events where notification_id = %s", position
    )
    return by.edit(position, occurred_at=later)


def _recorded_never(by: Tampering) -> int:
    [(head,)] = by.ask("select max(notification_id) from events")
    by.ask("update events set recorded_at = 'infinity' where notification_id = %s", head)
    return int(head)


def _resumed_while_running(by: Tampering) -> int:
    _, stream, started = by.find("topic = 'batch.started'")
    return by.append(stream, "batch.resumed", started | {"request_id": "again"})


def _salted(by: Tampering) -> int:
    [(codes_id,)] = by.ask(
        "select stream from event_log where topic = 'codes.exported' and payload->>'merchant_id' = 'merchant-1'"
    )
    by.ask("update code_sets set salt = 'salt' where codes_id = %s", codes_id.removeprefix("codes-"))
    return by.find(f"stream = '{codes_id}'")[0]


def _forged_for_a_code(by: Tampering) -> int:
    position, _, payload = by.find(
        "topic = 'coupon.issued' and payload->'facts' ? 'codes_id' and exists (select from code_sets s where"
        " s.codes_id = payload->'facts'->>'codes_id' and s.kind = 'imported')"
    )
    by.ask(
        "update codes set code_hash = substr(sha256(code_hash), 1, 16) where codes_id = %s",
        payload["facts"]["codes_id"],
    )
    return position


def _more_stock_taken(by: Tampering) -> int:
    [(batch_id,)] = by.ask(
        "update batch_stock set issued = issued + 1"
        " where batch_id = (select min(payload->>'batch_id') from event_log where topic = 'coupon.issued')"
        " returning batch_id"
    )
    return _last_that_counts(by, batch_id, "batch.quantity_changed")


def _more_of_the_budget_taken(by: Tampering) -> int:
    [(key,)] = by.ask(
        "update batch_stock set issued = issued + 1"
        " where batch_id = (select min(batch_id) from batch_stock where batch_id like ' budget %' and issued > 0)"
        " returning batch_id"
    )
    return _last_that_counts(by, key.removeprefix(" budget "), "batch.budget_changed")


def _last_that_counts(by: Tampering, batch_id: str, change: str) -> int:
    [(last,)] = by.ask(
        "select max(position) from event_log where (topic = 'coupon.issued' and payload->>'batch_id' = %s)"
        " or (topic in ('batch.created', %s) and stream = %s)",
        *(batch_id, change, f"batch-{batch_id}"),
    )
    return int(last)


def _held_by_nobody(by: Tampering) -> int:
    position, stream, _ = by.last_of("coupon.voided")
    by.ask("insert into user_holds values (%s, 'o', now() + interval '1 h')", stream.removeprefix("coupon-"))
    return position


def _of_no_merchant(by: Tampering) -> int:
    """A template that nobody has, all of it alike."""
    _, _, created = by.find("topic = 'template.created'")
    nobodys = {"merchant_id": "", "occurred_at": created["occurred_at"]}
    first = by.append("template-nobodys", "template.created", created | nobodys | {"request_id": "nobody"})
    by.append("template-nobodys", "template.revised", created | nobodys | {"request_id": "nobody 2"})
    return first


def _miscounted_job(by: Tampering) -> int:
    [(job_id,)] = by.ask("select job_id from issuance_job_outcomes where code = '' order by job_id limit 1")
    by.ask("update issuance_job_outcomes set rows = rows + 1 where job_id = %s and code = ''", job_id)
    return by.find(f"stream = 'job-{job_id}'")[0]


def _statement(query: str) -> Callable[[Tampering], None]:
    def run(by: Tampering) -> None:
        by.ask(query)

    return run


BREAKS = {
    "a foreign topic": Break("catalogue", _foreign_topic),
    "a field more": Break("catalogue", _field_more),
    "a step out of turn": Break("plans", _resumed_while_running),
    "another's coupon": Break("custody", _anothers_coupon),
    "issued twice": Break("I1", _issued_twice),
    "issued after the stop": Break("I2", _issued_after_the_stop),
    "more than the quantity": Break("I2", _over_issued),
    "more than the user's limit": Break("I3", _over_the_users_limit),
    "two locks": Break("I4", _twice_locked),
    "two uses": Break("I5", _twice_used),
    "let go unheld": Break("I6", _let_go_unheld),
    "another lock": Break("I6", _used_by_another_lock),
    "risen from the void": Break("I7", _risen),
    "against the return policy": Break("I7", _returned_against_policy),
    "renumbered": Break("I8", _renumbered),
    "a hole": Break("I9", _hole),
    "the clock fell": Break("I9", _clock_back),
    "expired before its time": Break("times", _expired_early),
    "of the future": Break("times", _of_the_future),
    "recorded at no time": Break("times", _recorded_never),
    "no answer": Break("I11", _answer_gone),
    "waits ahead": Break("I12", _waits_ahead),
    "waiting and dead": Break("I12", _both_waiting_and_dead),
    "a lost tail": Break("I13", _tail_lost),
    "a lost object": Break("I13", _object_lost),
    "a second effect": Break("I14", _second_effect),
    "another merchant": Break("I16", _other_merchant),
    "too much off": Break("I17", _too_much_off),
    "over the budget": Break("I17", _over_budget),
    "a share of nobody": Break("I18", _statement("insert into user_quota values ('b', 'u', 1, 1)")),
    "stock of nothing": Break("I18", _statement("insert into batch_stock values ('b', 9, 0)")),
    "more stock taken": Break("stock", _more_stock_taken),
    "more of the budget taken": Break("stock", _more_of_the_budget_taken),
    "a hold of nobody": Break("holds", _held_by_nobody),
    "events of no merchant": Break("I16", _of_no_merchant),
    "what codes are made from": Break("codes", _salted),
    "a coupon for no code": Break("codes", _forged_for_a_code),
    "a job miscounted": Break("jobs", _miscounted_job),
}


@pytest.mark.parametrize("name", BREAKS)
def test_each_break_is_found_by_its_check_alone(busy: Database, tampering: Tampering, name: str) -> None:
    position = BREAKS[name].do(tampering)
    report = verify(busy, only=OF_LOG)
    assert wrong(report) == {BREAKS[name].check: position}, [check.findings for check in report.checks if not check.ok]


@pytest.mark.parametrize("fields", [{"quantity": "9"}, {"time_zone": "Nowhere"}, {"per_user_limit": 2**63}])
def test_whatever_a_plan_says_there_is_a_verdict(busy: Database, tampering: Tampering, fields: dict[str, Any]) -> None:
    position, _, _ = tampering.find("topic = 'batch.created' and payload->>'per_day_limit' is not null")
    tampering.edit(position, **fields)
    first = verify(busy).first_wrong
    assert first is not None
    assert (first.id, first.first_bad_position) == ("catalogue", position)
    assert str(next(iter(fields.values()))) in first.findings[0].found


@pytest.mark.parametrize("when", ["infinity", "-infinity", "4714-11-24 00:00+00 BC", "294276-12-31 23:59:59+00"])
def test_whenever_a_row_was_recorded_there_is_a_verdict(busy: Database, tampering: Tampering, when: str) -> None:
    [(head,)] = tampering.ask("select max(notification_id) from events")
    tampering.ask("update events set recorded_at = %s where notification_id >= %s - 1", when, head)
    report = verify(busy, only=["I9", "times"])
    assert wrong(report)["times"] == head - 1


@pytest.mark.parametrize("seed", [40, 41])
def test_nothing_is_wrong_in_a_shops_trade(shop: Shop, database: Database, seed: int) -> None:
    Trade(shop, seed).go_on(700)
    report = verify(database, only=OF_LOG)
    assert wrong(report) == {}, [check for check in report.checks if not check.ok]


STATED = Terms(
    benefit=Benefit(kind="order_stated"),
    currency="EUR",
    stacking_mode="stackable",
    late_confirm="accept",
    scope=Scope(products=("tea",)),
)
BASKET = Basket(
    currency="EUR",
    lines=(
        Line(line_id="1", product_id="tea", unit_price_minor=100),
        Line(line_id="2", product_id="car", unit_price_minor=9_900),
        Line(line_id="3", product_id="tea", unit_price_minor=50),
    ),
)


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({"1": 100, "3": 50}, ""),
        ({"1": 60, "3": 20, "2": 0}, ""),
        ({"1": 100, "3": 51}, "from 0 to 150"),
        ({"1": 101}, "at most 100 off line 1"),
        ({"2": 1}, "at most 0 off line 2"),
        ({}, "from 0 to 150"),
    ],
)
def test_what_an_order_system_states_is_bounded_by_the_lines_in_scope(
    shop: Shop, database: Database, parts: dict[str, int], expected: str
) -> None:
    coupon_id = shop.coupon(batch_id=shop.batch(terms=STATED))
    shop.ledger.do(use_cases.lock(shop.request(), "order-1", user_id="user-1", coupon_ids=[coupon_id], basket=BASKET))
    told = [Redemption(coupon_id=coupon_id, discount_minor=10)]
    shop.ledger.do(use_cases.confirm(shop.request(), "order-1", told))
    with psycopg.connect(database.url, autocommit=True, options=f"-c search_path={database.schema}") as connection:
        connection.execute("set session_replication_role = replica")
        by = Tampering(connection)
        position, _, _ = by.find("topic = 'coupon.used'")
        discount = sum(parts.values()) or 151
        allocation = [{"line_id": id, "product_id": None, "discount_minor": part} for id, part in parts.items()]
        funded = {"merchant_funded_minor": discount, "platform_funded_minor": 0}
        by.edit(position, discount_minor=discount, allocation=allocation, **funded)
    [check] = verify(database, only=["I17"]).checks
    if not expected:
        assert check.ok, check.findings
    else:
        assert [finding.position for finding in check.findings] == [position]
        assert expected in check.findings[0].expected


def test_a_share_miscounted_is_found_where_it_was_first_taken(busy: Database, tampering: Tampering) -> None:
    position, _, payload = tampering.find("topic = 'coupon.used'")
    tampering.ask(
        "update user_quota set issued = issued + 1, most = most + 1 where batch_id = %s and user_id = %s",
        *(f" order {payload['merchant_id']}", payload["order_id"]),
    )
    assert wrong(verify(busy, only=OF_LOG)) == {"quota": position}


def test_each_owner_of_a_share_is_counted(busy: Database, tampering: Tampering) -> None:
    kinds = {
        "user": "user_id not like ' %' and batch_id not like ' %'",
        "day": "user_id ~ '^ day [-0-9]*$'",
        "user and day": "user_id ~ '^ day [-0-9]* .'",
        "person": "user_id like ' person %'",
        "receipt": "batch_id like ' points %'",
        "order": "batch_id like ' order %'",
    }
    for kind, condition in kinds.items():
        tampering.ask(f"delete from user_quota where ctid = (select min(ctid) from user_quota where {condition})")
        [check] = [check for check in verify(busy, only=["quota"]).checks if not check.ok]
        assert check.wrong == list(kinds).index(kind) + 1, kind


def test_a_read_model_that_was_edited_is_found(busy: Database, tampering: Tampering) -> None:
    [(table,)] = tampering.ask(
        "select 'coupon_status_v' || version from projection_checkpoints where name = 'coupon_status'"
    )
    [(position,)] = tampering.ask(
        f"update {table} set user_id = 'zoe', position = 1"
        f" where coupon_id = (select min(coupon_id) from {table}) returning"
        " (select max(notification_id) from events where originator_id = 'coupon-' || coupon_id)"
    )
    report = verify(busy)
    assert wrong(report) == {"I10": position}
    assert report.first_bad_position == position
    [finding] = report.checks[IDS.index("I10")].findings
    assert finding.stream == "coupon_status"
    assert "1 rows differ" in finding.found and "zoe" in finding.found


def test_a_row_that_no_event_made_is_named_by_no_position(busy: Database, tampering: Tampering) -> None:
    [(table,)] = tampering.ask(
        "select 'coupon_status_v' || version from projection_checkpoints where name = 'coupon_status'"
    )
    tampering.ask(
        f"update {table} set coupon_id = ' ', position = 1000000 where coupon_id = (select min(coupon_id) from {table})"
    )
    [check] = verify(busy, only=["I10"]).checks
    assert (check.wrong, check.first_bad_position) == (1, None)


def test_an_event_that_is_wrong_is_told_before_a_table_that_differs(busy: Database, tampering: Tampering) -> None:
    tampering.ask("update batch_stock set issued = issued + 1")
    [(position,)] = tampering.ask(
        "update events set topic = 'os:system' where notification_id = (select max(notification_id) from events)"
        " returning notification_id"
    )
    report = verify(busy, only=["catalogue", "stock"])
    places = wrong(report)
    assert places["catalogue"] == report.first_bad_position == position
    assert places["stock"] is not None
    assert places["stock"] < position


def test_a_read_model_that_stands_still_is_found(busy: Database, tampering: Tampering) -> None:
    tampering.ask("update projection_checkpoints set state = 'FAULTED', fault = 'why' where name = 'wallet'")
    report = verify(busy, only=["I10"])
    assert [finding.found for finding in report.checks[0].findings] == ["FAULTED: why"]


def test_only_so_many_findings_are_kept_and_all_are_counted(busy: Database, tampering: Tampering) -> None:
    tampering.ask("update events set topic = 'os:system' where topic like 'coupon.%'")
    [check] = verify(busy, only=["catalogue"]).checks
    [(count,)] = tampering.ask("select count(*) from events where topic = 'os:system'")
    assert check.wrong == count
    positions = [finding.position for finding in check.findings]
    assert len(positions) == 20
    [(first,)] = tampering.ask("select min(notification_id) from events where topic = 'os:system'")
    assert positions == sorted(positions, key=lambda position: position or 0) and positions[0] == first


def test_nothing_is_wrong_while_others_write(database: Database) -> None:
    ledger = Ledger(Store(database))
    stop = threading.Event()
    failures: list[BaseException] = []

    def write(number: int) -> None:
        try:
            story = Bustle(ledger, number, f"merchant-{number}")
            while not stop.is_set():
                story.go_on(20)
        except BaseException as error:
            failures.append(error)

    writers = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for writer in writers:
        writer.start()
    try:
        reports = [verify(database, only=OF_LOG) for _ in range(6)]
    finally:
        stop.set()
        for writer in writers:
            writer.join()
        ledger.close()
    assert not failures
    assert [wrong(report) for report in reports] == [{}] * 6
    assert reports[-1].position > reports[0].position

"""Append-only by privilege and by trigger: what no role of the service, nor the owner, may do to the log."""

from __future__ import annotations

from collections.abc import Iterator
from typing import LiteralString

import psycopg
import pytest
from psycopg import errors as pg
from psycopg import sql

from ledger.application import Ledger
from ledger.commit import Unit, commit_group
from ledger.database import APP_ROLE, PROJECTOR_ROLE, Database
from tests.conftest import Shop
from tests.postgres.tools import picture
from tests.unit.specs import issued

REWRITES: list[LiteralString] = [
    "update events set topic = 'coupon.voided' where notification_id = 1",
    "update events set notification_id = notification_id",
    "delete from events where notification_id = 1",
    "truncate events",
    "merge into events using (values (1)) v on notification_id = 1 when matched then delete",
]
WRITES_OF_THE_LOG: list[LiteralString] = [
    "insert into events values ('coupon-x', 1, 'coupon.issued', '{}', 999)",
    "copy events from stdin",
    "insert into event_log (stream) values ('coupon-x')",
]
WRITES_OF_GUARDS: list[LiteralString] = [
    "update batch_stock set quantity = quantity + 1",
    "insert into batch_stock values ('b', 1, 0)",
    "delete from batch_stock",
    "update user_quota set issued = 1",
    "delete from user_quota",
    "truncate user_quota",
    "update requests set answer = '{}'",
    "insert into requests values ('m', 'r', '', '{}', 1)",
    "delete from requests",
]
CHANGES_OF_THE_HOUSE: list[LiteralString] = [
    "alter table events disable trigger all",
    "drop trigger events_append_only on events",
    "create trigger mine before insert on events for each row execute function refuse_rewrite()",
    "alter table events add column more text",
    "drop table events",
    "drop function commit_whole_group",
    "create index mine on events (topic)",
    "alter function commit_whole_group security invoker",
    "update schema_migrations set sha256 = ''",
    "set session_replication_role = replica",
]


@pytest.fixture
def used(ledger: Ledger, shop: Shop) -> Iterator[Database]:
    """A ledger with something in it, that must be as it was in the end."""
    shop.coupon(batch_id=shop.batch())
    before = picture(ledger.store.database)
    yield ledger.store.database
    assert picture(ledger.store.database) == before


def may_not(database: Database, statement: LiteralString) -> None:
    with database.connect() as connection, pytest.raises((pg.InsufficientPrivilege, pg.FeatureNotSupported)):
        connection.execute(statement)


@pytest.mark.parametrize("role", [APP_ROLE, PROJECTOR_ROLE])
def test_no_role_of_the_service_writes_the_log_past_its_function(role: str, used: Database) -> None:
    database = Database(used.url, used.schema, role)
    for statement in REWRITES + WRITES_OF_THE_LOG + WRITES_OF_GUARDS + CHANGES_OF_THE_HOUSE:
        may_not(database, statement)


def test_only_the_app_role_commits(used: Database) -> None:
    may_not(
        Database(used.url, used.schema, PROJECTOR_ROLE),
        "select commit_whole_group('', '', '', '', '', '', '', '', false, '{}')",
    )


@pytest.mark.parametrize("statement", REWRITES)
def test_not_even_the_owner_rewrites_history(statement: LiteralString, used: Database) -> None:
    with psycopg.connect(used.url) as connection:
        connection.execute(sql.SQL("set search_path to {}").format(sql.Identifier(used.schema)))
        with pytest.raises(pg.InsufficientPrivilege, match="append-only"):
            connection.execute(statement)


@pytest.mark.parametrize("table", ["events", "batch_stock", "user_quota", "requests"])
def test_a_temporary_table_does_not_stand_in_for_a_real_one(table: str, ledger: Ledger, shop: Shop) -> None:
    """The function runs with its owner's rights, so a caller must not choose which tables it means."""
    batch_id = shop.batch(quantity=1)
    first = Unit(
        [issued(coupon="a").event(1)], shop.request("first"), stock={batch_id: 1}, quota={(batch_id, "u"): (1, 1)}
    )
    others = [
        Unit([issued(coupon="b").event(1)], shop.request("first"), stock={batch_id: 1}),
        Unit([issued(coupon="c").event(1)], quota={(batch_id, "u"): (1, 1)}),
        Unit([issued(coupon="d").event(1)], stock={batch_id: 1}),
        Unit([issued(coupon="a").event(1)]),
    ]
    with ledger.store.database.connect() as connection:
        commit_group(ledger.store, connection, [first])
        name = sql.Identifier(table)
        connection.execute(sql.SQL("create temp table {} (like {} including all)").format(name, name))
        connection.execute(sql.SQL("grant all on pg_temp.{} to public").format(name))
        if table == "batch_stock":
            connection.execute("insert into pg_temp.batch_stock values (%s, 1000, 0)", (batch_id,))
        words = [verdict.word for unit in others for verdict in commit_group(ledger.store, connection, [unit])]
    assert words == ["replayed", "user_limit", "sold_out", "exists"]


def test_a_role_reads_what_it_needs(used: Database) -> None:
    for role in (APP_ROLE, PROJECTOR_ROLE):
        with Database(used.url, used.schema, role).connect() as connection:
            for table in ("events", "event_log", "batch_stock", "user_quota", "requests", "schema_migrations"):
                assert connection.execute(
                    sql.SQL("select count(*) > 0 from {}").format(sql.Identifier(table))
                ).fetchone() == (True,)

"""What an analyst sees: the views, of the merchants that the login is named for, and nothing else by any way."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg import errors as pg
from psycopg import sql

from ledger import use_cases
from ledger.application import Ledger
from ledger.benefit import Benefit
from ledger.coupon import Redemption
from ledger.database import Database
from ledger.errors import InvalidField
from ledger.migrate import migrate
from ledger.terms import Terms
from projections import analysts, analytics, checkpoints, statistics
from projections.catalogue import PROJECTIONS, VERSIONS
from projections.rebuild import rebuild
from projections.runner import Runner
from tests.conftest import Shop
from tests.postgres.logins import Logins

ROWS = sorted(set(analytics.VIEWS) - {"freshness"})
"""The views that have rows of merchants."""
TERMS = Terms(benefit=Benefit(kind="amount_off", value_minor=500), currency="EUR", merchant_share_permyriad=6_000)

Connection = psycopg.Connection[Any]


def live(ledger: Ledger, merchant_id: str, user_id: str) -> None:
    """A little of everything: issued, used with money, returned, voided."""
    shop = Shop(ledger, merchant_id)
    batch_id = shop.batch(name=f"batch of {merchant_id}", campaign=f"campaign of {merchant_id}", terms=TERMS)
    one, other = (shop.coupon(user_id=f"{user_id}{number}", batch_id=batch_id) for number in "12")
    order_id = f"order of {merchant_id}"
    ledger.do(use_cases.lock(shop.request(), order_id, user_id=f"{user_id}1", coupon_ids=[one], order_total_minor=900))
    used = Redemption(coupon_id=one, discount_minor=500)
    ledger.do(use_cases.confirm(shop.request(), order_id, [used], paid_minor=400))
    ledger.do(use_cases.return_coupons(shop.request(), order_id, coupon_ids=[one], reason="order_cancelled"))
    ledger.do(use_cases.void(shop.request(), other, reason="mistake"))


def two_merchants(ledger: Ledger) -> Database:
    """Two merchants had the same done, and it is folded."""
    live(ledger, "ours", "ann")
    live(ledger, "theirs", "bob")
    Runner(ledger.store.database).catch_up()
    return ledger.store.database


@pytest.fixture(scope="module")
def shared(shared_ledger: Ledger) -> Database:
    """A ledger that nothing here changes."""
    return two_merchants(shared_ledger)


@pytest.fixture
def logins(shared: Database) -> Iterator[Logins]:
    made = Logins(shared)
    yield made
    made.end()


@pytest.fixture
def own_logins(ledger: Ledger) -> Iterator[Logins]:
    """The same on a ledger that the test changes."""
    made = Logins(two_merchants(ledger))
    yield made
    made.end()


@pytest.fixture
def analyst(logins: Logins) -> Connection:
    """A session that may see the first merchant, and that has made itself read and write."""
    session = logins.session(logins.create("ours"))
    session.execute("set default_transaction_read_only = off")
    return session


def column(connection: Connection, query: LiteralString, *parameters: Any) -> list[Any]:
    return [row[0] for row in connection.execute(query, parameters or None)]


def merchants(connection: Connection, view: str) -> set[str]:
    query = sql.SQL("select merchant_id from {}").format(sql.Identifier(view))
    return {row[0] for row in connection.execute(query)}


# --- the views ---------------------------------------------------------------------------------------------


def test_every_view_is_there_and_every_column_says_what_it_is(logins: Logins) -> None:
    schema = analytics.schema_of(logins.owner)
    assert schema == f"{logins.database.schema}_analytics"
    found = logins.owner.execute(
        """
        select c.relname, a.attname, col_description(c.oid, a.attnum), obj_description(c.oid)
          from pg_class c join pg_attribute a on a.attrelid = c.oid
         where c.relnamespace = %s::regnamespace and a.attnum > 0
        """,
        (schema,),
    ).fetchall()
    assert {view for view, *_ in found} == analytics.VIEWS.keys()
    assert [row[:2] for row in found if not (row[2] and row[3])] == []


@pytest.mark.parametrize("view", ROWS)
def test_a_view_shows_the_rows_of_the_analysts_merchants(view: str, logins: Logins) -> None:
    assert merchants(logins.session(logins.create("ours")), view) == {"ours"}
    assert merchants(logins.session(logins.create("ours", "theirs")), view) == {"ours", "theirs"}
    assert merchants(logins.session(logins.create("nobody")), view) == set()


def test_the_figures_are_those_of_the_ledger(analyst: Connection) -> None:
    counts = "select issued, unused, used, voided, returned, discount_minor, returned_minor from batches"
    assert analyst.execute(counts).fetchall() == [(2, 1, 0, 1, 1, 500, 500)]
    assert sorted(column(analyst, "select state from coupons")) == ["UNUSED", "VOIDED"]
    [order] = analyst.execute("select state, discount_minor, merchant_funded_minor, paid_minor from order_coupons")
    assert order == ("RETURNED", 500, 300, 400)
    reasons = "select reason, returned_minor, currency, restored from returns"
    assert analyst.execute(reasons).fetchall() == [("order_cancelled", 500, "EUR", True)]
    terms = "select benefit_kind, value_minor, currency, merchant_share_permyriad from templates"
    assert analyst.execute(terms).fetchall() == [("amount_off", 500, "EUR", 6_000)]


def test_the_rates_of_a_day_are_those_that_http_tells(shared: Database, analyst: Connection) -> None:
    with shared.connect() as connection:
        [(first, until)] = connection.execute("select min(day), max(day) + 1 from daily_statistics").fetchall()
        rows = statistics.daily(connection, "ours", first, until)
    assert rows
    for row in rows:
        expected = {name: value for name, value in asdict(row).items() if name != "quantity"} | row.rates
        query = sql.SQL("select {} from daily_statistics where batch_id = %s and day = %s and channel = %s").format(
            sql.SQL(", ").join(map(sql.Identifier, expected))
        )
        found = analyst.execute(query, (row.batch_id, row.day, row.channel)).fetchone()
        assert found == tuple(expected.values())
    assert {row.rates["new_customer_order_share_permyriad"] for row in rows} == {10_000}


def test_coupons_of_a_small_merchant_are_found_by_the_key_of_the_wallet(own_logins: Logins) -> None:
    """Were they read from coupon_status alone, everybody would read the coupons of all."""
    with checkpoints.connect(own_logins.database) as connection:
        table = sql.Identifier(f"wallet_v{VERSIONS['wallet']}")
        connection.execute(
            sql.SQL(
                "insert into {0} select 'large', 'user-' || n, 'grown-' || n, batch_id, template_id, template_version,"
                " state, valid_from, valid_until, null, null, null, 0, null, issued_at, 1"
                " from (select * from {0} limit 1) w, generate_series(1, 20000) n"
            ).format(table)
        )
    own_logins.owner.execute("analyze")
    session = own_logins.session(own_logins.create("ours"))
    plan = "\n".join(
        column(session, "explain select state, count(*) from coupons where merchant_id = 'ours' group by state")
    )
    assert "Seq Scan" not in plan
    assert "coupon_status" not in plan
    assert column(session, "select count(redemption_id) + count(*) from coupons") == [2]


def test_states_are_by_the_clock_though_nobody_wrote_them_down(ledger: Ledger, shop: Shop, long_ago: Any) -> None:
    """The sweeper may be down."""
    batch_id = shop.batch(valid_for_seconds=None, valid_from=long_ago, valid_until=long_ago.replace(year=2018))
    ledger.do(use_cases.claim(shop.request(at=long_ago), batch_id, "user-1"))
    Runner(ledger.store.database).catch_up()
    made = Logins(ledger.store.database)
    try:
        assert column(made.session(made.create(shop.merchant_id)), "select state from coupons") == ["EXPIRED"]
    finally:
        made.end()


def test_freshness_tells_what_is_not_folded_yet(ledger: Ledger, own_logins: Logins) -> None:
    session = own_logins.session(own_logins.create("ours"))
    assert set(column(session, "select events_behind from freshness")) == {0}
    Shop(ledger, "more").coupon()
    assert set(column(session, "select events_behind from freshness")) == {4}
    assert set(column(session, "select model from freshness")) == {projection.name for projection in PROJECTIONS}


@pytest.mark.parametrize("name", [projection.name for projection in PROJECTIONS])
def test_a_rebuild_changes_nothing_for_analysts(name: str, ledger: Ledger, own_logins: Logins) -> None:
    session = own_logins.session(own_logins.create("ours"))
    [projection] = [projection for projection in PROJECTIONS if projection.name == name]
    assert rebuild(own_logins.database, projection).same
    [batch_id] = column(session, "select batch_id from batches")
    ledger.do(use_cases.claim(Shop(ledger, "ours").request("later"), batch_id, "cyd"))
    Runner(own_logins.database).catch_up()
    for view in ROWS:
        assert merchants(session, view) == {"ours"}
    assert column(session, "select count(*) from coupons") == [3]
    for view in ("batches", "funnel"):
        query = sql.SQL("select issued from {}").format(sql.Identifier(view))
        assert session.execute(query).fetchall() == [(3,)]


def test_a_table_of_an_older_release_is_protected_before_it_is_shown(own_logins: Logins) -> None:
    session = own_logins.session(own_logins.create("ours"))
    with checkpoints.connect(own_logins.database) as connection, connection.transaction():
        [table] = column(connection, "select 'coupon_status_v' || version from projection_checkpoints"
                                     " where name = 'coupon_status'")  # fmt: skip
        name = sql.Identifier(table)
        for statement in ("drop policy service on {}", "drop policy analysts on {}",
                          "alter table {} disable row level security"):  # fmt: skip
            connection.execute(sql.SQL(statement).format(name))
        analytics.show(connection)
    assert merchants(session, "coupons") == {"ours"}


def test_a_view_that_is_as_it_should_be_is_not_made_again(own_logins: Logins) -> None:
    """To make it again would wait for everybody who reads it, and nobody is to wait for a rebuild of something else."""
    schema = analytics.schema_of(own_logins.owner)
    query = "select relname, xmin::text from pg_class where relnamespace = %s::regnamespace"

    def made() -> dict[str, str]:
        return dict(own_logins.owner.execute(query, (schema,)).fetchall())

    before = made()
    checkpoints.install(own_logins.database, PROJECTIONS)
    assert made() == before
    reader = own_logins.session(own_logins.create("ours"))
    with reader.transaction():
        reader.execute("select * from coupons")
        [liability] = [projection for projection in PROJECTIONS if projection.name == "liability"]
        rebuild(own_logins.database, liability)
        assert {name for name, version in made().items() if version != before[name]} == {"liability"}
    own_logins.owner.execute(sql.SQL("drop view {}").format(sql.Identifier(schema, "coupons")))
    checkpoints.install(own_logins.database, PROJECTIONS)
    assert merchants(reader, "coupons") == {"ours"}


def test_a_view_whose_model_is_of_another_release_is_left_as_it_is(own_logins: Logins) -> None:
    session = own_logins.session(own_logins.create("ours"))
    with checkpoints.connect(own_logins.database) as connection, connection.transaction():
        connection.execute("create table coupon_status_v1 (coupon_id text, merchant_id text)")
        connection.execute("update projection_checkpoints set version = 1 where name = 'coupon_status'")
        analytics.show(connection)
    assert merchants(session, "coupons") == {"ours"}


# --- and nothing else --------------------------------------------------------------------------------------


def test_nothing_of_the_ledgers_own_schema_can_be_named(analyst: Connection, logins: Logins) -> None:
    names = column(
        logins.owner,
        "select relname from pg_class where relnamespace = %s::regnamespace and relkind in ('r', 'v', 'S')",
        logins.database.schema,
    )
    assert {"events", "event_log", "api_keys", "requests", "contacts", "codes", "code_sets", "analysts"} <= set(names)
    for name in names:
        with pytest.raises(pg.InsufficientPrivilege, match="schema"):
            analyst.execute(sql.SQL("select from {}").format(sql.Identifier(logins.database.schema, name)))


def test_were_the_schema_open_only_protected_tables_could_be_read(logins: Logins) -> None:
    login = logins.create("ours")
    readable = logins.owner.execute(
        """
        select c.relname, c.relrowsecurity from pg_class c
         where c.relnamespace = %s::regnamespace and c.relkind in ('r', 'v', 'm', 'f', 'p')
           and has_any_column_privilege(%s, c.oid, 'select, insert, update')
        """,
        (logins.database.schema, login),
    ).fetchall()
    assert {name for name, protected in readable if not protected} == {"schema_migrations"}  # which names migrations
    models = tuple(f"{projection.name}_v" for projection in PROJECTIONS)
    assert all(name.startswith(models) for name, protected in readable if protected)
    logins.owner.execute(
        sql.SQL("grant usage on schema {} to {}").format(sql.Identifier(logins.database.schema), sql.Identifier(login))
    )
    session = logins.session(login)
    session.execute(sql.SQL("set search_path to {}").format(sql.Identifier(logins.database.schema)))
    for name, protected in readable:
        if protected:
            assert merchants(session, name) <= {"ours"}


WRITES: list[LiteralString] = [
    "update coupons set state = 'UNUSED'",
    "update batches set quantity = 1000000",
    "delete from coupons",
    "delete from freshness",
    "truncate coupons",
    "insert into customers (merchant_id) values ('ours')",
    "create table mine (id int)",
    "create view mine as select 1",
    "create schema mine",
    "create function mine() returns int language sql as 'select 1'",
    "alter view coupons set (security_invoker = false)",
    "alter view coupons owner to current_user",
    "drop view coupons",
    "comment on view coupons is ''",
    "begin; lock table coupons in access exclusive mode",
    "copy coupons to '/tmp/coupons'",
    "copy (select 1) to program 'true'",
]


@pytest.mark.parametrize("statement", WRITES)
def test_nothing_can_be_written_though_a_session_may_call_itself_read_write(
    statement: LiteralString, analyst: Connection
) -> None:
    with pytest.raises(
        (pg.InsufficientPrivilege, pg.ObjectNotInPrerequisiteState, pg.FeatureNotSupported, pg.WrongObjectType)
    ):
        analyst.execute(statement)


BECOMING: list[LiteralString] = [
    "set role coupon_ledger_app",
    "set role coupon_ledger_projector",
    "set role postgres",
    "set session authorization coupon_ledger_app",
    "grant coupon_ledger_projector to current_user",
    "grant coupon_ledger_analyst to coupon_ledger_app",
    "alter role current_user bypassrls",
    "set row_security = off; select * from coupons",
    "set session_replication_role = replica",
]


@pytest.mark.parametrize("statement", BECOMING)
def test_nobody_becomes_another(statement: LiteralString, analyst: Connection) -> None:
    with pytest.raises(pg.InsufficientPrivilege):
        analyst.execute(statement)
    assert merchants(analyst, "coupons") == {"ours"}


def test_the_group_is_no_way_around(analyst: Connection) -> None:
    """The policy asks who logged in, which no role that a session takes changes."""
    analyst.execute("set role coupon_ledger_analyst")
    assert merchants(analyst, "coupons") == {"ours"}
    analyst.execute("reset role; set local role none")
    assert merchants(analyst, "templates") == {"ours"}


def test_a_temporary_table_names_nobody_for_more_merchants(analyst: Connection) -> None:
    analyst.execute("create temp table analysts as select 'theirs' as merchant_id, current_user::regrole as login")
    analyst.execute("create temp table coupons as select 'theirs' as merchant_id")
    analyst.execute("set search_path to pg_temp, analytics")
    schema = column(analyst, "select relnamespace::regnamespace::text from pg_class where relname = 'returns'"
                             " and has_schema_privilege(relnamespace, 'usage') and relnamespace <> pg_my_temp_schema()"
                             " and has_table_privilege(oid, 'select')")  # fmt: skip
    for name in schema:
        for view in ROWS:
            query = sql.SQL("select merchant_id from {}").format(sql.Identifier(name, view))
            assert {row[0] for row in analyst.execute(query)} <= {"ours"}


@pytest.mark.parametrize("view", ROWS)
def test_a_condition_is_not_asked_about_others_rows(view: str, analyst: Connection) -> None:
    """Were it, a function of the analyst's own could tell what it was asked about, and so could an error."""
    heard: list[str] = []
    analyst.add_notice_handler(lambda notice: heard.append(str(notice.message_primary)))
    analyst.execute("""
        create function pg_temp.tell(text) returns boolean language plpgsql immutable cost 0.0000001
        as $$ begin raise notice '%', $1; return true; end $$
    """)
    name = sql.Identifier(view)
    analyst.execute(sql.SQL("select count(*) from {0} where pg_temp.tell({0}::text)").format(name))
    assert heard
    assert not [row for row in heard if "theirs" in row or "bob" in row]
    for statement in (
        "select count(*) from {0} where 1 / (case when {0}.merchant_id = 'theirs' then 0 else 1 end) = 1",
        "select count(*) from {0} where length(merchant_id) / (length(merchant_id) - 6) > 99",
    ):
        analyst.execute(sql.SQL(statement).format(name))
    with pytest.raises(pg.InvalidTextRepresentation, match="ours") as refused:
        analyst.execute(sql.SQL("select count(*) from {0} where ({0}::text)::int = 1").format(name))
    assert "theirs" not in str(refused.value)


@pytest.mark.parametrize("view", ROWS)
def test_a_plan_names_no_merchant_of_others(view: str, analyst: Connection) -> None:
    """A plan does tell how many rows it passed over, of all merchants together: docs/analysts.md says so."""
    query = sql.SQL("explain (analyze, verbose, buffers) select * from {} where merchant_id <> ''")
    text = str(analyst.execute(query.format(sql.Identifier(view))).fetchall())
    assert "theirs" not in text
    assert "bob" not in text


def test_statistics_of_values_are_hidden(analyst: Connection, logins: Logins) -> None:
    logins.owner.execute("analyze")
    assert column(logins.owner, "select count(*) > 0 from pg_stats where schemaname = %s", logins.database.schema) == [
        True
    ]
    seen = column(analyst, "select tablename || attname from pg_stats where schemaname = %s", logins.database.schema)
    assert [name for name in seen if not name.startswith("schema_migrations")] == []


def test_another_ledger_of_the_same_server_shows_nothing(analyst: Connection, database_url: str) -> None:
    from tests.conftest import drop_ledger

    schema = f"test_{uuid.uuid4().hex[:12]}"
    migrate(database_url, schema)
    try:
        other = Database(database_url, schema)
        checkpoints.install(other, PROJECTIONS)
        with checkpoints.connect(other) as connection:
            connection.execute("insert into shared_coupons_v1 values ('ours', 'a', 'b')")
        for view in ROWS:
            query = sql.SQL("select count(*) from {}").format(sql.Identifier(f"{schema}_analytics", view))
            assert analyst.execute(query).fetchone() == (0,)
    finally:
        drop_ledger(database_url, schema)


# --- logins ------------------------------------------------------------------------------------------------


def test_a_session_begins_with_its_limits_and_may_change_them(logins: Logins) -> None:
    session = logins.session(logins.create("ours"))
    for name, value in analysts.LIMITS.items():
        query = "select current_setting(%s) = %s or current_setting(%s)::interval = %s::interval"
        if name in ("timezone", "default_transaction_read_only"):
            query = "select current_setting(%s) = %s or %s = %s"
        assert column(session, query, name, value, name, value) == [True], name
    with pytest.raises(pg.ReadOnlySqlTransaction):
        session.execute("create temp table mine (id int)")
    session.execute("set statement_timeout = '50ms'")
    with pytest.raises(pg.QueryCanceled):
        session.execute("select pg_sleep(5)")


def test_a_login_has_few_sessions(logins: Logins) -> None:
    login = logins.create("ours")
    for _ in range(5):
        logins.session(login)
    with pytest.raises(psycopg.OperationalError, match="too many connections"):
        logins.session(login)


def test_the_password_is_kept_as_a_digest_alone(logins: Logins) -> None:
    login = logins.create("ours")
    [kept] = column(logins.owner, "select rolpassword from pg_authid where rolname = %s", login)
    assert kept.startswith("SCRAM-SHA-256$")
    assert logins.password is not None
    assert len(logins.password) >= 32


def test_a_dropped_login_is_gone_with_its_sessions_and_what_they_left(logins: Logins) -> None:
    login = logins.create("ours")
    session = logins.session(login)
    session.execute("set default_transaction_read_only = off")
    session.execute("select lo_from_bytea(0, 'left behind')")
    analysts.drop(logins.owner, login)
    with pytest.raises(psycopg.OperationalError):
        session.execute("select 1")
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        logins.session(login)
    with pytest.raises(analysts.AnalystNotFound):
        analysts.drop(logins.owner, login)


def test_a_drop_that_postgresql_refuses_ends_the_login_and_can_be_repeated(logins: Logins) -> None:
    login = logins.create("ours")
    session = logins.session(login)
    elsewhere = sql.Identifier(f"{login}_elsewhere")
    logins.owner.execute(sql.SQL("create database {} owner {}").format(elsewhere, sql.Identifier(login)))
    try:
        with pytest.raises(pg.DependentObjectsStillExist):
            analysts.drop(logins.owner, login)
        with pytest.raises(psycopg.OperationalError):
            session.execute("select 1")
        with pytest.raises(psycopg.OperationalError, match="not permitted to log in"):
            logins.session(login)
        with pytest.raises(pg.DependentObjectsStillExist):
            analysts.drop(logins.owner, login)
    finally:
        logins.owner.execute(sql.SQL("drop database {}").format(elsewhere))
    analysts.drop(logins.owner, login)
    assert column(logins.owner, "select rolname from pg_roles where rolname = %s", login) == []


def test_a_login_of_another_ledger_is_not_dropped(logins: Logins, own_logins: Logins) -> None:
    login = own_logins.create("ours")
    with pytest.raises(analysts.AnalystNotFound):
        analysts.drop(logins.owner, login)
    assert merchants(own_logins.session(login), "coupons") == {"ours"}


def test_a_new_login_of_an_old_name_sees_nothing_of_what_that_one_saw(own_logins: Logins) -> None:
    login = own_logins.create("ours", "theirs")
    own_logins.owner.execute(sql.SQL("drop role {}").format(sql.Identifier(login)))  # past the command
    own_logins.create("ours", login=login)
    assert merchants(own_logins.session(login), "coupons") == {"ours"}
    assert [(found.login, found.merchants) for found in analysts.listed(own_logins.owner)] == [(login, ["ours"])]


def test_what_is_no_login_is_refused(logins: Logins) -> None:
    login = logins.create("ours")
    with pytest.raises(analysts.AnalystExists):
        logins.create("theirs", login=login)
    with pytest.raises(analysts.AnalystExists):
        logins.create("ours", login="postgres")
    for word in ("current_user", "current_role", "session_user", "user", "public", "none"):
        with pytest.raises(InvalidField):
            analysts.create(logins.owner, word, ["ours"])
    for name in ("pg_monitor", "coupon_ledger_app", "Ann", "ann lee", "", "a" * 64, 'ann"; drop schema x; --'):
        with pytest.raises(InvalidField):
            analysts.create(logins.owner, name, ["ours"])
    for none in ([], [""]):
        with pytest.raises(InvalidField):
            analysts.create(logins.owner, "ann", none)
    with pytest.raises(analysts.AnalystNotFound):
        analysts.drop(logins.owner, "postgres")
    assert merchants(logins.session(login), "coupons") == {"ours"}


# --- the service itself ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["coupon_status", "wallet", "batch_balance"])
def test_the_service_plans_as_if_there_were_no_policies(name: str, own_logins: Logins) -> None:
    query = sql.SQL("explain (verbose, costs off) select * from {} where merchant_id = 'ours'").format(
        sql.Identifier(name)
    )
    plans = []
    for switch in ("enable", "disable"):
        with checkpoints.connect(own_logins.database) as projector:
            [version] = column(projector, "select version from projection_checkpoints where name = %s", name)
            statement = sql.SQL("alter table {} {} row level security")
            projector.execute(statement.format(sql.Identifier(f"{name}_v{version}"), sql.SQL(switch)))
            of_projector = projector.execute(query).fetchall()
        with own_logins.database.connect() as app:
            plans.append((of_projector, app.execute(query).fetchall()))
    assert plans[0] == plans[1]
    assert "analyst" not in str(plans)


def test_a_schema_of_somebody_else_is_not_taken_over(database_url: str) -> None:
    from tests.conftest import drop_ledger

    schema = f"test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(database_url, autocommit=True) as owner:
        owner.execute(sql.SQL("create schema {}").format(sql.Identifier(f"{schema}_analytics")))
    try:
        with pytest.raises(pg.DuplicateSchema, match="somebody else's"):
            migrate(database_url, schema)
    finally:
        drop_ledger(database_url, schema)


def test_a_long_name_has_a_schema_of_its_own_too(database_url: str) -> None:
    from tests.conftest import drop_ledger

    schema = f"test_{uuid.uuid4().hex}".ljust(56, "x")
    migrate(database_url, schema)
    name = ""
    try:
        with Database(database_url, schema).connect() as connection:
            name = analytics.schema_of(connection)
            assert name.startswith("analytics_")
            assert len(name) < 63
    finally:
        drop_ledger(database_url, schema)
        with psycopg.connect(database_url, autocommit=True) as owner:
            owner.execute(sql.SQL("drop schema {}").format(sql.Identifier(name)))

"""How long a session of each role may take, and what becomes of one that is stuck."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from ledger import use_cases
from ledger.application import Ledger
from ledger.database import APP_ROLE, PROJECTOR_ROLE, ROLE_LIMITS, SESSION_LIMITS, Database
from ledger.errors import Unavailable
from ledger.store import Store
from tests.conftest import Shop
from tests.postgres.own_server import wait_until
from tests.postgres.tools import assert_guards_equal_events, picture

LIMITS = ["statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "transaction_timeout"]


def limits(database: Database) -> dict[str, str]:
    query = "select name, setting || coalesce(unit, '') from pg_settings where name = any(%s)"
    with database.connect() as connection:
        return {str(name): str(value) for name, value in connection.execute(query, (LIMITS,))}


@pytest.mark.parametrize(
    ("role", "expected"),
    [
        (APP_ROLE, ["30000ms", "2000ms", "10000ms", "60000ms"]),
        (PROJECTOR_ROLE, ["300000ms", "2000ms", "10000ms", "0ms"]),
    ],
)
def test_every_session_of_a_role_has_the_roles_limits(role: str, expected: list[str], database: Database) -> None:
    """Set by the session and not by ALTER ROLE, which only a login under that very role would feel."""
    assert limits(Database(database.url, database.schema, role)) == dict(zip(LIMITS, expected, strict=True))


def test_a_pooled_session_has_them_too(database: Database) -> None:
    store = Store(database)
    with store.connection() as connection:
        row = connection.execute("show transaction_timeout").fetchone()
    assert row == {"transaction_timeout": "1min"}
    store.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The application's limits, many times shorter."""
    monkeypatch.setitem(SESSION_LIMITS, "idle_in_transaction_session_timeout", "500ms")
    monkeypatch.setitem(ROLE_LIMITS[APP_ROLE], "statement_timeout", "1s")
    monkeypatch.setitem(ROLE_LIMITS[APP_ROLE], "transaction_timeout", "2s")


Connection = psycopg.Connection[Any]


def stuck_while_idle(connection: Connection, database: Database) -> None:
    with psycopg.connect(database.url, autocommit=True) as other:
        wait_until(
            lambda: (
                not other.execute(
                    "select 1 from pg_stat_activity where pid = %s", (connection.info.backend_pid,)
                ).fetchone()
            )
        )
    connection.execute("select 1")


def stuck_in_one_statement(connection: Connection, database: Database) -> None:
    connection.execute("select pg_sleep(30)")


def stuck_in_many_statements(connection: Connection, database: Database) -> None:
    for _ in range(1_000):
        connection.execute("select pg_sleep(0.03)")


Stuck = Callable[[Connection, Database], None]


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("stuck", "why"),
    [
        (stuck_while_idle, "idle-in-transaction timeout"),
        (stuck_in_one_statement, "statement timeout"),
        (stuck_in_many_statements, "transaction timeout"),
    ],
)
def test_a_stuck_session_does_not_keep_the_writers_lock(stuck: Stuck, why: str, ledger: Ledger, shop: Shop) -> None:
    """In whose hands it ended is told that nothing was written; the next caller gets a whole session."""
    batch_id = shop.batch(per_user_limit=None)
    before = picture(ledger.store.database)
    claim = use_cases.claim(shop.request("stuck"), batch_id, "user-1")

    def get_stuck() -> None:
        with ledger.store.connection() as connection, connection.transaction():
            ledger.do_all([claim], connection)
            stuck(connection, ledger.store.database)

    for _ in range(2):
        # What is said to a session between two of its statements may be lost with it.
        with pytest.raises(Unavailable, match=f"{why}|server closed the connection"):
            get_stuck()
        assert picture(ledger.store.database) == before
    assert ledger.do(claim).replayed is False
    assert_guards_equal_events(ledger.store.database)


def test_long_work_lifts_the_bounds_for_itself(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inside its transaction, as the comparison of a whole log does."""
    monkeypatch.setitem(ROLE_LIMITS[APP_ROLE], "transaction_timeout", "200ms")
    with database.connect() as connection, connection.transaction():
        connection.execute("set local statement_timeout = '5min'; set local transaction_timeout = 0")
        connection.execute("select pg_sleep(0.5)")

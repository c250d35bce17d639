"""Messages: content once, rows of users only where they read, counts that are right for everybody."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg import sql

from ledger.database import Database
from ledger.store import Store
from ledger.telling import inbox as inbox_module
from ledger.telling import messages
from ledger.telling.inbox import inbox, mark_read
from tests.conftest import MERCHANT, Shop

Connection = psycopg.Connection[Any]


@pytest.fixture
def connection(shop: Shop) -> Iterator[Connection]:
    with shop.ledger.store.connection() as connection:
        yield connection


def broadcast(shop: Shop, title: str = "All", **more: Any) -> str:
    sent = messages.send(shop.ledger, shop.request(), title=title, body="Text", user_ids=None, **more)
    message_id: str = sent.answer["message_id"]
    return message_id


def rows(connection: Connection, table: str) -> int:
    query = sql.SQL("select count(*) as n from {}").format(sql.Identifier(table))
    found: int = connection.execute(query).fetchall()[0]["n"]
    return found


def titles(connection: Connection, user_id: str = "user-1", **asked: Any) -> list[str]:
    return [message.title for message in inbox(connection, MERCHANT, user_id, **asked).messages]


def unread(connection: Connection, user_id: str = "user-1") -> int:
    return inbox(connection, MERCHANT, user_id).unread


def test_a_broadcast_is_one_row_until_somebody_reads_it(shop: Shop, connection: Connection) -> None:
    message_id = broadcast(shop)
    for n in range(50):
        assert titles(connection, f"user-{n}") == ["All"]
    assert (rows(connection, "messages"), rows(connection, "user_messages")) == (1, 0)
    assert mark_read(connection, MERCHANT, "user-1", [message_id]) == 1
    assert rows(connection, "user_messages") == 1
    assert (unread(connection, "user-1"), unread(connection, "user-2")) == (0, 1)


def test_named_users_have_rows_and_the_content_is_there_once(shop: Shop, connection: Connection) -> None:
    told = {"message_key": "reminder b-1", "title": "Soon over", "body": "b", "kind": "reminder"}
    assert messages.tell_user(connection, MERCHANT, ["user-2", "user-1", "user-1"], **told) == 2
    assert messages.tell_user(connection, MERCHANT, ["user-1", "user-3"], **told | {"title": "Another"}) == 1
    assert messages.tell_user(connection, "merchant-2", ["user-1"], **told | {"title": "Theirs"}) == 1
    assert (rows(connection, "messages"), rows(connection, "user_messages")) == (2, 4)
    assert titles(connection) == titles(connection, "user-3") == ["Soon over"]
    assert titles(connection, "user-4") == []
    assert [message.title for message in inbox(connection, "merchant-2", "user-1").messages] == ["Theirs"]


def test_pages_are_the_newest_first_and_hold_each_message_once(shop: Shop, connection: Connection) -> None:
    for n in range(25):
        if n % 2:
            broadcast(shop, f"t{n}")
        else:
            messages.send(shop.ledger, shop.request(), title=f"t{n}", body="x", user_ids=["user-1", "user-2"])
    mark_read(connection, MERCHANT, "user-1", [inbox(connection, MERCHANT, "user-1").messages[3].message_id])
    found: list[Any] = []
    before = None
    while page := inbox(connection, MERCHANT, "user-1", before=before, limit=7).messages:
        found += page
        before = page[-1].message_no
    assert [message.title for message in found] == [f"t{n}" for n in reversed(range(25))]
    assert [message.title for message in found if message.read_at] == ["t21"]
    left = inbox(connection, MERCHANT, "user-1", unread_only=True, limit=100)
    assert ([message.title for message in left.messages], left.unread) == (
        [f"t{n}" for n in reversed(range(25)) if n != 21],
        24,
    )


def test_who_joined_later_does_not_get_what_was_sent_before(shop: Shop, connection: Connection) -> None:
    broadcast(shop, "before")
    now = shop.ledger.store.load(()).now
    assert titles(connection, "new", joined_at=now) == []
    broadcast(shop, "after")
    assert titles(connection, "new") == ["after"]  # it was remembered
    assert titles(connection, "new", joined_at=now + timedelta(seconds=1)) == ["after"]  # a later one changes nothing
    assert titles(connection, "new", joined_at=EARLY) == ["after", "before"]  # an earlier one is the better one
    assert unread(connection, "new") == 2
    ahead = now + timedelta(hours=1)
    messages.joined(connection, MERCHANT, [("told", now), ("told", ahead), ("old", EARLY), ("soon", ahead)])
    broadcast(shop, "last")
    assert titles(connection, "soon") == ["last"]
    assert titles(connection, "new") == ["last", "after", "before"]
    assert titles(connection, "told") == ["last", "after"]
    assert titles(connection, "old") == titles(connection, "unknown") == ["last", "after", "before"]
    assert mark_read(connection, MERCHANT, "told") == 2
    assert [message.title for message in inbox(connection, "merchant-2", "new").messages] == []


EARLY = datetime(2020, 1, 1, tzinfo=UTC)


def test_reading_all_is_all_up_to_now_and_once(shop: Shop, connection: Connection) -> None:
    broadcast(shop)
    messages.send(shop.ledger, shop.request(), title="Yours", body="x", user_ids=["user-1"])
    assert mark_read(connection, MERCHANT, "user-1") == 2
    first = [message.read_at for message in inbox(connection, MERCHANT, "user-1").messages]
    assert mark_read(connection, MERCHANT, "user-1") == 0
    assert [message.read_at for message in inbox(connection, MERCHANT, "user-1").messages] == first
    broadcast(shop)
    assert unread(connection) == 1
    assert mark_read(connection, MERCHANT, "user-1", []) == 0
    assert mark_read(connection, MERCHANT, "user-1", ["unknown"]) == 0
    assert mark_read(connection, "merchant-2", "user-1") == 0
    assert unread(connection) == 1


def test_another_users_message_cannot_be_read(shop: Shop, connection: Connection) -> None:
    sent = messages.send(shop.ledger, shop.request(), title="Yours", body="x", user_ids=["user-1"])
    assert mark_read(connection, MERCHANT, "user-2", [sent.answer["message_id"]]) == 0
    assert unread(connection) == 1
    assert titles(connection, "user-2") == []


def test_what_ended_or_was_withdrawn_is_shown_and_counted_nowhere(shop: Shop, connection: Connection) -> None:
    named = messages.send(shop.ledger, shop.request(), title="Named", body="x", user_ids=["user-1", "user-2"])
    ending = shop.ledger.store.load(()).now + timedelta(hours=1)
    wrong, short = broadcast(shop, "Wrong"), broadcast(shop, "Short", expires_at=ending)
    mark_read(connection, MERCHANT, "user-2", [wrong])
    assert unread(connection) == 3
    messages.withdraw(shop.ledger, shop.request(), wrong)
    messages.withdraw(shop.ledger, shop.request(), named.answer["message_id"])
    connection.execute("update messages set expires_at = clock_timestamp() where message_id = %s", (short,))
    for user_id in ("user-1", "user-2", "user-3"):
        page = inbox(connection, MERCHANT, user_id)
        assert (page.messages, page.unread) == ([], 0)
        assert mark_read(connection, MERCHANT, user_id, [wrong, short]) == 0
    assert [message.withdrawn_at is not None for message in messages.sent(connection, MERCHANT)] == [False, True, True]
    with pytest.raises(messages.MessageNotFound):
        messages.withdraw(shop.ledger, shop.request(), "unknown")


def test_refusals_leave_nothing(shop: Shop, connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(messages.InvalidPeriod):
        broadcast(shop, expires_at=EARLY)
    with pytest.raises(messages.InvalidField):
        messages.send(shop.ledger, shop.request(), title="x", body="x", user_ids=[])
    monkeypatch.setattr(messages, "BROADCAST_LIMIT", 1)
    message_id = broadcast(shop)
    with pytest.raises(messages.BroadcastLimitReached):
        broadcast(shop)
    assert rows(connection, "messages") == 1
    messages.withdraw(shop.ledger, shop.request(), message_id)
    broadcast(shop)


def test_the_end_of_messages_is_some_time_after_their_end(
    shop: Shop, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(messages, "PURGE_LIMIT", 2)
    users = [f"user-{n}" for n in range(7)]
    old = messages.send(shop.ledger, shop.request(), title="Old", body="x", user_ids=users).answer["message_id"]
    messages.send(shop.ledger, shop.request(), title="New", body="x", user_ids=users)
    change = "update messages set expires_at = clock_timestamp() - make_interval(days => %s) where message_id = %s"
    connection.execute(change, (messages.KEPT_DAYS - 1, old))
    assert messages.purge(connection) == 0
    connection.execute(change, (messages.KEPT_DAYS + 1, old))
    gone = [0]
    while (count := messages.purge(connection)) > 0:
        gone.append(count)
    assert sum(gone) == 8
    assert max(gone) <= 3
    assert (rows(connection, "messages"), rows(connection, "user_messages")) == (1, 7)


# --- plans ------------------------------------------------------------------------------------------

USERS, BROADCASTS = 20_000, 100


@pytest.fixture(scope="module")
def grown(shared_database: Database) -> Iterator[Store]:
    """A crowd, of whom one has a hundred broadcasts and some messages by name; its statements were planned before."""
    store = Store(shared_database)
    with store.connection() as connection:
        inbox(connection, MERCHANT, "user-1")
        mark_read(connection, MERCHANT, "user-1")
    with psycopg.connect(shared_database.url) as owner:
        owner.execute(sql.SQL("set search_path to {}").format(sql.Identifier(shared_database.schema)))
        for statement in (
            """insert into messages (merchant_id, message_key, message_id, kind, to_all, title, body, expires_at)
               select case when n <= %(some)s then 'merchant-1' else 'merchant-' || n end, n, n, 'message', true, 't',
                      repeat('x', 9000), now() + interval '1 day' from generate_series(1, 20 * %(some)s) n""",
            """insert into messages (merchant_id, message_key, message_id, kind, to_all, title, body, expires_at)
               select 'merchant-1', 'named ' || n, 'named ' || n, 'reminder', false, 't', 'b', now() + interval '1 day'
                 from generate_series(1, 50) n""",
            """insert into user_messages select 'merchant-1', 'user-' || u, message_no, null
                 from generate_series(1, %(users)s / 10) u, messages where not to_all""",
            """insert into user_messages select 'merchant-1', 'user-' || u, min(message_no), now()
                 from generate_series(1, %(users)s) u, messages where to_all group by u""",
            "insert into inbox_users select 'merchant-1', 'user-' || n, now() from generate_series(1, %(users)s) n",
        ):
            owner.execute(statement, {"some": BROADCASTS, "users": USERS})
        owner.execute("analyze messages, user_messages, inbox_users")
    yield store
    store.close()


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
@pytest.mark.parametrize("name", ["_INBOX", "_READ_OWN", "_READ_BROADCASTS"])
def test_no_table_is_read_whole(mode: str, name: str, grown: Store) -> None:
    asked = {
        "merchant_id": MERCHANT,
        "user_id": "user-7",
        "unread_only": False,
        "before": 2**63 - 1,
        "limit": 50,
        "ids": None,
    }
    with grown.connection() as connection, connection.transaction(force_rollback=True):
        connection.execute(sql.SQL("set local plan_cache_mode = {}").format(sql.Literal(mode)))
        query = getattr(inbox_module, name)
        row: Any = connection.execute("explain (analyze, buffers, format json) " + query, asked).fetchone()
    plan = next(iter(row.values()))[0]["Plan"]
    nodes = list(walk(plan))
    assert "Seq Scan" not in {node["Node Type"] for node in nodes}
    passed = sum(node.get("Rows Removed by Filter", 0) * node["Actual Loops"] for node in nodes)
    assert passed <= 2 * BROADCASTS
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 4_000


def walk(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from walk(child)

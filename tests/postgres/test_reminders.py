"""The read model of reminders: which rows there are after each event, however the log is cut, and after a rebuild."""

from __future__ import annotations

import random
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from psycopg import sql
from psycopg.rows import tuple_row

from consumers import reminder_scanner
from ledger import use_cases
from ledger.aggregate import text_of
from ledger.benefit import Benefit
from ledger.coupon import Redemption
from ledger.database import PROJECTOR_ROLE, Database
from ledger.errors import Refusal
from ledger.reminders import Reminders
from ledger.terms import ReturnPolicy, Terms
from projections import checkpoints
from projections.catalogue import PROJECTIONS
from projections.models import reminders
from projections.rebuild import rebuild
from projections.runner import Runner

[MODEL] = [projection for projection in PROJECTIONS if projection.name == "reminders"]
NOW = datetime.now(UTC).replace(microsecond=0)
END = NOW.replace(hour=12, minute=0, second=0) + timedelta(days=30)
ROWS = """
select user_id, notify_day - %s::date, type, due_at, ends_at,
       (select coalesce(array_agg(id order by id), '{}') from jsonb_object_keys(coupons) id)
  from reminders order by user_id, notify_day, type
"""


def terms_of(*days: int, **more: Any) -> Terms:
    policy = ReturnPolicy(merchant_refund="restore_with_grace", grace_days=20)
    benefit = Benefit(kind="cash_voucher", value_minor=500, leaves_balance=True)
    return Terms(
        benefit=benefit,
        currency="EUR",
        transferable=True,
        return_policy=policy,
        stacking_mode="stackable",
        reminders=Reminders(days_before=days),
        **more,
    )


class Desk:
    """What the tests do with coupons, and the rows that there are then, by the days before ``END``."""

    def __init__(self, shop: Any, database: Database, *days: int, **plan: Any) -> None:
        self.shop, self.database = shop, database
        window = {"valid_until": END, "valid_for_seconds": None, "per_user_limit": None, "quantity": 10_000}
        self.batch_id = shop.batch(terms=terms_of(*days), **window | plan)

    def issue(self, user_id: str = "ann", at: datetime | None = None) -> str:
        work = use_cases.issue(self.shop.request(at=at), self.batch_id, [user_id])
        coupon_id: str = self.shop.ledger.do(work).answer["coupons"][0]["coupon_id"]
        return coupon_id

    def lock(self, coupon_id: str, order: str = "o-1", user_id: str = "ann") -> None:
        work = use_cases.lock(self.shop.request(), order, user_id=user_id, coupon_ids=[coupon_id])
        self.shop.ledger.do(work)

    def use(self, coupon_id: str, order: str = "o-1", user_id: str = "ann", minor: int = 500) -> None:
        self.lock(coupon_id, order, user_id)
        redemption = Redemption(coupon_id=coupon_id, discount_minor=minor)
        self.shop.ledger.do(use_cases.confirm(self.shop.request(), order, [redemption], order_total_minor=9_999))

    def return_(self, reason: str, order: str = "o-1", **how: Any) -> None:
        self.shop.ledger.do(use_cases.return_coupons(self.shop.request(), order, reason=reason, **how))

    def extend(self, coupon_id: str, days: int) -> None:
        until = END + timedelta(days=days)
        self.shop.ledger.do(use_cases.extend(self.shop.request(), coupon_id, valid_until=until, reason="storm"))

    def transfer(self, coupon_id: str, to: str) -> None:
        work = use_cases.transfer(self.shop.request(), coupon_id, user_id="ann", to_user_id=to)
        self.shop.ledger.do(work)

    def rows(self) -> list[tuple[str, int]]:
        Runner(self.database, [MODEL]).catch_up()
        return [(user_id, days) for user_id, days, *_ in self.whole_rows()]

    def whole_rows(self) -> list[Any]:
        with self.database.connect() as connection:
            return connection.cursor(row_factory=tuple_row).execute(ROWS, (END,)).fetchall()


@pytest.fixture
def desk(shop: Any, database: Database) -> Desk:
    return Desk(shop, database, 7, 1)


def test_issue_fills_a_row_for_each_lead_time(desk: Desk) -> None:
    coupon = desk.issue()
    assert desk.rows() == [("ann", -7), ("ann", -1)]
    for row, days in zip(desk.whole_rows(), (7, 1), strict=True):
        assert row[2:] == ("expiry", END - timedelta(days=days), END, [coupon])


def test_a_template_without_reminders_has_none(shop: Any, database: Database) -> None:
    desk = Desk(shop, database)
    desk.use(desk.issue())
    assert desk.rows() == []


def test_who_has_several_is_told_once_a_day(desk: Desk) -> None:
    coupons = sorted(desk.issue() for _ in range(3))
    desk.issue("bob")
    assert desk.rows() == [("ann", -7), ("ann", -1), ("bob", -7), ("bob", -1)]
    assert desk.whole_rows()[0][5] == coupons
    desk.use(coupons[0])
    assert desk.rows()[:2] == [("ann", -7), ("ann", -1)]
    assert desk.whole_rows()[0][5] == coupons[1:]


@pytest.mark.parametrize("end", ["use", "void", "expire"])
def test_the_end_of_a_coupon_empties_its_rows(shop: Any, database: Database, desk: Desk, end: str) -> None:
    coupon = desk.issue()
    assert len(desk.rows()) == 2
    if end == "use":
        desk.use(coupon)
    elif end == "void":
        shop.ledger.do(use_cases.void(shop.request(), coupon, reason="mistake"))
    else:
        shop.ledger.do(use_cases.expire(shop.request(at=END), coupon))
    assert desk.rows() == []


def test_a_lock_and_a_part_spent_leave_them(desk: Desk) -> None:
    coupon = desk.issue()
    desk.lock(coupon, "o-1")
    assert len(desk.rows()) == 2
    desk.shop.ledger.do(use_cases.unlock(desk.shop.request(), "o-1", coupon_ids=[coupon], reason="left"))
    desk.use(coupon, "o-2", minor=200)
    assert len(desk.rows()) == 2


def test_a_later_end_moves_them(desk: Desk) -> None:
    desk.extend(desk.issue(), 3)
    assert desk.rows() == [("ann", -4), ("ann", 2)]
    assert {row[4] for row in desk.whole_rows()} == {END + timedelta(days=3)}


def test_who_is_given_it_is_told_instead(desk: Desk) -> None:
    given, kept = desk.issue(), desk.issue()
    desk.extend(given, 3)
    assert len(desk.rows()) == 4
    desk.transfer(given, "bob")
    assert desk.rows() == [("ann", -7), ("ann", -1), ("bob", -4), ("bob", 2)]
    assert desk.whole_rows()[0][5] == [kept]


def test_a_return_with_grace_schedules_by_the_new_end(desk: Desk) -> None:
    coupon = desk.issue()
    desk.use(coupon)
    assert desk.rows() == []
    desk.return_("merchant_refund", coupon_ids=[coupon])
    assert desk.rows() == [("ann", -7), ("ann", -1)]


def test_a_return_that_keeps_it_used_schedules_nothing(desk: Desk) -> None:
    coupon = desk.issue()
    desk.use(coupon)
    desk.return_("buyer_refund", coupon_ids=[coupon])
    assert desk.rows() == []


def test_a_voucher_that_a_credit_brings_back_is_told_of_again(desk: Desk) -> None:
    """The credit does not say when it ends, and the extension lies in another chunk: the log is asked."""
    coupon = desk.issue()
    desk.extend(coupon, 3)
    desk.use(coupon, "o-1", minor=200)
    desk.use(coupon, "o-2", minor=300)
    assert desk.rows() == []
    desk.return_("order_cancelled", "o-1", coupon_ids=[coupon])
    assert desk.rows() == [("ann", -4), ("ann", 2)]


def test_what_is_past_when_it_is_recorded_is_not_scheduled(shop: Any, database: Database) -> None:
    soon = datetime.now(UTC) + timedelta(days=3)
    desk = Desk(shop, database, 7, 1, valid_until=soon)
    desk.issue()
    assert len(desk.rows()) == 1


def test_imported_history_reminds_nobody(shop: Any, database: Database, long_ago: datetime) -> None:
    """It was due years ago by its own clock, and the ledger hears of it only now."""
    desk = Desk(shop, database, 7, 1, valid_until=long_ago + timedelta(days=30))
    desk.issue(at=long_ago)
    assert desk.rows() == []


def test_openings_that_users_ask_for(shop: Any, database: Database) -> None:
    """In the middle of the night, which is quiet: told when the night is over."""
    opens = NOW.replace(hour=2, minute=0, second=0) + timedelta(days=3)
    quiet = Reminders(quiet_from_minute=22 * 60, quiet_until_minute=8 * 60)
    terms = Terms(benefit=Benefit(kind="amount_off", value_minor=5), currency="EUR", reminders=quiet)
    batch_id = shop.batch(terms=terms, claim_from=opens)
    for user_id in ("ann", "bob", "cy"):
        shop.ledger.do(use_cases.request_claim_reminder(shop.request(), batch_id, user_id))
    shop.ledger.do(use_cases.cancel_claim_reminder(shop.request(), batch_id, "bob"))
    desk = Desk(shop, database)
    assert [user for user, _ in desk.rows()] == ["ann", "cy"]
    due = opens + timedelta(hours=6)
    assert {row[2:] for row in map(_hashable, desk.whole_rows())} == {("claim_opens", due, due, ())}
    shop.ledger.do(use_cases.cancel_claim_reminder(shop.request(), batch_id, "ann"))
    shop.ledger.do(use_cases.request_claim_reminder(shop.request(), batch_id, "bob"))
    assert [user for user, _ in desk.rows()] == ["bob", "cy"]


def _hashable(row: Any) -> Any:
    return (*row[:5], tuple(row[5]))


def random_life(desk: Desk, chance: random.Random, steps: int) -> None:
    """Things happen to coupons of a few users, most of them sensible."""
    coupons: list[str] = []
    for number in range(steps):
        step = chance.choice(["issue", "issue", "use", "return", "extend", "transfer", "void"])
        coupon = chance.choice(coupons) if coupons else ""
        if step == "issue" or not coupons:
            coupons.append(desk.issue(chance.choice(["ann", "bob"])))
            continue
        with desk.shop.ledger.store.connection() as connection:
            stream = desk.shop.ledger.store.load([f"coupon-{coupon}"], (), connection).streams[f"coupon-{coupon}"]
        owner = getattr(stream[-1], "to_user_id", None) or stream[-1].user_id  # type: ignore[attr-defined]
        with suppress(Refusal):  # which changes nothing
            if step == "use":
                desk.use(coupon, f"o-{number}", owner)
            elif step == "return":
                desk.return_("merchant_refund", getattr(stream[-1], "order_id", "o"), coupon_ids=[coupon])
            elif step == "extend":
                desk.extend(coupon, chance.randrange(1, 9))
            elif step == "transfer":
                desk.transfer(coupon, "cy")
            else:
                desk.shop.ledger.do(use_cases.void(desk.shop.request(), coupon, reason="mistake"))


@pytest.mark.parametrize("chunk_events", [1, 3, 5_000])
def test_rows_are_the_same_however_the_log_is_cut(shop: Any, database: Database, chunk_events: int) -> None:
    desk = Desk(shop, database, 7, 3, 1)
    random_life(desk, random.Random(6), 120)
    Runner(database, [MODEL], chunk_events=chunk_events).catch_up()
    live = desk.whole_rows()
    assert len(live) > 10
    assert rebuild(database, MODEL).same is True
    assert desk.whole_rows() == live


def test_what_was_sent_stays_out_whoever_folds_it(shop: Any, database: Database, desk: Desk) -> None:
    first = desk.issue()
    assert len(desk.rows()) == 2
    with Database(database.url, database.schema, PROJECTOR_ROLE).connect() as scanner, scanner.transaction():
        scanner.execute(
            "insert into reminders_sent (merchant_id, user_id, batch_id, notify_day, type, ends_at)"
            " select merchant_id, user_id, batch_id, notify_day, type, ends_at from reminders"
            "  where notify_day = (select min(notify_day) from reminders)"
        )
        scanner.execute(
            "delete from reminders r where exists (select from reminders_sent s where s.notify_day = r.notify_day)"
        )
    assert desk.rows() == [("ann", -1)]
    second = desk.issue()
    assert desk.rows() == [("ann", -1)]
    assert desk.whole_rows()[0][5] == sorted([first, second])
    rebuilt = rebuild(database, MODEL)
    assert (rebuilt.same, rebuilt.rows) == (True, 1)
    assert desk.rows() == [("ann", -1)]


def test_what_is_sent_while_it_is_rebuilt_does_not_come_back(shop: Any, database: Database, desk: Desk) -> None:
    desk.issue()
    assert len(desk.rows()) == 2

    def send(_done: int, _total: int) -> None:
        with Database(database.url, database.schema, PROJECTOR_ROLE).connect() as scanner:
            scanner.execute(
                "insert into reminders_sent (merchant_id, user_id, batch_id, notify_day, type, ends_at)"
                " select merchant_id, user_id, batch_id, notify_day, type, ends_at from reminders"
                " on conflict do nothing"
            )

    rebuild(database, MODEL, send)
    assert desk.rows() == []


FILL = """
insert into reminders_v1
select 'merchant-1', 'user-' || n, 'b', current_date + n % 90, 'expiry', now() + make_interval(mins => n - 100),
       now() + interval '90 days', jsonb_build_object('c' || n, '[]'::jsonb)
  from generate_series(1, 20000) n
"""


def scanned(connection: Any, query: Any, parameters: Any) -> set[str]:
    """The tables that the plan reads from end to end."""
    [(plan,)] = connection.execute(query, parameters).fetchall()
    nodes, found = [plan[0]["Plan"]], set()
    while nodes:
        node = nodes.pop()
        nodes += node.get("Plans", [])
        if node["Node Type"] == "Seq Scan":
            found.add(node["Relation Name"])
    return found


def test_what_is_due_is_found_by_its_index(database: Database, desk: Desk) -> None:
    """The scanner's statements find rows by index, however many reminders wait, and no coupon."""
    desk.rows()
    explain = "explain (format json) "
    done = orjson.dumps([["merchant-1", f"user-{n}", "b", "2026-01-01", "expiry", text_of(NOW)] for n in range(500)])
    purge = {"days": 8, "limit": 5_000}
    with Database(database.url, database.schema, PROJECTOR_ROLE).connect() as connection:
        connection.execute(FILL)
        connection.execute("analyze reminders_v1, reminders_sent, reminders_told")
        connection.execute(reminder_scanner._PLANS.replace("set local", "set"))
        assert scanned(connection, explain + reminder_scanner._DUE, (500,)) == set()
        assert scanned(connection, explain + reminder_scanner._DONE, (done.decode(),)) == set()
        due = connection.execute(reminder_scanner._DUE, (500,)).fetchall()
        assert len(due) == 100
        connection.execute(
            "insert into reminders_sent select merchant_id, user_id, batch_id, notify_day, type, ends_at from reminders"
        )
        with database.connect() as app:
            app.execute("insert into reminders_told select md5(user_id), ends_at from reminders")
        connection.execute("analyze reminders_sent, reminders_told")
        assert scanned(connection, explain + reminder_scanner._DUE, (500,)) == set()
        assert scanned(connection, explain + reminder_scanner._PURGE_SENT, purge) == set()
        assert scanned(connection, explain + reminder_scanner._PURGE_TOLD, purge) == set()


def test_a_coupon_is_taken_out_by_the_key_of_its_rows(database: Database, desk: Desk) -> None:
    desk.rows()
    taken = orjson.dumps([["merchant-1", f"user-{n}", "b", [f"c{n}"]] for n in range(1, 500)]).decode()
    table = sql.Identifier(MODEL.table)
    with checkpoints.connect(database) as connection:
        connection.execute(FILL)
        connection.execute("analyze reminders_v1, reminders_sent")
        for statement in (reminders._TAKE, reminders._CANCEL):
            explained = sql.SQL("explain (format json) " + statement).format(table=table)
            assert scanned(connection, explained, (taken,)) == set()
        connection.execute(sql.SQL(reminders._TAKE).format(table=table), (taken,))
        assert connection.execute("select count(*) from reminders").fetchone() == (20_000 - 499,)

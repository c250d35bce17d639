"""commit_group: each unit of a group gets its own verdict, and a bad one never fails its neighbours."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import count
from typing import Any

import psycopg
import pytest

from ledger import use_cases
from ledger.application import Ledger
from ledger.commit import Unit, Verdict, commit_group
from ledger.errors import BatchNotOpen, Refusal, SoldOut
from ledger.events import CouponVoided, Event
from ledger.request import Request
from ledger.work import Receipt
from tests.conftest import Shop
from tests.postgres.tools import assert_guards_equal_events, picture, whole_log
from tests.unit.specs import T0, issued

_numbers = count(1)


class Group:
    """Units with ids of their own on the module's ledger, written without a use case in between."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.number = next(_numbers)
        self.batch_id = f"b-{self.number}"

    def supply(self, quantity: int, batch_id: str | None = None) -> None:
        """A batch's stock."""
        assert self.words(Unit(supply={batch_id or self.batch_id: quantity})) == ["done"]

    def coupon(self, name: str, version: int = 1) -> Event:
        """The event that issues a coupon."""
        return issued(coupon=f"{name}-{self.number}").event(version)

    def voided(self, name: str, version: int) -> Event:
        return CouponVoided(
            originator_id=f"coupon-{name}-{self.number}",
            originator_version=version,
            merchant_id="m",
            actor="a",
            request_id="r",
            occurred_at=T0,
            batch_id=self.batch_id,
            user_id="u",
            reason="r",
        )

    def request(self, name: str, body_hash: str = "") -> Request:
        return Request("m", "a", f"{name}-{self.number}", body_hash)

    def commit(self, *units: Unit) -> list[Verdict]:
        with self.ledger.store.connection() as connection:
            return commit_group(self.ledger.store, connection, units)

    def words(self, *units: Unit) -> list[str]:
        return [verdict.word for verdict in self.commit(*units)]


@pytest.fixture
def group(shared_ledger: Ledger) -> Group:
    return Group(shared_ledger)


def test_no_unit_is_no_verdict(group: Group) -> None:
    assert group.commit() == []


def test_a_units_events_lie_together_and_its_position_is_the_last(group: Group) -> None:
    head = group.ledger.store.head()
    verdicts = group.commit(
        Unit([group.coupon("a"), group.coupon("b")]),
        Unit([], group.request("nothing")),
        Unit([group.coupon("c"), group.voided("c", 2)]),
    )
    assert [(verdict.word, verdict.position) for verdict in verdicts] == [
        ("done", head + 2),
        ("done", head),
        ("done", head + 4),
    ]
    assert [entry.event.originator_id[7] for entry in whole_log(group.ledger.store)[head:]] == ["a", "b", "c", "c"]


def test_every_verdict_in_one_group(group: Group) -> None:
    group.supply(2)
    group.supply(1, "full-" + group.batch_id)
    group.commit(
        Unit([group.coupon("old")], group.request("old", "body"), {"n": 1}, stock={"full-" + group.batch_id: 1}),
        Unit(quota={(group.batch_id, "u"): (3, 3)}),
    )
    before = group.ledger.store.head()
    units = {
        "done": Unit([group.coupon("a")], group.request("a"), stock={group.batch_id: 1}),
        "replayed": Unit([group.coupon("x1")], group.request("old", "body"), {"n": 2}),
        "reused": Unit([group.coupon("x2")], group.request("old", "other"), {"n": 2}),
        "exists": Unit([group.coupon("old")], group.request("x3")),
        "conflict": Unit([group.voided("old", 3)], group.request("x4")),
        "user_limit": Unit([group.coupon("x5")], group.request("x5"), quota={(group.batch_id, "u"): (1, 3)}),
        "sold_out": Unit([group.coupon("x6")], group.request("x6"), stock={"full-" + group.batch_id: 1}),
        "below_issued": Unit([group.coupon("x7")], group.request("x7"), supply={"full-" + group.batch_id: 0}),
        "again": Unit([group.coupon("x8")], group.request("x8"), stock={group.batch_id: 2}),
        "conflict of a read": Unit([group.coupon("x9")], group.request("x9"), reads={"coupon-nowhere": 1}),
        "done too": Unit([group.coupon("b")], group.request("b"), quota={(group.batch_id, "v"): (1, 1)}),
    }
    verdicts = dict(zip(units, group.commit(*units.values()), strict=True))
    assert {name: verdict.word for name, verdict in verdicts.items()} == {
        name: {"conflict of a read": "conflict", "done too": "done"}.get(name, name) for name in units
    }
    assert (verdicts["replayed"].answer, verdicts["replayed"].position) == ({"n": 1}, before)
    assert (verdicts["reused"].answer, verdicts["done"].answer) == ({}, {})
    refused_by = {name: verdicts[name].answer for name in ("user_limit", "sold_out", "below_issued", "again")}
    assert refused_by == {
        "user_limit": {"batch_id": group.batch_id, "owner": "u"},
        "sold_out": {"batch_id": "full-" + group.batch_id},
        "below_issued": {"batch_id": "full-" + group.batch_id},
        "again": {},
    }
    streams = [entry.event.originator_id for entry in whole_log(group.ledger.store)[before:]]
    assert streams == [f"coupon-a-{group.number}", f"coupon-b-{group.number}"]
    answered = group.ledger.store.load((), [("m", f"{name}-{group.number}") for name in ("a", "b", "x8", "x9")])
    assert {key for _, key in answered.answered} == {f"a-{group.number}", f"b-{group.number}"}


def test_one_stale_stream_of_several_writes_none_of_them(group: Group) -> None:
    group.commit(Unit([group.coupon("a")]), Unit([group.coupon("b"), group.voided("b", 2)]))
    database = group.ledger.store.database
    before = picture(database)
    stale = Unit(
        [group.voided("a", 2), group.voided("b", 2)],
        group.request("stale"),
        stock={group.batch_id: 1},
        quota={(group.batch_id, "u"): (1, 1)},
        supply={group.batch_id: 5},
    )
    assert group.words(stale) == ["conflict"]
    assert picture(database) == before


def test_a_batch_without_stock_has_none_to_give(group: Group) -> None:
    assert group.words(Unit([group.coupon("a")], stock={group.batch_id: 1})) == ["sold_out"]


def test_a_smaller_unit_gets_what_a_larger_one_before_it_could_not(group: Group) -> None:
    group.supply(3)
    two, also_two, one = (
        Unit([group.coupon(f"{name}{n}") for n in range(take)], stock={group.batch_id: take})
        for name, take in (("a", 2), ("b", 2), ("c", 1))
    )
    assert group.words(two, also_two, one) == ["done", "again", "again"]
    assert group.words(also_two, one) == ["sold_out", "again"]
    assert group.words(one) == ["done"]


def test_a_user_limit_in_the_middle_of_a_group(group: Group) -> None:
    def take(name: str, number: int, user_id: str = "u") -> Unit:
        return Unit([group.coupon(name)], quota={(group.batch_id, user_id): (number, 3)})

    assert group.words(take("a", 2), take("b", 2), take("c", 4), take("d", 1, "v")) == [
        "done",
        "again",
        "user_limit",
        "done",
    ]
    assert group.words(take("b", 2), take("c", 1)) == ["user_limit", "again"]


def test_one_limit_of_several_refuses_the_whole_unit(group: Group) -> None:
    group.supply(10)
    quota = {(group.batch_id, user_id): (take, 2) for user_id, take in (("u", 1), ("v", 3), ("w", 1))}
    unit = Unit([group.coupon("a")], stock={group.batch_id: 5}, quota=quota)
    before = picture(group.ledger.store.database)
    assert group.words(unit) == ["user_limit"]
    assert picture(group.ledger.store.database) == before


def test_an_answer_is_given_back_byte_for_byte(group: Group) -> None:
    answer = {"text": 'a\u2028b \x00 é 😀 \\ "', "list": [1, None, True, {"deep": 2**53}], "": ""}
    assert group.words(Unit([], group.request("a"), answer)) == ["done"]
    assert group.commit(Unit([], group.request("a")))[0].answer == answer
    loaded = group.ledger.store.load((), [("m", f"a-{group.number}")])
    assert loaded.answered["m", f"a-{group.number}"].answer == answer


def test_a_group_of_ten_thousand_events(group: Group) -> None:
    head = group.ledger.store.head()
    verdicts = group.commit(*(Unit([group.coupon(f"{n}-{m}") for m in range(100)]) for n in range(100)))
    assert [verdict.position for verdict in verdicts] == [head + 100 * (n + 1) for n in range(100)]


def test_the_last_wall_holds_when_the_guard_is_wrong(group: Group) -> None:
    group.supply(1)
    with (
        psycopg.connect(group.ledger.store.database.url) as connection,
        pytest.raises(psycopg.errors.CheckViolation, match="never_over_issued"),
    ):
        connection.execute(f'update "{group.ledger.store.database.schema}".batch_stock set issued = quantity + 1')


# --- groups in a caller's transaction -------------------------------------------------------------------


def settle(ledger: Ledger, *works: Any) -> list[Receipt | Refusal]:
    with ledger.store.connection() as connection, connection.transaction():
        return ledger.do_all(works, connection)


def test_results_come_in_the_order_of_the_works(ledger: Ledger, shop: Shop) -> None:
    batch_id = shop.batch(quantity=3, per_user_limit=None)

    def issue(key: str, number: int) -> Any:
        return use_cases.issue(shop.request(key), batch_id, ["u"] * number)

    results = settle(ledger, issue("a", 2), issue("b", 2), issue("c", 1), issue("a", 2))
    assert [type(result) for result in results] == [Receipt, SoldOut, Receipt, Receipt]
    assert [result.replayed for result in results if isinstance(result, Receipt)] == [False, False, True]
    assert_guards_equal_events(ledger.store.database)


def test_works_on_one_stream_are_decided_one_after_the_other(ledger: Ledger, shop: Shop) -> None:
    coupon_id = shop.coupon()
    order = {"coupon_ids": [coupon_id]}
    results = settle(
        ledger,
        use_cases.lock(shop.request(), "order-1", user_id="user-1", **order),
        use_cases.unlock(shop.request(), "order-1", reason="cancelled", **order),
        use_cases.lock(shop.request(), "order-2", user_id="user-1", **order),
        use_cases.lock(shop.request(), "order-3", user_id="user-1", **order),
    )
    assert [type(result).__name__ for result in results] == ["Receipt", "Receipt", "Receipt", "CouponLocked"]
    topics = [entry.event.TOPIC for entry in ledger.store.history(f"coupon-{coupon_id}")]
    assert topics == ["coupon.issued", "coupon.locked", "coupon.unlocked", "coupon.locked"]


def test_nothing_is_durable_before_the_caller_commits(ledger: Ledger, shop: Shop) -> None:
    batch_id = shop.batch()
    before = picture(ledger.store.database)
    claim = use_cases.claim(shop.request("claim"), batch_id, "user-1")
    with ledger.store.connection() as connection, connection.transaction(force_rollback=True):
        assert isinstance(ledger.do_all([claim], connection)[0], Receipt)
    assert picture(ledger.store.database) == before
    assert ledger.do(claim).replayed is False


def test_a_connection_of_the_callers_own_will_do(ledger: Ledger, shop: Shop) -> None:
    claim = use_cases.claim(shop.request(), shop.batch(), "user-1")
    with ledger.store.database.connect() as connection, connection.transaction():
        assert isinstance(ledger.do_all([claim], connection)[0], Receipt)


def test_work_for_nothing_takes_no_lock(ledger: Ledger, shop: Shop) -> None:
    refused = use_cases.claim(shop.request(), "nowhere", "user-1")
    with ledger.store.database.connect() as connection, connection.transaction():
        assert isinstance(ledger.do_all([refused], connection)[0], Refusal)
        locks = connection.execute(
            "select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()"
        )
        assert locks.fetchone() == (0,)


def test_a_stop_in_a_group_comes_after_the_claims_before_it_and_before_those_after(ledger: Ledger, shop: Shop) -> None:
    batch_id = shop.batch(per_user_limit=None)
    results = settle(
        ledger,
        use_cases.claim(shop.request(), batch_id, "u"),
        use_cases.stop_batch(shop.request(), batch_id, reason="over"),
        use_cases.claim(shop.request(), batch_id, "u"),
    )
    assert [type(result) for result in results] == [Receipt, Receipt, BatchNotOpen]
    assert [entry.event.TOPIC for entry in whole_log(ledger.store)][-2:] == ["coupon.issued", "batch.stopped"]


def test_a_smaller_quantity_in_a_group_never_meets_the_last_wall(ledger: Ledger, shop: Shop) -> None:
    batch_id = shop.batch(quantity=2, per_user_limit=None)
    shop.coupon(batch_id=batch_id)
    results = settle(
        ledger,
        use_cases.change_quantity(shop.request(), batch_id, expected=2, target=1),
        use_cases.claim(shop.request(), batch_id, "u"),
    )
    assert [type(result) for result in results] == [Receipt, SoldOut]


def test_what_a_rolled_back_transaction_did_to_a_batch_is_not_remembered(ledger: Ledger, shop: Shop) -> None:
    batch_id = shop.batch(start=False)
    with ledger.store.connection() as connection, connection.transaction(force_rollback=True):
        ledger.do_all([use_cases.start_batch(shop.request(), batch_id)], connection)
        assert isinstance(ledger.do_all([use_cases.claim(shop.request(), batch_id, "u")], connection)[0], Receipt)
    # The stop has the version that the start would have had, so the version alone does not tell them apart.
    ledger.do(use_cases.stop_batch(shop.request(), batch_id, reason="over"))
    with pytest.raises(BatchNotOpen):
        ledger.do(use_cases.claim(shop.request(), batch_id, "u"))
    assert_guards_equal_events(ledger.store.database)


def test_users_who_may_have_one_and_users_who_may_have_three_in_one_group(group: Group) -> None:
    def unit(name: str, user: str, take: int, most: int) -> Unit:
        return Unit([group.coupon(name)], quota={(group.batch_id, user): (take, most)})

    assert group.words(unit("a", "one", 1, 1), unit("b", "three", 1, 3)) == ["done", "done"]
    assert group.words(unit("c", "one", 1, 1), unit("d", "three", 2, 3)) == ["user_limit", "done"]
    assert group.words(unit("e", "other", 2, 1)) == ["user_limit"]
    assert group.words(unit("f", "other", 1, 1), unit("g", "three", 1, 3)) == ["done", "user_limit"]


def test_quotas_of_the_previous_release_name_no_limit_and_count_all_the_same(group: Group) -> None:
    database = group.ledger.store.database
    with psycopg.connect(database.url, options=f"-c search_path={database.schema}") as owner:
        owner.execute(
            "insert into user_quota (batch_id, user_id, issued) values (%(batch)s, 'one', 1), (%(batch)s, 'three', 2)",
            {"batch": group.batch_id},
        )

    def unit(name: str, user: str, most: int) -> Unit:
        return Unit([group.coupon(name)], quota={(group.batch_id, user): (1, most)})

    assert group.words(unit("a", "one", 1)) == ["user_limit"]
    assert group.words(unit("b", "three", 3)) == ["done"]
    assert group.words(unit("c", "three", 3)) == ["user_limit"]


def test_of_several_guards_without_room_the_first_that_the_unit_names_is_told(group: Group) -> None:
    group.supply(0)
    group.supply(0, "other")
    full = (2, 1)
    for first, second in (("u", "v"), ("v", "u")):
        quota = {(group.batch_id, first): full, (group.batch_id, "free"): (1, 1), (group.batch_id, second): full}
        [verdict] = group.commit(Unit([group.coupon("a")], quota=quota, stock={group.batch_id: 1}))
        assert (verdict.word, verdict.answer) == ("user_limit", {"batch_id": group.batch_id, "owner": first})
    for first, second in ((group.batch_id, "other"), ("other", group.batch_id)):
        [verdict] = group.commit(Unit([group.coupon("a")], stock={first: 1, second: 1}))
        assert (verdict.word, verdict.answer) == ("sold_out", {"batch_id": first})


def test_stock_is_counted_beyond_what_an_integer_of_four_bytes_holds(group: Group) -> None:
    group.supply(3 * 10**12)
    takes = [Unit([group.coupon(name)], stock={group.batch_id: 10**12}) for name in "abcd"]
    assert group.words(*takes) == ["done", "done", "done", "again"]
    assert group.words(takes[3]) == ["sold_out"]


# --- what users hold at once ------------------------------------------------------------------------------


class Holder:
    """One user who may hold two coupons at once."""

    def __init__(self, group: Group) -> None:
        self.group = group
        self.owner = f"m t u-{group.number}"
        self.now = group.ledger.store.now()

    def lock(self, *names: str, seconds: int = 900, most: int = 2) -> Unit:
        """Holds these coupons; each unit writes an event of a coupon of its own."""
        ends_at = self.now + timedelta(seconds=seconds)
        return self._unit({self._id(name): (self.owner, ends_at, most) for name in names})

    def let_go(self, *names: str) -> Unit:
        return self._unit({}, [self._id(name) for name in names])

    def redeem(self, name: str) -> Unit:
        """Holds it and lets it go within one unit."""
        return self._unit({self._id(name): (self.owner, self.now + timedelta(seconds=900), 2)}, [self._id(name)])

    def held(self) -> dict[str, datetime]:
        with self.group.ledger.store.connection() as connection:
            rows = connection.execute("select coupon_id, ends_at from user_holds where owner = %s", (self.owner,))
            return {row["coupon_id"].partition("-")[0]: row["ends_at"] for row in rows}

    def _unit(self, holds: dict[str, tuple[str, datetime, int]], releases: list[str] | None = None) -> Unit:
        return Unit([self.group.coupon(f"event{next(_numbers)}")], holds=holds, releases=releases or [])

    def _id(self, name: str) -> str:
        return f"{name}-{self.group.number}"


@pytest.fixture
def holder(group: Group) -> Holder:
    return Holder(group)


def test_a_user_holds_no_more_than_the_limit(group: Group, holder: Holder) -> None:
    assert group.words(holder.lock("a")) == ["done"]
    assert group.words(holder.lock("b", "c")) == ["lock_limit"]
    assert holder.held().keys() == {"a"}
    assert group.words(holder.lock("b")) == ["done"]
    assert group.words(holder.lock("c")) == ["lock_limit"]
    assert group.words(holder.let_go("a")) == ["done"]
    assert group.words(holder.lock("c")) == ["done"]
    assert holder.held().keys() == {"b", "c"}


def test_holds_of_one_group_count_in_their_order(group: Group, holder: Holder) -> None:
    head = group.ledger.store.head()
    units = [holder.lock(name) for name in "abcd"]
    assert group.words(*units) == ["done", "done", "lock_limit", "lock_limit"]
    assert group.words(holder.lock("c"), holder.let_go("a")) == ["lock_limit", "done"]
    assert group.words(holder.let_go("b"), holder.lock("c", "d")) == ["done", "done"]
    assert holder.held().keys() == {"c", "d"}
    assert group.ledger.store.head() == head + 5


def test_a_hold_that_is_extended_or_only_lasts_for_its_unit_counts_once(group: Group, holder: Holder) -> None:
    assert group.words(holder.lock("a", "b")) == ["done"]
    assert group.words(holder.lock("a", seconds=3_600)) == ["done"]
    assert holder.held()["a"] - holder.held()["b"] == timedelta(seconds=2_700)
    assert group.words(holder.redeem("c")) == ["done"]
    assert group.words(holder.redeem("a")) == ["done"]
    assert holder.held().keys() == {"b"}


def test_a_hold_that_ended_does_not_count(group: Group, holder: Holder) -> None:
    database = group.ledger.store.database
    assert group.words(holder.lock("a", "b")) == ["done"]
    with psycopg.connect(database.url, options=f"-c search_path={database.schema}") as owner:
        owner.execute("update user_holds set ends_at = clock_timestamp() where owner = %s", (holder.owner,))
    assert group.words(holder.lock("c", "d")) == ["done"]
    assert holder.held().keys() == {"c", "d"}
    # Of imported history, and so over before it is written down.
    assert group.words(holder.lock("e", seconds=-60, most=9)) == ["done"]
    assert holder.held().keys() == {"c", "d"}


def test_a_refused_unit_leaves_its_holds_as_they_were(group: Group, holder: Holder) -> None:
    assert group.words(holder.lock("a", "b")) == ["done"]
    before = picture(group.ledger.store.database)
    refused = holder.let_go("a", "b")
    refused.stock = {group.batch_id: 1}
    assert group.words(refused) == ["sold_out"]
    too_many = holder.lock("c")
    too_many.releases = ["nothing"]
    assert group.words(too_many) == ["lock_limit"]
    assert picture(group.ledger.store.database) == before


def test_what_a_friend_holds_is_the_friends(group: Group, holder: Holder) -> None:
    assert group.words(holder.lock("a", "b")) == ["done"]
    friend = Holder(group)
    friend.owner = holder.owner + "-friend"
    assert group.words(friend.lock("a")) == ["done"]
    assert (set(holder.held()), set(friend.held())) == ({"b"}, {"a"})

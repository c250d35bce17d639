"""The past as the log has it: of random lives, at every position and at any two times, against a fold of its own."""

from __future__ import annotations

import random
from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg import sql

from ledger import use_cases
from ledger.application import Ledger
from ledger.errors import InvalidField, InvalidPeriod
from ledger.events import Recorded
from ledger.history import batches, coupons, differences, holders, reading
from ledger.history.moment import Cut, last_position, moment
from ledger.store import Store
from tests.clock import clock
from tests.conftest import Shop
from tests.postgres.lives import T0, Life
from tests.postgres.tools import whole_log

MINUTE = timedelta(minutes=1)
COUNTED = ("pending", "unused", "locked", "used", "expired", "voided")


def lived(shop: Shop, seed: int, steps: int = 120) -> tuple[str, list[Recorded]]:
    """A batch, and coupons that took random steps: most are recorded as they occur, some hours later, a few ahead.

    The rows are put there by the log's owner, for recorded_at is the database clock's alone to say.
    """
    chance = random.Random(seed)
    store, batch_id = shop.ledger.store, shop.batch(quantity=1_000, per_user_limit=None)
    lives = [Life(chance, batch_id, number) for number in range(8)]
    for _ in range(steps):
        chance.choice(lives).step()
    waiting = [life.coupon.collect_events() for life in lives]
    head, rows, clock = store.head(), [], T0 + timedelta(days=1)
    while left := [events for events in waiting if events]:
        event = chance.choice(left).pop(0)
        clock += chance.choice([timedelta(), MINUTE, MINUTE, timedelta(hours=2)])
        away = chance.choice([timedelta()] * 6 + [timedelta(hours=-5), timedelta(hours=-1), timedelta(minutes=3)])
        event = type(event).made({**vars(event), "occurred_at": clock + away})
        place = head + len(rows) + 1
        rows.append(
            (event.originator_id, event.originator_version, event.TOPIC, store.mapper.encode(event), place, clock)
        )
    with psycopg.connect(store.database.url) as owner:
        owner.execute(sql.SQL("set search_path to {}").format(sql.Identifier(store.database.schema)))
        # What was before lies before them in time too.
        owner.execute("alter table events disable trigger events_append_only")
        owner.execute("update events set recorded_at = %s", (T0,))
        owner.execute("alter table events enable trigger events_append_only")
        owner.cursor().executemany(
            "insert into events (originator_id, originator_version, topic, state, notification_id, recorded_at)"
            " values (%s, %s, %s, %s, %s, %s)",
            rows,
        )
    return batch_id, [recorded for recorded in whole_log(store) if recorded.position > head]


def streams_of(log: list[Recorded]) -> dict[str, list[Recorded]]:
    found: dict[str, list[Recorded]] = {}
    for recorded in log:
        found.setdefault(recorded.event.originator_id, []).append(recorded)
    return found


STEPS = {"unlocked": "UNUSED", "debited": "UNUSED", "used": "USED", "expired": "EXPIRED", "voided": "VOIDED"}
STEPS |= {"issued": "UNUSED", "locked": "LOCKED"}


def naive(history: list[Recorded], at: datetime) -> dict[str, Any] | None:
    """The coupon by a table of steps, without the aggregate."""
    state: dict[str, Any] = {}
    for _, _, event in history:
        step = event.TOPIC.removeprefix("coupon.")
        if step in STEPS or getattr(event, "restored", False):
            state["stored"] = STEPS.get(step, "UNUSED")
        told = vars(event)
        if step in ("issued", "extended", "returned"):
            state["until"] = told["valid_until"]
        if step in ("locked", "lock_extended"):
            state["lock_ends"] = told["lock_ends_at"]
        if step in ("locked", "used"):
            state["order"] = told["order_id"]
        state["user"] = told.get("to_user_id", told["user_id"])
        state.setdefault("from", told.get("valid_from"))
    return state | {"state": by_clock(state, at)} if state else None


def by_clock(state: dict[str, Any], at: datetime) -> str:
    stored: str = state["stored"]
    if stored not in ("UNUSED", "LOCKED") or (stored == "LOCKED" and at < state["lock_ends"]):
        return stored
    if at >= state["until"]:
        return "EXPIRED"
    return "PENDING" if at < state["from"] else "UNUSED"


def assert_same(state: dict[str, Any] | None, expected: dict[str, Any] | None) -> None:
    assert (state is None) == (expected is None)
    if state is None or expected is None:
        return
    assert (state["state"], state["stored_state"], state["user_id"]) == (
        expected["state"], expected["stored"], expected["user"],
    )  # fmt: skip
    assert (state["lock"] is not None) == (expected["state"] == "LOCKED")
    for part in (state["lock"], state["redemption"]):
        assert part is None or part["order_id"] == expected["order"]
    assert datetime.fromisoformat(state["valid_until"]) == expected["until"]


@pytest.mark.parametrize("seed", range(6))
def test_at_every_position_it_is_the_fold_of_what_was_there(seed: int, shop: Shop) -> None:
    batch_id, log = lived(shop, seed)
    streams = streams_of(log)
    own = shop.ledger.store.history(f"batch-{batch_id}")
    with shop.ledger.store.connection() as connection:
        for place in range(0, len(log), 7):
            position = log[place].position
            then = moment(connection, position=position)
            assert (then.at, then.known.position) == (log[place].recorded_at, position)
            expected = {stream: naive([each for each in history if each.position <= position], then.at)
                        for stream, history in streams.items()}  # fmt: skip
            for stream, history in streams.items():
                assert_same(coupons.coupon_moment(history, then)["known"], expected[stream])
            counts = Counter(each["state"].lower() for each in expected.values() if each)
            known = batches.batch_state(connection, own, then.known)
            assert known is not None
            balance = known["balance"]
            assert {name: balance[name] for name in COUNTED} == {name: counts[name] for name in COUNTED}
            assert balance["issued"] == sum(counts.values())


@pytest.mark.parametrize("seed", range(6, 12))
def test_known_and_true_part_exactly_where_occurred_and_recorded_do(seed: int, shop: Shop) -> None:
    batch_id, log = lived(shop, seed)
    chance, streams = random.Random(seed), streams_of(log)
    parted = 0
    with shop.ledger.store.connection() as connection:
        for _ in range(25):
            at, known_at = (
                chance.choice(log).recorded_at + chance.choice([-MINUTE, timedelta(), MINUTE]) for _ in "12"
            )
            if chance.random() < 0.5:
                known_at = at
            then = moment(connection, at=at, known_at=known_at)
            balances = {"known": Counter[str](), "true": Counter[str]()}
            for history in streams.values():
                known = [each for each in history if each.recorded_at <= known_at]
                if known_at > at:
                    known = occurred(known, at)
                true = occurred(history, at)
                found = coupons.coupon_moment(history, then)
                assert_same(found["known"], naive(known, at))
                assert_same(found["true"], naive(true, at))
                assert found["true_only"] == [each.position for each in true if each not in known]
                assert found["known_only"] == [each.position for each in known if each not in true]
                assert (found["known"] == found["true"]) == (known == true)
                late = [each.position for each in history if each.event.occurred_at <= at and each not in true]
                assert found["left_out"] == late
                parted += known != true
                for name, events in (("known", known), ("true", true)):
                    if state := naive(events, at):
                        balances[name][state["state"].lower()] += 1
            for name, cut in (("known", then.known), ("true", then.true)):
                balance = batches.balance(connection, batch_id, cut)
                assert balance is not None
                assert {each: balance[each] for each in COUNTED} == {each: balances[name][each] for each in COUNTED}
    assert parted


def occurred(history: list[Recorded], at: datetime) -> list[Recorded]:
    """The beginning of a stream whose events had all occurred by then."""
    ahead = [place for place, each in enumerate(history) if each.event.occurred_at > at]
    return history[: ahead[0]] if ahead else history


@pytest.mark.parametrize("seed", range(12, 15))
def test_a_difference_is_what_happened_between(seed: int, shop: Shop) -> None:
    batch_id, log = lived(shop, seed)
    chance = random.Random(seed)
    own = shop.ledger.store.history(f"batch-{batch_id}")
    with shop.ledger.store.connection() as connection:
        for history in streams_of(log).values():
            first, last = sorted(chance.choice(log).position for _ in "12")
            begin, end = (moment(connection, position=each) for each in (first, last))
            found = differences.coupon_difference(history, begin, end, "known")
            assert found["before"] == coupons.coupon_moment(history, begin)["known"]
            assert found["after"] == coupons.coupon_moment(history, end)["known"]
            between = [each.position for each in history if first < each.position <= last]
            assert [event["position"] for event in found["events"]] == between
            assert not {"version", "position", "decided_by"} & found["changed"].keys()
            for name, change in found["changed"].items():
                assert change["before"] != change["after"], name
            if first < last:
                with pytest.raises(InvalidPeriod):
                    differences.coupon_difference(history, end, begin, "known")
        begin, end = moment(connection, position=log[0].position - 1), moment(connection)
        changed = differences.batch_difference(connection, own, begin, end, "known")["changed"]
        assert changed["balance.issued"] == {"before": 0, "after": len(streams_of(log))}


def test_a_reason_is_named_for_each_state(shop: Shop, ledger: Ledger) -> None:
    batch_id = shop.batch(per_user_limit=None)
    coupon_id = shop.coupon(batch_id=batch_id)
    asked = {"user_id": "user-1", "coupon_ids": [coupon_id]}
    ledger.do(use_cases.lock(shop.request(), "order-1", **asked, ttl_seconds=60))
    ledger.do(use_cases.lock(shop.request(), "order-1", **asked, ttl_seconds=600))
    history = ledger.store.history(f"coupon-{coupon_id}")
    positions = [each.position for each in history]
    locked_at = history[1].event.occurred_at

    def reasons(at: datetime) -> list[tuple[str, int | None]]:
        state = coupons.coupon_state(history, Cut(at, positions[-1]))
        assert state is not None
        return [(each["what"], each["position"]) for each in state["decided_by"]]

    held: list[tuple[str, int | None]] = [("coupon.locked", positions[1]), ("coupon.lock_extended", positions[2])]
    assert reasons(locked_at + 9 * MINUTE) == [*held, ("lock_live", None)]
    assert reasons(locked_at + 11 * MINUTE) == [*held, ("lock_ended", None)]
    assert reasons(locked_at + timedelta(days=2)) == [*held, ("lock_ended", None), ("validity_over", None)]
    before = coupons.coupon_state(history[:1], Cut(history[0].event.valid_from - MINUTE, positions[0]))
    assert before is not None
    assert [each["what"] for each in before["decided_by"]] == ["coupon.issued", "not_started"]


def test_a_moment_is_found_among_many(shop: Shop, ledger: Ledger) -> None:
    batch_id = shop.batch(per_user_limit=None)
    for number in range(40):
        shop.coupon(f"user-{number}", batch_id)
    log = whole_log(ledger.store)
    with ledger.store.connection() as connection:
        for recorded in log:
            last = max(each.position for each in log if each.recorded_at <= recorded.recorded_at)
            assert last_position(connection, recorded.recorded_at) == last
        assert last_position(connection, log[0].recorded_at - MINUTE) == 0
        assert last_position(connection, log[-1].recorded_at + MINUTE) == log[-1].position


def test_no_more_is_known_than_the_log_held_at_the_first_look(
    shop: Shop, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An event that is recorded before a moment may be committed just after the end of the log was read."""
    shop.coupon()
    head, now = ledger.store.head(), clock(ledger)
    monkeypatch.setattr("ledger.history.moment._present", lambda _connection: (now, head - 1))
    with ledger.store.connection() as connection:
        then = moment(connection, at=now)
    assert (then.known.position, then.true.position) == (head - 1, head - 1)


def test_what_lies_ahead_or_is_said_twice_is_refused(shop: Shop, ledger: Ledger) -> None:
    shop.coupon()
    now, head = ledger.store.now(), ledger.store.head()
    with ledger.store.connection() as connection:
        for field, asked in (
            ("at", {"at": now + MINUTE}),
            ("known_at", {"known_at": now + MINUTE}),
            ("position", {"position": head + 1}),
            ("position", {"position": 0}),
            ("known_at", {"position": head, "known_at": now}),
        ):
            with pytest.raises(InvalidField) as caught:
                moment(connection, **asked)
            assert caught.value.facts["field"] == field


def test_an_order_is_shown_as_it_was(shop: Shop, ledger: Ledger) -> None:
    coupon_id, other = shop.coupon(), shop.coupon()
    for each in (coupon_id, other):
        ledger.do(use_cases.lock(shop.request(), "order-1", user_id="user-1", coupon_ids=[each]))
    locked = ledger.store.head()
    ledger.do(use_cases.unlock(shop.request(), "order-1", coupon_ids=[other], reason="left"))
    redemption = use_cases.orders.Redemption(coupon_id=coupon_id, discount_minor=5)
    ledger.do(use_cases.confirm(shop.request(), "order-1", [redemption]))

    def shown(**asked: Any) -> list[tuple[str, bool, bool]]:
        with ledger.store.connection() as connection:
            then = moment(connection, **asked)
            found = holders.order_moment(ledger.store, connection, "merchant-1", "order-1", then)["known"]
        return [(each["coupon_id"], each["lock"] is not None, each["redemption"] is not None) for each in found]

    assert shown(position=locked - 2) == []
    assert shown(position=locked) == sorted([(coupon_id, True, False), (other, True, False)])
    assert shown() == [(coupon_id, False, True)]


def test_a_batch_with_too_many_events_has_no_balance(shop: Shop, ledger: Ledger) -> None:
    batch_id = shop.batch(per_user_limit=None)
    for _ in range(3):
        shop.coupon(batch_id=batch_id)
    with ledger.store.connection() as connection:
        cut = moment(connection).known
        assert batches.balance(connection, batch_id, cut, 2) is None
        assert batches.balance(connection, batch_id, cut, 3) == batches.balance(connection, batch_id, cut, None)


def test_pages_follow_the_log(shop: Shop, ledger: Ledger) -> None:
    store: Store = ledger.store
    batch_id = shop.batch(per_user_limit=None)
    ids = [shop.coupon(batch_id=batch_id) for _ in range(3)]
    for _ in range(3):
        for each in ids:
            ledger.do(use_cases.lock(shop.request(), "order-1", user_id="user-1", coupon_ids=[each]))
        ledger.do(use_cases.unlock(shop.request(), "order-1", coupon_ids=ids, reason="left"))
    expected = [each.position for each in whole_log(store) if each.event.originator_id.startswith("coupon-")]
    for limit in (1, 2, 5, 100):
        seen: list[int] = []
        with store.connection() as connection:
            while page := reading.order_page(
                store, connection, "merchant-1", "order-1", seen[-1] if seen else 0, limit
            ):
                assert len(page) <= limit
                seen += [each.position for each in page]
        assert seen == expected

"""GET /v1/{coupons,orders,users,batches}/{id}/state and /v1/{coupons,orders,users,batches}/{id}/difference."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ledger import use_cases
from ledger.aggregate import text_of
from ledger.history import moment
from tests.clock import clock_text
from tests.unit.specs import TERMS


def lock(shop, coupon_id, order_id="order-1", **more):
    return use_cases.lock(shop.request(**more), order_id, user_id="user-1", coupon_ids=[coupon_id])


def test_a_coupon_before_and_after_its_lock(auditor, shop, ledger):
    coupon_id = shop.coupon()
    at = clock_text(ledger)
    ledger.do(lock(shop, coupon_id))
    then = auditor.get(f"/v1/coupons/{coupon_id}/state", at=at).ok()
    assert (then["known"]["state"], then["true"]["state"], then["at"]) == ("UNUSED", "UNUSED", at)
    assert then["known_position"] == ledger.store.head() - 1
    now = auditor.get(f"/v1/coupons/{coupon_id}/state").ok()
    assert (now["known"]["state"], now["known"]["lock"]["order_id"]) == ("LOCKED", "order-1")
    assert [reason["what"] for reason in now["known"]["decided_by"]] == ["coupon.locked", "lock_live"]
    assert now["true_only"] == now["known_only"] == now["left_out"] == []


def test_imported_history_was_true_and_not_known(auditor, shop, ledger, long_ago):
    batch_id = shop.batch(per_user_limit=None)
    claimed = use_cases.claim(shop.request(at=long_ago), batch_id, "user-1")
    coupon_id = ledger.do(claimed).answer["coupon_id"]
    then = auditor.get(f"/v1/coupons/{coupon_id}/state", at=text_of(long_ago)).ok()
    assert (then["known"], then["known_position"]) == (None, 0)
    assert then["true"]["state"] == "UNUSED"
    assert then["true_only"] == [ledger.store.head()]
    later = auditor.get(f"/v1/coupons/{coupon_id}/state", at=text_of(long_ago), known_at=clock_text(ledger)).ok()
    assert later["known"] == later["true"] == then["true"]
    at_position = auditor.get(f"/v1/coupons/{coupon_id}/state", at=text_of(long_ago), position=ledger.store.head()).ok()
    assert (at_position["known"], at_position["known_at"]) == (then["true"], None)


def test_a_batch_has_the_balance_of_then(auditor, operator, shop, ledger, project):
    batch_id = shop.batch(per_user_limit=None)
    coupons = [shop.coupon(batch_id=batch_id) for _ in range(3)]
    ledger.do(lock(shop, coupons[0]))
    at = clock_text(ledger)
    ledger.do(use_cases.void(shop.request(), coupons[1], reason="fraud"))
    ledger.do(use_cases.pause_batch(shop.request(), batch_id, reason="stock"))
    then = auditor.get(f"/v1/batches/{batch_id}/state", at=at).ok()
    assert (then["known"]["state"], then["known"]["quantity"]) == ("RUNNING", 100)
    balance = then["known"]["balance"]
    assert (balance["issued"], balance["unused"], balance["locked"], balance["voided"]) == (3, 2, 1, 0)
    project()
    now = auditor.get(f"/v1/batches/{batch_id}/state").ok()["known"]
    live = auditor.get(f"/v1/batches/{batch_id}/balance").ok()
    assert now["balance"] == {name: live[name] for name in now["balance"]}
    assert now["state"] == live["state"] == "PAUSED"


def test_an_order_and_a_user_as_they_were(auditor, shop, ledger, project):
    batch_id = shop.batch(terms=replace(TERMS, transferable=True), per_user_limit=None)
    coupon_id = shop.coupon(batch_id=batch_id)
    ledger.do(lock(shop, coupon_id))
    at = clock_text(ledger)
    ledger.do(use_cases.unlock(shop.request(), "order-1", coupon_ids=[coupon_id], reason="left"))
    ledger.do(use_cases.transfer(shop.request(), coupon_id, user_id="user-1", to_user_id="user-2"))
    project()
    order = auditor.get("/v1/orders/order-1/state", at=at).ok()
    assert [(each["coupon_id"], each["state"]) for each in order["known"]] == [(coupon_id, "LOCKED")]
    assert auditor.get("/v1/orders/order-1/state").ok()["known"] == []
    for user_id, whose_then, whose_now in (("user-1", [coupon_id], []), ("user-2", [], [coupon_id])):
        then = auditor.get(f"/v1/users/{user_id}/state", at=at).ok()
        assert [each["coupon_id"] for each in then["known"]] == whose_then
        now = auditor.get(f"/v1/users/{user_id}/state").ok()
        assert [each["coupon_id"] for each in now["true"]] == whose_now
        assert now["next"] is None


def test_a_users_coupons_come_in_pages(auditor, shop, project):
    batch_id = shop.batch(per_user_limit=None)
    coupons = sorted(shop.coupon(batch_id=batch_id) for _ in range(5))
    project()
    seen, after = [], None
    while True:
        page = auditor.get("/v1/users/user-1/state", limit=2, **({"after": after} if after else {})).ok()
        seen += [each["coupon_id"] for each in page["known"]]
        after = page["next"]
        if after is None:
            break
    assert seen == coupons


def test_what_changed_between_two_moments(auditor, shop, ledger):
    coupon_id = shop.coupon()
    before, position = clock_text(ledger), ledger.store.head()
    ledger.do(lock(shop, coupon_id))
    for asked in ({"from": before}, {"from_position": position}):
        found = auditor.get(f"/v1/coupons/{coupon_id}/difference", **asked).ok()
        assert found["changed"]["state"] == {"before": "UNUSED", "after": "LOCKED"}
        assert [event["topic"] for event in found["events"]] == ["coupon.locked"]
        assert (found["before"]["lock"], found["after"]["lock"]["order_id"]) == (None, "order-1")
    whole = auditor.get(f"/v1/coupons/{coupon_id}/difference").ok()
    assert (whole["before"]["version"], whole["changed"], whole["events"]) == (1, found["changed"], found["events"])
    batch_id = found["after"]["batch_id"]
    found = auditor.get(f"/v1/batches/{batch_id}/difference", **{"from": before, "basis": "true"}).ok()
    assert found["changed"]["balance.locked"] == {"before": 0, "after": 1}
    assert found["events"] == []


def test_what_changed_of_an_order_and_of_a_user(auditor, shop, ledger, project):
    batch_id = shop.batch(terms=replace(TERMS, transferable=True), per_user_limit=None)
    used, given, kept = (shop.coupon(batch_id=batch_id) for _ in "123")
    ledger.do(lock(shop, used))
    begin, position = clock_text(ledger), ledger.store.head()
    ledger.do(lock(shop, given))
    ledger.do(use_cases.unlock(shop.request(), "order-1", coupon_ids=[given], reason="left"))
    redemption = use_cases.orders.Redemption(coupon_id=used, discount_minor=5)
    ledger.do(use_cases.confirm(shop.request(), "order-1", [redemption]))
    ledger.do(use_cases.transfer(shop.request(), given, user_id="user-1", to_user_id="user-2"))
    project()
    end = clock_text(ledger)
    came = shop.coupon(batch_id=batch_id)
    project()
    between = ["coupon.locked", "coupon.unlocked", "coupon.used", "coupon.transferred"]
    for asked in ({"from": begin, "until": end}, {"from_position": position, "until": end}):
        order = auditor.get("/v1/orders/order-1/difference", **asked).ok()
        states = {name: (each["before"]["state"], each["after"]["state"]) for name, each in order["changed"].items()}
        assert states == {used: ("LOCKED", "USED")}
        assert [event["topic"] for event in order["events"]] == between
        user = auditor.get("/v1/users/user-1/difference", **asked).ok()
        assert user["changed"].keys() == {used, given}
        assert user["changed"][given]["after"] is None
        assert user["changed"][used]["after"]["order_id"] == "order-1"
        assert ([event["topic"] for event in user["events"]], user["next"]) == (between, None)
    other = auditor.get("/v1/users/user-2/difference", **{"from": begin}).ok()["changed"]
    assert (other.keys(), other[given]["before"]) == ({given}, None)
    whole = auditor.get("/v1/users/user-1/difference").ok()["changed"]
    assert whole.keys() == {used, kept, came}
    assert {each["before"] for each in whole.values()} == {None}
    assert auditor.get("/v1/orders/ghost/difference").ok()["changed"] == {}


def test_what_changed_of_a_user_comes_in_pages(auditor, shop, ledger, project):
    batch_id = shop.batch(per_user_limit=None)
    coupons = sorted(shop.coupon(batch_id=batch_id) for _ in range(5))
    position = ledger.store.head()
    for coupon_id in coupons[1:4]:
        ledger.do(lock(shop, coupon_id))
    project()
    seen, after = [], {}
    while after is not None:
        page = auditor.get("/v1/users/user-1/difference", limit=2, from_position=position, **after).ok()
        assert len(page["changed"]) == len(page["events"]) <= 2
        seen += page["changed"]
        after = {"after": page["next"]} if page["next"] else None
    assert seen == coupons[1:4]


def test_imported_history_changed_what_was_true(auditor, shop, ledger, long_ago, project):
    begin = clock_text(ledger)
    batch_id = shop.batch(per_user_limit=None)
    claimed = use_cases.claim(shop.request(at=long_ago), batch_id, "user-1")
    coupon_id = ledger.do(claimed).answer["coupon_id"]
    project()
    known = auditor.get("/v1/users/user-1/difference", **{"from": begin}).ok()
    assert known["changed"].keys() == {coupon_id}
    true = auditor.get("/v1/users/user-1/difference", **{"from": begin, "basis": "true"}).ok()
    assert (true["changed"], true["events"]) == ({}, [])


@pytest.fixture
def bustle(monkeypatch):
    """Has something committed before and after each look at the clock and at the end of the log."""

    def bustle(write):
        look = moment.moment

        def looked(connection, **asked):
            write()
            found = look(connection, **asked)
            write()
            return found

        monkeypatch.setattr(moment, "moment", looked)

    return bustle


def test_what_is_known_of_a_coupon_is_all_that_its_position_counts(auditor, shop, ledger, bustle):
    coupon_id = shop.coupon()
    issued = ledger.store.head()

    def write():
        held = ledger.store.history(f"coupon-{coupon_id}")[-1].event.TOPIC == "coupon.locked"
        unlock = use_cases.unlock(shop.request(), "order-1", coupon_ids=[coupon_id], reason="left")
        ledger.do(unlock if held else lock(shop, coupon_id))

    bustle(write)
    then = auditor.get(f"/v1/coupons/{coupon_id}/state").ok()
    assert then["known"]["position"] == then["known_position"]
    assert then["known"] == then["true"]
    assert then["true_only"] == then["known_only"] == then["left_out"] == []
    for basis in ("known", "true"):
        found = auditor.get(f"/v1/coupons/{coupon_id}/difference", from_position=issued, basis=basis).ok()
        assert found["after"]["position"] == found["events"][-1]["position"] == found["end"]["known_position"]


def test_what_is_known_of_a_batch_is_all_that_its_position_counts(auditor, shop, ledger, bustle):
    batch_id = shop.batch(per_user_limit=None)

    def write():
        """A coupon more, and then a quantity more by one."""
        quantity = 99 + len(ledger.store.history(f"batch-{batch_id}")) - 1
        shop.coupon(batch_id=batch_id)
        ledger.do(use_cases.change_quantity(shop.request(), batch_id, expected=quantity, target=quantity + 1))

    bustle(write)
    then = auditor.get(f"/v1/batches/{batch_id}/state").ok()
    changed = auditor.get(f"/v1/batches/{batch_id}/difference").ok()
    for state, position in (
        (then["known"], then["known_position"]),
        (then["true"], then["known_position"]),
        (changed["after"], changed["end"]["known_position"]),
    ):
        assert state["position"] == position
        assert state["quantity"] - 100 == state["balance"]["issued"] > 0


def test_what_was_true_at_two_moments_is_by_one_log(auditor, shop, ledger, long_ago, project, bustle):
    """Imported while the difference is read, of long before it: it was so at both moments, or at neither."""
    begin = clock_text(ledger)
    batch_id = shop.batch(per_user_limit=None)
    project()
    bustle(lambda: ledger.do(use_cases.claim(shop.request(at=long_ago), batch_id, "user-1")))
    found = auditor.get("/v1/users/user-1/difference", **{"from": begin, "basis": "true"}).ok()
    assert (found["changed"], found["events"]) == ({}, [])


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ({"at": "2999-01-01T00:00:00Z"}, "at"),
        ({"known_at": "2999-01-01T00:00:00Z"}, "known_at"),
        ({"position": 999}, "position"),
        ({"position": 0}, "position"),
        ({"position": 1, "known_at": "2026-01-01T00:00:00Z"}, "known_at"),
        ({"at": "yesterday"}, "at"),
        ({"when": "now"}, "when"),
    ],
)
def test_a_moment_that_nobody_can_mean(query, parameter, auditor, shop):
    coupon_id = shop.coupon()
    answer = auditor.get(f"/v1/coupons/{coupon_id}/state", **query)
    assert answer.status == 422
    assert answer.pointers() == [parameter]


def test_two_moments_that_nobody_can_mean(auditor, shop, project):
    path = f"/v1/coupons/{shop.coupon()}/difference"
    project()
    moment = "2026-01-01T00:00:00Z"
    for query, parameter in (
        ({"from": moment, "from_position": 1}, "from"),
        ({"from": moment, "until": moment, "until_position": 1}, "until"),
        ({"from_position": 99}, "from_position"),
        ({"from": moment, "until": "2999-01-01T00:00:00Z"}, "until"),
    ):
        answer = auditor.get(path, **query)
        answer.refused(422, "invalid_field")
        assert answer.pointers() == [parameter], query
    ahead = auditor.get(path, until="2999-01-01T00:00:00Z").refused(422, "invalid_field")
    assert ahead["errors"][0]["detail"] == "until is not in the future"
    for query, parameter in (
        ({"from_position": 3, "until_position": 2}, "until_position"),
        ({"until": moment}, "until"),
    ):
        others = (f"/v1/batches/{shop.batch()}/difference", *(f"/v1/{of}/difference" for of in ("orders/o", "users/u")))
        for each in (path, *(others if "from_position" in query else others[:1])):
            told = auditor.get(each, **query).refused(422, "invalid_period")["errors"]
            assert [(error.get("parameter"), error["code"]) for error in told] == [(parameter, "invalid_period")]

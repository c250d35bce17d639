"""GET /v1/users/{id}/coupons."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import timedelta
from urllib.parse import quote

import pytest

from ledger import use_cases
from ledger.benefit import Benefit
from ledger.coupon import Redemption
from ledger.terms import Terms
from tests.unit.specs import TERMS

MEMBERS = {
    "coupon_id", "batch_id", "template_id", "template_version", "state", "valid_from", "valid_until", "order_id",
    "holder_id", "balance_minor", "shared_by", "version",
}  # fmt: skip


@pytest.fixture
def app_of_the_shop(as_role):
    return as_role("shopper-app")


def test_shows_what_a_user_has(app_of_the_shop, scene, shop, project):
    batch_id = shop.batch(per_user_limit=None)
    mine = shop.coupon("user-1", batch_id)
    shop.coupon("user-2", batch_id)
    held, _ = scene.locked()
    position = project()
    wallet = app_of_the_shop.get("/v1/users/user-1/coupons").ok()
    assert wallet.keys() == {"user_id", "coupons", "next_cursor", "position"}
    assert (wallet["user_id"], wallet["next_cursor"], wallet["position"]) == ("user-1", None, position)
    assert {coupon["coupon_id"]: coupon["state"] for coupon in wallet["coupons"]} == {mine: "UNUSED", held: "LOCKED"}
    assert all(coupon.keys() == MEMBERS for coupon in wallet["coupons"])


def test_shows_what_friends_share_and_who_holds_it(app_of_the_shop, shop, project):
    coupon_id = shop.coupon("user-1", shop.batch(terms=replace(TERMS, shareable=True)))
    work = use_cases.share(shop.request(), coupon_id, user_id="user-1", with_user_ids=["user-2", "user-3"])
    shop.ledger.do(work)
    shop.ledger.do(use_cases.lock(shop.request(), "order-1", user_id="user-2", coupon_ids=[coupon_id]))
    project()
    seen = {}
    for user_id in ("user-1", "user-2", "user-3", "user-4"):
        coupons = app_of_the_shop.get(f"/v1/users/{user_id}/coupons").ok()["coupons"]
        assert {coupon["coupon_id"] for coupon in coupons} <= {coupon_id}
        seen[user_id] = [(coupon["state"], coupon["shared_by"], coupon["holder_id"]) for coupon in coupons]
    assert seen == {
        "user-1": [("LOCKED", None, "user-2")],
        "user-2": [("LOCKED", "user-1", "user-2")],
        "user-3": [("LOCKED", "user-1", "user-2")],
        "user-4": [],
    }


def test_a_coupon_given_away_is_in_the_other_wallet(app_of_the_shop, shop, project):
    coupon_id = shop.coupon("user-1", shop.batch(terms=replace(TERMS, transferable=True)))
    project()
    shop.ledger.do(use_cases.transfer(shop.request(), coupon_id, user_id="user-1", to_user_id="user-2"))
    project()
    assert app_of_the_shop.get("/v1/users/user-1/coupons").ok()["coupons"] == []
    (coupon,) = app_of_the_shop.get("/v1/users/user-2/coupons").ok()["coupons"]
    assert (coupon["coupon_id"], coupon["shared_by"]) == (coupon_id, None)


def test_shows_what_is_left_on_a_voucher(app_of_the_shop, shop, project):
    terms = replace(TERMS, benefit=Benefit(kind="cash_voucher", value_minor=500, leaves_balance=True))
    spent, whole = (shop.coupon("user-1", shop.batch(terms=terms)) for _ in range(2))
    shop.ledger.do(use_cases.lock(shop.request(), "order-1", user_id="user-1", coupon_ids=[spent]))
    shop.ledger.do(use_cases.confirm(shop.request(), "order-1", [Redemption(coupon_id=spent, discount_minor=180)]))
    project()
    coupons = app_of_the_shop.get("/v1/users/user-1/coupons").ok()["coupons"]
    left = {coupon["coupon_id"]: (coupon["state"], coupon["balance_minor"]) for coupon in coupons}
    assert left == {spent: ("UNUSED", 320), whole: ("UNUSED", None)}


def test_lists_coupons_of_one_state(app_of_the_shop, scene, shop, project):
    unused = shop.coupon("user-1")
    held, _ = scene.locked()
    project()

    def listed(**query):
        coupons = app_of_the_shop.get("/v1/users/user-1/coupons", **query).ok()["coupons"]
        return {coupon["coupon_id"] for coupon in coupons}

    assert listed(state="UNUSED") == {unused}
    assert listed(state="LOCKED") == {held}
    assert listed(state="USED") == set()
    assert listed() == {unused, held}
    answer = app_of_the_shop.get("/v1/users/user-1/coupons", state="HAPPY")
    answer.refused(422, "invalid_field")
    assert answer.pointers() == ["state"]


def test_a_user_id_may_hold_slashes(app_of_the_shop, shop, project):
    mine = shop.coupon("shop/7")
    project()
    (coupon,) = app_of_the_shop.get("/v1/users/shop%2F7/coupons").ok()["coupons"]
    assert coupon["coupon_id"] == mine


def test_a_user_id_with_a_line_break_is_refused_as_an_id(app_of_the_shop):
    assert app_of_the_shop.get("/v1/users/a%0Ab/coupons").refused(422, "invalid_field")


def test_the_clock_expires_a_coupon(app_of_the_shop, shop, project, long_ago):
    shop.ledger.do(use_cases.claim(shop.request(at=long_ago), shop.batch(valid_for_seconds=60), "user-1"))
    project()
    (coupon,) = app_of_the_shop.get("/v1/users/user-1/coupons").ok()["coupons"]
    assert coupon["state"] == "EXPIRED"


def test_pages_by_expiry(app_of_the_shop, shop, project):
    batches = [shop.batch(valid_for_seconds=seconds, per_user_limit=None) for seconds in (3_000, 1_000, 2_000)]
    for batch_id in batches * 2:
        shop.coupon("user-1", batch_id)
    project()
    seen, cursor = [], {}
    for _ in range(4):
        page = app_of_the_shop.get("/v1/users/user-1/coupons", limit=2, **cursor).ok()
        seen += page["coupons"]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert len({coupon["coupon_id"] for coupon in seen}) == len(seen) == 6
    assert [coupon["valid_until"] for coupon in seen] == sorted(coupon["valid_until"] for coupon in seen)


def test_a_cursor_is_good_for_its_user_and_its_caller(app_of_the_shop, as_role, shop, project):
    batch_id = shop.batch(per_user_limit=None)
    for user_id in ("user-1", "user-1", "user-2"):
        shop.coupon(user_id, batch_id)
    project()
    cursor = app_of_the_shop.get("/v1/users/user-1/coupons", limit=1).ok()["next_cursor"]
    app_of_the_shop.get("/v1/users/user-1/coupons", cursor=cursor).ok()
    app_of_the_shop.get("/v1/users/user-2/coupons", cursor=cursor).refused(400, "bad_cursor")
    as_role("shopper-app", "merchant-2").get("/v1/users/user-1/coupons", cursor=cursor).refused(400, "bad_cursor")


def test_waits_for_a_position_and_no_longer(app_of_the_shop, shop, project):
    coupon_id = shop.coupon()
    position = project()
    wallet = app_of_the_shop.get("/v1/users/user-1/coupons", at_least=position).ok()
    assert [coupon["coupon_id"] for coupon in wallet["coupons"]] == [coupon_id]
    answer = app_of_the_shop.get("/v1/users/user-1/coupons", at_least=position + 1)
    assert answer.refused(503, "not_caught_up")["facts"] == {"position": position + 1}
    assert answer.headers["Retry-After"] == "1"


def test_waits_while_the_read_model_catches_up(app_of_the_shop, shop, project):
    project()
    coupon_id = shop.coupon()
    later = threading.Timer(0.3, project)
    later.start()
    wallet = app_of_the_shop.get("/v1/users/user-1/coupons", at_least=shop.ledger.store.head()).ok()
    later.join()
    assert [coupon["coupon_id"] for coupon in wallet["coupons"]] == [coupon_id]


def test_a_read_model_that_stopped_is_not_waited_for(app_of_the_shop, shop, project, ledger, monkeypatch):
    project()
    position = int(shop.ledger.do(use_cases.create_template(shop.request(), **_offer())).position)
    with ledger.store.connection() as connection:
        connection.execute("set role coupon_ledger_projector")
        connection.execute("update projection_checkpoints set state = 'FAULTED', fault = 'test'")
        connection.execute("set role coupon_ledger_app")
    monkeypatch.setattr("api.exchange.WAIT_SECONDS", 60.0)
    app_of_the_shop.get("/v1/users/user-1/coupons", at_least=position).refused(503, "not_caught_up")
    app_of_the_shop.get("/v1/users/user-1/coupons").ok()


def _offer():
    terms = Terms.from_payload({"benefit": {"kind": "amount_off", "value_minor": 1}, "currency": "EUR"})
    return {"name": "Offer", "terms": terms}


def test_without_a_read_model_there_is_no_answer(app_of_the_shop):
    app_of_the_shop.get("/v1/users/user-1/coupons").refused(503, "not_caught_up")


def test_whom_the_ledger_does_not_know_has_none(app_of_the_shop, project):
    project()
    assert app_of_the_shop.get("/v1/users/nobody/coupons").ok()["coupons"] == []


def test_any_printable_id_is_a_user(app_of_the_shop, shop, project):
    user_id = "caf\u00e9 \\N \u4e2d % ? #"
    coupon_id = shop.coupon(user_id)
    project()
    wallet = app_of_the_shop.get(f"/v1/users/{quote(user_id)}/coupons").ok()
    assert wallet["user_id"] == user_id
    assert [coupon["coupon_id"] for coupon in wallet["coupons"]] == [coupon_id]


def test_refuses_what_is_no_page(app_of_the_shop):
    for query in ({"limit": 0}, {"limit": 201}, {"at_least": -1}, {"at_least": 2**63}, {"at_least": "x"}, {"page": 1}):
        answer = app_of_the_shop.get("/v1/users/user-1/coupons", **query)
        answer.refused(422, "invalid_field")
        assert answer.pointers() == list(query)


def test_filters_by_batch_and_by_the_end_of_validity(app_of_the_shop, shop, project):
    short, long = (shop.batch(per_user_limit=None, valid_for_seconds=days * 86_400) for days in (2, 20))
    soon = [shop.coupon(batch_id=short) for _ in range(2)]
    late = [shop.coupon(batch_id=long) for _ in range(2)]
    project()
    path = "/v1/users/user-1/coupons"
    border = (shop.ledger.store.now() + timedelta(days=10)).isoformat().replace("+00:00", "Z")

    def ids(**query):
        return {coupon["coupon_id"] for coupon in app_of_the_shop.get(path, **query).ok()["coupons"]}

    assert ids(batch_id=short) == set(soon)
    assert ids(ends_before=border) == set(soon)
    assert ids(batch_id=long, ends_before=border) == set()
    assert ids(batch_id=long, state="UNUSED") == set(late)
    assert ids(batch_id="none") == set()
    assert ids() == {*soon, *late}
    cursor = app_of_the_shop.get(path, limit=1, batch_id=short).ok()["next_cursor"]
    app_of_the_shop.get(path, batch_id=long, cursor=cursor).refused(400, "bad_cursor")
    app_of_the_shop.get(path, ends_before="tomorrow").refused(422, "invalid_period")

"""POST /v1/coupons/{id}/shares."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.unit.specs import TERMS


@pytest.fixture
def app_of_shoppers(as_role):
    return as_role("shopper-app")


@pytest.fixture
def coupon_id(shop):
    """A coupon of user-1 that may be shared."""
    return shop.coupon(batch_id=shop.batch(terms=replace(TERMS, shareable=True)))


def _share(caller, coupon_id, *friends, user_id="user-1", **headers):
    body = {"user_id": user_id, "with_user_ids": list(friends)}
    return caller.post(f"/v1/coupons/{coupon_id}/shares", body, headers=headers)


def _lock(orders, coupon_id, user_id, order_id="order-1"):
    return orders.post(f"/v1/orders/{order_id}/locks", {"user_id": user_id, "coupon_ids": [coupon_id]})


def test_lets_friends_use_it(app_of_shoppers, orders, auditor, coupon_id):
    answer = _share(app_of_shoppers, coupon_id, "user-2", "user-3").ok()
    assert answer == {"coupon_id": coupon_id, "state": "UNUSED", "shared_with": ["user-2", "user-3"]}
    _lock(orders, coupon_id, "user-4").refused(404, "coupon_not_found")
    _lock(orders, coupon_id, "user-3").ok()
    redemption = {"redemptions": [{"coupon_id": coupon_id, "discount_minor": 500}]}
    orders.post("/v1/orders/order-1/confirmations", redemption).ok()
    shared, locked, used = auditor.get(f"/v1/coupons/{coupon_id}/events").ok()["events"][1:]
    assert shared["payload"]["with_user_ids"] == ["user-2", "user-3"]
    assert {locked["payload"]["holder_id"], used["payload"]["holder_id"]} == {"user-3"}
    assert used["payload"]["user_id"] == "user-1"


def test_the_first_to_lock_it_holds_it(app_of_shoppers, orders, coupon_id):
    _share(app_of_shoppers, coupon_id, "user-2", "user-3").ok()
    _lock(orders, coupon_id, "user-2").ok()
    for user_id in ("user-3", "user-1"):
        _lock(orders, coupon_id, user_id, "order-2").refused(409, "coupon_locked")


def test_the_list_takes_the_place_of_the_one_before(app_of_shoppers, orders, coupon_id, ledger):
    _share(app_of_shoppers, coupon_id, "user-2").ok()
    head = ledger.store.head()
    _share(app_of_shoppers, coupon_id, "user-2").ok()
    assert ledger.store.head() == head
    _share(app_of_shoppers, coupon_id, "user-3").ok()
    _lock(orders, coupon_id, "user-2").refused(404, "coupon_not_found")
    assert orders.get(f"/v1/coupons/{coupon_id}").ok()["shared_with"] == ["user-3"]
    assert _share(app_of_shoppers, coupon_id).ok()["shared_with"] == []
    _lock(orders, coupon_id, "user-3").refused(404, "coupon_not_found")


def test_refuses_what_cannot_be_shared(app_of_shoppers, operator, shop, coupon_id):
    _share(app_of_shoppers, shop.coupon(), "user-2").refused(409, "not_shareable")
    _share(app_of_shoppers, coupon_id, "user-2", user_id="user-2").refused(404, "coupon_not_found")
    _share(app_of_shoppers, "nowhere", "user-2").refused(404, "coupon_not_found")
    _share(app_of_shoppers, coupon_id, "user-2", **{"If-Match": '"7"'}).refused(412, "version_conflict")
    operator.post(f"/v1/coupons/{coupon_id}/void", {"reason": "fraud"}).ok()
    _share(app_of_shoppers, coupon_id, "user-2").refused(410, "coupon_void")


def test_refuses_what_is_no_sharing(app_of_shoppers, coupon_id, ledger):
    head = ledger.store.head()
    cases = [
        (["user-2", "user-2"], "/with_user_ids"),
        (["user-1"], "/with_user_ids"),
        ([f"friend-{number}" for number in range(51)], "/with_user_ids"),
        (["two\nlines"], "/with_user_ids/0"),
    ]
    for friends, pointer in cases:
        answer = _share(app_of_shoppers, coupon_id, *friends)
        answer.refused(422, "invalid_field")
        assert answer.pointers() == [pointer]
    assert ledger.store.head() == head


def test_an_order_system_may_not(orders, coupon_id):
    _share(orders, coupon_id, "user-2").refused(403, "forbidden_scope")

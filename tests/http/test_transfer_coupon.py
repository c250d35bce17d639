"""POST /v1/coupons/{id}/transfers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.unit.specs import TERMS


@pytest.fixture
def app_of_shoppers(as_role):
    return as_role("shopper-app")


@pytest.fixture
def coupon_id(shop):
    """A coupon of user-1 that may be given away, and shared."""
    return shop.coupon(batch_id=shop.batch(terms=replace(TERMS, transferable=True, shareable=True)))


def _transfer(caller, coupon_id, user_id="user-1", to_user_id="user-2", **headers):
    body = {"user_id": user_id, "to_user_id": to_user_id}
    return caller.post(f"/v1/coupons/{coupon_id}/transfers", body, headers=headers)


def _lock(orders, coupon_id, user_id, order_id="order-1"):
    return orders.post(f"/v1/orders/{order_id}/locks", {"user_id": user_id, "coupon_ids": [coupon_id]})


def test_gives_the_coupon_to_another_user(app_of_shoppers, orders, coupon_id):
    answer = _transfer(app_of_shoppers, coupon_id).ok()
    assert answer == {"coupon_id": coupon_id, "state": "UNUSED", "user_id": "user-2"}
    assert orders.get(f"/v1/coupons/{coupon_id}").ok()["user_id"] == "user-2"
    _lock(orders, coupon_id, "user-1").refused(404, "coupon_not_found")
    _lock(orders, coupon_id, "user-2").ok()


def test_the_history_is_the_chain_of_custody(app_of_shoppers, auditor, coupon_id):
    _transfer(app_of_shoppers, coupon_id).ok()
    _transfer(app_of_shoppers, coupon_id, "user-2", "user-3").ok()
    events = auditor.get(f"/v1/coupons/{coupon_id}/events").ok()["events"]
    chain = [(event["payload"]["user_id"], event["payload"]["to_user_id"]) for event in events[1:]]
    assert chain == [("user-1", "user-2"), ("user-2", "user-3")]


def test_ends_the_sharing(app_of_shoppers, orders, coupon_id):
    shares = {"user_id": "user-1", "with_user_ids": ["user-4"]}
    app_of_shoppers.post(f"/v1/coupons/{coupon_id}/shares", shares).ok()
    _transfer(app_of_shoppers, coupon_id).ok()
    assert orders.get(f"/v1/coupons/{coupon_id}").ok()["shared_with"] == []
    _lock(orders, coupon_id, "user-4").refused(404, "coupon_not_found")


def test_the_receivers_limit_is_not_charged(app_of_shoppers, operator, shop):
    terms = replace(TERMS, transferable=True)
    batch_id = shop.batch(terms=terms, per_user_limit=1)
    _transfer(app_of_shoppers, shop.coupon("user-1", batch_id)).ok()
    operator.post(f"/v1/batches/{batch_id}/claims", {"user_id": "user-2"}).ok(201)
    operator.post(f"/v1/batches/{batch_id}/claims", {"user_id": "user-1"}).refused(409, "user_limit_reached")


def test_refuses_who_does_not_own_it(app_of_shoppers, coupon_id):
    _transfer(app_of_shoppers, coupon_id, "user-3").refused(404, "coupon_not_found")
    _transfer(app_of_shoppers, "nowhere").refused(404, "coupon_not_found")


def test_refuses_what_cannot_be_given_away(app_of_shoppers, orders, operator, shop, coupon_id):
    _transfer(app_of_shoppers, shop.coupon()).refused(409, "not_transferable")
    _transfer(app_of_shoppers, coupon_id, to_user_id="user-1").refused(422, "invalid_field")
    _lock(orders, coupon_id, "user-1").ok()
    _transfer(app_of_shoppers, coupon_id).refused(409, "coupon_locked")
    operator.post(f"/v1/coupons/{coupon_id}/void", {"reason": "fraud"}).ok()
    _transfer(app_of_shoppers, coupon_id).refused(410, "coupon_void")


def test_honours_if_match(app_of_shoppers, coupon_id):
    _transfer(app_of_shoppers, coupon_id, **{"If-Match": '"7"'}).refused(412, "version_conflict")
    _transfer(app_of_shoppers, coupon_id, **{"If-Match": '"1"'}).ok()


def test_refuses_what_is_no_transfer(app_of_shoppers, ledger):
    for change, pointer in (({"user_id": ""}, "/user_id"), ({"to_user_id": "a\n"}, "/to_user_id")):
        answer = app_of_shoppers.post("/v1/coupons/c/transfers", {"user_id": "u", "to_user_id": "v"} | change)
        answer.refused(422, "invalid_field")
        assert answer.pointers() == [pointer]
    assert ledger.store.head() == 0


def test_an_order_system_may_not(orders, coupon_id):
    _transfer(orders, coupon_id).refused(403, "forbidden_scope")

"""POST /v1/orders/{id}/returns."""

from __future__ import annotations

import pytest


def _return(orders, coupon_ids, order_id="order-1", reason="order_cancelled"):
    return orders.post(f"/v1/orders/{order_id}/returns", {"coupon_ids": coupon_ids, "reason": reason})


@pytest.mark.parametrize(
    ("reason", "state"), [("order_cancelled", "UNUSED"), ("merchant_refund", "UNUSED"), ("buyer_refund", "USED")]
)
def test_does_what_the_policy_says(orders, scene, reason, state):
    coupon_id = scene.used()
    returned = _return(orders, [coupon_id], reason=reason).ok()
    assert returned == {"order_id": "order-1", "coupons": [{"coupon_id": coupon_id, "state": state}]}
    assert orders.get(f"/v1/coupons/{coupon_id}").ok()["state"] == state


def test_refuses_what_was_not_used_by_the_order(orders, operator, scene, shop):
    _return(orders, [shop.coupon()]).refused(409, "not_used")
    _return(orders, [scene.used()], "order-2").refused(409, "lock_mismatch")
    _return(orders, ["nowhere"]).refused(404, "coupon_not_found")
    voided = shop.coupon()
    operator.post(f"/v1/coupons/{voided}/void", {"reason": "fraud"}).ok()
    _return(orders, [voided]).refused(410, "coupon_void")


def test_a_use_is_undone_once(orders, scene):
    for reason in ("order_cancelled", "buyer_refund"):
        coupon_id = scene.used()
        _return(orders, [coupon_id], reason=reason).ok()
        _return(orders, [coupon_id], reason=reason).refused(409, "not_used")


def test_refuses_what_is_no_return(orders, ledger):
    for change, pointer in (({"coupon_ids": []}, "/coupon_ids"), ({"reason": "changed my mind"}, "/reason")):
        body = {"coupon_ids": ["c"], "reason": "order_cancelled"} | change
        answer = orders.post("/v1/orders/order-1/returns", body)
        answer.refused(422, "invalid_field")
        assert answer.pointers() == [pointer]
    assert ledger.store.head() == 0

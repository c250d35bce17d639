"""POST /v1/orders/{id}/unlocks."""

from __future__ import annotations


def _unlock(orders, coupon_ids, order_id="order-1", **body):
    return orders.post(f"/v1/orders/{order_id}/unlocks", {"coupon_ids": coupon_ids, "reason": "left", **body})


def test_lets_the_coupon_go(orders, scene):
    coupon_id, lock_id = scene.locked()
    answer = _unlock(orders, [coupon_id], lock_id=lock_id)
    assert answer.ok() == {"order_id": "order-1", "coupons": [{"coupon_id": coupon_id, "state": "UNUSED"}]}
    shown = orders.get(f"/v1/coupons/{coupon_id}").ok()
    assert (shown["state"], shown["lock"]) == ("UNUSED", None)


def test_refuses_what_the_order_does_not_hold(orders, operator, scene, shop):
    _unlock(orders, [shop.coupon()]).refused(409, "not_locked")
    coupon_id, _ = scene.locked()
    _unlock(orders, [coupon_id], "order-2").refused(409, "lock_mismatch")
    _unlock(orders, [coupon_id], lock_id="older").refused(409, "lock_mismatch")
    _unlock(orders, [scene.used()]).refused(409, "coupon_used")
    operator.post(f"/v1/coupons/{coupon_id}/void", {"reason": "fraud"}).ok()
    _unlock(orders, [coupon_id]).refused(410, "coupon_void")
    _unlock(orders, ["nowhere"]).refused(404, "coupon_not_found")


def test_what_the_order_holds_no_longer_is_let_go_already(orders, scene):
    coupon_id, lock_id = scene.locked()
    _unlock(orders, [coupon_id]).ok()
    for again in ({}, {"lock_id": lock_id}):
        answer = _unlock(orders, [coupon_id], **again).ok()
        assert answer == {"order_id": "order-1", "coupons": [{"coupon_id": coupon_id, "state": "UNUSED"}]}
    events = orders.get(f"/v1/coupons/{coupon_id}").ok()
    assert events["state"] == "UNUSED"


def test_all_or_none(orders, scene, shop):
    held, _ = scene.locked()
    _unlock(orders, [held, shop.coupon()]).refused(409, "not_locked")
    assert orders.get(f"/v1/coupons/{held}").ok()["state"] == "LOCKED"


def test_refuses_what_is_no_unlock(orders, ledger):
    cases = [
        ({"coupon_ids": []}, "/coupon_ids"),
        ({"coupon_ids": ["c", "c"]}, "/coupon_ids"),
        ({"reason": ""}, "/reason"),
        ({"reason": "x" * 201}, "/reason"),
        ({"lock_id": 5}, "/lock_id"),
    ]
    for change, pointer in cases:
        answer = orders.post("/v1/orders/order-1/unlocks", {"coupon_ids": ["c"], "reason": "left"} | change)
        answer.refused(422, "invalid_field")
        assert answer.pointers() == [pointer]
    assert ledger.store.head() == 0

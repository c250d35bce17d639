"""POST /v1/orders/{id}/returns."""

from __future__ import annotations

import pytest


def _return(orders, coupon_ids, order_id="order-1", reason="order_cancelled", **more):
    body = {"coupon_ids": coupon_ids, "reason": reason, **more}
    return orders.post(f"/v1/orders/{order_id}/returns", body)


@pytest.mark.parametrize(
    ("reason", "state", "given"),
    [("order_cancelled", "UNUSED", 100), ("merchant_refund", "UNUSED", 100), ("buyer_refund", "USED", 0)],
)
def test_does_what_the_policy_says(orders, operator, scene, project, reason, state, given):
    coupon_id = scene.used()
    returned = _return(orders, [coupon_id], reason=reason).ok()
    assert returned == {
        "order_id": "order-1",
        "coupons": [{"coupon_id": coupon_id, "state": state, "returned_minor": given}],
    }
    shown = orders.get(f"/v1/coupons/{coupon_id}").ok()
    assert shown["state"] == state
    (seen,) = orders.get("/v1/orders/order-1/coupons").ok()["coupons"]
    assert seen["redemption"]["returned_minor"] == given
    project()
    balance = operator.get(f"/v1/batches/{shown['batch_id']}/balance").ok()
    assert (balance["discount_minor"], balance["returned"], balance["returned_minor"]) == (100, 1, given)


def _allocated(orders, scene):
    """A coupon whose discount of 100 lies on two lines, 60 and 40."""
    coupon_id, _ = scene.locked()
    parts = [{"line_id": "1", "discount_minor": 60}, {"line_id": "2", "discount_minor": 40}]
    body = {"redemptions": [{"coupon_id": coupon_id, "discount_minor": 100, "allocation": parts}]}
    orders.post("/v1/orders/order-1/confirmations", body).ok()
    return coupon_id


def test_gives_lines_back_and_the_coupon_with_the_last(orders, scene):
    coupon_id = _allocated(orders, scene)
    steps = [
        ([{"line_id": "1", "discount_minor": 25}], 25, "USED"),
        ([{"line_id": "1"}], 35, "USED"),
        ([{"line_id": "2", "discount_minor": 40}], 40, "UNUSED"),
    ]
    for lines, given, state in steps:
        (returned,) = _return(orders, [coupon_id], lines=lines).ok()["coupons"]
        assert (returned["returned_minor"], returned["state"]) == (given, state)


def test_never_gives_back_more_than_a_line_carried(orders, scene):
    coupon_id = _allocated(orders, scene)
    problem = _return(orders, [coupon_id], lines=[{"line_id": "2", "discount_minor": 41}])
    facts = problem.refused(409, "return_not_allowed")["facts"]
    assert facts == {"coupon_id": coupon_id, "line_id": "2", "discount_minor": 41, "left_minor": 40}
    _return(orders, [coupon_id], lines=[{"line_id": "2"}]).ok()
    _return(orders, [coupon_id], lines=[{"line_id": "2"}]).refused(409, "return_not_allowed")
    _return(orders, [coupon_id], lines=[{"line_id": "9"}]).refused(409, "return_not_allowed")
    (rest,) = _return(orders, [coupon_id]).ok()["coupons"]
    assert (rest["returned_minor"], rest["state"]) == (60, "UNUSED")


def test_of_several_coupons_each_gives_back_what_it_has_on_the_lines(orders, scene):
    coupon_ids = sorted([_allocated(orders, scene), scene.used()])
    problem = _return(orders, coupon_ids, lines=[{"line_id": "2"}, {"line_id": "3"}])
    assert problem.refused(409, "return_not_allowed")["facts"] == {"order_id": "order-1", "line_id": "3"}
    assert problem.pointers() == ["/lines/1/line_id"]
    given = _return(orders, coupon_ids, lines=[{"line_id": "2"}]).ok()["coupons"]
    assert sorted((each["returned_minor"], each["state"]) for each in given) == [(0, "USED"), (40, "USED")]
    problem = _return(orders, coupon_ids, lines=[{"line_id": "2"}]).refused(409, "return_not_allowed")
    assert problem["facts"] == {"order_id": "order-1"}


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
    cases = [
        ({"coupon_ids": []}, "/coupon_ids"),
        ({"reason": "changed my mind"}, "/reason"),
        ({"lines": [{"line_id": "1", "discount_minor": -1}]}, "/lines/0/discount_minor"),
        ({"lines": [{"discount_minor": 1}]}, "/lines/0/line_id"),
        ({"lines": [{"line_id": "1"}, {"line_id": "1"}]}, "/lines"),
        ({"lines": [{"line_id": "1", "discount_minor": 1}], "coupon_ids": ["c", "d"]}, "/lines"),
    ]
    for change, pointer in cases:
        body = {"coupon_ids": ["c"], "reason": "order_cancelled"} | change
        answer = orders.post("/v1/orders/order-1/returns", body)
        answer.refused(422, "invalid_field")
        assert answer.pointers() == [pointer]
    assert ledger.store.head() == 0

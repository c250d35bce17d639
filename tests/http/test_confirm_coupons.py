"""POST /v1/orders/{id}/confirmations."""

from __future__ import annotations

import time
from dataclasses import replace

from ledger.benefit import Benefit
from ledger.scope import Scope
from tests.unit.specs import TERMS

ALLOCATION = [
    {"line_id": "1", "product_id": "tea", "discount_minor": 60},
    {"line_id": "2", "product_id": None, "discount_minor": 40},
]


def _confirm(orders, coupon_id, order_id="order-1", discount_minor=100, redemption=None, **body):
    one = {"coupon_id": coupon_id, "discount_minor": discount_minor, **(redemption or {})}
    return orders.post(f"/v1/orders/{order_id}/confirmations", {"redemptions": [one], **body})


def test_spends_the_coupon(orders, scene, ledger):
    coupon_id, lock_id = scene.locked()
    answer = _confirm(
        orders,
        coupon_id,
        redemption={"allocation": ALLOCATION},
        lock_id=lock_id,
        order_total_minor=5_000,
        paid_minor=4_900,
    )
    (redeemed,) = answer.ok()["redemptions"]
    assert (redeemed["coupon_id"], redeemed["discount_minor"]) == (coupon_id, 100)
    shown = orders.get(f"/v1/coupons/{coupon_id}").ok()
    assert (shown["state"], shown["lock"]) == ("USED", None)
    assert shown["redemption"] == {
        "order_id": "order-1",
        "redemption_id": redeemed["redemption_id"],
        "discount_minor": 100,
        "allocation": ALLOCATION,
    }
    assert "allocation" not in redeemed
    used = ledger.store.history(f"coupon-{coupon_id}")[-1].event
    assert used.allocation == ALLOCATION
    assert (used.order_total_minor, used.paid_minor) == (5_000, 4_900)


def test_refuses_without_a_lock(orders, shop):
    _confirm(orders, shop.coupon()).refused(409, "not_locked")


def test_refuses_another_order_and_another_lock(orders, scene):
    coupon_id, _ = scene.locked()
    _confirm(orders, coupon_id, "order-2").refused(409, "lock_mismatch")
    _confirm(orders, coupon_id, lock_id="older").refused(409, "lock_mismatch")


def test_refuses_after_the_end_of_the_lock(orders, scene):
    coupon_id, _ = scene.locked(ttl_seconds=1)
    time.sleep(1.1)
    problem = _confirm(orders, coupon_id).refused(409, "lock_expired")
    assert problem["facts"].keys() == {"coupon_id", "lock_ended_at"}


def test_refuses_what_is_used_or_void(orders, operator, scene, shop):
    _confirm(orders, scene.used("order-2"), "order-1").refused(409, "coupon_used")
    voided = shop.coupon()
    operator.post(f"/v1/coupons/{voided}/void", {"reason": "fraud"}).ok()
    _confirm(orders, voided).refused(410, "coupon_void")


def test_refuses_more_than_the_terms_allow(orders, scene):
    coupon_id, _ = scene.locked()
    problem = _confirm(orders, coupon_id, discount_minor=501).refused(422, "not_applicable")
    assert problem["facts"] == {"coupon_id": coupon_id, "discount_minor": 501, "most_minor": 500}
    _confirm(orders, coupon_id, discount_minor=500).ok()


def test_a_discount_is_needed_where_the_lock_found_none(orders, scene):
    coupon_id, _ = scene.locked()
    answer = orders.post("/v1/orders/order-1/confirmations", {"redemptions": [{"coupon_id": coupon_id}]})
    answer.refused(422, "invalid_field")
    assert answer.pointers() == ["/redemptions"]


def test_a_late_one_counts_where_the_terms_say_so(orders, shop, ledger):
    coupon_id = shop.coupon(batch_id=shop.batch(terms=replace(TERMS, late_confirm="accept")))
    lock = {"user_id": "user-1", "coupon_ids": [coupon_id], "ttl_seconds": 1}
    (held,) = orders.post("/v1/orders/order-1/locks", lock).ok()["locks"]
    time.sleep(1.1)
    _confirm(orders, coupon_id, lock_id=held["lock_id"]).ok()
    assert ledger.store.history(f"coupon-{coupon_id}")[-1].event.late is True


def test_a_till_says_so(orders, scene, ledger):
    coupon_id, _ = scene.locked()
    _confirm(orders, coupon_id, channel="in_store").ok()
    assert ledger.store.history(f"coupon-{coupon_id}")[-1].event.channel == "in_store"


def test_a_voucher_keeps_what_is_not_spent(orders, shop):
    benefit = Benefit(kind="cash_voucher", value_minor=1_000, leaves_balance=True)
    coupon_id = shop.coupon(batch_id=shop.batch(terms=replace(TERMS, benefit=benefit)))
    lock = {"user_id": "user-1", "coupon_ids": [coupon_id]}
    for order_id, discount, left, state in (("order-1", 400, 600, "UNUSED"), ("order-2", 600, 0, "USED")):
        orders.post(f"/v1/orders/{order_id}/locks", lock).ok()
        _confirm(orders, coupon_id, order_id, left + discount + 1).refused(422, "not_applicable")
        (redeemed,) = _confirm(orders, coupon_id, order_id, discount).ok()["redemptions"]
        assert redeemed["balance_minor"] == left
        shown = orders.get(f"/v1/coupons/{coupon_id}").ok()
        assert (shown["state"], shown["balance_minor"]) == (state, left)
    returned = {"coupon_ids": [coupon_id], "reason": "order_cancelled"}
    for order_id, balance in (("order-1", 400), ("order-2", 1_000)):
        orders.post(f"/v1/orders/{order_id}/returns", returned).ok()
        assert orders.get(f"/v1/coupons/{coupon_id}").ok()["balance_minor"] == balance


def _two(orders, shop, **terms):
    """Two coupons that stack, of 500 each."""
    batch_id = shop.batch(terms=replace(TERMS, stacking_mode="stackable", **terms), per_user_limit=None)
    return sorted(shop.coupon(batch_id=batch_id) for _ in range(2))


BASKET = {"currency": "EUR", "lines": [{"line_id": "1", "product_id": "tea", "unit_price_minor": 700}]}


def test_coupons_together_take_no_more_off_than_the_order_or_its_cap_allows(orders, shop):
    for order_id, terms, most in (("order-1", {}, 900), ("order-2", {"order_cap_permyriad": 6_000}, 540)):
        coupon_ids = _two(orders, shop, **terms)
        lock = {"user_id": "user-1", "coupon_ids": coupon_ids, "order_total_minor": 900}
        orders.post(f"/v1/orders/{order_id}/locks", lock).ok()
        for over in (1, 0):
            parts = (most - 450 + over, 450)
            told = [{"coupon_id": id, "discount_minor": part} for id, part in zip(coupon_ids, parts, strict=True)]
            answer = orders.post(f"/v1/orders/{order_id}/confirmations", {"redemptions": told})
            if over:
                facts = answer.refused(422, "not_applicable")["facts"]
                assert facts == {"order_id": order_id, "discount_minor": most + 1, "most_minor": most}
        answer.ok()


def test_coupons_that_were_priced_alone_are_not_confirmed_together(orders, shop):
    coupon_ids = _two(orders, shop)
    both = {"redemptions": [{"coupon_id": id} for id in coupon_ids]}
    for named in (coupon_ids, coupon_ids[1:], coupon_ids[:1]):
        lock = {"user_id": "user-1", "coupon_ids": named, "basket": BASKET}
        orders.post("/v1/orders/order-1/locks", lock).ok()
    orders.post("/v1/orders/order-1/confirmations", both).refused(422, "not_applicable")
    orders.post("/v1/orders/order-1/locks", lock | {"coupon_ids": coupon_ids}).ok()
    redeemed = orders.post("/v1/orders/order-1/confirmations", both).ok()["redemptions"]
    assert sorted(each["discount_minor"] for each in redeemed) == [200, 500]


def test_answers_the_allocation_that_it_was_not_told(orders, shop):
    shared, own = _two(orders, shop)
    tea = BASKET["lines"][0]
    basket = BASKET | {"lines": [tea, {"line_id": "2", "product_id": "pot", "unit_price_minor": 700}]}
    lock = {"user_id": "user-1", "coupon_ids": [shared, own], "basket": basket}
    locks = orders.post("/v1/orders/order-1/locks", lock).ok()["locks"]
    told = [{"coupon_id": shared}, {"coupon_id": own, "discount_minor": 101}]
    redeemed = orders.post("/v1/orders/order-1/confirmations", {"redemptions": told}).ok()["redemptions"]
    assert redeemed[0]["allocation"] == locks[0]["allocation"]
    assert [(part["line_id"], part["discount_minor"]) for part in redeemed[1]["allocation"]] == [("1", 51), ("2", 50)]
    for each in redeemed:
        shown = orders.get(f"/v1/coupons/{each['coupon_id']}").ok()["redemption"]
        assert shown["allocation"] == each["allocation"]
    back = {"coupon_ids": [own], "reason": "order_cancelled", "lines": [{"line_id": "1"}]}
    (returned,) = orders.post("/v1/orders/order-1/returns", back).ok()["coupons"]
    assert returned["returned_minor"] == 51


def test_a_priced_lock_in_store_is_confirmed_in_store(orders, shop, ledger):
    coupon_id = shop.coupon(batch_id=shop.batch(terms=replace(TERMS, scope=Scope(channels=("in_store",)))))
    lock = {"user_id": "user-1", "coupon_ids": [coupon_id], "basket": BASKET | {"channel": "in_store"}}
    orders.post("/v1/orders/order-1/locks", lock).ok()
    confirm = {"redemptions": [{"coupon_id": coupon_id}]}
    orders.post("/v1/orders/order-1/confirmations", confirm | {"channel": "online"}).refused(422, "out_of_scope")
    orders.post("/v1/orders/order-1/confirmations", confirm).ok()
    assert ledger.store.history(f"coupon-{coupon_id}")[-1].event.channel == "in_store"


def test_a_gift_need_not_be_in_the_scope_that_says_what_must_be_bought(orders, shop):
    gift = Benefit(kind="gift", products=("mug",))
    coupon_id = shop.coupon(
        batch_id=shop.batch(terms=replace(TERMS, benefit=gift, scope=Scope(products=("tea",))), per_user_limit=None)
    )
    mug = {"line_id": "2", "product_id": "mug", "unit_price_minor": 500}
    basket = BASKET | {"lines": [*BASKET["lines"], mug]}
    orders.post("/v1/orders/order-1/locks", {"user_id": "user-1", "coupon_ids": [coupon_id], "basket": basket}).ok()
    for told in ({}, {"discount_minor": 500, "allocation": [{"line_id": "2", "discount_minor": 500}]}):
        body = {"redemptions": [{"coupon_id": coupon_id, **told}]}
        (redeemed,) = orders.post("/v1/orders/order-1/confirmations", body).ok()["redemptions"]
        assert redeemed["discount_minor"] == 500


def test_an_unknown_one_is_not_found(orders):
    _confirm(orders, "nowhere").refused(404, "coupon_not_found")


CASES = [
    ({"redemptions": []}, "/redemptions"),
    ({"redemptions": [{"coupon_id": f"c{n}", "discount_minor": 0} for n in range(101)]}, "/redemptions"),
    ({"redemptions": [{"coupon_id": "c", "discount_minor": -1}]}, "/redemptions/0/discount_minor"),
    ({"redemptions": [{"coupon_id": "c", "discount_minor": 10**12}]}, "/redemptions/0/discount_minor"),
    ({"redemptions": [{"coupon_id": "c", "discount_minor": 1.0}]}, "/redemptions/0/discount_minor"),
    ({"redemptions": [{"coupon_id": "c", "discount_minor": True}]}, "/redemptions/0/discount_minor"),
    ({"redemptions": [{"coupon_id": "c", "allocation": ALLOCATION}]}, "/redemptions/0/allocation"),
    ({"channel": "fax"}, "/channel"),
    ({"redemptions": [{"coupon_id": "c", "discount_minor": 0, "note": ""}]}, "/redemptions/0/note"),
    (
        {"redemptions": [{"coupon_id": "c", "discount_minor": 101, "allocation": ALLOCATION}]},
        "/redemptions/0/allocation",
    ),
    (
        {
            "redemptions": [
                {"coupon_id": "c", "discount_minor": 1, "allocation": [{"line_id": "", "discount_minor": 1}]}
            ]
        },
        "/redemptions/0/allocation/0/line_id",
    ),
    ({"lock_id": ""}, "/lock_id"),
    ({"paid_minor": -1}, "/paid_minor"),
    ({"order_total_minor": "5"}, "/order_total_minor"),
]


def test_refuses_what_is_no_confirmation(orders, ledger):
    for change, pointer in CASES:
        body = {"redemptions": [{"coupon_id": "c", "discount_minor": 0}]} | change
        answer = orders.post("/v1/orders/order-1/confirmations", body)
        answer.refused(422, "invalid_field")
        assert answer.pointers() == [pointer]
    assert ledger.store.head() == 0


def test_a_coupon_is_named_once(orders, scene):
    coupon_id, _ = scene.locked()
    body = {"redemptions": [{"coupon_id": coupon_id, "discount_minor": 1}] * 2}
    orders.post("/v1/orders/order-1/confirmations", body).refused(422, "invalid_field")

"""GET /v1/orders/{id}/coupons."""

from __future__ import annotations

from urllib.parse import quote

from ledger import use_cases
from ledger.basket import Basket, Line
from ledger.benefit import Benefit
from ledger.coupon import Redemption
from ledger.terms import Terms

TWO_LINES = (
    Line(line_id="1", product_id="tea", unit_price_minor=3_000),
    Line(line_id="2", product_id="pot", unit_price_minor=1_000),
)
VOUCHER = Terms(benefit=Benefit(kind="cash_voucher", value_minor=1_000, leaves_balance=True), currency="EUR")


def _coupons(orders, order_id="order-1"):
    found = orders.get(f"/v1/orders/{quote(order_id, safe='')}/coupons").ok()
    assert found.keys() == {"order_id", "coupons", "as_of"}
    assert found["order_id"] == order_id
    return found["coupons"]


def test_shows_what_an_order_holds(orders, shop):
    coupon_id = shop.coupon()
    work = use_cases.lock(
        shop.request(),
        "order-1",
        user_id="user-1",
        coupon_ids=[coupon_id],
        basket=Basket(lines=TWO_LINES, currency="EUR"),
    )
    [locked] = shop.ledger.do(work).answer["locks"]
    [shown] = _coupons(orders)
    assert (shown["coupon_id"], shown["state"], shown["redemption"]) == (coupon_id, "LOCKED", None)
    assert shown["lock"] == {
        "lock_id": locked["lock_id"],
        "lock_ends_at": locked["lock_ends_at"],
        "holder_id": "user-1",
        "discount_minor": 500,
        "allocation": [
            {"line_id": "1", "product_id": "tea", "discount_minor": 375},
            {"line_id": "2", "product_id": "pot", "discount_minor": 125},
        ],
    }


def test_shows_what_an_order_used_and_what_came_back(orders, scene, shop):
    coupon_id, _ = scene.locked()
    parts = [{"line_id": "1", "product_id": None, "discount_minor": 60}, {"line_id": "2", "discount_minor": 40}]
    body = {"redemptions": [{"coupon_id": coupon_id, "discount_minor": 100, "allocation": parts}]}
    [redeemed] = orders.post("/v1/orders/order-1/confirmations", body).ok()["redemptions"]
    [shown] = _coupons(orders)
    assert (shown["coupon_id"], shown["state"], shown["lock"]) == (coupon_id, "USED", None)
    use = shown["redemption"]
    assert use.pop("used_at").endswith("Z")
    assert use == {
        "redemption_id": redeemed["redemption_id"],
        "holder_id": "user-1",
        "channel": "online",
        "discount_minor": 100,
        "allocation": [parts[0], parts[1] | {"product_id": None}],
        "returned_minor": 0,
    }
    back = {"coupon_ids": [coupon_id], "reason": "order_cancelled"}
    orders.post("/v1/orders/order-1/returns", back | {"lines": [{"line_id": "2"}]}).ok()
    assert [(each["state"], each["redemption"]["returned_minor"]) for each in _coupons(orders)] == [("USED", 40)]
    orders.post("/v1/orders/order-1/returns", back).ok()
    assert [(each["state"], each["redemption"]["returned_minor"]) for each in _coupons(orders)] == [("UNUSED", 100)]


def test_shows_each_order_its_part_of_a_voucher(orders, shop):
    coupon_id = shop.coupon(batch_id=shop.batch(terms=VOUCHER))
    for order_id, discount in (("order-1", 300), ("order-2", 700)):
        shop.ledger.do(
            use_cases.redeem(shop.request(), order_id, coupon_id=coupon_id, discount_minor=discount, user_id="user-1")
        )
    work = use_cases.return_coupons(shop.request(), "order-1", coupon_ids=[coupon_id], reason="order_cancelled")
    shop.ledger.do(work)
    seen = [
        (each["state"], each["redemption"]["discount_minor"], each["redemption"]["returned_minor"])
        for order_id in ("order-1", "order-2")
        for each in _coupons(orders, order_id)
    ]
    assert seen == [("UNUSED", 300, 300), ("UNUSED", 700, 0)]


def test_does_not_show_what_an_order_let_go(orders, scene, shop):
    coupon_id, _ = scene.locked()
    work = use_cases.unlock(shop.request(), "order-1", coupon_ids=[coupon_id], reason="left")
    shop.ledger.do(work)
    assert _coupons(orders) == []
    shop.ledger.do(use_cases.lock(shop.request(), "order-2", user_id="user-1", coupon_ids=[coupon_id]))
    shop.ledger.do(use_cases.confirm(shop.request(), "order-2", [Redemption(coupon_id=coupon_id, discount_minor=1)]))
    assert _coupons(orders) == []
    assert len(_coupons(orders, "order-2")) == 1


def test_does_not_show_a_hold_that_ended(orders, scene, shop, long_ago):
    coupon_id = shop.coupon()
    shop.ledger.do(use_cases.lock(shop.request(), "order-1", user_id="user-1", coupon_ids=[coupon_id], ttl_seconds=60))
    assert len(_coupons(orders)) == 1
    with shop.ledger.store.connection() as connection:
        later = connection.execute("select clock_timestamp() + interval '1 minute' as later").fetchone()["later"]
    work = use_cases.order_coupons(shop.request(at=later), "order-1")
    assert shop.ledger.ask(work).answer["coupons"] == []


def test_an_order_that_is_not_known_has_none(orders):
    assert _coupons(orders, "order/9 %") == []


def test_another_merchants_order_of_the_same_id_is_another(orders, stranger, scene):
    scene.used()
    assert len(_coupons(orders)) == 1
    assert _coupons(stranger("orders")) == []

"""POST /v1/orders/{id}/locks."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

from ledger import use_cases
from ledger.benefit import Benefit
from ledger.scope import Scope, UseHours
from ledger.terms import Terms

STACKABLE = Terms(
    benefit=Benefit(kind="amount_off", value_minor=500), currency="EUR", stacking_mode="stackable", priority=1
)


def _lock(orders, coupon_ids, order_id="order-1", **body):
    return orders.post(f"/v1/orders/{order_id}/locks", {"user_id": "user-1", "coupon_ids": coupon_ids, **body})


def test_holds_the_coupons(orders, shop):
    batch_id = shop.batch(terms=STACKABLE, per_user_limit=None)
    coupon_ids = sorted(shop.coupon(batch_id=batch_id) for _ in range(2))
    locked = _lock(orders, coupon_ids, ttl_seconds=60, order_total_minor=5_000, quote_digest="sha256:ab").ok()
    assert locked["order_id"] == "order-1"
    assert [lock["coupon_id"] for lock in locked["locks"]] == coupon_ids
    shown = orders.get(f"/v1/coupons/{coupon_ids[0]}").ok()
    assert shown["state"] == "LOCKED"
    assert shown["lock"] == {"order_id": "order-1", **{k: v for k, v in locked["locks"][0].items() if k != "coupon_id"}}


def test_the_same_order_keeps_its_lock_under_another_key(orders, shop, ledger):
    coupon_id = shop.coupon()
    first = _lock(orders, [coupon_id]).ok()
    head = ledger.store.head()
    assert _lock(orders, [coupon_id]).ok() == first
    assert ledger.store.head() == head


def test_the_same_order_may_hold_it_longer(orders, shop):
    coupon_id = shop.coupon()
    first = _lock(orders, [coupon_id], ttl_seconds=600).ok()["locks"][0]
    longer = _lock(orders, [coupon_id], ttl_seconds=1_200).ok()["locks"][0]
    assert longer["lock_id"] == first["lock_id"]
    assert longer["lock_ends_at"] > first["lock_ends_at"]
    assert _lock(orders, [coupon_id], ttl_seconds=60).ok()["locks"] == [longer]
    assert orders.get(f"/v1/coupons/{coupon_id}").ok()["lock"]["lock_ends_at"] == longer["lock_ends_at"]


def test_refuses_coupons_that_cannot_go_together(orders, shop):
    batch_id = shop.batch(terms=replace(STACKABLE, stacking_mode="exclusive"), per_user_limit=None)
    one, other = sorted(shop.coupon(batch_id=batch_id) for _ in range(2))
    problem = _lock(orders, [other, one]).refused(422, "exclusive_conflict")
    assert problem["facts"] == {"coupon_id": one, "with_coupon_id": other}
    _lock(orders, [one]).ok()


def test_refuses_outside_its_hours(orders, shop):
    minute = (datetime.now(UTC) + timedelta(hours=12)).hour * 60
    there = Terms(
        benefit=Benefit(kind="amount_off", value_minor=500),
        currency="EUR",
        use_hours=(UseHours(from_minute=minute, until_minute=minute + 60),),
    )
    coupon_id = shop.coupon(batch_id=shop.batch(terms=there))
    assert _lock(orders, [coupon_id]).refused(422, "out_of_hours")["facts"] == {"coupon_id": coupon_id}


def test_a_user_holds_so_many_at_once(orders, shop):
    terms = replace(STACKABLE, live_locks_per_user=2)
    batch_id = shop.batch(terms=terms, per_user_limit=None)
    one, two, three, four = (shop.coupon(batch_id=batch_id) for _ in range(4))
    _lock(orders, [one, two]).ok()
    _lock(orders, [three], "order-2").refused(409, "lock_limit_reached")
    _lock(orders, [one], ttl_seconds=1_800).ok()
    orders.post("/v1/orders/order-1/unlocks", {"coupon_ids": [one], "reason": "left"}).ok()
    _lock(orders, [three, four], "order-2").refused(409, "lock_limit_reached")
    _lock(orders, [three], "order-2").ok()


def test_another_order_is_refused(orders, shop):
    coupon_id = shop.coupon()
    _lock(orders, [coupon_id]).ok()
    problem = _lock(orders, [coupon_id], "order-2").refused(409, "coupon_locked")
    assert problem["facts"].keys() == {"coupon_id", "lock_ends_at"}


def test_an_order_id_may_hold_slashes(orders, shop):
    for order_id in ("2026/11/7", "/", "a//b", "locks/x/locks"):
        assert _lock(orders, [shop.coupon()], quote(order_id, safe="")).ok()["order_id"] == order_id


def test_all_or_none(orders, shop):
    batch_id = shop.batch(terms=STACKABLE, per_user_limit=None)
    free, held = shop.coupon(batch_id=batch_id), shop.coupon(batch_id=batch_id)
    _lock(orders, [held]).ok()
    _lock(orders, [free, held], "order-2").refused(409, "coupon_locked")
    assert orders.get(f"/v1/coupons/{free}").ok()["state"] == "UNUSED"


def test_refuses_what_cannot_be_used(orders, operator, scene, shop, long_ago):
    _lock(orders, [scene.used("order-0")]).refused(409, "coupon_used")
    voided = shop.coupon()
    operator.post(f"/v1/coupons/{voided}/void", {"reason": "fraud"}).ok()
    _lock(orders, [voided]).refused(410, "coupon_void")
    batch_id = shop.batch(valid_for_seconds=60)
    expired = shop.ledger.do(use_cases.claim(shop.request(at=long_ago), batch_id, "user-1")).answer["coupon_id"]
    _lock(orders, [expired]).refused(410, "coupon_expired")
    pending = shop.coupon(batch_id=shop.batch(valid_from=datetime.now(UTC) + timedelta(hours=1)))
    _lock(orders, [pending]).refused(409, "coupon_not_started")


def test_refuses_an_order_below_the_minimum_spend(orders, shop):
    terms = Terms(benefit=Benefit(kind="amount_off", value_minor=500), currency="EUR", min_spend_minor=2_000)
    coupon_id = shop.coupon(batch_id=shop.batch(terms=terms))
    problem = _lock(orders, [coupon_id], order_total_minor=1_999).refused(422, "below_min_spend")
    assert problem["facts"] == {"coupon_id": coupon_id, "min_spend_minor": 2_000, "order_total_minor": 1_999}
    _lock(orders, [coupon_id], order_total_minor=2_000).ok()


def test_the_coupon_of_another_user_looks_like_none(orders, shop):
    mine, nowhere = shop.coupon("user-2"), "0" * 26
    foreign = _lock(orders, [mine])
    foreign.refused(404, "coupon_not_found")
    unknown = _lock(orders, [nowhere])
    unknown.refused(404, "coupon_not_found")
    assert foreign.response.data.replace(mine.encode(), b"?") == unknown.response.data.replace(nowhere.encode(), b"?")


CASES = [
    ({"user_id": ""}, ["/user_id"]),
    ({"coupon_ids": []}, ["/coupon_ids"]),
    ({"coupon_ids": ["c"] * 2}, ["/coupon_ids"]),
    ({"coupon_ids": [f"c{number}" for number in range(101)]}, ["/coupon_ids"]),
    ({"coupon_ids": ["line\nfeed"]}, ["/coupon_ids/0"]),
    ({"coupon_ids": "c"}, ["/coupon_ids"]),
    ({"ttl_seconds": 0}, ["/ttl_seconds"]),
    ({"ttl_seconds": 86_401}, ["/ttl_seconds"]),
    ({"ttl_seconds": 1.0}, ["/ttl_seconds"]),
    ({"ttl_seconds": "60"}, ["/ttl_seconds"]),
    ({"ttl_seconds": True}, ["/ttl_seconds"]),
    ({"order_total_minor": -1}, ["/order_total_minor"]),
    ({"order_total_minor": 10**12}, ["/order_total_minor"]),
    ({"order_total_minor": 9.99}, ["/order_total_minor"]),
    ({"quote_digest": ""}, ["/quote_digest"]),
    ({"quote_digest": "two words"}, ["/quote_digest"]),
]


def test_refuses_what_is_no_lock(orders, ledger):
    for change, pointers in CASES:
        answer = orders.post("/v1/orders/order-1/locks", {"user_id": "u", "coupon_ids": ["c"]} | change)
        answer.refused(422, "invalid_field")
        assert answer.pointers() == pointers
    assert ledger.store.head() == 0


def test_an_order_id_has_a_form(orders):
    for order_id in ("x" * 129, "%20x", "%07"):
        answer = orders.post(f"/v1/orders/{order_id}/locks", {"user_id": "u", "coupon_ids": ["c"]})
        answer.refused(422, "invalid_field")
        assert answer.pointers() == ["order_id"]


BASKET = {
    "currency": "EUR",
    "lines": [
        {"line_id": "1", "product_id": "tea", "quantity": 3, "unit_price_minor": 1_000},
        {"line_id": "2", "product_id": "pot", "unit_price_minor": 2_000, "discounted_minor": 1_000},
    ],
}


def _priced(shop):
    terms = Terms(benefit=Benefit(kind="amount_off", value_minor=401), currency="EUR", min_spend_minor=4_000)
    return shop.coupon(batch_id=shop.batch(terms=terms))


def test_a_basket_is_priced_again_and_the_lock_keeps_it(orders, shop):
    coupon_id = _priced(shop)
    quote = orders.post(
        "/v1/orders/order-1/quotes", {"user_id": "user-1", "coupon_ids": [coupon_id], "basket": BASKET}
    ).ok()
    locked = _lock(orders, [coupon_id], basket=BASKET, quote_digest=quote["digest"]).ok()
    assert (locked["quote_digest"], locked["discount_minor"]) == (quote["digest"], 401)
    parts = [
        {"line_id": "1", "product_id": "tea", "discount_minor": 301},
        {"line_id": "2", "product_id": "pot", "discount_minor": 100},
    ]
    assert locked["locks"][0]["allocation"] == parts == quote["best"][0]["allocation"]
    confirmed = orders.post("/v1/orders/order-1/confirmations", {"redemptions": [{"coupon_id": coupon_id}]}).ok()
    assert confirmed["redemptions"][0]["discount_minor"] == 401
    returned = orders.post(
        "/v1/orders/order-1/returns",
        {"coupon_ids": [coupon_id], "reason": "merchant_refund", "lines": [{"line_id": "1"}]},
    ).ok()
    assert returned["coupons"][0]["returned_minor"] == 301


def test_a_quote_that_is_no_longer_true_is_refused(orders, shop, ledger):
    coupon_id = _priced(shop)
    quote = orders.post(
        "/v1/orders/order-1/quotes", {"user_id": "user-1", "coupon_ids": [coupon_id], "basket": BASKET}
    ).ok()
    dearer = BASKET | {"lines": [BASKET["lines"][0] | {"quantity": 4}, BASKET["lines"][1]]}
    head = ledger.store.head()
    problem = _lock(orders, [coupon_id], basket=dearer, quote_digest=quote["digest"]).refused(409, "quote_changed")
    assert problem["facts"]["discount_minor"] == 401
    smaller = BASKET | {"lines": BASKET["lines"][:1]}
    problem = _lock(orders, [coupon_id], basket=smaller).refused(422, "below_min_spend")
    assert problem["facts"]["missing_minor"] == 1_000
    assert ledger.store.head() == head


K = {
    "currency": "EUR",
    "lines": [
        {"line_id": "1", "product_id": "x", "unit_price_minor": 1_000},
        {"line_id": "2", "product_id": "y", "unit_price_minor": 1_000},
    ],
}


def _off(shop, product, value, **terms):
    """A coupon of so much off one product, which goes with others."""
    benefit = Benefit(kind="amount_off", value_minor=value)
    own = replace(STACKABLE, benefit=benefit, scope=Scope(products=(product,)), **terms)
    return shop.coupon(batch_id=shop.batch(terms=own))


def _confirm(orders, *coupon_ids, order_id="order-1", **body):
    named = [{"coupon_id": coupon_id} for coupon_id in coupon_ids]
    return orders.post(f"/v1/orders/{order_id}/confirmations", {"redemptions": named, **body})


def test_a_coupon_that_joins_later_is_used_with_those_of_before(orders, shop):
    one, other = _off(shop, "x", 100), _off(shop, "y", 200)
    first = _lock(orders, [one], basket=K).ok()
    both = _lock(orders, [one, other], basket=K).ok()
    assert both["quote_digest"] != first["quote_digest"]
    assert len({lock["lock_id"] for lock in both["locks"]}) == 1
    redeemed = _confirm(orders, one, other, lock_id=both["locks"][0]["lock_id"]).ok()["redemptions"]
    assert sorted(each["discount_minor"] for each in redeemed) == [100, 200]


def test_a_lock_is_of_the_basket_that_it_was_asked_for_last(orders, shop, ledger):
    """Also where the coupon takes the same off both."""
    coupon_id = _off(shop, "x", 100)
    _lock(orders, [coupon_id], basket=K | {"lines": K["lines"][:1]}).ok()
    dearer = K | {"lines": [K["lines"][0], K["lines"][1] | {"unit_price_minor": 9_000}]}
    locked = _lock(orders, [coupon_id], basket=dearer).ok()
    _confirm(orders, coupon_id).ok()
    held, used = (entry.event for entry in ledger.store.history(f"coupon-{coupon_id}")[-2:])
    assert (held.quote_digest, held.order_total_minor) == (locked["quote_digest"], 10_000)
    assert (used.lock_id, used.order_total_minor) == (locked["locks"][0]["lock_id"], 10_000)


def test_what_the_order_system_values_is_bounded_by_the_last_basket(orders, shop):
    stated = Terms(benefit=Benefit(kind="order_stated", max_discount_minor=500), currency="EUR")
    coupon_id = shop.coupon(batch_id=shop.batch(terms=stated))
    _lock(orders, [coupon_id], basket=K).ok()
    _lock(orders, [coupon_id], basket=K | {"lines": [K["lines"][0] | {"unit_price_minor": 200}]}).ok()
    told = {"redemptions": [{"coupon_id": coupon_id, "discount_minor": 500}]}
    problem = orders.post("/v1/orders/order-1/confirmations", told).refused(422, "not_applicable")
    assert problem["facts"]["most_minor"] == 200


def test_another_total_is_judged_anew(orders, shop):
    terms = Terms(benefit=Benefit(kind="amount_off", value_minor=500), currency="EUR", min_spend_minor=2_000)
    coupon_id = shop.coupon(batch_id=shop.batch(terms=terms))
    first = _lock(orders, [coupon_id], order_total_minor=4_200).ok()["locks"][0]
    _lock(orders, [coupon_id], order_total_minor=100).refused(422, "below_min_spend")
    second = _lock(orders, [coupon_id], order_total_minor=4_300).ok()["locks"][0]
    assert second["lock_id"] != first["lock_id"]
    assert _lock(orders, [coupon_id], order_total_minor=4_300).ok()["locks"] == [second]
    stale = {"redemptions": [{"coupon_id": coupon_id, "discount_minor": 500}], "lock_id": first["lock_id"]}
    orders.post("/v1/orders/order-1/confirmations", stale).refused(409, "lock_mismatch")


def test_a_friend_does_not_take_over_what_another_friend_holds_for_the_order(orders, shop):
    coupon_id = shop.coupon(batch_id=shop.batch(terms=replace(STACKABLE, shareable=True)))
    shop.ledger.do(use_cases.share(shop.request(), coupon_id, user_id="user-1", with_user_ids=["f1", "f2"]))
    held = _lock(orders, [coupon_id], user_id="f1", basket=K).ok()
    for basket in ({"basket": K}, {}):
        _lock(orders, [coupon_id], user_id="f2", **basket).refused(409, "coupon_locked")
    asked = {"user_id": "f2", "coupon_ids": [coupon_id], "basket": K}
    (quoted,) = orders.post("/v1/orders/order-1/quotes", asked).ok()["coupons"]
    assert (quoted["outcome"], quoted["refusal"]["code"]) == ("refused", "coupon_locked")
    assert _lock(orders, [coupon_id], user_id="f1", basket=K).ok() == held


def test_no_coupon_is_held_for_nothing(orders, shop):
    shipping = Terms(benefit=Benefit(kind="free_shipping"), currency="EUR", stacking_mode="stackable")
    coupon_id = shop.coupon(batch_id=shop.batch(terms=shipping))
    problem = _lock(orders, [coupon_id], basket=K).refused(422, "not_applicable")
    assert problem["facts"] == {"coupon_id": coupon_id}
    _lock(orders, [coupon_id], basket=K | {"shipping_minor": 490}).ok()


def test_a_basket_of_another_users_coupon_says_nothing_of_it(orders, shop):
    coupon_id = shop.coupon("user-2")
    _lock(orders, [coupon_id], basket=BASKET | {"currency": "USD"}).refused(404, "coupon_not_found")

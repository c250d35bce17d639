"""Offers that the field knows, each told whole over HTTP: where no test of a single operation shows them."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from ledger import use_cases
from ledger.errors import DayLimitReached
from ledger.scope import Scope
from tests.unit.specs import TERMS

EBOOK = {"line_id": "1", "product_id": "novel", "unit_price_minor": 10_000, "categories": ["digital", "books"]}
BREAD = {"line_id": "2", "product_id": "bread", "unit_price_minor": 9_900, "categories": ["food"]}


def _quoted(orders, coupon_id, *lines, user_id="user-1", **basket):
    """What the quote says of one coupon."""
    asked = {"currency": "EUR", "lines": list(lines), **basket}
    body = {"user_id": user_id, "coupon_ids": [coupon_id], "basket": asked}
    (found,) = orders.post("/v1/orders/order-1/quotes", body).ok()["coupons"]
    return found["discount_minor"] if found["usable"] else found["refusal"]["code"]


def test_a_thousand_coupons_of_50_off_100_for_digital_goods(operator, orders):
    """One set of terms, and two batches on it that differ in quantity and window."""
    terms = {
        "benefit": {"kind": "amount_off", "value_minor": 5_000},
        "currency": "EUR",
        "min_spend_minor": 10_000,
        "scope": {"categories": ["digital"]},
    }
    template_id = operator.post("/v1/templates", {"name": "50 off 100", "terms": terms}).ok(201)["template_id"]
    plan = {"template_id": template_id, "name": "June", "claim_until": "2990-07-01T00:00:00Z"}
    batches = []
    for more in ({"quantity": 1_000, "valid_until": "2990-07-01T00:00:00Z"}, {"quantity": 5, "valid_for_seconds": 60}):
        batch_id = operator.post("/v1/batches", plan | more).ok(201)["batch_id"]
        operator.post(f"/v1/batches/{batch_id}/start").ok()
        batches.append(operator.get(f"/v1/batches/{batch_id}").ok())
    assert [(batch["template_id"], batch["quantity"]) for batch in batches] == [(template_id, 1_000), (template_id, 5)]
    claimed = operator.post(f"/v1/batches/{batches[0]['batch_id']}/claims", {"user_id": "user-1"}).ok(201)
    assert claimed["valid_until"] == "2990-07-01T00:00:00Z"
    cheaper = EBOOK | {"unit_price_minor": 9_999}
    assert _quoted(orders, claimed["coupon_id"], EBOOK, BREAD) == 5_000
    assert _quoted(orders, claimed["coupon_id"], cheaper, BREAD) == "below_min_spend"
    assert _quoted(orders, claimed["coupon_id"], BREAD) == "out_of_scope"


def test_a_group_purchase_coupon_is_for_group_purchases(orders, shop):
    terms = replace(TERMS, scope=Scope(order_types=("group_purchase",)))
    coupon_id = shop.coupon(batch_id=shop.batch(terms=terms))
    assert _quoted(orders, coupon_id, BREAD, order_type="group_purchase") == 500
    assert _quoted(orders, coupon_id, BREAD) == "out_of_scope"
    hold = {"user_id": "user-1", "coupon_ids": [coupon_id]}
    alone = {"currency": "EUR", "lines": [BREAD]}
    orders.post("/v1/orders/order-1/locks", hold | {"basket": alone}).refused(422, "out_of_scope")
    orders.post("/v1/orders/order-1/locks", hold | {"basket": alone | {"order_type": "group_purchase"}}).ok()


def test_what_nobody_took_of_a_day_is_not_added_to_the_next(ledger, shop, long_ago):
    batch_id = shop.batch(quantity=100, per_user_limit=None, per_day_limit=2)

    def claim(user_id, day):
        ledger.do(use_cases.claim(shop.request(at=long_ago + timedelta(days=day)), batch_id, user_id))

    claim("a", 0)
    for user_id in ("b", "c"):
        claim(user_id, 1)
    with pytest.raises(DayLimitReached):
        claim("d", 1)


def test_a_shared_coupon_without_restrictions_is_for_any_basket_of_a_friend(orders, shop, ledger):
    coupon_id = shop.coupon(batch_id=shop.batch(terms=replace(TERMS, shareable=True)))
    work = use_cases.share(shop.request(), coupon_id, user_id="user-1", with_user_ids=["friend"])
    ledger.do(work)
    penny = BREAD | {"unit_price_minor": 1, "shop_id": "corner-shop"}
    baskets = [([EBOOK], "online", 500), ([BREAD], "in_store", 500), ([penny], "in_store", 1)]
    for lines, channel, discount in baskets:
        assert _quoted(orders, coupon_id, *lines, user_id="friend", channel=channel) == discount

"""GET /v1/statistics/funnel, and .csv."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import pytest

from api.statistics_answers import BatchFunnel
from ledger import use_cases
from ledger.coupon import Redemption
from tests.unit.specs import TERMS


@pytest.fixture
def analyst(as_role):
    return as_role("analyst")


@pytest.fixture
def batch_id(shop):
    """The id of a batch of 20: 8 issued, 4 locked, 3 used by two users, one of these returned and used again."""
    batch_id = shop.batch(
        terms=replace(TERMS, stacking_mode="stackable"), quantity=20, per_user_limit=None, campaign="spring"
    )
    coupons = [shop.coupon(f"user-{number % 2}", batch_id) for number in range(8)]
    for number, coupon_id in enumerate(coupons[:4]):
        order_id = f"order-{number}"
        hold(shop, order_id, number, coupon_id)
        if number < 3:
            pay(shop, order_id, coupon_id)
    undo = use_cases.return_coupons(shop.request(), "order-0", coupon_ids=[coupons[0]], reason="order_cancelled")
    shop.ledger.do(undo)
    hold(shop, "order-9", 0, coupons[0])
    pay(shop, "order-9", coupons[0])
    return batch_id


def hold(shop, order_id, number, coupon_id):
    shop.ledger.do(
        use_cases.lock(
            shop.request(), order_id, user_id=f"user-{number % 2}", coupon_ids=[coupon_id], order_total_minor=1_000
        )
    )


def pay(shop, order_id, coupon_id):
    used = Redemption(coupon_id=coupon_id, discount_minor=250)
    shop.ledger.do(use_cases.confirm(shop.request(), order_id, [used], paid_minor=750))


def test_counts_each_coupon_once_at_each_step(analyst, batch_id, project):
    position = project()
    found = analyst.get("/v1/statistics/funnel").ok()
    assert found.keys() == {"batches", "next_cursor", "position"}
    assert (found["next_cursor"], found["position"]) == (None, position)
    [row] = found["batches"]
    assert row.keys() == BatchFunnel.model_fields.keys()
    seconds = row.pop("seconds_to_use")
    assert 0 <= seconds < 600
    assert row == {
        "batch_id": batch_id, "campaign": "spring", "name": "Batch", "quantity": 20, "issued": 8, "locked": 4,
        "used": 3, "returned": 1, "used_again": 1, "claim_rate_permyriad": 4_000, "lock_rate_permyriad": 5_000,
        "use_rate_permyriad": 3_750, "currency": "EUR", "discount_minor": 1_000, "discount_told_minor": 1_000,
        "returned_minor": 250, "orders": 4, "orders_told": 4, "paid_minor": 3_000,
        "return_on_spend_permyriad": 30_000, "new_customers": 2, "new_customer_orders": 2,
        "new_customer_order_share_permyriad": 5_000,
    }  # fmt: skip


def test_a_customer_is_new_once(analyst, batch_id, shop, project):
    later = shop.batch(per_user_limit=None, campaign="summer")
    coupon_id = shop.coupon("user-1", later)
    hold(shop, "order-20", 1, coupon_id)
    pay(shop, "order-20", coupon_id)
    project()
    found = {row["campaign"]: row for row in analyst.get("/v1/statistics/funnel").ok()["batches"]}
    assert (found["summer"]["orders"], found["summer"]["new_customers"]) == (1, 0)
    assert found["summer"]["new_customer_order_share_permyriad"] == 0
    assert found["spring"]["new_customers"] == 2


def test_where_nothing_happened_there_is_no_rate(analyst, shop, project):
    batch_id = shop.batch(start=False)
    project()
    [row] = analyst.get("/v1/statistics/funnel").ok()["batches"]
    assert (row["batch_id"], row["issued"], row["claim_rate_permyriad"]) == (batch_id, 0, 0)
    rates = ("lock_rate_permyriad", "use_rate_permyriad", "seconds_to_use", "return_on_spend_permyriad",
             "new_customer_order_share_permyriad")  # fmt: skip
    assert {row[name] for name in rates} == {None}


def test_pages_and_campaigns(analyst, batch_id, shop, project):
    others = [shop.batch(campaign="autumn") for _ in range(3)]
    project()
    cursor, found = {}, []
    for _ in range(9):
        page = analyst.get("/v1/statistics/funnel", limit=2, **cursor).ok()
        found += [row["batch_id"] for row in page["batches"]]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert found == sorted([batch_id, *others])
    autumn = analyst.get("/v1/statistics/funnel", campaign="autumn").ok()["batches"]
    assert [row["batch_id"] for row in autumn] == sorted(others)
    analyst.get("/v1/statistics/funnel", campaign="autumn", **cursor).refused(400, "bad_cursor")
    assert analyst.get("/v1/statistics/funnel", campaign="none").ok()["batches"] == []


def test_the_csv_has_every_batch_and_the_same_figures(analyst, batch_id, shop, project, monkeypatch):
    monkeypatch.setattr("api.statistics.PIECE_ROWS", 2)
    for name in ("=1+1", "two", "three"):
        shop.batch(name=name)
    project()
    answer = analyst.get("/v1/statistics/funnel.csv")
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(answer.response.text)))
    whole = analyst.get("/v1/statistics/funnel").ok()["batches"]
    assert len(rows) == 4
    shown = [{name: "" if value is None else str(value) for name, value in row.items()} for row in whole]
    assert rows == [row | {"name": "'=1+1"} if row["name"] == "=1+1" else row for row in shown]


def test_nobody_sees_another_merchants_batches(as_role, batch_id, project):
    project()
    other = as_role("analyst", merchant_id="merchant-2")
    assert other.get("/v1/statistics/funnel").ok()["batches"] == []
    assert other.get("/v1/statistics/funnel.csv").response.text.count("\n") == 1


def test_waits_for_the_position_that_it_is_told(analyst, batch_id):
    analyst.get("/v1/statistics/funnel", at_least=1).refused(503, "not_caught_up")

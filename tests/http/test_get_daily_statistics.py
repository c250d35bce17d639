"""GET /v1/statistics/daily, and .csv."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from api.statistics_answers import DailyFigures
from ledger import use_cases
from ledger.coupon import Redemption
from tests.unit.specs import TERMS

DAY = datetime(2026, 3, 1, 12, tzinfo=UTC)
SPAN = {"from": "2026-03-01", "until": "2026-04-01"}


@pytest.fixture
def analyst(as_role):
    return as_role("analyst")


@pytest.fixture
def batch_id(shop):
    """The id of a batch of which coupons were issued on three days, one of them used for money."""
    terms = replace(TERMS, merchant_share_permyriad=7_500)
    batch_id = shop.batch(terms=terms, quantity=50, per_user_limit=None, valid_for_seconds=86_400 * 60)
    for day in range(3):
        for _ in range(day + 1):
            work = use_cases.claim(shop.request(at=DAY + timedelta(days=day)), batch_id, "user-1")
            coupon_id = shop.ledger.do(work).answer["coupon_id"]
    at = DAY + timedelta(days=3)
    lock = use_cases.lock(
        shop.request(at=at), "order-1", user_id="user-1", coupon_ids=[coupon_id], order_total_minor=4_000
    )
    shop.ledger.do(lock)
    used = Redemption(coupon_id=coupon_id, discount_minor=400)
    shop.ledger.do(use_cases.confirm(shop.request(at=at), "order-1", [used], paid_minor=3_600, channel="in_store"))
    return batch_id


def test_tells_each_day_what_happened(analyst, batch_id, project):
    position = project()
    found = analyst.get("/v1/statistics/daily", **SPAN).ok()
    assert found.keys() == {"days", "next_cursor", "position"}
    assert (found["next_cursor"], found["position"]) == (None, position)
    assert all(row.keys() == DailyFigures.model_fields.keys() for row in found["days"])
    assert [(row["day"], row["batch_id"], row["channel"], row["issued"]) for row in found["days"]] == [
        ("2026-03-01", batch_id, "claim", 1),
        ("2026-03-02", batch_id, "claim", 2),
        ("2026-03-03", batch_id, "claim", 3),
        ("2026-03-04", batch_id, "claim", 0),
    ]
    used = {name: value for name, value in found["days"][-1].items() if value and type(value) is int}
    assert used == {
        "quantity": 50, "locked": 1, "used": 1, "first_uses": 1, "in_store": 1, "discount_minor": 400,
        "merchant_funded_minor": 300, "platform_funded_minor": 100, "discount_told_minor": 400, "orders": 1,
        "orders_told": 1, "paid_minor": 3_600, "new_customers": 1, "new_customer_orders": 1,
        "return_on_spend_permyriad": 90_000, "new_customer_order_share_permyriad": 10_000,
    }  # fmt: skip
    assert [row["claim_rate_permyriad"] for row in found["days"]] == [200, 400, 600, 0]
    assert [row["use_rate_permyriad"] for row in found["days"]] == [0, 0, 0, None]


def pay(shop, batch_id, order_id, users, paid):
    """An order of one or two users, confirmed coupon by coupon, each with what is then told to be paid."""
    for user_id, paid_minor in zip(users, paid, strict=True):
        coupon_id = shop.coupon(user_id, batch_id)
        held = use_cases.lock(
            shop.request(), order_id, user_id=user_id, coupon_ids=[coupon_id], order_total_minor=8_000
        )
        shop.ledger.do(held)
        used = Redemption(coupon_id=coupon_id, discount_minor=500)
        shop.ledger.do(use_cases.confirm(shop.request(), order_id, [used], paid_minor=paid_minor))


def test_rates_are_quotients_of_sums_that_mean_the_same_as_the_funnels(analyst, shop, project):
    """An order of two new users is one order of a new customer, and spend is that of which the return is known."""
    terms = replace(TERMS, stacking_mode="stackable")
    batch_id = shop.batch(terms=terms, quantity=20, per_user_limit=None)
    pay(shop, batch_id, "shared", ["ann", "bob"], [2_000, 2_000])
    pay(shop, batch_id, "untold", ["ann"], [None])
    project()
    today = shop.ledger.store.now().date()
    span = {"from": str(today - timedelta(days=2)), "until": str(today + timedelta(days=3))}
    [day] = analyst.get("/v1/statistics/daily", **span).ok()["days"]
    [funnel] = analyst.get("/v1/statistics/funnel").ok()["batches"]
    expected = {
        "claim_rate_permyriad": 1_500, "use_rate_permyriad": 10_000, "return_on_spend_permyriad": 20_000,
        "new_customers": 2, "new_customer_orders": 1, "new_customer_order_share_permyriad": 5_000, "orders": 2,
        "orders_told": 1, "paid_minor": 2_000, "discount_minor": 1_500, "discount_told_minor": 1_000,
    }  # fmt: skip
    for row in (day, funnel):
        assert {name: row[name] for name in expected} == expected


def test_an_order_is_told_with_its_first_coupon(analyst, shop, project):
    """What a later confirmation tells is on its coupon's row of order_coupons alone: docs/analysts.md says so."""
    batch_id = shop.batch(terms=replace(TERMS, stacking_mode="stackable"), per_user_limit=None)
    pay(shop, batch_id, "in parts", ["ann", "ann"], [None, 7_000])
    project()
    [row] = analyst.get("/v1/statistics/funnel").ok()["batches"]
    assert (row["orders"], row["orders_told"], row["paid_minor"]) == (1, 0, 0)


def test_the_range_is_half_open(analyst, batch_id, project):
    project()
    found = analyst.get("/v1/statistics/daily", **{"from": "2026-03-02", "until": "2026-03-04"}).ok()
    assert [row["day"] for row in found["days"]] == ["2026-03-02", "2026-03-03"]


@pytest.mark.parametrize("of_batch", [False, True])
def test_pages_go_through_all_rows_once(of_batch, analyst, batch_id, shop, project):
    other = shop.batch(per_user_limit=None, valid_for_seconds=86_400 * 60)
    for _ in range(2):
        shop.ledger.do(use_cases.claim(shop.request(at=DAY), other, "user-2"))
        shop.ledger.do(use_cases.issue(shop.request(at=DAY), other, ["user-3"]))
    project()
    query = SPAN | ({"batch_id": other} if of_batch else {})
    whole = analyst.get("/v1/statistics/daily", **query).ok()["days"]
    assert len(whole) == (2 if of_batch else 6)
    found, cursor = [], {}
    for _ in range(10):
        page = analyst.get("/v1/statistics/daily", **query, limit=1, **cursor).ok()
        found += page["days"]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert found == whole


def test_a_cursor_is_of_its_own_question(analyst, batch_id, project):
    project()
    cursor = analyst.get("/v1/statistics/daily", **SPAN, limit=1).ok()["next_cursor"]
    for other in ({**SPAN, "until": "2026-03-31"}, {**SPAN, "batch_id": batch_id}):
        analyst.get("/v1/statistics/daily", **other, cursor=cursor).refused(400, "bad_cursor")


def test_the_csv_has_every_row_and_the_same_figures(analyst, batch_id, shop, project, monkeypatch):
    monkeypatch.setattr("api.statistics.PIECE_ROWS", 2)
    position = project()
    answer = analyst.get("/v1/statistics/daily.csv", **SPAN)
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="daily.csv"'
    assert answer.headers["Ledger-Position"] == str(position)
    rows = list(csv.DictReader(io.StringIO(answer.response.text)))
    whole = analyst.get("/v1/statistics/daily", **SPAN).ok()["days"]
    assert rows == [{name: "" if value is None else str(value) for name, value in row.items()} for row in whole]


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ({}, "from"),
        ({"from": "2026-03-01"}, "until"),
        ({"from": "2026-03-01", "until": "2026-03-01"}, "until"),
        ({"from": "2026-03-02", "until": "2026-03-01"}, "until"),
        ({"from": "2025-01-01", "until": "2026-01-03"}, "until"),
        ({"from": "2026-02-30", "until": "2026-03-01"}, "from"),
        ({"from": "2026-03-01T00:00:00Z", "until": "2026-03-03"}, "from"),
        ({"from": "1969-12-31", "until": "1970-01-02"}, "from"),
        ({**SPAN, "first": "2026-01-01"}, "first"),
    ],
)
def test_a_range_has_bounds(query, parameter, analyst):
    for path in ("/v1/statistics/daily", "/v1/statistics/daily.csv"):
        refused = analyst.get(path, **query)
        assert refused.status == 422
        assert parameter in refused.pointers()


def test_a_leap_year_is_one_range(analyst, project):
    project()
    assert analyst.get("/v1/statistics/daily", **{"from": "2024-01-01", "until": "2025-01-01"}).ok()["days"] == []


def test_nobody_sees_another_merchants_days(as_role, batch_id, project):
    project()
    other = as_role("analyst", merchant_id="merchant-2")
    assert other.get("/v1/statistics/daily", **SPAN).ok()["days"] == []
    other.get("/v1/statistics/daily", **SPAN, batch_id=batch_id).refused(404, "batch_not_found")
    assert other.get("/v1/statistics/daily.csv", **SPAN).response.text.count("\n") == 1


def test_waits_for_the_position_that_it_is_told(analyst, batch_id):
    analyst.get("/v1/statistics/daily", **SPAN, at_least=1).refused(503, "not_caught_up")

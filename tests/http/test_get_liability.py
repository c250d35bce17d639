"""GET /v1/statistics/liability, and .csv."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from api.statistics_answers import LiabilityAccounts
from ledger import use_cases
from ledger.benefit import Benefit
from ledger.coupon import Redemption
from tests.unit.specs import TERMS

MARCH, APRIL = datetime(2026, 3, 10, tzinfo=UTC), datetime(2026, 4, 10, tzinfo=UTC)
SUMS = ("issued_minor", "outstanding_minor", "redeemed_minor", "unspent_minor", "breakage_minor", "withdrawn_minor")


@pytest.fixture
def auditor(as_role):
    return as_role("auditor")


@pytest.fixture
def batch_id(shop):
    """The id of a batch whose coupons, at 5.00, the merchant funds in three parts of five: four issued in March; in
    April one is used for 4.00, one voided."""
    benefit = Benefit(kind="amount_off", value_minor=500)
    terms = replace(TERMS, benefit=benefit, merchant_share_permyriad=6_000)
    batch_id = shop.batch(terms=terms, per_user_limit=None, valid_for_seconds=86_400 * 300)
    ids = [
        shop.ledger.do(use_cases.claim(shop.request(at=MARCH), batch_id, "user-1")).answer["coupon_id"]
        for _ in range(4)
    ]
    hold = use_cases.lock(shop.request(at=APRIL), "order-1", user_id="user-1", coupon_ids=ids[:1])
    shop.ledger.do(hold)
    used = Redemption(coupon_id=ids[0], discount_minor=400)
    shop.ledger.do(use_cases.confirm(shop.request(at=APRIL), "order-1", [used]))
    shop.ledger.do(use_cases.void(shop.request(at=APRIL), ids[1], reason="mistake"))
    return batch_id


def sums(answer):
    return {row["funder"]: [row[name] for name in SUMS] for row in answer["accounts"]}


def test_the_accounts_at_the_end_of_each_month(auditor, batch_id, project):
    position = project()
    march = auditor.get("/v1/statistics/liability", at="2026-03-31").ok()
    assert march.keys() == {"month", "accounts", "position"}
    assert (march["month"], march["position"]) == ("2026-03-01", position)
    assert all(row.keys() == LiabilityAccounts.model_fields.keys() for row in march["accounts"])
    assert sums(march) == {"merchant": [1_200, 1_200, 0, 0, 0, 0], "platform": [800, 800, 0, 0, 0, 0]}
    april = auditor.get("/v1/statistics/liability", at="2026-04-01").ok()
    assert sums(april) == {"merchant": [1_200, 600, 240, 60, 0, 300], "platform": [800, 400, 160, 40, 0, 200]}
    assert [(row["coupons_issued"], row["coupons_outstanding"]) for row in april["accounts"]] == [(4, 2), (4, 2)]
    assert sums(auditor.get("/v1/statistics/liability", at="2026-02-28").ok()) == {}


def test_what_is_issued_is_somewhere(auditor, batch_id, project):
    project()
    for row in auditor.get("/v1/statistics/liability", at="2026-12-31").ok()["accounts"]:
        issued, *others = (row[name] for name in SUMS)
        assert issued == sum(others)


def test_all_that_is_posted_unless_told(auditor, batch_id, shop, project):
    """In Kiritimati a month begins while in UTC it is still the month before, so no one month is the present one."""
    east = shop.batch(time_zone="Pacific/Kiritimati", per_user_limit=None, valid_for_seconds=86_400 * 300)
    now = shop.ledger.store.now()
    end = datetime(now.year + now.month // 12, now.month % 12 + 1, 1, tzinfo=UTC) - timedelta(hours=2)
    shop.ledger.do(use_cases.claim(shop.request(at=end), east, "user-1"))
    project()
    found = auditor.get("/v1/statistics/liability", batch_id=east).ok()
    assert found["month"] is None
    assert sums(found) == {"merchant": [500, 500, 0, 0, 0, 0]}
    assert sums(auditor.get("/v1/statistics/liability", batch_id=east, at=f"{end:%Y-%m-%d}").ok()) == {}
    whole = sums(auditor.get("/v1/statistics/liability").ok())
    assert whole["platform"] == [800, 400, 160, 40, 0, 200]
    answer = auditor.get("/v1/statistics/liability.csv", batch_id=east)
    assert answer.headers["Content-Disposition"] == 'attachment; filename="liability.csv"'
    [row] = csv.DictReader(io.StringIO(answer.response.text))
    assert (row["month"], row["outstanding_minor"]) == ("", "500")


def test_of_one_batch(auditor, batch_id, shop, project):
    other = shop.batch()
    shop.coupon(batch_id=other)
    project()
    found = auditor.get("/v1/statistics/liability", at="2030-01-01", batch_id=other).ok()
    assert sums(found) == {"merchant": [500, 500, 0, 0, 0, 0]}
    auditor.get("/v1/statistics/liability", batch_id="none").refused(404, "batch_not_found")


def test_the_csv_has_the_same_figures(auditor, batch_id, project):
    project()
    answer = auditor.get("/v1/statistics/liability.csv", at="2026-04-30")
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="liability-2026-04-01.csv"'
    whole = auditor.get("/v1/statistics/liability", at="2026-04-30").ok()
    shown = [{"month": "2026-04-01"} | {name: str(value) for name, value in row.items()} for row in whole["accounts"]]
    found = list(csv.DictReader(io.StringIO(answer.response.text)))
    assert found == [row | {"valued": "true"} for row in shown]


def test_nobody_sees_another_merchants_accounts(as_role, batch_id, project):
    project()
    other = as_role("auditor", merchant_id="merchant-2")
    assert other.get("/v1/statistics/liability", at="2030-01-01").ok()["accounts"] == []
    other.get("/v1/statistics/liability", batch_id=batch_id).refused(404, "batch_not_found")


@pytest.mark.parametrize("at", ["2026-13-01", "yesterday", "1969-12-31", "9001-01-01", ""])
def test_a_day_is_a_day(at, auditor):
    assert (
        auditor.get("/v1/statistics/liability", at=at).refused(422, "invalid_period")["errors"][0]["parameter"] == "at"
    )


def test_waits_for_the_position_that_it_is_told(auditor, batch_id):
    auditor.get("/v1/statistics/liability", at_least=1).refused(503, "not_caught_up")

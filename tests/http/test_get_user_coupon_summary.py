"""GET /v1/users/{id}/coupons/summary."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from api.statistics_answers import WalletSummary
from ledger import use_cases
from ledger.benefit import Benefit
from ledger.coupon import Redemption
from tests.unit.specs import TERMS

PATH = "/v1/users/user-1/coupons/summary"
NONE = dict.fromkeys(("PENDING", "UNUSED", "LOCKED", "USED", "EXPIRED", "VOIDED"), 0)


@pytest.fixture
def app_of_the_shop(as_role):
    return as_role("shopper-app")


def text(moment):
    return moment.isoformat().replace("+00:00", "Z")


def test_counts_the_coupons_of_a_user_by_state(app_of_the_shop, scene, shop, project, long_ago):
    batch_id = shop.batch(per_user_limit=None, valid_for_seconds=3_600)
    shop.coupon(batch_id=batch_id)
    shop.coupon("user-2", batch_id)
    scene.locked("order-held")
    scene.used("order-paid")
    gone = shop.coupon(batch_id=batch_id)
    shop.ledger.do(use_cases.void(shop.request(), gone, reason="mistake"))
    shop.ledger.do(use_cases.claim(shop.request(at=long_ago), batch_id, "user-1"))
    shop.coupon(batch_id=shop.batch(valid_delay_seconds=600))
    position = project()
    found = app_of_the_shop.get(PATH).ok()
    assert found.keys() == WalletSummary.model_fields.keys()
    assert (found["user_id"], found["position"]) == ("user-1", position)
    assert found["counts"] == {"PENDING": 1, "UNUSED": 1, "LOCKED": 1, "USED": 1, "EXPIRED": 1, "VOIDED": 1}
    assert found["usable"] == [{"currency": "EUR", "coupons": 1, "worth_minor": 500, "not_valued": 0}]


def test_the_counts_are_those_of_the_list(app_of_the_shop, scene, shop, project):
    for _ in range(3):
        scene.used(f"order-{_}")
        shop.coupon()
    friend = shop.coupon("user-9", shop.batch(terms=replace(TERMS, shareable=True)))
    shop.ledger.do(use_cases.share(shop.request(), friend, user_id="user-9", with_user_ids=["user-1"]))
    project()
    listed = app_of_the_shop.get("/v1/users/user-1/coupons").ok()["coupons"]
    counts = app_of_the_shop.get(PATH).ok()["counts"]
    assert sum(counts.values()) == len(listed) == 7
    assert counts == NONE | {"UNUSED": 4, "USED": 3}


def test_adds_up_what_the_usable_ones_may_take_off_by_currency(app_of_the_shop, shop, project):
    dollars = replace(TERMS, currency="USD", benefit=Benefit(kind="amount_off", value_minor=300))
    capped = replace(TERMS, benefit=Benefit(kind="percent_off", percent_permyriad=1_000, max_discount_minor=2_000))
    open_end = replace(TERMS, benefit=Benefit(kind="percent_off", percent_permyriad=1_000))
    for terms in (TERMS, dollars, capped, open_end):
        shop.coupon(batch_id=shop.batch(terms=terms))
    project()
    assert app_of_the_shop.get(PATH).ok()["usable"] == [
        {"currency": "EUR", "coupons": 3, "worth_minor": 2_500, "not_valued": 1},
        {"currency": "USD", "coupons": 1, "worth_minor": 300, "not_valued": 0},
    ]


def test_of_a_voucher_what_is_left_on_it(app_of_the_shop, shop, project):
    voucher = Benefit(kind="cash_voucher", value_minor=500, leaves_balance=True)
    coupon_id = shop.coupon(batch_id=shop.batch(terms=replace(TERMS, benefit=voucher)))
    shop.ledger.do(use_cases.lock(shop.request(), "order-1", user_id="user-1", coupon_ids=[coupon_id]))
    spent = Redemption(coupon_id=coupon_id, discount_minor=180)
    shop.ledger.do(use_cases.confirm(shop.request(), "order-1", [spent]))
    project()
    [usable] = app_of_the_shop.get(PATH).ok()["usable"]
    assert (usable["coupons"], usable["worth_minor"]) == (1, 320)


def test_the_next_expiry_is_that_of_a_usable_one(app_of_the_shop, scene, shop, project):
    now = shop.ledger.store.now().astimezone(UTC).replace(microsecond=0)
    ends = [now + timedelta(days=days) for days in (3, 2)]
    for end in ends:
        shop.coupon(batch_id=shop.batch(valid_for_seconds=None, valid_from=now, valid_until=end))
    scene.locked()  # it ends within a day, and cannot be used now
    project()
    assert app_of_the_shop.get(PATH).ok()["next_expiry"] == text(ends[1])


def test_whom_the_ledger_does_not_know_has_none(app_of_the_shop, project):
    project()
    found = app_of_the_shop.get(PATH).ok()
    assert (found["counts"], found["usable"], found["next_expiry"]) == (NONE, [], None)
    assert datetime.fromisoformat(found["as_of"]).utcoffset() == timedelta(0)


def test_nobody_sees_another_merchants_users(as_role, shop, project):
    shop.coupon()
    project()
    assert as_role("shopper-app", merchant_id="merchant-2").get(PATH).ok()["counts"] == NONE


def test_a_user_may_be_called_anything(app_of_the_shop, shop, project):
    shop.coupon("coupons/summary")
    project()
    counts = app_of_the_shop.get("/v1/users/coupons%2Fsummary/coupons/summary").ok()["counts"]
    assert counts == NONE | {"UNUSED": 1}


def test_waits_for_the_position_that_it_is_told(app_of_the_shop, shop):
    shop.coupon()
    app_of_the_shop.get(PATH, at_least=4).refused(503, "not_caught_up")

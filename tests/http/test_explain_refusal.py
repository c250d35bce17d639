"""POST /v1/audit/explanations: what an order system heard, found again in the log."""

from __future__ import annotations

import pytest

from ledger import use_cases
from tests.clock import clock_text

PATH = "/v1/audit/explanations"


def test_a_refusal_over_http_is_explained_after_the_world_went_on(auditor, orders, operator, scene, shop, ledger):
    coupon_id, lock_id = scene.locked()
    body = {"user_id": "user-1", "coupon_ids": [coupon_id]}
    heard = orders.post("/v1/orders/order-2/locks", body).refused(409, "coupon_locked")
    at = clock_text(ledger)
    ledger.do(use_cases.unlock(shop.request(), "order-1", coupon_ids=[coupon_id], reason="left"))
    orders.post("/v1/orders/order-2/locks", body).ok()
    head = ledger.store.head()
    found = auditor.post(
        PATH, {"lock": {**body, "order_id": "order-2"}, "at": at, "code": heard["code"]}, key=None
    ).ok()
    assert (found["refused"], found["agrees"], found["code"], found["told_as"]) == (True, True, *["coupon_locked"] * 2)
    assert (found["detail"], found["facts"]) == (heard["detail"], heard["facts"])
    assert [(event["topic"], event["payload"]["lock_id"]) for event in found["because"]] == [("coupon.locked", lock_id)]
    assert found["terms"][0]["template_version"] == 1
    assert (found["clock"], found["unknown"], found["answer"]) == (at, [], None)
    assert ledger.store.head() == head
    now = auditor.post(PATH, {"lock": {**body, "order_id": "order-2"}, "code": "coupon_locked"}).ok()
    assert (now["refused"], now["agrees"]) == (False, False)
    assert now["answer"]["locks"][0]["coupon_id"] == coupon_id


def test_each_operation_is_understood(auditor, scene, shop):
    used, batch_id = scene.used("order-1"), shop.batch(start=False)
    coupons = {"order_id": "order-2", "coupon_ids": [used]}
    until = "2030-01-01T00:00:00Z"
    for asked, code in (
        ({"lock": {**coupons, "user_id": "user-1"}}, "coupon_used"),
        (
            {"confirm": {"order_id": "order-2", "redemptions": [{"coupon_id": used, "discount_minor": 1}]}},
            "coupon_used",
        ),
        ({"unlock": {**coupons, "reason": "left"}}, "coupon_used"),
        ({"return": {**coupons, "reason": "order_cancelled"}}, "lock_mismatch"),
        ({"redeem": {"order_id": "order-2", "coupon_id": used, "discount_minor": 1}}, "coupon_used"),
        ({"claim": {"batch_id": batch_id, "user_id": "user-1"}}, "batch_not_open"),
        ({"issue": {"batch_id": batch_id, "user_ids": ["user-1"]}}, "batch_not_open"),
        ({"void": {"coupon_id": used, "reason": "fraud"}}, "coupon_used"),
        ({"void": {"coupon_id": used, "reason": "fraud", "expected_version": 1}}, "version_conflict"),
        ({"extend": {"coupon_id": used, "valid_until": until, "reason": "storm"}}, "coupon_used"),
        ({"transfer": {"coupon_id": used, "user_id": "user-1", "to_user_id": "user-2"}}, "coupon_used"),
        ({"share": {"coupon_id": used, "user_id": "user-1", "with_user_ids": ["user-2"]}}, "coupon_used"),
    ):
        found = auditor.post(PATH, {**asked, "code": code}).ok()
        assert (found["refused"], found["code"], found["agrees"]) == (True, code, True), asked
        assert found["because"], asked


def test_what_http_hides_is_told_to_auditors(auditor, shop):
    asked = {"order_id": "order-1", "user_id": "user-2", "coupon_ids": [shop.coupon()]}
    found = auditor.post(PATH, {"lock": asked, "code": "coupon_not_found"}).ok()
    assert (found["code"], found["told_as"], found["agrees"]) == ("not_owner", "coupon_not_found", True)


def test_a_caller_who_heard_something_else_is_contradicted(auditor, scene):
    asked = {"order_id": "order-2", "user_id": "user-1", "coupon_ids": [scene.used()]}
    assert auditor.post(PATH, {"lock": asked, "code": "coupon_expired"}).ok()["agrees"] is False


@pytest.mark.parametrize("code", ["rate_limited", "queue_full", "unavailable", "no_such_code"])
def test_what_is_not_of_the_log_is_said_plainly(code, auditor, shop):
    asked = {"order_id": "order-1", "user_id": "user-1", "coupon_ids": [shop.coupon()]}
    found = auditor.post(PATH, {"lock": asked, "code": code}).ok()
    assert (found["refused"], found["agrees"]) == (False, None)
    assert code in found["unknown"][0]


def test_a_contradiction_in_itself_needs_no_log(auditor, shop):
    asked = {"order_id": "order-1", "user_id": "user-1", "coupon_ids": [shop.coupon()] * 2}
    found = auditor.post(PATH, {"lock": asked, "code": "invalid_field"}).ok()
    assert (found["code"], found["agrees"], found["because"]) == ("invalid_field", True, [])


def test_a_repeat_was_answered_and_not_refused(auditor, operator, shop):
    batch_id = shop.batch()
    first = operator.post(f"/v1/batches/{batch_id}/claims", {"user_id": "user-1"}, key="claim-1").ok(201)
    asked = {
        "claim": {"batch_id": batch_id, "user_id": "user-1"},
        "request_id": "claim-1",
        "code": "user_limit_reached",
    }
    found = auditor.post(PATH, asked).ok()
    assert (found["refused"], found["answer"]["coupon_id"]) == (False, first["coupon_id"])
    assert found["replayed_position"] == int(auditor.get("/v1/events", after=0).ok()["next"])


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, ""),
        (
            {"lock": {"order_id": "o", "user_id": "u", "coupon_ids": ["c"]}, "void": {"coupon_id": "c", "reason": "r"}},
            "",
        ),
        ({"lock": {"order_id": "o", "user_id": 5, "coupon_ids": ["c"]}}, "/lock/user_id"),
        ({"void": {"coupon_id": "c", "reason": "r"}, "at": "yesterday"}, "/at"),
        ({"void": {"coupon_id": "c", "reason": "r"}, "at": "2999-01-01T00:00:00Z"}, "/at"),
        ({"void": {"coupon_id": "c", "reason": "r"}, "position": 99}, "/position"),
        ({"void": {"coupon_id": "c", "reason": "r"}, "code": "Not A Code"}, "/code"),
        ({"void": {"coupon_id": "c", "reason": "r"}, "why": "?"}, "/why"),
    ],
)
def test_a_question_that_nobody_can_mean(body, pointer, auditor):
    answer = auditor.post(PATH, body)
    assert answer.status == 422
    assert answer.pointers() == [pointer]

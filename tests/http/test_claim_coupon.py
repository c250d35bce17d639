"""POST /v1/batches/{id}/claims."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from ledger.audience import Audience
from ledger.benefit import Benefit
from ledger.terms import Terms


@pytest.fixture
def app_of_the_shop(as_role):
    return as_role("shopper-app")


def test_gives_one_coupon(app_of_the_shop, shop):
    batch_id = shop.batch()
    answer = app_of_the_shop.post(f"/v1/batches/{batch_id}/claims", {"user_id": "user-1"})
    coupon = answer.ok(201)
    assert coupon.keys() == {"coupon_id", "batch_id", "user_id", "valid_from", "valid_until"}
    assert (coupon["batch_id"], coupon["user_id"]) == (batch_id, "user-1")
    assert answer.headers["Location"] == f"/v1/coupons/{coupon['coupon_id']}"
    assert app_of_the_shop.get(answer.headers["Location"]).ok()["state"] == "UNUSED"


def test_no_more_than_the_batch_has(app_of_the_shop, shop):
    path = f"/v1/batches/{shop.batch(quantity=1)}/claims"
    app_of_the_shop.post(path, {"user_id": "a"}, key="first").ok(201)
    app_of_the_shop.post(path, {"user_id": "b"}).refused(409, "sold_out")
    app_of_the_shop.post(path, {"user_id": "a"}, key="first").ok(201)


def test_no_more_than_a_user_may_have(app_of_the_shop, shop):
    path = f"/v1/batches/{shop.batch(per_user_limit=2)}/claims"
    for _ in range(2):
        app_of_the_shop.post(path, {"user_id": "a"}).ok(201)
    app_of_the_shop.post(path, {"user_id": "a"}).refused(409, "user_limit_reached")
    app_of_the_shop.post(path, {"user_id": "b"}).ok(201)


def test_many_repeats_at_once_are_one_claim(app_of_the_shop, shop, ledger):
    path = f"/v1/batches/{shop.batch(per_user_limit=None)}/claims"
    head = ledger.store.head()
    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(app_of_the_shop.post, path, {"user_id": "a"}, key="once") for _ in range(24)]
    answers = [future.result() for future in futures]
    assert len({answer.ok(201)["coupon_id"] for answer in answers}) == 1
    assert sum("Idempotent-Replayed" not in answer.headers for answer in answers) == 1
    assert ledger.store.head() == head + 1


def test_not_before_the_claim_window(app_of_the_shop, shop):
    begins = datetime.now(UTC) + timedelta(hours=1)
    path = f"/v1/batches/{shop.batch(claim_from=begins)}/claims"
    problem = app_of_the_shop.post(path, {"user_id": "a"}).refused(409, "batch_not_open")
    assert datetime.fromisoformat(problem["facts"]["claim_from"]) == begins


def test_an_unknown_batch_is_not_found(app_of_the_shop):
    app_of_the_shop.post("/v1/batches/nowhere/claims", {"user_id": "a"}).refused(404, "batch_not_found")


def test_a_user_id_has_a_form(app_of_the_shop, shop):
    path = f"/v1/batches/{shop.batch()}/claims"
    for user_id in ("", "x" * 129, " a", "bell\u0007", 5, None, ["a"], True):
        answer = app_of_the_shop.post(path, {"user_id": user_id})
        answer.refused(422, "invalid_field")
        assert answer.pointers() == ["/user_id"]


def test_a_batch_for_some_asks_for_facts_and_records_them(app_of_the_shop, shop, ledger):
    path = f"/v1/batches/{shop.batch(audience=Audience(tiers=('gold',)), per_person_limit=1)}/claims"
    problem = app_of_the_shop.post(path, {"user_id": "a"}).refused(422, "fact_required")
    assert problem["facts"] == {"fact": "tier"}
    facts = {"tier": "gold", "points": 7}
    answer = app_of_the_shop.post(path, {"user_id": "a", "facts": facts})
    answer.refused(422, "fact_required")
    assert answer.pointers() == ["/facts/person"]
    iron = {**facts, "tier": "iron", "person": "p"}
    problem = app_of_the_shop.post(path, {"user_id": "a", "facts": iron}).refused(409, "not_in_audience")
    assert problem["facts"] == {"condition": "tiers"}
    coupon = app_of_the_shop.post(path, {"user_id": "a", "facts": {**facts, "person": "p"}}).ok(201)
    issued = ledger.store.history(f"coupon-{coupon['coupon_id']}")[0].event
    assert issued.facts == {"tier": "gold", "person": "p"}
    again = app_of_the_shop.post(path, {"user_id": "b", "facts": {**facts, "person": "p"}})
    again.refused(409, "person_limit_reached")


def test_limits_of_a_day(app_of_the_shop, shop):
    path = f"/v1/batches/{shop.batch(per_user_limit=None, per_user_day_limit=1, per_day_limit=2)}/claims"
    app_of_the_shop.post(path, {"user_id": "a"}).ok(201)
    app_of_the_shop.post(path, {"user_id": "a"}).refused(409, "user_day_limit_reached")
    app_of_the_shop.post(path, {"user_id": "b"}).ok(201)
    app_of_the_shop.post(path, {"user_id": "c"}).refused(409, "day_limit_reached")


def test_no_more_than_the_budget_covers(app_of_the_shop, shop):
    path = f"/v1/batches/{shop.batch(budget_minor=999)}/claims"
    app_of_the_shop.post(path, {"user_id": "a"}).ok(201)
    app_of_the_shop.post(path, {"user_id": "b"}).refused(409, "budget_spent")


def test_a_coupon_for_points_needs_a_receipt_and_takes_it_once(app_of_the_shop, shop):
    terms = Terms(benefit=Benefit(kind="amount_off", value_minor=500), currency="EUR", points_price=300)
    path = f"/v1/batches/{shop.batch(terms=terms)}/claims"
    answer = app_of_the_shop.post(path, {"user_id": "a"})
    answer.refused(422, "fact_required")
    assert answer.pointers() == ["/points_receipt"]
    app_of_the_shop.post(path, {"user_id": "a", "points_receipt": "r-1"}, key="once").ok(201)
    app_of_the_shop.post(path, {"user_id": "b", "points_receipt": "r-1"}).refused(409, "points_receipt_used")
    app_of_the_shop.post(path, {"user_id": "a", "points_receipt": "r-1"}, key="once").ok(201)


FACTS = [
    ({"person": ""}, "/facts/person"),
    ({"person": "x" * 129}, "/facts/person"),
    ({"newcomer": 1}, "/facts/newcomer"),
    ({"tier": " gold"}, "/facts/tier"),
    ({"points": -1}, "/facts/points"),
    ({"points": 1.0}, "/facts/points"),
    ({"tags": ["a", ""]}, "/facts/tags/1"),
    ({"tags": ["t"] * 101}, "/facts/tags"),
    ({"age": 18}, "/facts/age"),
    (None, "/facts"),
]


def test_facts_have_a_form(app_of_the_shop, shop):
    path = f"/v1/batches/{shop.batch()}/claims"
    for facts, pointer in FACTS:
        answer = app_of_the_shop.post(path, {"user_id": "a", "facts": facts})
        answer.refused(422, "invalid_field")
        assert answer.pointers() == [pointer]

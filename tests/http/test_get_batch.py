"""GET /v1/batches/{id}."""

from __future__ import annotations

from datetime import timedelta

from ledger import use_cases
from ledger.audience import Audience
from ledger.batch import BatchPlan

MEMBERS = {
    "batch_id", "state", "quantity", "version", "template_id", "template_version", "name", "campaign",
    "per_user_limit", "claim_from", "claim_until", "valid_from", "valid_until", "valid_delay_seconds",
    "valid_for_seconds", "time_zone", "ends_at_day_close", "per_day_limit", "per_user_day_limit", "per_person_limit",
    "budget_minor", "budget_taken_minor", "audience", "needs_approval", "alerts",
}  # fmt: skip


def test_shows_the_batch_and_nothing_else(operator, shop):
    batch_id = shop.batch()
    answer = operator.get(f"/v1/batches/{batch_id}")
    shown = answer.ok()
    assert shown.keys() == MEMBERS
    assert (shown["batch_id"], shown["state"], shown["version"]) == (batch_id, "RUNNING", 2)
    assert answer.headers["ETag"] == '"2"'


def test_shows_what_is_taken_of_the_budget(operator, shop):
    assert operator.get(f"/v1/batches/{shop.batch()}").ok()["budget_taken_minor"] is None
    batch_id = shop.batch(budget_minor=2_000, per_user_limit=None)
    assert operator.get(f"/v1/batches/{batch_id}").ok()["budget_taken_minor"] == 0
    coupon_id = shop.coupon(batch_id=batch_id)
    operator.post(f"/v1/batches/{batch_id}/coupons", {"user_ids": ["user-1", "user-2"]}).ok(201)
    operator.post(f"/v1/coupons/{coupon_id}/void", {"reason": "gives nothing back"}).ok()
    shown = operator.get(f"/v1/batches/{batch_id}").ok()
    assert (shown["budget_minor"], shown["budget_taken_minor"]) == (2_000, 1_500)


def test_the_clock_ends_a_batch(operator, shop, long_ago):
    template_id = operator.get(f"/v1/batches/{shop.batch()}").ok()["template_id"]
    plan = BatchPlan(name="Old", quantity=1, claim_until=long_ago + timedelta(days=1), valid_for_seconds=60)
    made = shop.ledger.do(use_cases.create_batch(shop.request(at=long_ago), plan, template_id=template_id))
    batch_id = made.answer["batch_id"]
    shop.ledger.do(use_cases.start_batch(shop.request(at=long_ago), batch_id))
    assert operator.get(f"/v1/batches/{batch_id}").ok()["state"] == "ENDED"


def test_an_unknown_one_is_not_found(operator):
    operator.get("/v1/batches/nowhere").refused(404, "batch_not_found")


def test_tells_how_many_users_are_named_and_not_whom(as_role, shop):
    audience = Audience(users=("user-1", "user-2"), tiers=("gold",), min_points=5)
    shown = as_role("shopper-app").get(f"/v1/batches/{shop.batch(audience=audience)}").ok()
    assert shown["audience"] == {"users": 2, "newcomers": False, "tiers": ["gold"], "min_points": 5, "tags": []}

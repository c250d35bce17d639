"""GET /v1/batches/{id}/balance, and .csv."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

from api import answers
from api.exchange import read_together
from ledger import use_cases
from ledger.benefit import Benefit
from ledger.coupon import Redemption
from projections import queries
from tests.unit.specs import TERMS

STATES = ("pending", "unused", "locked", "used", "expired", "voided")


def test_counts_every_coupon_once(as_role, shop, project, long_ago):
    terms = replace(TERMS, stacking_mode="stackable")
    batch_id = shop.batch(terms=terms, quantity=50, per_user_limit=None, valid_for_seconds=3_600)
    do = shop.ledger.do
    shop.coupon(batch_id=batch_id)
    locked, used, voided = (shop.coupon(batch_id=batch_id) for _ in range(3))
    do(use_cases.lock(shop.request(), "order-1", user_id="user-1", coupon_ids=[locked, used]))
    do(use_cases.confirm(shop.request(), "order-1", [Redemption(coupon_id=used, discount_minor=120)]))
    do(use_cases.void(shop.request(), voided, reason="fraud"))
    do(use_cases.claim(shop.request(at=long_ago), batch_id, "user-1"))
    position = project()
    balance = as_role("analyst").get(f"/v1/batches/{batch_id}/balance").ok()
    counted = {state: balance[state] for state in STATES}
    assert counted == {"pending": 0, "unused": 1, "locked": 1, "used": 1, "expired": 1, "voided": 1}
    assert (balance["issued"], balance["quantity"], balance["discount_minor"]) == (5, 50, 120)
    assert (balance["state"], balance["position"]) == ("RUNNING", position)
    assert balance.keys() == {
        "batch_id", "state", "quantity", "remaining", "issued", *STATES, "returned", "discount_minor",
        "returned_minor", "merchant_funded_minor", "platform_funded_minor", "currency", "at_stake_minor", "orders",
        "orders_told", "paid_minor", "budget_minor", "budget_taken_minor", "position", "as_of",
    }  # fmt: skip


def test_counts_what_orders_spend_of_vouchers(as_role, shop, project):
    terms = replace(TERMS, benefit=Benefit(kind="cash_voucher", value_minor=500, leaves_balance=True))
    batch_id = shop.batch(terms=terms)
    coupon_id = shop.coupon(batch_id=batch_id)
    for order_id, amount in (("order-1", 180), ("order-2", 200)):
        shop.ledger.do(use_cases.lock(shop.request(), order_id, user_id="user-1", coupon_ids=[coupon_id]))
        redemption = Redemption(coupon_id=coupon_id, discount_minor=amount)
        shop.ledger.do(use_cases.confirm(shop.request(), order_id, [redemption]))
    undo = use_cases.return_coupons(shop.request(), "order-1", coupon_ids=[coupon_id], reason="order_cancelled")
    shop.ledger.do(undo)
    project()
    balance = as_role("analyst").get(f"/v1/batches/{batch_id}/balance").ok()
    assert {state: balance[state] for state in STATES} == dict.fromkeys(STATES, 0) | {"unused": 1}
    assert (balance["discount_minor"], balance["returned"], balance["returned_minor"]) == (380, 1, 180)


def test_shows_what_is_taken_of_the_budget(as_role, shop, project):
    batch_id = shop.batch(budget_minor=2_000, per_user_limit=None)
    without = shop.batch()
    shop.coupon(batch_id=batch_id)
    project()
    analyst = as_role("analyst")
    shown = analyst.get(f"/v1/batches/{batch_id}/balance").ok()
    assert (shown["budget_minor"], shown["budget_taken_minor"]) == (2_000, 500)
    shown = analyst.get(f"/v1/batches/{without}/balance").ok()
    assert (shown["budget_minor"], shown["budget_taken_minor"]) == (None, None)


def test_shows_a_batch_under_review(operator, shop, project):
    batch_id = shop.batch(start=False, needs_approval=True)
    seen = []
    for step in (use_cases.submit_batch, use_cases.approve_batch):
        request = replace(shop.request(), actor=step.__name__)
        shop.ledger.do(step(request, batch_id))
        project()
        seen.append(operator.get(f"/v1/batches/{batch_id}/balance").ok()["state"])
    assert seen == ["IN_REVIEW", "APPROVED"]


def test_waits_for_a_position_and_no_longer(operator, shop, project):
    batch_id = shop.batch()
    position = project()
    operator.get(f"/v1/batches/{batch_id}/balance", at_least=position).ok()
    answer = operator.get(f"/v1/batches/{batch_id}/balance", at_least=position + 1)
    answer.refused(503, "not_caught_up")
    assert answer.headers["Retry-After"] == "1"


def test_refuses_figures_of_two_positions(as_role, database, shop, project):
    """What the clock says of coupons that a stopped model has not seen move would be taken off twice."""
    batch_id = shop.batch(quantity=50, per_user_limit=None)
    coupon_id = shop.coupon(batch_id=batch_id)
    project()
    with database.connect() as connection:
        connection.execute("set role none")
        connection.execute("update projection_checkpoints set state = 'FAULTED' where name = 'coupon_status'")
    shop.ledger.do(use_cases.void(shop.request(), coupon_id, reason="fraud"))
    project()
    analyst = as_role("analyst")
    analyst.get(f"/v1/batches/{batch_id}/balance").refused(503, "not_caught_up")
    analyst.get(f"/v1/batches/{batch_id}/balance.csv").refused(503, "not_caught_up")


def test_figures_and_position_are_of_one_snapshot(ledger, shop, project):
    """Also where all models move on between the two."""
    batch_id = shop.batch(quantity=50, per_user_limit=None)
    shop.coupon(batch_id=batch_id)
    position = project()

    def read(connection):
        shop.coupon(batch_id=batch_id)
        assert project() > position
        return queries.balance(connection, "merchant-1", batch_id, ledger.store.now(connection)).issued

    models = ("batch_balance", "coupon_status")
    assert read_together(ledger.store, 0, models, read) == (1, position)
    assert read_together(ledger.store, position + 1, models, lambda _: None)[1] > position


def test_a_batch_that_the_read_model_does_not_know_yet_is_not_missing(operator, shop, project):
    project()
    operator.get(f"/v1/batches/{shop.batch()}/balance").refused(503, "not_caught_up")


def test_an_unknown_one_is_not_found(operator, project):
    project()
    operator.get("/v1/batches/nowhere/balance").refused(404, "batch_not_found")


def test_refuses_what_is_no_position(operator, shop):
    answer = operator.get(f"/v1/batches/{shop.batch()}/balance", at_least="head")
    answer.refused(422, "invalid_field")
    assert answer.pointers() == ["at_least"]


def test_tells_the_money(as_role, shop, project, long_ago):
    """At stake is what can be taken off at this moment: not what the clock has ended and nobody wrote down."""
    batch_id = shop.batch(
        terms=replace(TERMS, merchant_share_permyriad=7_500, lock_ttl_seconds=60), per_user_limit=None,
        valid_for_seconds=3_600,
    )  # fmt: skip
    for at in (None, None, None, long_ago, long_ago):
        answer = shop.ledger.do(use_cases.claim(shop.request(at=at), batch_id, "user-1")).answer
        if at is not None:
            hold = use_cases.lock(shop.request(at=at), "old", user_id="user-1", coupon_ids=[answer["coupon_id"]])
    shop.ledger.do(hold)
    coupon_id = shop.coupon(batch_id=batch_id)
    lock = use_cases.lock(shop.request(), "new", user_id="user-1", coupon_ids=[coupon_id], order_total_minor=1_000)
    shop.ledger.do(lock)
    used = Redemption(coupon_id=coupon_id, discount_minor=400)
    shop.ledger.do(use_cases.confirm(shop.request(), "new", [used], paid_minor=600))
    project()
    found = as_role("analyst").get(f"/v1/batches/{batch_id}/balance").ok()
    assert (found["unused"], found["expired"], found["used"], found["remaining"]) == (3, 2, 1, 94)
    assert {name: found[name] for name in ("currency", "at_stake_minor", "merchant_funded_minor",
            "platform_funded_minor", "orders", "orders_told", "paid_minor")} == {
        "currency": "EUR", "at_stake_minor": 1_500, "merchant_funded_minor": 300, "platform_funded_minor": 100,
        "orders": 1, "orders_told": 1, "paid_minor": 600,
    }  # fmt: skip


def test_the_csv_is_one_row_of_the_same_figures(as_role, shop, project):
    batch_id = shop.batch()
    shop.coupon(batch_id=batch_id)
    position = project()
    analyst = as_role("analyst")
    answer = analyst.get(f"/v1/batches/{batch_id}/balance.csv")
    assert answer.headers["Ledger-Position"] == str(position)
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert answer.headers["Content-Disposition"] == f'attachment; filename="balance-{batch_id}.csv"'
    [row] = csv.DictReader(io.StringIO(answer.response.text))
    assert row.keys() == answers.Balance.model_fields.keys()
    shown = analyst.get(f"/v1/batches/{batch_id}/balance").ok()
    same = row.keys() - {"as_of"}
    assert {name: row[name] for name in same} == {
        name: "" if shown[name] is None else str(shown[name]) for name in same
    }
    other = as_role("analyst", merchant_id="merchant-2")
    other.get(f"/v1/batches/{batch_id}/balance.csv").refused(404, "batch_not_found")

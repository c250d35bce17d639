"""GET /v1/{coupons,orders,users,batches}/{id}/timeline and their .csv twins."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import pytest

from ledger import use_cases
from tests.unit.specs import TERMS


@pytest.fixture
def life(scene, shop, ledger, project):
    """A coupon that was shared, used by a friend's order, returned and given away; and an order that let one go."""
    batch_id = shop.batch(terms=replace(TERMS, shareable=True, transferable=True), per_user_limit=None)
    coupon_id, other = shop.coupon(batch_id=batch_id), shop.coupon("user-9", batch_id)
    ledger.do(use_cases.share(shop.request(), coupon_id, user_id="user-1", with_user_ids=["user-2"]))
    ledger.do(use_cases.lock(shop.request(), "order-1", user_id="user-2", coupon_ids=[coupon_id]))
    redeemed = use_cases.orders.Redemption(coupon_id=coupon_id, discount_minor=100)
    ledger.do(use_cases.confirm(shop.request(), "order-1", [redeemed]))
    ledger.do(use_cases.return_coupons(shop.request(), "order-1", coupon_ids=[coupon_id], reason="order_cancelled"))
    ledger.do(use_cases.transfer(shop.request(), coupon_id, user_id="user-1", to_user_id="user-3"))
    ledger.do(use_cases.lock(shop.request(), "order-2", user_id="user-9", coupon_ids=[other]))
    ledger.do(use_cases.unlock(shop.request(), "order-2", coupon_ids=[other], reason="left"))
    ledger.do(use_cases.pause_batch(shop.request(), batch_id, reason="=stock"))
    project()
    return batch_id, coupon_id


TOPICS = ["issued", "shared", "locked", "used", "returned", "transferred"]


def topics(page):
    return [event["topic"].partition(".")[2] for event in page["events"]]


def test_a_coupon_an_order_and_all_its_users_tell_the_same(auditor, life):
    _, coupon_id = life
    for whose in (f"coupons/{coupon_id}", "orders/order-1", "users/user-1", "users/user-2", "users/user-3"):
        page = auditor.get(f"/v1/{whose}/timeline").ok()
        assert topics(page) == TOPICS, whose
        assert (page["more"], page["next"]) == (False, page["events"][-1]["position"])
        assert page["events"][0].keys() == {
            "position", "recorded_at", "occurred_at", "stream", "version", "topic", "payload",
        }  # fmt: skip


def test_an_order_that_let_go_still_has_its_timeline(auditor, life):
    assert topics(auditor.get("/v1/orders/order-2/timeline").ok()) == ["issued", "locked", "unlocked"]


def test_a_batch_tells_who_and_why(auditor, life):
    events = auditor.get(f"/v1/batches/{life[0]}/timeline").ok()["events"]
    assert [event["topic"] for event in events] == ["batch.created", "batch.started", "batch.paused"]
    assert (events[-1]["payload"]["actor"], events[-1]["payload"]["reason"]) == ("test", "=stock")


def test_pages_continue_after_a_position(auditor, life):
    for whose in (f"coupons/{life[1]}", "orders/order-1", "users/user-1"):
        seen, after, more = [], 0, True
        while more:
            page = auditor.get(f"/v1/{whose}/timeline", after=after, limit=2).ok()
            seen, after, more = seen + topics(page), page["next"], page["more"]
        assert seen == TOPICS


def test_the_csv_has_the_same_and_nothing_to_compute(auditor, life):
    batch_id, coupon_id = life
    for whose in (f"coupons/{coupon_id}", "orders/order-1", "users/user-2", f"batches/{batch_id}"):
        answer = auditor.get(f"/v1/{whose}/timeline.csv")
        assert (answer.status, answer.headers["Content-Type"]) == (200, "text/csv; charset=utf-8")
        rows = list(csv.DictReader(io.StringIO(answer.response.text)))
        events = auditor.get(f"/v1/{whose}/timeline").ok()["events"]
        assert [int(row["position"]) for row in rows] == [event["position"] for event in events]
        assert [row["topic"] for row in rows] == [event["topic"] for event in events]
    assert rows[-1]["reason"] == "'=stock"


def test_whom_nobody_knows_has_none(auditor, project):
    project()
    for whose in ("orders/nowhere", "users/no%2Fbody"):
        assert auditor.get(f"/v1/{whose}/timeline").ok() == {"events": [], "next": 0, "more": False}
    auditor.get("/v1/coupons/nowhere/timeline").refused(404, "coupon_not_found")
    auditor.get("/v1/batches/nowhere/timeline.csv").refused(404, "batch_not_found")


def test_another_merchant_sees_none_of_it(stranger, life):
    caller = stranger("auditor")
    for whose in ("orders/order-1", "users/user-1", "users/user-2"):
        assert caller.get(f"/v1/{whose}/timeline").ok()["events"] == []


PATHS = ("timeline", "timeline.csv", "state", "difference")


def test_a_user_is_not_told_of_without_wallets(auditor, shop):
    shop.coupon()
    for path in PATHS:
        auditor.get(f"/v1/users/user-1/{path}").refused(503, "not_caught_up")


def test_a_user_lacks_nothing_while_the_wallets_are_behind(auditor, life, shop, ledger):
    """They stand still at the life; since then a coupon came, and the other went from hand to hand."""
    batch_id, coupon_id = life
    ledger.do(use_cases.resume_batch(shop.request(), batch_id))
    position = ledger.do(use_cases.claim(shop.request(), batch_id, "user-5")).position
    ledger.do(use_cases.transfer(shop.request(), coupon_id, user_id="user-3", to_user_id="user-6"))
    for user_id, told in (("user-5", ["issued"]), ("user-6", [*TOPICS, "transferred"])):
        page = auditor.get(f"/v1/users/{user_id}/timeline", limit=1).ok()
        rest = auditor.get(f"/v1/users/{user_id}/timeline", after=page["next"]).ok()
        assert topics(page) + topics(rest) == told
        rows = csv.DictReader(io.StringIO(auditor.get(f"/v1/users/{user_id}/timeline.csv").response.text))
        assert [row["topic"].partition(".")[2] for row in rows] == told
        assert len(auditor.get(f"/v1/users/{user_id}/state").ok()["known"]) == 1
        assert len(auditor.get(f"/v1/users/{user_id}/difference").ok()["changed"]) == 1
    then = auditor.get("/v1/users/user-5/state", position=position).ok()
    assert (then["known_position"], len(then["known"]), len(then["true"])) == (position, 1, 1)


def test_a_user_is_not_told_of_where_the_wallets_are_far_behind(auditor, life, shop, monkeypatch):
    monkeypatch.setattr("projections.timelines.BEHIND_LIMIT", 1)
    for path in PATHS:
        assert auditor.get(f"/v1/users/user-1/{path}").status == 200
    shop.coupon()
    position = shop.ledger.store.head()
    for path in PATHS:
        told = auditor.get(f"/v1/users/user-1/{path}").refused(503, "not_caught_up")
        assert told["facts"] == {"position": position}

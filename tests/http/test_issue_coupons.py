"""POST /v1/batches/{id}/coupons."""

from __future__ import annotations

import pytest

from ledger.audience import Audience


def test_issues_one_for_each_entry_in_order(operator, shop):
    batch_id = shop.batch(per_user_limit=2)
    users = ["user-b", "user-a", "user-b", "caf\u00e9 \u4e2d\u6587 \\ '\""]
    issued = operator.post(f"/v1/batches/{batch_id}/coupons", {"user_ids": users}).ok(201)
    assert issued["batch_id"] == batch_id
    assert [coupon["user_id"] for coupon in issued["coupons"]] == users
    assert len({coupon["coupon_id"] for coupon in issued["coupons"]}) == 4
    for coupon in issued["coupons"]:
        assert operator.get(f"/v1/coupons/{coupon['coupon_id']}").ok()["user_id"] == coupon["user_id"]


def test_a_thousand_of_the_longest_ids_fit(operator, shop):
    users = [f"{number:0128}" for number in range(998)] + ["\U0001f600" * 128, "\u4e2d" * 128]
    batch_id = shop.batch(quantity=1_000)
    issued = operator.post(f"/v1/batches/{batch_id}/coupons", {"user_ids": users}).ok(201)
    assert len(issued["coupons"]) == 1_000


def test_names_the_channel(operator, shop, ledger):
    body = {"user_ids": ["u"], "channel": "crm.spring"}
    issued = operator.post(f"/v1/batches/{shop.batch()}/coupons", body).ok(201)
    event = ledger.store.history(f"coupon-{issued['coupons'][0]['coupon_id']}")[0].event
    assert event.channel == "crm.spring"


def test_all_or_none_when_the_batch_has_not_enough(operator, shop, ledger):
    batch = f"/v1/batches/{shop.batch(quantity=2)}/coupons"
    head = ledger.store.head()
    operator.post(batch, {"user_ids": ["a", "b", "c"]}).refused(409, "sold_out")
    assert ledger.store.head() == head
    operator.post(batch, {"user_ids": ["a", "b"]}).ok(201)


def test_all_or_none_when_a_user_has_enough(operator, shop, ledger):
    batch = f"/v1/batches/{shop.batch()}/coupons"
    operator.post(batch, {"user_ids": ["a"]}).ok(201)
    head = ledger.store.head()
    operator.post(batch, {"user_ids": ["b", "a"]}).refused(409, "user_limit_reached")
    operator.post(batch, {"user_ids": ["c", "c"]}).refused(409, "user_limit_reached")
    assert ledger.store.head() == head


@pytest.mark.parametrize("step", [None, "pause", "stop"])
def test_a_batch_that_does_not_run_issues_nothing(operator, shop, step):
    batch = f"/v1/batches/{shop.batch(start=step is not None)}"
    if step:
        operator.post(f"{batch}/{step}", {"reason": "why"}).ok()
    operator.post(f"{batch}/coupons", {"user_ids": ["a"]}).refused(409, "batch_not_open")


def test_an_unknown_batch_is_not_found(operator):
    operator.post("/v1/batches/nowhere/coupons", {"user_ids": ["a"]}).refused(404, "batch_not_found")


CASES = [
    ({"user_ids": []}, "/user_ids"),
    ({"user_ids": ["u"] * 1_001}, "/user_ids"),
    ({"user_ids": "u"}, "/user_ids"),
    ({"user_ids": None}, "/user_ids"),
    ({"user_ids": ["a", ""]}, "/user_ids/1"),
    ({"user_ids": ["a", 5]}, "/user_ids/1"),
    ({"user_ids": [None]}, "/user_ids/0"),
    ({"user_ids": ["x" * 129]}, "/user_ids/0"),
    ({"user_ids": ["tab\there"]}, "/user_ids/0"),
    ({"user_ids": ["zero\u200bwidth"]}, "/user_ids/0"),
    ({"user_ids": [" padded"]}, "/user_ids/0"),
    ({"user_ids": ["a"], "channel": "Big"}, "/channel"),
    ({"user_ids": ["a"], "channel": ""}, "/channel"),
    ({"user_ids": ["a"], "channel": "line\n"}, "/channel"),
]


def test_refuses_what_is_no_list_of_users(operator, shop, ledger):
    path = f"/v1/batches/{shop.batch()}/coupons"
    head = ledger.store.head()
    for body, pointer in CASES:
        answer = operator.post(path, body)
        answer.refused(422, "invalid_field")
        assert answer.pointers() == [pointer]
    assert ledger.store.head() == head


def test_facts_are_about_one_user(operator, shop):
    batch = f"/v1/batches/{shop.batch(audience=Audience(newcomers=True))}/coupons"
    answer = operator.post(batch, {"user_ids": ["a", "b"], "facts": {"newcomer": True}})
    answer.refused(422, "invalid_field")
    assert answer.pointers() == ["/facts"]
    answer = operator.post(batch, {"user_ids": ["a", "b"], "points_receipt": "r"})
    answer.refused(422, "invalid_field")
    assert answer.pointers() == ["/points_receipt"]
    operator.post(batch, {"user_ids": ["a", "b"]}).refused(422, "fact_required")
    operator.post(batch, {"user_ids": ["a"], "facts": {"newcomer": False}}).refused(409, "not_in_audience")
    operator.post(batch, {"user_ids": ["a"], "facts": {"newcomer": True}}).ok(201)


def test_a_named_list_is_for_all_who_are_named(operator, shop, ledger):
    batch = f"/v1/batches/{shop.batch(audience=Audience(users=('a', 'b')))}/coupons"
    head = ledger.store.head()
    operator.post(batch, {"user_ids": ["a", "c"]}).refused(409, "not_in_audience")
    assert ledger.store.head() == head
    operator.post(batch, {"user_ids": ["a", "b"]}).ok(201)

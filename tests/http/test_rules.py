"""POST and GET /v1/rules, POST /v1/rules/{id}/stop."""

from __future__ import annotations

import pytest

from ledger import rule_refusals, use_cases
from ledger.errors import NotInAudience, SoldOut
from ledger.rules import Occasion, Rules
from ledger.work import fold

PLANS = [
    {"trigger": "registered"},
    {"trigger": "referred", "receiver": "user"},
    {"trigger": "referred", "receiver": "referrer"},
    {"trigger": "tier_changed", "tiers": ["gold", "platinum"]},
    {"trigger": "order_paid", "min_paid_minor": 5_000, "currency": "EUR"},
]
DEFAULTS = {"receiver": "user", "min_paid_minor": 0, "currency": None, "tiers": []}


@pytest.fixture
def batch_id(shop):
    return shop.batch()


@pytest.mark.parametrize("plan", PLANS)
def test_creates_a_rule(operator, batch_id, plan):
    created = operator.post("/v1/rules", {"batch_id": batch_id, **plan}).ok(201)
    assert created == {"rule_id": created["rule_id"], "batch_id": batch_id, **DEFAULTS, **plan}
    (shown,) = operator.get("/v1/rules").ok()["rules"]
    assert shown == {**created, "created_at": shown["created_at"], "refusals": []}
    assert shown["created_at"].endswith("Z")


def test_lists_live_rules_in_the_order_of_their_creation(operator, batch_id):
    ids = [operator.post("/v1/rules", {"batch_id": batch_id, **plan}).ok(201)["rule_id"] for plan in PLANS]
    operator.post(f"/v1/rules/{ids[1]}/stop", {"reason": "over"}).ok()
    assert [rule["rule_id"] for rule in operator.get("/v1/rules").ok()["rules"]] == [ids[0], *ids[2:]]


CASES = [
    ({"trigger": "birthday"}, "/trigger"),
    ({"trigger": None}, "/trigger"),
    ({"receiver": "referrer"}, "/receiver"),
    ({"min_paid_minor": 1}, "/min_paid_minor"),
    ({"trigger": "order_paid", "min_paid_minor": -1}, "/min_paid_minor"),
    ({"trigger": "order_paid", "min_paid_minor": "5"}, "/min_paid_minor"),
    ({"trigger": "order_paid", "min_paid_minor": 5}, "/currency"),
    ({"trigger": "order_paid", "currency": "euro"}, "/currency"),
    ({"currency": "EUR"}, "/currency"),
    ({"tiers": ["gold"]}, "/tiers"),
    ({"trigger": "tier_changed", "tiers": [""]}, "/tiers/0"),
    ({"trigger": "tier_changed", "tiers": ["t"] * 101}, "/tiers"),
    ({"batch_id": ""}, "/batch_id"),
    ({"colour": "red"}, "/colour"),
]


@pytest.mark.parametrize(("change", "pointer"), CASES)
def test_a_rule_has_a_form(operator, batch_id, ledger, change, pointer):
    head = ledger.store.head()
    answer = operator.post("/v1/rules", {"trigger": "registered", "batch_id": batch_id, **change})
    answer.refused(422, "invalid_field")
    assert answer.pointers() == [pointer]
    assert ledger.store.head() == head


def test_an_unknown_batch_is_not_found(operator):
    operator.post("/v1/rules", {"trigger": "registered", "batch_id": "nowhere"}).refused(404, "batch_not_found")


def test_a_batch_that_issues_no_more_is_refused(operator, batch_id, shop):
    shop.ledger.do(use_cases.stop_batch(shop.request(), batch_id, reason="over"))
    problem = operator.post("/v1/rules", {"trigger": "registered", "batch_id": batch_id})
    assert problem.refused(409, "batch_state_conflict")["facts"]["state"] == "STOPPED"


def test_a_merchant_has_at_most_100(operator, batch_id):
    body = {"trigger": "registered", "batch_id": batch_id}
    ids = [operator.post("/v1/rules", body).ok(201)["rule_id"] for _ in range(100)]
    operator.post("/v1/rules", body).refused(409, "rule_limit_reached")
    operator.post(f"/v1/rules/{ids[0]}/stop", {"reason": "over"}).ok()
    operator.post("/v1/rules", body).ok(201)
    assert len(operator.get("/v1/rules").ok()["rules"]) == 100


def test_a_stopped_rule_is_gone(operator, scene):
    path, body = scene.call("stop_rule")
    assert operator.post(path, body).ok() == {"rule_id": path.split("/")[3]}
    assert operator.get("/v1/rules").ok() == {"rules": []}
    operator.post(path, body).refused(404, "rule_not_found")


def test_an_unknown_rule_is_not_found(operator):
    operator.post("/v1/rules/nowhere/stop", {"reason": "over"}).refused(404, "rule_not_found")


def test_rules_are_the_merchants_own(operator, stranger, batch_id):
    created = operator.post("/v1/rules", {"trigger": "registered", "batch_id": batch_id}).ok(201)
    other = stranger("operator")
    assert other.get("/v1/rules").ok() == {"rules": []}
    other.post(f"/v1/rules/{created['rule_id']}/stop", {"reason": "mine"}).refused(404, "rule_not_found")


def test_shows_what_a_rule_could_not_issue(operator, batch_id, ledger):
    created = operator.post("/v1/rules", {"trigger": "registered", "batch_id": batch_id}).ok(201)
    stream = use_cases.rules_stream("merchant-1")
    rules = fold(Rules(stream), ledger.store.load([stream]).streams[stream])
    awards = [next(rules.awards(Occasion(trigger="registered", user_id=f"user-{n}"))) for n in range(4)]
    with ledger.store.connection() as connection:
        sold_out = [(award, SoldOut()) for award in awards[:2]]
        assert rule_refusals.count(connection, sold_out) == {(created["rule_id"], "sold_out"): 2}
        rule_refusals.count(connection, [(awards[2], NotInAudience(condition="tiers")), (awards[3], SoldOut())])
        rule_refusals.count(connection, [])
    (shown,) = operator.get("/v1/rules").ok()["rules"]
    found = {each["code"]: (each["refused"], each["last_request_id"]) for each in shown["refusals"]}
    assert found == {
        "sold_out": (3, awards[3].request_id),
        "not_in_audience": (1, awards[2].request_id),
    }

"""POST /v1/batches."""

from __future__ import annotations

import pytest

PLAN = {"name": "June", "quantity": 10, "valid_for_seconds": 3_600}


@pytest.fixture
def template_id(operator, scene):
    return operator.post("/v1/templates", scene.template()).ok(201)["template_id"]


def test_plans_a_draft(operator, template_id):
    answer = operator.post("/v1/batches", {"template_id": template_id, **PLAN})
    created = answer.ok(201)
    assert created == {
        "batch_id": created["batch_id"],
        "state": "DRAFT",
        "quantity": 10,
        "budget_minor": None,
        "version": 1,
        "warnings": [],
    }
    assert answer.headers["ETag"] == '"1"'
    assert answer.headers["Location"] == f"/v1/batches/{created['batch_id']}"


def test_keeps_the_whole_plan_in_utc(operator, template_id):
    plan = {
        "name": "June",
        "campaign": "Summer",
        "quantity": 1_000_000_000,
        "per_user_limit": None,
        "claim_from": "2030-06-01T00:00:00+02:00",
        "claim_until": "2030-06-30T23:59:59.5Z",
        "valid_from": "2030-06-01t00:00:00z",
        "valid_until": "2030-08-01T00:00:00-05:30",
        "valid_delay_seconds": 60,
        "valid_for_seconds": 86_400,
        "time_zone": "Asia/Shanghai",
        "ends_at_day_close": True,
        "per_day_limit": 100,
        "per_user_day_limit": 1,
        "per_person_limit": None,
        "budget_minor": 10**15,
        "needs_approval": True,
        "alerts": {"stock_below": 100, "budget_spent_permyriad": 9_000, "claims_per_minute": 10**9},
    }
    id = operator.post("/v1/batches", {"template_id": template_id, **plan}).ok(201)["batch_id"]
    shown = operator.get(f"/v1/batches/{id}").ok()
    expected = {
        "claim_from": "2030-05-31T22:00:00Z",
        "claim_until": "2030-06-30T23:59:59.500000Z",
        "valid_from": "2030-06-01T00:00:00Z",
        "valid_until": "2030-08-01T05:30:00Z",
        "template_version": 1,
        "template_id": template_id,
    }
    assert {name: shown[name] for name in {**plan, **expected}} == {**plan, **expected}


def test_pins_the_version_that_is_named(operator, scene, template_id):
    operator.post(f"/v1/templates/{template_id}/revisions", scene.template()).ok(201)
    for version, pinned in ((None, 2), (1, 1), (2, 2)):
        body = {"template_id": template_id, "template_version": version, **PLAN}
        id = operator.post("/v1/batches", body).ok(201)["batch_id"]
        assert operator.get(f"/v1/batches/{id}").ok()["template_version"] == pinned
    answer = operator.post("/v1/batches", {"template_id": template_id, "template_version": 3, **PLAN})
    answer.refused(422, "invalid_field")
    assert answer.pointers() == ["/template_version"]


def test_an_unknown_template_is_not_found(operator):
    operator.post("/v1/batches", {"template_id": "nowhere", **PLAN}).refused(404, "template_not_found")


@pytest.mark.parametrize(
    "field", ["quantity", "per_user_limit", "per_day_limit", "per_user_day_limit", "per_person_limit"]
)
def test_a_quantity_is_a_whole_number(operator, template_id, field):
    for value in (0, -1, 1.5, 1.0, "1", True, 10**9 + 1, 10**18, 2**53 + 1, [], {}):
        answer = operator.post("/v1/batches", {"template_id": template_id, **PLAN, field: value})
        answer.refused(422, "invalid_quantity")
        assert answer.pointers() == [f"/{field}"]


def test_a_quantity_is_never_null(operator, template_id):
    answer = operator.post("/v1/batches", {"template_id": template_id, **PLAN, "quantity": None})
    answer.refused(422, "invalid_quantity")


NO_TIMES = [
    "2030-06-01T00:00:00",
    "2030-06-01",
    "2030-06-01 00:00:00Z",
    "20300601T000000Z",
    "2030-W01-1T00:00:00Z",
    "2030-02-30T00:00:00Z",
    "2030-06-01T25:00:00Z",
    "2030-06-01T00:00:60Z",
    "2030-06-01T00:00:00+25:00",
    "2030-06-01T00:00:00 Z",
    "0000-01-01T00:00:00Z",
    "0001-01-01T00:00:00+14:00",
    "1969-12-31T23:59:59Z",
    "9999-12-31T23:59:59Z",
    "9999-12-31T23:59:59-14:00",
    "\u0662030-06-01T00:00:00Z",
    "",
    "tomorrow",
    1_900_000_000,
    1.5,
    True,
    [],
]


def test_a_time_has_a_zone_and_a_year(operator, template_id):
    for value in NO_TIMES:
        answer = operator.post("/v1/batches", {"template_id": template_id, **PLAN, "valid_until": value})
        answer.refused(422, "invalid_period")
        assert answer.pointers() == ["/valid_until"]


@pytest.mark.parametrize(
    "plan",
    [
        {"valid_from": "2030-06-02T00:00:00Z", "valid_until": "2030-06-01T00:00:00Z"},
        {"valid_from": "2030-06-01T00:00:00Z", "valid_until": "2030-06-01T00:00:00Z"},
        {"claim_from": "2030-06-01T00:00:00Z", "claim_until": "2030-06-01T02:00:00+02:00"},
        {"valid_for_seconds": None},
        {
            "valid_from": "2030-06-01T00:00:00Z",
            "valid_until": "2030-06-02T00:00:00Z",
            "valid_for_seconds": None,
            "valid_delay_seconds": 3_600,
        },
    ],
)
def test_a_period_is_not_empty(operator, template_id, plan):
    operator.post("/v1/batches", {"template_id": template_id, **PLAN, **plan}).refused(422, "invalid_period")


OUT_OF_BOUNDS = [
    ("valid_for_seconds", 0),
    ("valid_for_seconds", 316_224_001),
    ("valid_delay_seconds", -1),
    ("valid_delay_seconds", 316_224_001),
    ("valid_delay_seconds", None),
    ("template_version", 0),
    ("template_version", "1"),
    ("template_id", ""),
    ("template_id", "x" * 129),
    ("template_id", 5),
    ("name", ""),
    ("campaign", "x" * 201),
    ("campaign", None),
    ("time_zone", "Mars/Olympus"),
    ("time_zone", "../UTC"),
    ("time_zone", None),
    ("ends_at_day_close", 1),
    ("needs_approval", "yes"),
    ("accept_risk", 1),
    ("budget_minor", 0),
    ("budget_minor", 10**15 + 1),
    ("budget_minor", 5.0),
    ("audience", []),
    ("audience", None),
    ("alerts", None),
    ("alerts", 5),
]


@pytest.mark.parametrize(
    ("alerts", "pointer"),
    [
        ({"stock_below": 0}, "/alerts/stock_below"),
        ({"stock_below": "5"}, "/alerts/stock_below"),
        ({"budget_spent_permyriad": 10_001}, "/alerts/budget_spent_permyriad"),
        ({"budget_spent_permyriad": 5_000}, "/alerts"),  # the plan has no budget
        ({"claims_per_minute": 1.5}, "/alerts/claims_per_minute"),
        ({"claims_per_hour": 1}, "/alerts/claims_per_hour"),
    ],
)
def test_an_alert_has_a_form(operator, template_id, alerts, pointer):
    answer = operator.post("/v1/batches", {"template_id": template_id, **PLAN, "alerts": alerts})
    answer.refused(422, "invalid_field")
    assert answer.pointers() == [pointer]


def test_tells_of_nothing_unless_asked(operator, template_id):
    id = operator.post("/v1/batches", {"template_id": template_id, **PLAN}).ok(201)["batch_id"]
    assert set(operator.get(f"/v1/batches/{id}").ok()["alerts"].values()) == {None}


def test_other_fields_have_bounds(operator, template_id):
    for field, value in OUT_OF_BOUNDS:
        answer = operator.post("/v1/batches", {"template_id": template_id, **PLAN, field: value})
        answer.refused(422, "invalid_field")
        assert answer.pointers() == [f"/{field}"]


def test_two_kinds_of_fault_are_one_invalid_field(operator, template_id):
    answer = operator.post("/v1/batches", {"template_id": template_id, "name": "", "quantity": 0, "valid_until": "?"})
    errors = answer.refused(422, "invalid_field")["errors"]
    assert {(error["pointer"], error["code"]) for error in errors} == {
        ("/name", "invalid_field"),
        ("/quantity", "invalid_quantity"),
        ("/valid_until", "invalid_period"),
    }


AUDIENCES = [
    ({"users": [""]}, "/audience/users/0"),
    ({"newcomers": 1}, "/audience/newcomers"),
    ({"tiers": ["t"] * 101}, "/audience/tiers"),
    ({"min_points": 0}, "/audience/min_points"),
    ({"tags": "vip"}, "/audience/tags"),
    ({"age": 18}, "/audience/age"),
]


@pytest.mark.parametrize(("audience", "pointer"), AUDIENCES)
def test_an_audience_has_a_form(operator, template_id, audience, pointer):
    answer = operator.post("/v1/batches", {"template_id": template_id, **PLAN, "audience": audience})
    answer.refused(422, "invalid_field")
    assert answer.pointers() == [pointer]


def test_a_budget_needs_a_benefit_of_known_worth(operator):
    terms = {"benefit": {"kind": "free_shipping"}, "currency": "EUR"}
    id = operator.post("/v1/templates", {"name": "Free", "terms": terms}).ok(201)["template_id"]
    answer = operator.post("/v1/batches", {"template_id": id, **PLAN, "budget_minor": 5_000})
    answer.refused(422, "invalid_field")
    assert answer.pointers() == ["/budget_minor"]


def test_a_window_of_the_past_is_refused_unless_it_is_meant(operator, template_id):
    plan = {"template_id": template_id, **PLAN, "claim_until": "2020-01-01T00:00:00Z"}
    findings = operator.post("/v1/batches", plan).refused(422, "risky_terms")["facts"]["findings"]
    assert [(each["code"], each["severity"], each["field"]) for each in findings] == [
        ("claim_window_past", "refuse", "claim_until")
    ]
    assert operator.post("/v1/batches", {**plan, "accept_risk": True}).ok(201)["warnings"] == findings


def test_warns_of_a_budget_that_does_not_reach(operator, template_id):
    created = operator.post("/v1/batches", {"template_id": template_id, **PLAN, "budget_minor": 1_500}).ok(201)
    assert [warning["code"] for warning in created["warnings"]] == ["budget_below_quantity"]

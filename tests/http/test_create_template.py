"""POST /v1/templates."""

from __future__ import annotations

TERMS = {"benefit": {"kind": "amount_off", "value_minor": 500}, "currency": "EUR"}


def test_creates_the_first_version(operator):
    answer = operator.post("/v1/templates", {"name": "Five off", "terms": TERMS})
    created = answer.ok(201)
    assert created["version"] == 1
    assert answer.headers["ETag"] == '"1"'
    assert answer.headers["Location"] == f"/v1/templates/{created['template_id']}"
    assert answer.headers["Ledger-Position"] == "1"
    assert "Idempotent-Replayed" not in answer.headers


def test_records_the_key_as_the_actor(operator, ledger):
    created = operator.post("/v1/templates", {"name": "Five off", "terms": TERMS}, key="my-key").ok(201)
    event = ledger.store.history(f"template-{created['template_id']}")[0].event
    assert event.actor == "key:" + operator.token.partition(".")[0]
    assert event.request_id == "my-key"
    assert event.merchant_id == "merchant-1"


def test_keeps_the_description_in_lines(operator):
    text = "For tea.\n\n  Not for mugs, \u8336\u676f." + "x" * 1_960
    for described, kept in (({"description": text}, text), ({"description": ""}, ""), ({}, "")):
        created = operator.post("/v1/templates", {"name": "Tea", "terms": TERMS, **described}).ok(201)
        assert operator.get(f"/v1/templates/{created['template_id']}").ok()["description"] == kept


def test_keeps_every_term(operator):
    terms = {
        "benefit": {"kind": "percent_off", "percent_permyriad": 1_250, "max_discount_minor": 2_000},
        "currency": "JPY",
        "min_spend_minor": 5_000,
        "scope": {
            "products": ["p1", "p2"],
            "categories": ["tea"],
            "shops": [],
            "excluded_products": ["p3"],
            "excluded_categories": ["black"],
            "excluded_shops": ["s9"],
            "order_types": ["group_purchase"],
            "user_types": ["student"],
            "channels": ["online", "in_store"],
        },
        "use_hours": [{"weekdays": [1, 5], "from_minute": 660, "until_minute": 1_440}],
        "time_zone": "Asia/Tokyo",
        "stacking_mode": "group",
        "stacking_group": "tea",
        "priority": -5,
        "order_cap_permyriad": 5_000,
        "live_locks_per_user": 2,
        "late_confirm": "accept",
        "transferable": True,
        "shareable": True,
        "points_price": 300,
        "return_policy": {"buyer_refund": "restore_with_grace", "grace_days": 7},
        "lock_ttl_seconds": 60,
        "merchant_share_permyriad": 2_500,
        "reminders": {"days_before": [7, 1], "quiet_from_minute": 1_320, "quiet_until_minute": 480},
    }
    id = operator.post("/v1/templates", {"name": "Tea", "terms": terms}).ok(201)["template_id"]
    kept = operator.get(f"/v1/templates/{id}").ok()["terms"]
    unset = {"value_minor": None, "products": [], "units": None, "leaves_balance": False}
    assert kept["benefit"] == unset | terms["benefit"]
    assert kept["return_policy"] == {
        "order_cancelled": "restore",
        "merchant_refund": "restore",
        "buyer_refund": "restore_with_grace",
        "grace_days": 7,
    }
    same = terms.keys() - {"benefit", "return_policy"}
    assert {name: kept[name] for name in same} == {name: terms[name] for name in same}


CASES = [
    ({"name": ""}, "/name"),
    ({"name": "x" * 201}, "/name"),
    ({"name": " padded"}, "/name"),
    ({"name": "right\u202eleft"}, "/name"),
    ({"name": "two\nlines"}, "/name"),
    ({"name": 5}, "/name"),
    ({"name": None}, "/name"),
    ({"description": "x" * 2_001}, "/description"),
    ({"description": "tab\there"}, "/description"),
    ({"description": "carriage\r\nreturn"}, "/description"),
    ({"description": "right\u202eleft"}, "/description"),
    ({"description": None}, "/description"),
    ({"colour": "red"}, "/colour"),
    ({"terms": []}, "/terms"),
    ({"terms": {**TERMS, "currency": "eur"}}, "/terms/currency"),
    ({"terms": {**TERMS, "currency": "EURO"}}, "/terms/currency"),
    ({"terms": {**TERMS, "min_spend_minor": -1}}, "/terms/min_spend_minor"),
    ({"terms": {**TERMS, "min_spend_minor": 10**12}}, "/terms/min_spend_minor"),
    ({"terms": {**TERMS, "min_spend_minor": 1.0}}, "/terms/min_spend_minor"),
    ({"terms": {**TERMS, "min_spend_minor": "1"}}, "/terms/min_spend_minor"),
    ({"terms": {**TERMS, "min_spend_minor": True}}, "/terms/min_spend_minor"),
    ({"terms": {**TERMS, "lock_ttl_seconds": 0}}, "/terms/lock_ttl_seconds"),
    ({"terms": {**TERMS, "lock_ttl_seconds": 86_401}}, "/terms/lock_ttl_seconds"),
    ({"terms": {**TERMS, "scope": {"products": [""]}}}, "/terms/scope/products/0"),
    ({"terms": {**TERMS, "scope": {"brands": []}}}, "/terms/scope/brands"),
    ({"terms": {**TERMS, "return_policy": {"buyer_refund": "maybe"}}}, "/terms/return_policy/buyer_refund"),
    (
        {"terms": {**TERMS, "return_policy": {"buyer_refund": "restore_with_grace"}}},
        "/terms/return_policy/grace_days",
    ),
    ({"terms": {**TERMS, "reminders": {"days_before": [0]}}}, "/terms/reminders/days_before/0"),
    ({"terms": {**TERMS, "reminders": {"days_before": [91]}}}, "/terms/reminders/days_before/0"),
    ({"terms": {**TERMS, "reminders": {"days_before": [1, 1]}}}, "/terms/reminders/days_before"),
    ({"terms": {**TERMS, "reminders": {"days_before": [*range(1, 12)]}}}, "/terms/reminders/days_before"),
    ({"terms": {**TERMS, "reminders": {"quiet_from_minute": 60}}}, "/terms/reminders/quiet_until_minute"),
    ({"terms": {**TERMS, "reminders": {"quiet_from_minute": 1_440}}}, "/terms/reminders/quiet_from_minute"),
    (
        {"terms": {**TERMS, "reminders": {"quiet_from_minute": 60, "quiet_until_minute": 60}}},
        "/terms/reminders/quiet_until_minute",
    ),
    ({"terms": {**TERMS, "benefit": {"kind": "free"}}}, "/terms/benefit/kind"),
    ({"terms": {**TERMS, "benefit": {"kind": "amount_off"}}}, "/terms/benefit/value_minor"),
    ({"terms": {**TERMS, "benefit": {"kind": "amount_off", "value_minor": 0}}}, "/terms/benefit/value_minor"),
    (
        {"terms": {**TERMS, "benefit": {"kind": "order_stated", "value_minor": 5}}},
        "/terms/benefit/value_minor",
    ),
    ({"terms": {**TERMS, "benefit": {"kind": "gift"}}}, "/terms/benefit/products"),
    ({"terms": {**TERMS, "benefit": {"kind": "gift", "products": [""]}}}, "/terms/benefit/products/0"),
    ({"terms": {**TERMS, "benefit": {"kind": "gift", "products": ["p"] * 1_001}}}, "/terms/benefit/products"),
    ({"terms": {**TERMS, "benefit": {**TERMS["benefit"], "leaves_balance": True}}}, "/terms/benefit/leaves_balance"),
    ({"terms": {**TERMS, "stacking_mode": "group"}}, "/terms/stacking_group"),
    ({"terms": {**TERMS, "stacking_group": "g"}}, "/terms/stacking_group"),
    ({"terms": {**TERMS, "time_zone": "Mars/Olympus"}}, "/terms/time_zone"),
    ({"terms": {**TERMS, "priority": 1_000_001}}, "/terms/priority"),
    ({"terms": {**TERMS, "order_cap_permyriad": 0}}, "/terms/order_cap_permyriad"),
    ({"terms": {**TERMS, "live_locks_per_user": 0}}, "/terms/live_locks_per_user"),
    ({"terms": {**TERMS, "late_confirm": "maybe"}}, "/terms/late_confirm"),
    ({"terms": {**TERMS, "transferable": 1}}, "/terms/transferable"),
    ({"terms": {**TERMS, "points_price": 0}}, "/terms/points_price"),
    ({"terms": {**TERMS, "scope": {"channels": ["mail"]}}}, "/terms/scope/channels/0"),
    ({"terms": {**TERMS, "scope": {"order_types": ["t"] * 101}}}, "/terms/scope/order_types"),
    ({"terms": {**TERMS, "use_hours": [{"weekdays": [8]}]}}, "/terms/use_hours/0/weekdays/0"),
    ({"terms": {**TERMS, "use_hours": [{"weekdays": [1, 1]}]}}, "/terms/use_hours/0/weekdays"),
    (
        {"terms": {**TERMS, "use_hours": [{"from_minute": 60, "until_minute": 60}]}},
        "/terms/use_hours/0/until_minute",
    ),
    ({"accept_risk": "yes"}, "/accept_risk"),
]


def test_refuses_what_is_no_template(operator, ledger):
    for change, pointer in CASES:
        answer = operator.post("/v1/templates", {"name": "Five off", "terms": TERMS} | change)
        answer.refused(422, "invalid_field")
        assert answer.pointers() == [pointer]
    assert ledger.store.head() == 0


def test_names_every_field_that_is_wrong(operator):
    answer = operator.post("/v1/templates", {"name": 7, "terms": {**TERMS, "currency": "x"}, "more": 1})
    answer.refused(422, "invalid_field")
    assert sorted(answer.pointers()) == ["/more", "/name", "/terms/currency"]


def test_takes_a_long_product_list(operator):
    products = [f"product-{number:07}" for number in range(50_000)]
    id = operator.post("/v1/templates", {"name": "All", "terms": {**TERMS, "scope": {"products": products}}}).ok(201)
    kept = operator.get(f"/v1/templates/{id['template_id']}").ok()
    assert kept["terms"]["scope"]["products"] == products


REVERSED = {"name": "Reversed", "terms": {**TERMS, "min_spend_minor": 100}}


def test_threshold_and_amount_exchanged_are_refused_unless_they_are_meant(operator, ledger):
    problem = operator.post("/v1/templates", REVERSED).refused(422, "risky_terms")
    findings = problem["facts"]["findings"]
    assert [(each["code"], each["severity"], each["field"]) for each in findings] == [
        ("discount_above_threshold", "refuse", "min_spend_minor")
    ]
    assert problem["detail"] == findings[0]["message"]
    assert ledger.store.head() == 0
    created = operator.post("/v1/templates", {**REVERSED, "accept_risk": True}).ok(201)
    assert created["warnings"] == findings
    answer = operator.post(f"/v1/templates/{created['template_id']}/revisions", REVERSED)
    answer.refused(422, "risky_terms")


def test_warns_of_what_is_often_meant(operator):
    terms = {**TERMS, "benefit": {"kind": "percent_off", "percent_permyriad": 1_000}}
    created = operator.post("/v1/templates", {"name": "Ten percent", "terms": terms}).ok(201)
    assert [(each["code"], each["severity"]) for each in created["warnings"]] == [("discount_uncapped", "warn")]


def test_every_kind_of_benefit(operator):
    kinds = [
        {"kind": "amount_off", "value_minor": 500, "max_discount_minor": 400},
        {"kind": "percent_off", "percent_permyriad": 10_000, "max_discount_minor": 400},
        {"kind": "fixed_price", "value_minor": 990, "units": 2},
        {"kind": "gift", "products": ["mug", "cup"], "max_discount_minor": 900},
        {"kind": "exchange", "value_minor": 100, "products": ["mug"]},
        {"kind": "trial", "products": ["massage"], "units": 1},
        {"kind": "cash_voucher", "value_minor": 5_000, "leaves_balance": True},
        {"kind": "free_shipping"},
        {"kind": "order_stated", "max_discount_minor": 100},
    ]
    for benefit in kinds:
        created = operator.post("/v1/templates", {"name": "One", "terms": {**TERMS, "benefit": benefit}}).ok(201)
        kept = operator.get(f"/v1/templates/{created['template_id']}").ok()["terms"]["benefit"]
        assert kept.items() >= benefit.items()

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


def test_keeps_every_term(operator):
    terms = {
        "benefit": {"kind": "percent_off", "percent_permyriad": 1_250, "max_discount_minor": 2_000},
        "currency": "JPY",
        "min_spend_minor": 5_000,
        "scope": {"products": ["p1", "p2"], "categories": ["tea"], "shops": []},
        "stacking_mode": "stackable",
        "return_policy": {"buyer_refund": "restore_with_grace", "grace_days": 7},
        "lock_ttl_seconds": 60,
        "merchant_share_permyriad": 2_500,
    }
    id = operator.post("/v1/templates", {"name": "Tea", "terms": terms}).ok(201)["template_id"]
    kept = operator.get(f"/v1/templates/{id}").ok()["terms"]
    assert kept["benefit"] == {"value_minor": None, **terms["benefit"]}
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
    ({"terms": {**TERMS, "benefit": {"kind": "free"}}}, "/terms/benefit/kind"),
    ({"terms": {**TERMS, "benefit": {"kind": "amount_off"}}}, "/terms/benefit/value_minor"),
    ({"terms": {**TERMS, "benefit": {"kind": "amount_off", "value_minor": 0}}}, "/terms/benefit/value_minor"),
    (
        {"terms": {**TERMS, "benefit": {"kind": "order_stated", "value_minor": 5}}},
        "/terms/benefit/value_minor",
    ),
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

"""What holds for every address: problems, headers, and nothing of our insides."""

from __future__ import annotations

import logging
import re

import psycopg
import pytest

from api import problems
from ledger import errors


def test_an_unknown_address_is_a_problem(nobody, operator):
    for path in ("/", "/v1", "/v2/templates", "/v1/nothing", "/v1/events/", "//v1/events", "/v1/coupons/a%2Fb"):
        nobody.get(path).refused(404, "not_found")
        operator.post(path, {}).refused(404, "not_found")


def test_a_wrong_method_names_the_right_ones(operator):
    cases = {
        "/v1/templates": ("DELETE", "GET, HEAD, POST"),
        "/v1/events": ("POST", "GET, HEAD"),
        "/v1/coupons/c": ("DELETE", "GET, HEAD"),
        "/v1/orders/o/locks": ("PUT", "POST"),
        "/livez": ("OPTIONS", "GET, HEAD"),
        "/docs": ("TRACE", "GET, HEAD"),
    }
    for path, (method, allowed) in cases.items():
        answer = operator.client.open(path, method=method)
        assert (answer.status_code, answer.json["code"]) == (405, "method_not_allowed")
        assert answer.headers["Allow"] == allowed


def test_answers_are_json(operator, scene):
    for accept in ("application/json", "application/*", "*/*", "text/html, */*;q=0.1", "application/problem+json"):
        operator.get("/v1/events", headers={"Accept": accept}).ok()
    operator.get("/v1/events", headers={"Accept": "text/html"}).refused(406, "not_acceptable")
    operator.get("/v1/events", headers={"Accept": "application/json;q=0"}).refused(406, "not_acceptable")


def test_an_address_has_a_limit(operator, nobody):
    operator.get("/v1/events?" + "x" * 4_100).refused(414, "uri_too_long")
    nobody.get("/" + "x" * 4_100).refused(414, "uri_too_long")


def test_a_request_id_is_echoed_or_made(nobody):
    assert nobody.get("/livez", headers={"X-Request-Id": "trace-1:a_b.c"}).headers["X-Request-Id"] == "trace-1:a_b.c"
    for bad in ("", "two words", "x" * 129, "caf\u00e9", "<script>"):
        made = nobody.get("/livez", headers={"X-Request-Id": bad}).headers["X-Request-Id"]
        assert re.fullmatch("[0-9a-f]{32}", made)
    assert nobody.get("/v1/events").headers["X-Request-Id"]


def test_our_own_faults_are_logged_and_not_told(operator, monkeypatch, caplog):
    def fail(*_):
        raise RuntimeError("the secret inside")

    monkeypatch.setattr("ledger.store.Store.read", fail)
    with caplog.at_level(logging.ERROR, "api"):
        answer = operator.get("/v1/events", headers={"X-Request-Id": "find-me"})
    answer.refused(500, "internal_error")
    assert "secret" not in answer.response.text
    assert "find-me" in caplog.text
    assert "the secret inside" in caplog.text


def test_a_row_with_a_foreign_topic_is_our_fault_and_not_imported(operator, database, shop):
    shop.coupon()
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute(
            f'insert into "{database.schema}".events values (%s, 1, %s, %s, 99)', ("coupon-evil", "os:system", b"{}")
        )
    operator.get("/v1/events").refused(500, "internal_error")
    operator.get("/v1/coupons/evil").refused(500, "internal_error")


@pytest.mark.parametrize(
    ("refusal", "status"),
    [(errors.QueueFull, 503), (errors.Unavailable, 503), (errors.OutcomeUnknown, 503)],
)
def test_the_service_says_when_to_come_again(operator, scene, monkeypatch, refusal, status):
    def fail(*_):
        raise refusal

    monkeypatch.setattr("ledger.grouping.Grouping.ask", fail)
    answer = operator.post("/v1/templates", scene.template())
    answer.refused(status, refusal.code())
    assert answer.headers["Retry-After"] == "1"


CATALOGUE = {
    "unauthenticated": 401, "forbidden_scope": 403, "not_found": 404, "batch_not_found": 404,
    "template_not_found": 404, "coupon_not_found": 404, "not_owner": 404, "method_not_allowed": 405,
    "not_acceptable": 406, "batch_not_open": 409, "batch_state_conflict": 409, "sold_out": 409,
    "user_limit_reached": 409, "quantity_conflict": 409, "coupon_not_started": 409, "coupon_used": 409,
    "coupon_locked": 409, "not_locked": 409, "lock_mismatch": 409, "lock_expired": 409, "not_used": 409,
    "coupon_not_expired": 409, "coupon_expired": 410, "coupon_void": 410, "version_conflict": 412, "too_large": 413,
    "uri_too_long": 414, "unsupported_media_type": 415, "invalid_field": 422, "invalid_quantity": 422,
    "invalid_period": 422, "not_applicable": 422, "idempotency_key_reused": 422, "malformed_json": 400,
    "idempotency_key_required": 400, "idempotency_key_invalid": 400, "bad_cursor": 400, "bad_request": 400,
    "internal_error": 500, "foreign_event": 500, "unavailable": 503, "queue_full": 503, "outcome_unknown": 503,
    "not_caught_up": 503, "not_ready": 503,
    "rule_not_found": 404, "codes_not_found": 404, "code_not_found": 404, "day_limit_reached": 409,
    "user_day_limit_reached": 409, "person_limit_reached": 409, "budget_spent": 409, "budget_conflict": 409,
    "not_in_audience": 409, "points_receipt_used": 409, "rule_limit_reached": 409, "self_approval": 409,
    "code_used": 409, "codes_exported": 409, "lock_limit_reached": 409, "quote_changed": 409,
    "return_not_allowed": 409, "not_transferable": 409, "not_shareable": 409, "redemption_code_invalid": 409,
    "out_of_scope": 422, "out_of_hours": 422, "below_min_spend": 422, "exclusive_conflict": 422, "risky_terms": 422,
    "fact_required": 422, "too_many_misses": 429, "rate_limited": 429,
}  # fmt: skip


def test_every_refusal_has_its_status_and_its_page(nobody):
    found = {code: problems.status_of(kind) for code, kind in problems.kinds().items()}
    assert {code: found[code] for code in CATALOGUE} == CATALOGUE
    of_the_ledger = {
        kind.code() for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.LedgerError)
    }
    groups = {"ledger_error", "refusal", "invalid_input", "service_error"}
    assert of_the_ledger - groups <= CATALOGUE.keys()
    for code, status in CATALOGUE.items():
        page = nobody.get(f"/problems/{code}")
        assert page.status == 200
        assert f"Status {status}" in page.response.text
    nobody.get("/problems/none").refused(404, "not_found")


def test_answers_forbid_sniffing_and_storing(operator):
    headers = operator.get("/v1/events").headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"

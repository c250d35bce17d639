"""Who may do what: keys, roles and merchants."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from api import access, keys
from api.access import ALLOWED

OPERATOR_ONLY = {"operator"}
TABLE = {
    "create_user_note": OPERATOR_ONLY,
    "list_user_notes": {"operator", "auditor"},
    "delete_personal_data": OPERATOR_ONLY,
    "create_template": OPERATOR_ONLY,
    "revise_template": OPERATOR_ONLY,
    "list_templates": {"operator", "auditor", "analyst"},
    "get_template": {"operator", "orders", "shopper-app", "auditor", "analyst"},
    "create_batch": OPERATOR_ONLY,
    "submit_batch": OPERATOR_ONLY,
    "approve_batch": OPERATOR_ONLY,
    "reject_batch": OPERATOR_ONLY,
    "start_batch": OPERATOR_ONLY,
    "pause_batch": OPERATOR_ONLY,
    "resume_batch": OPERATOR_ONLY,
    "stop_batch": OPERATOR_ONLY,
    "change_batch_quantity": OPERATOR_ONLY,
    "change_batch_budget": OPERATOR_ONLY,
    "list_batches": {"operator", "auditor", "analyst"},
    "get_batch": {"operator", "orders", "shopper-app", "auditor", "analyst"},
    "list_batches_csv": {"operator", "auditor", "analyst"},
    "get_batch_balance": {"operator", "auditor", "analyst"},
    "get_batch_balance_csv": {"operator", "auditor", "analyst"},
    "get_daily_statistics": {"operator", "auditor", "analyst"},
    "get_daily_statistics_csv": {"operator", "auditor", "analyst"},
    "get_funnel": {"operator", "auditor", "analyst"},
    "get_funnel_csv": {"operator", "auditor", "analyst"},
    "get_liability": {"operator", "auditor", "analyst"},
    "get_liability_csv": {"operator", "auditor", "analyst"},
    "void_batch_coupons": OPERATOR_ONLY,
    "issue_coupons": OPERATOR_ONLY,
    "claim_coupon": {"operator", "shopper-app"},
    "request_claim_reminder": {"operator", "shopper-app"},
    "cancel_claim_reminder": {"operator", "shopper-app"},
    "lock_coupons": {"orders"},
    "confirm_coupons": {"orders"},
    "unlock_coupons": {"orders"},
    "return_coupons": {"orders"},
    "list_order_coupons": {"operator", "orders", "auditor"},
    "quote_order": {"orders", "till", "shopper-app"},
    "get_coupon": {"operator", "orders", "shopper-app", "auditor"},
    "list_coupon_events": {"operator", "auditor"},
    "void_coupon": OPERATOR_ONLY,
    "extend_coupon": OPERATOR_ONLY,
    "transfer_coupon": {"operator", "shopper-app"},
    "share_coupon": {"operator", "shopper-app"},
    "list_user_coupons": {"operator", "orders", "shopper-app", "auditor"},
    "get_user_coupon_summary": {"operator", "orders", "shopper-app", "auditor"},
    "create_rule": OPERATOR_ONLY,
    "list_rules": {"operator", "auditor", "analyst"},
    "stop_rule": OPERATOR_ONLY,
    "create_issuance_job": OPERATOR_ONLY,
    "list_issuance_jobs": {"operator", "auditor", "analyst"},
    "get_issuance_job": {"operator", "auditor", "analyst"},
    "get_issuance_job_progress": {"operator", "auditor", "analyst"},
    "get_issuance_job_failures": {"operator", "auditor"},
    "undo_issuance_job": OPERATOR_ONLY,
    "get_coupon_timeline": {"operator", "auditor"},
    "get_coupon_timeline_csv": {"operator", "auditor"},
    "get_order_timeline": {"operator", "auditor"},
    "get_order_timeline_csv": {"operator", "auditor"},
    "get_user_timeline": {"operator", "auditor"},
    "get_user_timeline_csv": {"operator", "auditor"},
    "get_batch_timeline": {"operator", "auditor"},
    "get_batch_timeline_csv": {"operator", "auditor"},
    "get_coupon_state": {"operator", "auditor"},
    "get_order_state": {"operator", "auditor"},
    "get_user_state": {"operator", "auditor"},
    "get_batch_state": {"operator", "auditor"},
    "get_coupon_difference": {"operator", "auditor"},
    "get_order_difference": {"operator", "auditor"},
    "get_user_difference": {"operator", "auditor"},
    "get_batch_difference": {"operator", "auditor"},
    "explain_refusal": {"operator", "auditor"},
    "get_checkpoint": {"operator", "auditor"},
    "get_checkpoint_note": {"operator", "auditor"},
    "get_coupon_proof": {"operator", "auditor"},
    "get_coupon_proof_bundle": {"operator", "auditor"},
    "list_events": {"operator", "auditor", "analyst"},
    "generate_codes": OPERATOR_ONLY,
    "import_codes": OPERATOR_ONLY,
    "get_codes": {"operator", "auditor"},
    "get_codes_export": OPERATOR_ONLY,
    "confirm_code_export": OPERATOR_ONLY,
    "revoke_codes": OPERATOR_ONLY,
    "redeem_code": {"operator", "shopper-app"},
    "get_till_code": {"shopper-app"},
    "get_coupon_qr_svg": {"shopper-app"},
    "get_coupon_qr_png": {"shopper-app"},
    "redeem_in_store": {"orders", "till"},
    "send_message": OPERATOR_ONLY,
    "list_messages": {"operator", "auditor"},
    "withdraw_message": OPERATOR_ONLY,
    "list_user_messages": {"operator", "shopper-app"},
    "read_user_messages": {"shopper-app"},
    "put_contact": {"operator", "shopper-app"},
    "delete_contact": {"operator", "shopper-app"},
    "create_channel": OPERATOR_ONLY,
    "list_channels": {"operator", "auditor"},
    "rotate_channel_secret": OPERATOR_ONLY,
    "test_channel": OPERATOR_ONLY,
    "enable_channel": OPERATOR_ONLY,
    "delete_channel": OPERATOR_ONLY,
    "list_failed_deliveries": {"operator", "auditor"},
    "retry_deliveries": OPERATOR_ONLY,
}
"""Written down a second time on purpose: whoever opens a cell must say so here."""

OF_NONE = {
    "get_checkpoint", "get_checkpoint_note",
    "create_template", "list_templates", "list_batches", "list_issuance_jobs", "list_rules", "list_events",
    "redeem_code", "redeem_in_store",
    "list_user_coupons", "list_order_coupons", "send_message", "list_messages", "list_user_messages",
    "create_user_note", "list_user_notes", "delete_personal_data",
    "read_user_messages", "put_contact", "delete_contact", "create_channel", "list_channels", "list_failed_deliveries",
    "retry_deliveries", "get_order_timeline", "get_order_timeline_csv", "get_order_state", "get_user_timeline",
    "get_user_timeline_csv", "get_user_state", "get_order_difference", "get_user_difference", "explain_refusal",
    "list_batches_csv", "get_daily_statistics", "get_daily_statistics_csv", "get_funnel", "get_funnel_csv",
    "get_liability", "get_liability_csv", "get_user_coupon_summary",
}  # fmt: skip
"""Users and orders are no objects of the ledger, so unknown ones have no coupons; a code is a secret, and no id."""
OF_AN_OBJECT = sorted(TABLE.keys() - OF_NONE)


def test_every_route_is_in_the_table(app):
    assert ALLOWED.keys() == TABLE.keys()
    routes = {rule.endpoint.rpartition(".")[2] for rule in app.url_map.iter_rules()}
    assert routes == TABLE.keys() | access.PUBLIC


@pytest.mark.parametrize("operation", sorted(TABLE))
def test_a_role_may_do_what_the_table_says(operation, as_role, scene, project, ledger):
    for role in keys.ROLES:
        caller = as_role(role)
        path, body = scene.call(operation)
        project()
        head = ledger.store.head()
        answer = _send(caller, operation, path, body)
        if role in TABLE[operation]:
            assert answer.status in (200, 201), answer.response.data
        else:
            assert answer.refused(403, "forbidden_scope")["facts"] == {"role": role, "operation": operation}
            assert ledger.store.head() == head


def test_a_till_redeems_and_quotes_and_nothing_else():
    """Its key lies about in a shop."""
    assert {operation for operation, roles in ALLOWED.items() if "till" in roles} == {"redeem_in_store", "quote_order"}


OPERATE = Path(__file__).parents[2] / "docs" / "operate.md"


def test_the_docs_say_what_each_role_may_do():
    documented = dict(re.findall(r"^\| `([a-z-]+)` \| (`[a-z_`, ]+`) \|$", OPERATE.read_text("utf-8"), re.MULTILINE))
    expected = {
        role: ", ".join(f"`{operation}`" for operation, roles in sorted(ALLOWED.items()) if role in roles)
        for role in keys.ROLES
    }
    assert documented == expected


@pytest.mark.parametrize("operation", sorted(TABLE))
def test_without_a_key_nothing_is_told(operation, nobody, scene):
    answer = _send(nobody, operation, *scene.call(operation))
    answer.refused(401, "unauthenticated")
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="coupon-ledger"'


@pytest.mark.parametrize("operation", OF_AN_OBJECT)
def test_the_object_of_another_merchant_looks_like_none(operation, scene, stranger, ledger):
    role = min(TABLE[operation])
    path, body = scene.call(operation)
    head = ledger.store.head()
    foreign = _send(stranger(role), operation, path, body)
    known = re.findall(r"[0-9a-f]{26}", f"{path} {body}")
    unknown = _send(stranger(role), operation, *_with_unknown_ids(path, body, known))
    code = {"/v1/t": "template_not_found", "/v1/b": "batch_not_found"}.get(path[:5], "coupon_not_found")
    if operation == "create_batch":
        code = "template_not_found"
    if operation in ("create_rule", "stop_rule"):
        code = "batch_not_found" if operation == "create_rule" else "rule_not_found"
    if path.startswith("/v1/codes/"):
        code = "codes_not_found"
    if path.startswith("/v1/issuance-jobs/"):
        code = "job_not_found"
    if path.startswith(("/v1/channels/", "/v1/messages/")):
        code = "channel_not_found" if path.startswith("/v1/channels/") else "message_not_found"
    foreign.refused(404, code)
    assert foreign.response.data.replace(known[0].encode(), b"?") == unknown.response.data.replace(b"0" * 26, b"?")
    assert ledger.store.head() == head


def _send(caller, operation, path, body):
    if operation.startswith(("put_", "delete_")):
        return caller.put(path, body) if operation.startswith("put_") else caller.delete(path)
    return caller.get(path) if operation.startswith(("get_", "list_")) else caller.post(path, body)


def _with_unknown_ids(path, body, known):
    text = repr(body)
    for id in known:
        path, text = path.replace(id, "0" * 26), text.replace(id, "0" * 26)
    return path, eval(text)


def test_lists_hold_nothing_of_another_merchant(scene, shop, stranger, project):
    shop.coupon("user-1")
    project()
    assert stranger("auditor").get("/v1/events").ok()["events"] == []
    assert stranger("auditor").get("/v1/users/user-1/coupons").ok()["coupons"] == []


def _token(ledger, **options):
    with ledger.store.connection() as connection:
        return keys.create(connection, "merchant-1", "operator", "test", **options)


NO_TOKENS = [
    "",
    "Bearer",
    "Bearer ",
    "Bearer x",
    "Bearer .",
    "Bearer ck_unknown.secret",
    "Basic {token}",
    "{token}",
    "Bearer {id}",
    "Bearer {id}.",
    "Bearer {id}.wrong",
    "Bearer {token}x",
    "Bearer {token} {token}",
    "Bearer caf\u00e9.{secret}",
    "Bearer " + "x" * 5_000 + ".{secret}",
]


def test_a_token_must_be_whole(nobody, ledger):
    token = _token(ledger)
    id, _, secret = token.partition(".")
    for authorization in NO_TOKENS:
        header = authorization.format(token=token, id=id, secret=secret)
        nobody.get("/v1/events", headers={"Authorization": header}).refused(401, "unauthenticated")


def test_the_scheme_may_be_in_any_case(nobody, ledger):
    nobody.get("/v1/events", headers={"Authorization": f"bEARER {_token(ledger)}"}).ok()


def test_an_expired_key_is_refused(nobody, ledger):
    now = datetime.now(UTC)
    for ends, works in ((now + timedelta(hours=1), True), (now - timedelta(seconds=1), False)):
        answer = nobody.get("/v1/events", headers={"Authorization": f"Bearer {_token(ledger, expires_at=ends)}"})
        assert (answer.status == 200) == works


def test_a_revoked_key_stops_within_the_cache_time(nobody, ledger, monkeypatch):
    token = _token(ledger)
    header = {"Authorization": f"Bearer {token}"}
    nobody.get("/v1/events", headers=header).ok()
    with ledger.store.connection() as connection:
        assert keys.revoke(connection, token.partition(".")[0])
        assert not keys.revoke(connection, token.partition(".")[0])
        assert not keys.revoke(connection, "ck_unknown")
    monkeypatch.setattr(keys, "CACHE_SECONDS", 0.0)
    nobody.get("/v1/events", headers=header).refused(401, "unauthenticated")


def test_the_table_keeps_no_secret(ledger):
    token = _token(ledger)
    id, _, secret = token.partition(".")
    with ledger.store.connection() as connection:
        (row,) = connection.execute("select * from api_keys").fetchall()
        (listed,) = keys.list_keys(connection, "merchant-1")
        assert keys.list_keys(connection, "merchant-2") == []
        assert keys.list_keys(connection) == [listed]
    assert secret not in str(row)
    assert secret.encode() not in bytes(row["secret_hash"])
    assert (listed.key_id, listed.role, listed.name, listed.revoked_at) == (id, "operator", "test", None)


@pytest.mark.parametrize(
    ("field", "value"),
    [("role", "root"), ("merchant_id", ""), ("name", ""), ("name", "two\nlines"), ("expires_at", datetime(2030, 1, 1))],
)
def test_a_key_has_a_form(ledger, field, value):
    asked = {"merchant_id": "merchant-1", "role": "operator", "name": "test", "expires_at": None} | {field: value}
    with ledger.store.connection() as connection, pytest.raises(keys.InvalidField) as refusal:
        keys.create(connection, **asked)
    assert refusal.value.facts["field"] == field

"""What every write does the same way: one effect a key, one way of reading a body."""

from __future__ import annotations

import io
import itertools
from typing import Any

import orjson
import pytest

from api.access import ALLOWED, ASKING, UPLOADING

KEYLESS = ("get_", "list_", "put_", "delete_")
"""How operations begin that need no key: they read, or a repeat changes nothing."""
WRITES = sorted(operation for operation in ALLOWED.keys() - ASKING - UPLOADING if not operation.startswith(KEYLESS))
CREATING = {
    "generate_codes",
    "import_codes",
    "redeem_code",
    "create_rule",
    "create_template",
    "revise_template",
    "create_batch",
    "issue_coupons",
    "claim_coupon",
    "create_channel",
    "send_message",
    "create_user_note",
}


@pytest.fixture
def writer(as_role, request):
    """A caller that may do the write under test."""
    return as_role(min(ALLOWED[request.getfixturevalue("operation")]))


@pytest.mark.parametrize("operation", WRITES)
def test_a_repeat_has_the_first_answer_and_no_effect(operation, writer, scene, ledger):
    path, body = scene.call(operation)
    first = writer.post(path, body, key="once")
    first.ok(201 if operation in CREATING else 200)
    head = ledger.store.head()
    assert int(first.headers["Ledger-Position"]) == head
    again = writer.post(path, body, key="once")
    assert (again.status, again.response.data) == (first.status, first.response.data)
    assert again.headers["Idempotent-Replayed"] == "true"
    for name in ("Ledger-Position", "ETag", "Location"):
        assert again.headers.get(name) == first.headers.get(name)
    assert ledger.store.head() == head


@pytest.mark.parametrize("operation", WRITES)
def test_a_key_is_good_for_one_body_and_one_path(operation, writer, scene, ledger):
    path, body = scene.call(operation)
    writer.post(path, body, key="once")
    head = ledger.store.head()
    other_path, other_body = scene.call(operation)
    made_on_the_way = ledger.store.head() - head
    other = {"reason": "another"} if "reason" in (body or {}) and operation != "return_coupons" else None
    if (other_path, other_body) == (path, body):  # nothing in it is new, so change a text
        other_body = {**body, "name": "Another"}
    writer.post(other_path, other_body, key="once").refused(422, "idempotency_key_reused")
    if other:
        writer.post(path, body | other, key="once").refused(422, "idempotency_key_reused")
    assert ledger.store.head() == head + made_on_the_way


def test_a_key_is_good_for_one_operation(operator, scene):
    path, _ = scene.call("start_batch")
    operator.post(path, key="once").ok()
    operator.post(path.replace("/start", "/resume"), key="once").refused(422, "idempotency_key_reused")


def test_members_may_come_in_any_order(operator):
    body = {"name": "A", "terms": {"benefit": {"kind": "amount_off", "value_minor": 5}, "currency": "EUR"}}
    first = operator.post("/v1/templates", body, key="once").ok(201)
    turned = dict(reversed(body.items()))
    assert operator.post("/v1/templates", turned, key="once").ok(201) == first


def test_two_merchants_may_use_the_same_key(operator, stranger, scene):
    first = operator.post("/v1/templates", scene.template(), key="once").ok(201)
    other = stranger("operator").post("/v1/templates", scene.template(), key="once")
    assert other.ok(201)["template_id"] != first["template_id"]
    assert "Idempotent-Replayed" not in other.headers


def test_a_refusal_does_not_use_up_the_key(operator, scene, shop):
    batch_id = shop.batch(start=False)
    claim = (f"/v1/batches/{batch_id}/claims", {"user_id": "user-1"})
    operator.post(*claim, key="once").refused(409, "batch_not_open")
    operator.post(f"/v1/batches/{batch_id}/start").ok()
    operator.post(*claim, key="once").ok(201)


def test_a_quoted_key_is_the_bare_one(operator, scene):
    first = operator.post("/v1/templates", scene.template(), key='say-"hi"-\\').ok(201)
    quoted = operator.post("/v1/templates", scene.template(), key='"say-\\"hi\\"-\\\\"')
    assert quoted.ok(201) == first
    assert quoted.headers["Idempotent-Replayed"] == "true"


@pytest.mark.parametrize("operation", WRITES)
def test_a_key_is_required(operation, writer, scene, ledger):
    path, body = scene.call(operation)
    head = ledger.store.head()
    writer.post(path, body, key=None).refused(400, "idempotency_key_required")
    assert ledger.store.head() == head


def test_a_key_has_a_form(operator, scene, ledger):
    for key in [" ", "x" * 256, "caf\u00e9", "tab\there", '"', '""', '"open', '"a"b"', '"\\n"']:
        operator.post("/v1/templates", scene.template(), key=key).refused(400, "idempotency_key_invalid")
    assert ledger.store.head() == 0


def test_a_key_may_be_any_printable_ascii_without_a_space(operator, scene):
    for key in ["x", "x" * 255, '"' + "x" * 255 + '"', "a-b~!", "6e1c-0f"]:
        operator.post("/v1/templates", scene.template(), key=key).ok(201)


NAME = b'{"name": "%s", "terms": {"benefit": {"kind": "amount_off", "value_minor": 1}, "currency": "EUR"}}'

MALFORMED = [
    b" ",
    b"{",
    b"{} {}",
    b"{'a': 1}",
    b'{"a": 1,}',
    b"nonsense",
    b'{"name": "a", "name": "b"}',
    b'{"terms": {"currency": "EUR", "currency": "USD"}}',
    b'{"a": NaN}',
    b'{"a": Infinity}',
    b'{"a": -Infinity}',
    b'{"a": 1e309}',
    b'{"a": ' + b"9" * 5_000 + b"}",
    NAME % b"\\ud800",
    NAME % b"\\udc00 back",
    NAME % b"nul \\u0000",
    NAME % b"raw \x00",
    NAME % b"raw \n line",
    NAME % b"\xff\xfe",
    NAME % b"\xc0\xaf",
    '{"name": "x"}'.encode("utf-16"),
    b"\xef\xbb\xbf{}",
    b'{"\\u0000": 1}',
    b'{"\\ud800": 1}',
    b'{"a": ' * 21 + b"1" + b"}" * 21,
    b"[" * 60_000,
]


def test_a_body_is_strict_json(operator, ledger):
    for data in MALFORMED:
        operator.post("/v1/templates", data=data).refused(400, "malformed_json")
    assert ledger.store.head() == 0


def test_an_empty_body_is_none_whatever_its_media_type(operator, scene):
    """Many clients name JSON with every POST."""
    for kind in ("application/json", "application/json; charset=utf-8", None):
        path, body = scene.call("start_batch")
        assert body is None
        operator.post(path, data=b"", content_type=kind).ok()
    operator.post(path, data=b"", content_type="text/plain").refused(415, "unsupported_media_type")
    path, _ = scene.call("pause_batch")
    answer = operator.post(path, data=b"")
    answer.refused(422, "invalid_field")
    assert answer.pointers() == ["/reason"]
    operator.post(path, data=b" ").refused(400, "malformed_json")


def test_a_body_is_an_object(operator):
    for data in (b"[]", b"null", b"5", b'"{}"', b"true"):
        answer = operator.post("/v1/templates", data=data)
        answer.refused(422, "invalid_field")
        assert answer.pointers() == [""]


def test_nesting_of_twenty_is_read(operator):
    answer = operator.post("/v1/templates", data=b'{"a":' * 20 + b"1" + b"}" * 20)
    answer.refused(422, "invalid_field")


def test_a_body_is_application_json(operator, scene):
    for content_type in ["text/plain", "application/xml", "application/json; charset=latin-1", "", "x"]:
        answer = operator.post("/v1/templates", scene.template(), content_type=content_type)
        answer.refused(415, "unsupported_media_type")


def test_a_charset_that_says_utf_8_is_fine(operator, scene):
    operator.post("/v1/templates", scene.template(), content_type="application/json; charset=UTF-8").ok(201)


@pytest.mark.parametrize("operation", WRITES)
def test_a_body_has_a_limit(operation, writer, scene, ledger):
    path, body = scene.call(operation)
    head = ledger.store.head()
    limit = 1_048_576 if operation in LONG else 65_536
    text = orjson.dumps(body or {})
    padded = text + b" " * (limit - len(text))
    writer.post(path, data=padded + b" ").refused(413, "too_large")
    assert ledger.store.head() == head
    writer.post(path, data=padded).ok(201 if operation in CREATING else 200)


def test_a_body_of_undeclared_length_has_the_same_limit(operator, scene):
    path, body = scene.call("claim_coupon")
    text = orjson.dumps(body)
    for length, status in ((65_536, 201), (65_537, 413), (65_538, 413), (200_000, 413)):
        stream = io.BytesIO(text + b" " * (length - len(text)))
        answer = operator.client.post(
            path,
            input_stream=stream,
            content_type="application/json",
            headers={"Authorization": f"Bearer {operator.token}", "Idempotency-Key": str(length)},
            environ_overrides={"wsgi.input_terminated": True},
        )
        assert answer.status_code == status, answer.data


def test_a_body_that_ends_before_its_length_has_no_effect(operator, scene, ledger):
    """The sender was cut off, and what came may still be JSON."""
    path, body = scene.call("create_template")
    head = ledger.store.head()
    answer = operator.client.post(
        path,
        data=orjson.dumps(body),
        content_type="application/json",
        headers={"Authorization": f"Bearer {operator.token}", "Idempotency-Key": "cut-off"},
        environ_overrides={"CONTENT_LENGTH": "5000"},
    )
    assert (answer.status_code, answer.json["code"]) == (400, "malformed_json")
    assert ledger.store.head() == head


LONG = {
    "create_template", "revise_template", "create_batch", "issue_coupons", "lock_coupons", "confirm_coupons",
    "import_codes", "redeem_in_store", "send_message",
}  # fmt: skip


@pytest.mark.parametrize("operation", WRITES)
def test_an_unknown_member_is_refused(operation, writer, scene, ledger):
    path, body = scene.call(operation)
    head = ledger.store.head()
    answer = writer.post(path, {**(body or {}), "surprise~/": 1})
    answer.refused(422, "invalid_field")
    assert answer.pointers() == ["/surprise~0~1"]
    assert ledger.store.head() == head


@pytest.mark.parametrize("operation", WRITES)
def test_a_parameter_in_the_address_is_refused(operation, writer, scene):
    path, body = scene.call(operation)
    answer = writer.post(path + "?dry_run=true", body)
    answer.refused(422, "invalid_field")
    assert answer.pointers() == ["dry_run"]


def _missing() -> list[tuple[str, str]]:
    required = {
        "create_template": ["name", "terms"],
        "revise_template": ["name", "terms"],
        "create_batch": ["template_id", "name", "quantity"],
        "pause_batch": ["reason"],
        "reject_batch": ["reason"],
        "stop_batch": ["reason"],
        "void_batch_coupons": ["reason"],
        "void_coupon": ["reason"],
        "extend_coupon": ["valid_until", "reason"],
        "transfer_coupon": ["user_id", "to_user_id"],
        "share_coupon": ["user_id", "with_user_ids"],
        "create_rule": ["trigger", "batch_id"],
        "stop_rule": ["reason"],
        "import_codes": ["codes"],
        "revoke_codes": ["reason"],
        "undo_issuance_job": ["reason"],
        "redeem_code": ["code", "user_id"],
        "redeem_in_store": ["code", "order_id", "discount_minor"],
        "change_batch_quantity": ["expected", "target"],
        "change_batch_budget": ["expected_minor", "target_minor"],
        "issue_coupons": ["user_ids"],
        "claim_coupon": ["user_id"],
        "lock_coupons": ["user_id", "coupon_ids"],
        "confirm_coupons": ["redemptions"],
        "unlock_coupons": ["coupon_ids", "reason"],
        "return_coupons": ["coupon_ids", "reason"],
        "create_channel": ["name", "kind", "wants"],
        "send_message": ["title", "body"],
        "retry_deliveries": ["delivery_ids"],
    }
    return list(itertools.chain.from_iterable(((name, field) for field in fields) for name, fields in required.items()))


@pytest.mark.parametrize(("operation", "field"), _missing())
def test_a_missing_member_is_named(operation, field, writer, scene):
    path, body = scene.call(operation)
    left: dict[str, Any] = {name: value for name, value in (body or {}).items() if name != field}
    answer = writer.post(path, left)
    answer.refused(422, "invalid_field")
    assert answer.pointers() == [f"/{field}"]


@pytest.mark.parametrize("operation", ["start_batch", "resume_batch"])
@pytest.mark.parametrize("data", [None, b"{}"])
def test_a_body_without_members_may_be_left_out(operation, data, writer, scene):
    path, _ = scene.call(operation)
    writer.post(path, data=data).ok()

"""The API does what its description says, for input of every kind that the description allows or forbids."""

from __future__ import annotations

import io
import uuid
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from zoneinfo import available_timezones

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    ignored_auth,
    missing_required_header,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from api import keys
from api.access import ALLOWED, UPLOADING
from api.app import create_app
from ledger import code_jobs, till, use_cases
from ledger.codes import CodeKeys
from ledger.coupon import Redemption
from ledger.issuance.uploads import take_file
from ledger.personal_keys import PersonalKeys
from ledger.rules import RulePlan
from ledger.telling import channels, deliveries, messages
from projections.runner import Runner
from tests.postgres.seals import seal
from tests.unit.specs import TERMS

CHECKS = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
    missing_required_header,
    unsupported_method,
    ignored_auth,
]
REFUSED_BEFORE = [check for check in CHECKS if check is not negative_data_rejection]

EXAMPLES = 8
"""For each operation and each kind of input, about objects that exist, and as many about any."""
PROBES = {"get_livez", "get_readyz"}
CODE_KEYS = CodeKeys.parse("test=" + "k" * 32)
PERSONAL_KEYS = PersonalKeys.parse("test=" + "p" * 32)
QUANTITY, BUDGET_MINOR = 100, 100_000
PLAIN: dict[str, Any] = {
    "benefit": {"kind": "amount_off", "value_minor": 500},
    "return_policy": {},
    "use_hours": [],
    "stacking_mode": "stackable",
    "allocation": [],
    "discount_minor": 1,
    "discounted_minor": 0,
    "expected": QUANTITY,
    "expected_minor": BUDGET_MINOR,
    "accept_risk": True,
    "currency": "EUR",
    "template_version": 1,
    "valid_for_seconds": 3_600,
    "min_spend_minor": 0,
    "lock_ttl_seconds": 900,
    "merchant_share_permyriad": 10_000,
    "trigger": "registered",
    "receiver": "user",
    "min_paid_minor": 0,
    "tiers": [],
    **dict.fromkeys(["claim_from", "claim_until", "valid_from", "valid_until", "lock_id", "order_total_minor"]),
    **dict.fromkeys(["stacking_group", "quote_digest"]),
}
"""Members that must agree with others, which a description cannot say."""
NEEDED: dict[str, dict[str, Any]] = {
    "create_batch": {"valid_for_seconds": 3_600},
    "create_channel": {"kind": "webhook", "target": "https://hooks.example/", "wants": ["coupon.used"]},
    "create_rule": {"currency": None},
    "explain_refusal": {
        **dict.fromkeys(("confirm", "unlock", "return", "redeem", "claim", "issue", "void", "extend", "transfer")),
        "share": None,
        "lock": {"order_id": "order-1", "user_id": "user-1", "coupon_ids": ["nowhere"]},
        **dict.fromkeys(("at", "position", "occurred_at")),
    },
    "extend_coupon": {"valid_until": "2036-06-01T00:00:00Z"},
    "generate_codes": {"kind": "unique", "count": 3, "code": None},
    "import_codes": {"codes": ["SUMMER-1", "SUMMER-2"]},
    "put_contact": {"email": "user-1@shop.example"},
    "redeem_in_store": {"discount_minor": 1},
    "send_message": {"expires_at": None},
    "return_coupons": {"lines": []},
    "void_batch_coupons": {"issued_by_prefix": None, "codes_id": None, "cursor": None},
}
"""Those that one operation needs, or that mean something else there."""
SPAN = {"from": "2026-03-01", "until": "2026-04-01"}
"""Days that a question may span."""


@schemathesis.serializer("text/csv", "application/x-ndjson")
def serialize_file(context: Any, value: Any) -> Any:
    """A file as it is, whatever the case makes of it."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")


schemathesis.openapi.format("printable", st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1))
schemathesis.openapi.format("time-zone", st.sampled_from(sorted(available_timezones())))


def known(shop: Any, operation: str) -> dict[str, Any]:
    """Ids of objects that stand where the operation wants them, and codes."""
    do = shop.ledger.do
    terms = replace(TERMS, stacking_mode="stackable", transferable=True, shareable=True)
    running = shop.batch(terms=terms, quantity=QUANTITY, budget_minor=BUDGET_MINOR, per_user_limit=None)
    batch_id = _planned(shop, operation) or running
    coupon_id = shop.coupon("user-1", running)
    if operation == "resume_batch":
        do(use_cases.pause_batch(shop.request(), batch_id, reason="lunch"))
    if operation in ("confirm_coupons", "unlock_coupons", "return_coupons"):
        do(use_cases.lock(shop.request(), "order-1", user_id="user-1", coupon_ids=[coupon_id]))
    if operation == "return_coupons":
        use = Redemption(coupon_id=coupon_id, discount_minor=1)
        do(use_cases.confirm(shop.request(), "order-1", [use]))
    template_id = shop.ledger.store.history(f"batch-{batch_id}")[0].event.template_id
    made = code_jobs.generate(shop.ledger, CODE_KEYS, shop.request(), running, 1)
    codes_id = made.answer["codes_id"]
    (code,) = code_jobs.export(shop.ledger, CODE_KEYS, shop.merchant_id, codes_id)
    if operation == "redeem_in_store":
        code = till.static_code(CODE_KEYS, shop.merchant_id, coupon_id, "user-1")
    ids: dict[str, Any] = {
        "batch_id": batch_id,
        "coupon_id": coupon_id,
        "template_id": template_id,
        "codes_id": codes_id,
    }
    if operation == "stop_rule":
        rule = do(use_cases.create_rule(shop.request(), RulePlan(trigger="registered", batch_id=batch_id)))
        ids["rule_id"] = rule.answer["rule_id"]
    if "channel" in operation or operation == "retry_deliveries":
        ids |= _channel(shop)
    if "issuance_job" in operation:
        ids["job_id"] = _job(shop, batch_id)
    sent = messages.send(shop.ledger, shop.request(), title="Hello", body="All", user_ids=None)
    ids["message_id"] = sent.answer["message_id"]
    return {**ids, "code": code, "order_id": "order-1", "user_id": "user-1"}


def _job(shop: Any, batch_id: str) -> str:
    """A job of mass issuance of that batch."""
    file = io.BytesIO(b"user_id\nuser-7\n")
    receipt = take_file(shop.ledger, lambda _: shop.request(), batch_id, file, "csv", gzipped=False)
    job_id: str = receipt.answer["job_id"]
    return job_id


def _channel(shop: Any) -> dict[str, Any]:
    """A channel, and a delivery on it that was given up."""
    plan = {"name": "Till", "kind": "webhook", "target": "https://hooks.example/", "wants": ["alert"]}
    channel_id = channels.register(shop.ledger, shop.request(), **plan).answer["channel_id"]
    delivery = deliveries.Delivery(f"of {channel_id}", channel_id, shop.merchant_id, "alert", {})
    with shop.ledger.store.connection() as connection:
        deliveries.enqueue(connection, [delivery])
        (claimed,) = deliveries.claim(connection, {channel_id: 1})
        deliveries.settle(connection, claimed, "dead", error="HTTP 500")
    return {"channel_id": channel_id, "delivery_id": claimed.delivery_id}


def _planned(shop: Any, operation: str) -> str | None:
    """The id of a batch that has not begun, or whose claims have not, where the operation is about one."""
    if operation == "request_claim_reminder":
        opening: str = shop.batch(claim_from=datetime(2036, 6, 1, tzinfo=UTC))
        return opening
    if operation not in ("submit_batch", "approve_batch", "reject_batch", "start_batch"):
        return None
    batch_id: str = shop.batch(start=False)
    if operation in ("approve_batch", "reject_batch"):
        shop.ledger.do(use_cases.submit_batch(shop.request(), batch_id))
    return batch_id


@pytest.mark.timeout(600)
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["allowed", "forbidden"])
def test_the_api_keeps_its_description(mode, ledger, shop, database, monkeypatch, tmp_path):
    monkeypatch.setattr("api.exchange.WAIT_SECONDS", 0.0)
    monkeypatch.setattr("api.issuance_jobs.STREAM_SECONDS", 0.0)
    with ledger.store.connection() as connection:
        tokens = {role: keys.create(connection, "merchant-1", role, "test") for role in keys.ROLES}
    statuses: dict[str, Counter[int]] = {}
    app = create_app(ledger, CODE_KEYS, seal_folder=tmp_path, personal_keys=PERSONAL_KEYS)
    for result in schemathesis.openapi.from_wsgi("/openapi.json", app).get_all_operations():
        operation = result.ok()
        id = operation.definition.raw["operationId"]
        if id in PROBES and mode is GenerationMode.NEGATIVE:
            continue  # they take nothing, so nothing is forbidden
        headers = {"Authorization": f"Bearer {tokens[min(ALLOWED[id])]}"} if id in ALLOWED else {}
        ids = known(shop, id)
        Runner(database).catch_up()
        seal(database, tmp_path)
        statuses[id] = _exercise(operation, mode, ids, headers)
    assert statuses.keys() == ALLOWED.keys() | (PROBES if mode is GenerationMode.POSITIVE else set())
    if mode is GenerationMode.POSITIVE:
        assert {id for id, found in statuses.items() if not found[200] + found[201]} == set()


def _exercise(operation: Any, mode: GenerationMode, ids: dict[str, Any], headers: dict[str, str]) -> Counter[int]:
    """Call the operation with generated input, first about objects that exist, then about any; hold every check."""
    found: Counter[int] = Counter()
    needed = NEEDED.get(operation.definition.raw["operationId"], {})
    members = PLAIN | ids | {f"{name}s": [value] for name, value in ids.items()} | needed
    in_path = {parameter.name for parameter in operation.path_parameters}
    about_ours = operation.as_strategy(
        mode, path_parameters={name: value for name, value in ids.items() if name in in_path}
    )

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(data=st.data())
    def call(strategy: Any, data: st.DataObject) -> None:
        case = data.draw(strategy)
        if mode is GenerationMode.POSITIVE:
            if isinstance(case.body, dict):
                case.body = _about(members, case.body) | needed
            if operation.definition.raw["operationId"] in UPLOADING and strategy is about_ours:
                case.body = "user_id\nuser-1\n" if case.media_type == "text/csv" else '"user-1"\n'
            if strategy is about_ours:
                for name in (case.query or {}).keys() & (ids | SPAN).keys():
                    case.query[name] = (ids | SPAN)[name]
            if "If-Match" in case.headers:
                case.headers["If-Match"] = "*"
            if "Idempotency-Key" in case.headers and strategy is about_ours:
                case.headers["Idempotency-Key"] = uuid.uuid4().hex
        # Where the forbidden thing is the caller's key, a good one in its place would make the case an allowed one.
        negated = {mutation.parameter for mutation in case.meta.phase.data.mutations}
        sent = {} if "Authorization" in negated else headers
        response = case.call(headers=sent)
        found[response.status_code] += 1
        # What the log has not reached is the one thing that a caller can ask for and not get now.
        assert response.status_code < 500 or response.json()["code"] == "not_caught_up", response.text
        # Too large a body, or another version than is there, is refused before what is in it is looked at.
        checks = CHECKS if response.status_code not in (412, 413) else REFUSED_BEFORE
        case.validate_response(response, checks=checks, headers=sent, transport_kwargs={"headers": sent})

    call(about_ours)
    call(operation.as_strategy(mode))
    return found


def _about(members: dict[str, Any], body: Any) -> Any:
    """The body with ids of objects that exist, and members that agree."""
    if isinstance(body, list):
        return [_about(members, part) for part in body[:1]]
    if not isinstance(body, dict):
        return int(body) if isinstance(body, float) else body  # 5.0 is an integer to a schema, but not here
    return {name: members[name] if name in members else _about(members, part) for name, part in body.items()}

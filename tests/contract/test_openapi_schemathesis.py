"""The API does what its description says, for input of every kind that the description allows or forbids."""

from __future__ import annotations

from collections import Counter
from typing import Any

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

from api import create_app, keys
from api.access import ALLOWED
from ledger import use_cases
from ledger.coupon import Redemption
from ledger.rules import RulePlan
from projections.runner import Runner

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


EXAMPLES = 8
"""For each operation and each kind of input, about objects that exist, and as many about any."""
PROBES = {"get_livez", "get_readyz"}
PLAIN = {
    "benefit": {"kind": "amount_off", "value_minor": 500},
    "return_policy": {},
    "allocation": [],
    "discount_minor": 1,
    "expected": 100,
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
}
"""Members that must agree with others, which a description cannot say."""

schemathesis.openapi.format("printable", st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1))


def known(shop: Any, operation: str) -> dict[str, str]:
    """Ids of objects that stand where the operation wants them."""
    do = shop.ledger.do
    batch_id = shop.batch(quantity=100, per_user_limit=None, start=operation != "start_batch")
    coupon_id = shop.coupon("user-1", None if operation == "start_batch" else batch_id)
    if operation == "resume_batch":
        do(use_cases.pause_batch(shop.request(), batch_id, reason="lunch"))
    if operation in ("confirm_coupons", "unlock_coupons", "return_coupons"):
        do(use_cases.lock(shop.request(), "order-1", user_id="user-1", coupon_ids=[coupon_id]))
    if operation == "return_coupons":
        use = Redemption(coupon_id=coupon_id, discount_minor=1)
        do(use_cases.confirm(shop.request(), "order-1", [use]))
    template_id = shop.ledger.store.history(f"batch-{batch_id}")[0].event.template_id
    rule = do(use_cases.create_rule(shop.request(), RulePlan(trigger="registered", batch_id=batch_id)))
    ids = {"rule_id": rule.answer["rule_id"], "batch_id": batch_id, "coupon_id": coupon_id, "template_id": template_id}
    return {**ids, "order_id": "order-1", "user_id": "user-1"}


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["allowed", "forbidden"])
def test_the_api_keeps_its_description(mode, ledger, shop, database, monkeypatch):
    monkeypatch.setattr("api.exchange.WAIT_SECONDS", 0.0)
    with ledger.store.connection() as connection:
        tokens = {role: keys.create(connection, "merchant-1", role, "test") for role in keys.ROLES}
    statuses: dict[str, Counter[int]] = {}
    for result in schemathesis.openapi.from_wsgi("/openapi.json", create_app(ledger)).get_all_operations():
        operation = result.ok()
        id = operation.definition.raw["operationId"]
        if id in PROBES and mode is GenerationMode.NEGATIVE:
            continue  # they take nothing, so nothing is forbidden
        headers = {"Authorization": f"Bearer {tokens[min(ALLOWED[id])]}"} if id in ALLOWED else {}
        ids = known(shop, id)
        Runner(database).catch_up()
        statuses[id] = _exercise(operation, mode, ids, headers)
    assert statuses.keys() == ALLOWED.keys() | (PROBES if mode is GenerationMode.POSITIVE else set())
    if mode is GenerationMode.POSITIVE:
        assert {id for id, found in statuses.items() if not found[200] + found[201]} == set()


def _exercise(operation: Any, mode: GenerationMode, ids: dict[str, str], headers: dict[str, str]) -> Counter[int]:
    """Call the operation with generated input, first about objects that exist, then about any; hold every check."""
    found: Counter[int] = Counter()
    in_path = {parameter.name for parameter in operation.path_parameters}
    ours = {name: value for name, value in ids.items() if name in in_path}

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
                case.body = _about(ids, case.body)
            if "If-Match" in case.headers:
                case.headers["If-Match"] = "*"
        response = case.call(headers=headers)
        found[response.status_code] += 1
        # A position that the log has not reached is the one thing that a caller can ask for and not get now.
        assert response.status_code < 500 or response.json()["code"] == "not_caught_up"
        case.validate_response(response, checks=CHECKS, headers=headers, transport_kwargs={"headers": headers})

    call(operation.as_strategy(mode, path_parameters=ours))
    call(operation.as_strategy(mode))
    return found


def _about(ids: dict[str, str], body: Any) -> Any:
    """The body with ids of objects that exist, and members that agree."""
    if isinstance(body, list):
        return [_about(ids, part) for part in body[:1]]
    if not isinstance(body, dict):
        return body
    replaced = {name: _about(ids, part) for name, part in body.items()}
    replaced |= {name: PLAIN[name] for name in body.keys() & PLAIN.keys()}
    replaced |= {name: id for name, id in ids.items() if name in body}
    return replaced | {f"{name}s": [id] for name, id in ids.items() if f"{name}s" in body}

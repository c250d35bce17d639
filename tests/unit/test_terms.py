"""Terms: their bounds, what they allow, and their form in an event."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from ledger.errors import InvalidField
from ledger.terms import Benefit, ReturnPolicy, Scope, Terms

OFF: dict[str, Any] = {"kind": "amount_off", "value_minor": 500}
PERCENT: dict[str, Any] = {"kind": "percent_off", "percent_permyriad": 1_000}
STATED: dict[str, Any] = {"kind": "order_stated"}
PAYLOAD: dict[str, Any] = {"benefit": OFF, "currency": "EUR"}


@pytest.mark.parametrize(
    ("payload", "field"),
    [
        ({"kind": "gift"}, "benefit.kind"),
        ({"kind": "amount_off"}, "benefit.value_minor"),
        ({"kind": "percent_off"}, "benefit.percent_permyriad"),
        (OFF | {"percent_permyriad": 1}, "benefit.percent_permyriad"),
        (PERCENT | {"value_minor": 1}, "benefit.value_minor"),
        (STATED | {"value_minor": 1}, "benefit.value_minor"),
        (OFF | {"value_minor": 0}, "benefit.value_minor"),
        (OFF | {"value_minor": 10**12 + 1}, "benefit.value_minor"),
        (OFF | {"value_minor": 5.0}, "benefit.value_minor"),
        (OFF | {"value_minor": True}, "benefit.value_minor"),
        (PERCENT | {"percent_permyriad": 10_001}, "benefit.percent_permyriad"),
        (STATED | {"max_discount_minor": 0}, "benefit.max_discount_minor"),
    ],
)
def test_a_benefit_has_bounds(payload: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidField) as caught:
        Benefit(**payload)
    assert caught.value.facts["field"] == field


@pytest.mark.parametrize(
    ("benefit", "total", "most"),
    [
        (OFF, None, 500),
        (OFF, 499, 499),
        (OFF, 501, 500),
        (OFF | {"max_discount_minor": 400}, 501, 400),
        (PERCENT, None, None),
        (PERCENT, 1_000, 100),
        (PERCENT, 1_001, 101),  # rounding is the order system's, and never more than one minor unit in its favour
        (PERCENT, 0, 0),
        (PERCENT | {"max_discount_minor": 50}, 1_000, 50),
        (PERCENT | {"max_discount_minor": 50}, None, 50),
        (PERCENT | {"percent_permyriad": 10_000}, 999, 999),
        (STATED, None, None),
        (STATED, 700, 700),
        (STATED | {"max_discount_minor": 600}, 700, 600),
    ],
)
def test_the_most_that_a_benefit_gives(benefit: dict[str, Any], total: int | None, most: int | None) -> None:
    assert Benefit(**benefit).most_minor(total) == most


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"currency": "eur"}, "currency"),
        ({"currency": "EURO"}, "currency"),
        ({"currency": "EUR\n"}, "currency"),
        ({"currency": None}, "terms"),
        ({"min_spend_minor": -1}, "min_spend_minor"),
        ({"min_spend_minor": None}, "min_spend_minor"),
        ({"stacking_mode": "sometimes"}, "stacking_mode"),
        ({"lock_ttl_seconds": 0}, "lock_ttl_seconds"),
        ({"lock_ttl_seconds": 86_401}, "lock_ttl_seconds"),
        ({"lock_ttl_seconds": None}, "lock_ttl_seconds"),
        ({"merchant_share_permyriad": 10_001}, "merchant_share_permyriad"),
        ({"merchant_share_permyriad": None}, "merchant_share_permyriad"),
        ({"return_policy": {"buyer_refund": "never"}}, "return_policy.buyer_refund"),
        ({"return_policy": {"buyer_refund": "restore_with_grace"}}, "return_policy.grace_days"),
        ({"return_policy": {"grace_days": 367}}, "return_policy.grace_days"),
        ({"return_policy": {"grace_days": None}}, "return_policy.grace_days"),
        ({"return_policy": {"regret": "restore"}}, "terms"),
        ({"return_policy": ["restore"]}, "terms"),
        ({"scope": {"products": ["p"] * 50_001}}, "scope"),
        ({"scope": {"brands": ["b"]}}, "terms"),
        ({"scope": ["p"]}, "terms"),
        ({"scope": {"products": "p1"}}, "terms"),
        ({"scope": {"products": [1]}}, "scope"),
        ({"scope": {"products": [""]}}, "scope"),
        ({"scope": {"products": ["a\x00"]}}, "scope"),
        ({"benefit": None}, "terms"),
        ({"benefit": {"kind": ["amount_off"]}}, "benefit.kind"),
        ({"colour": "red"}, "terms"),
    ],
)
def test_terms_have_a_form_and_bounds(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidField) as caught:
        Terms.from_payload(PAYLOAD | changes)
    assert caught.value.facts["field"] == field


@pytest.mark.parametrize("missing", ["benefit", "currency"])
def test_terms_miss_nothing_required(missing: str) -> None:
    with pytest.raises(InvalidField):
        Terms.from_payload({name: value for name, value in PAYLOAD.items() if name != missing})


def test_terms_come_back_from_an_event_as_they_were() -> None:
    terms = Terms(
        benefit=Benefit(**PERCENT),
        currency="JPY",
        min_spend_minor=1,
        scope=Scope(products=("p 😀", "r"), shops=("s",)),
        stacking_mode="stackable",
        return_policy=ReturnPolicy(buyer_refund="restore_with_grace", grace_days=366),
        lock_ttl_seconds=86_400,
        merchant_share_permyriad=0,
    )
    assert Terms.from_payload(orjson.loads(orjson.dumps(terms.to_payload()))) == terms


@pytest.mark.parametrize(("share", "discount", "part"), [(0, 999, 0), (10_000, 999, 999), (3_333, 100, 33), (1, 9, 0)])
def test_the_merchants_part_is_rounded_down(share: int, discount: int, part: int) -> None:
    assert (
        Terms(benefit=Benefit(**OFF), currency="EUR", merchant_share_permyriad=share).merchant_funded_minor(discount)
        == part
    )

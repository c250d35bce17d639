"""Audience and facts: their bounds, and their form in an event. What they decide is told in the stories of batches."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from ledger.audience import Audience, Facts
from ledger.errors import FactRequired, InvalidField, NotInAudience


@pytest.mark.parametrize(
    "facts",
    [
        {"person": ""},
        {"person": "a\nb"},
        {"person": 5},
        {"newcomer": 1},
        {"newcomer": "yes"},
        {"tier": ""},
        {"tier": "a\x00"},
        {"points": -1},
        {"points": 1.5},
        {"points": True},
        {"points": 10**12 + 1},
        {"tags": ("",)},
        {"tags": (1,)},
        {"tags": ("t",) * 101},
    ],
)
def test_facts_have_bounds(facts: dict[str, Any]) -> None:
    with pytest.raises(InvalidField) as caught:
        Facts(**facts)
    assert caught.value.facts["field"] == f"facts.{next(iter(facts))}"


@pytest.mark.parametrize(
    "audience",
    [
        {"users": ("",)},
        {"users": ("u",) * 50_001},
        {"newcomers": 1},
        {"tiers": ("t",) * 101},
        {"min_points": 0},
        {"min_points": "3"},
        {"tags": ("a\nb",)},
    ],
)
def test_an_audience_has_bounds(audience: dict[str, Any]) -> None:
    with pytest.raises(InvalidField) as caught:
        Audience(**audience)
    assert caught.value.facts["field"] == f"audience.{next(iter(audience))}"


@pytest.mark.parametrize(
    ("facts", "payload"),
    [
        (Facts(), {}),
        (Facts(newcomer=False, points=0, tags=()), {"newcomer": False, "points": 0, "tags": []}),
        (Facts(person="p", tier="gold", tags=("a",)), {"person": "p", "tier": "gold", "tags": ["a"]}),
    ],
)
def test_an_event_stores_what_was_said(facts: Facts, payload: dict[str, Any]) -> None:
    assert facts.to_payload() == payload


@pytest.mark.parametrize(
    "audience",
    [
        Audience(),
        Audience(users=("a", "b"), newcomers=True, tiers=("gold",), min_points=3_000, tags=("vip",)),
    ],
)
def test_an_audience_comes_back_from_an_event_as_it_was(audience: Audience) -> None:
    assert Audience.from_payload(orjson.loads(orjson.dumps(audience.to_payload()))) == audience


def test_a_condition_that_fails_is_named_before_a_fact_that_is_missing() -> None:
    audience = Audience(users=("a",), tiers=("gold",))
    with pytest.raises(NotInAudience) as caught:
        audience.check("b", Facts())
    assert caught.value.facts == {"condition": "users"}
    with pytest.raises(FactRequired):
        audience.check("a", Facts())
    audience.check("a", Facts(tier="gold"))

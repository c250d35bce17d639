"""Terms: their bounds, what they allow, and their form in an event."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from ledger.benefit import Benefit
from ledger.errors import InvalidField
from ledger.scope import Scope, UseHours
from ledger.terms import ReturnPolicy, Terms

OFF: dict[str, Any] = {"kind": "amount_off", "value_minor": 500}
PERCENT: dict[str, Any] = {"kind": "percent_off", "percent_permyriad": 1_000}
STATED: dict[str, Any] = {"kind": "order_stated"}
PAYLOAD: dict[str, Any] = {"benefit": OFF, "currency": "EUR"}


@pytest.mark.parametrize(
    ("payload", "field"),
    [
        ({"kind": "present"}, "benefit.kind"),
        ({"kind": "gift"}, "benefit.products"),
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
        ({"kind": "fixed_price"}, "benefit.value_minor"),
        ({"kind": "fixed_price", "value_minor": 5, "units": 0}, "benefit.units"),
        ({"kind": "fixed_price", "value_minor": 5, "products": ("p",)}, "benefit.products"),
        ({"kind": "exchange", "products": ("p",)}, "benefit.value_minor"),
        ({"kind": "exchange", "value_minor": 5}, "benefit.products"),
        ({"kind": "trial"}, "benefit.products"),
        ({"kind": "gift", "products": ("p",), "units": 10_001}, "benefit.units"),
        ({"kind": "gift", "products": ("p",) * 1_001}, "benefit.products"),
        ({"kind": "gift", "products": ("p",), "value_minor": 5}, "benefit.value_minor"),
        ({"kind": "cash_voucher"}, "benefit.value_minor"),
        ({"kind": "cash_voucher", "value_minor": 5, "max_discount_minor": 3}, "benefit.max_discount_minor"),
        ({"kind": "cash_voucher", "value_minor": 5, "leaves_balance": 1}, "benefit.leaves_balance"),
        (OFF | {"leaves_balance": True}, "benefit.leaves_balance"),
        ({"kind": "free_shipping", "percent_permyriad": 5}, "benefit.percent_permyriad"),
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
        ({"stacking_mode": "group"}, "stacking_group"),
        ({"stacking_mode": "group", "stacking_group": ""}, "stacking_group"),
        ({"stacking_mode": "group", "stacking_group": "g" * 101}, "stacking_group"),
        ({"stacking_group": "g"}, "stacking_group"),
        ({"priority": 1_000_001}, "priority"),
        ({"priority": 1.0}, "priority"),
        ({"order_cap_permyriad": 0}, "order_cap_permyriad"),
        ({"order_cap_permyriad": 10_001}, "order_cap_permyriad"),
        ({"live_locks_per_user": 0}, "live_locks_per_user"),
        ({"live_locks_per_user": 10_001}, "live_locks_per_user"),
        ({"late_confirm": "maybe"}, "late_confirm"),
        ({"transferable": 1}, "transferable"),
        ({"shareable": None}, "shareable"),
        ({"points_price": 0}, "points_price"),
        ({"points_price": 10**12 + 1}, "points_price"),
        ({"time_zone": "Mars/Olympus"}, "time_zone"),
        ({"use_hours": [{}] * 101}, "use_hours"),
        ({"use_hours": [{"weekdays": [8]}]}, "use_hours.weekdays"),
        ({"use_hours": [{"minutes": 5}]}, "terms"),
        ({"use_hours": {"weekdays": [1]}}, "terms"),
        ({"scope": {"channels": ["mail"]}}, "scope.channels"),
        ({"merchant_share_permyriad": 10_001}, "merchant_share_permyriad"),
        ({"merchant_share_permyriad": None}, "merchant_share_permyriad"),
        ({"return_policy": {"buyer_refund": "never"}}, "return_policy.buyer_refund"),
        ({"return_policy": {"buyer_refund": "restore_with_grace"}}, "return_policy.grace_days"),
        ({"return_policy": {"grace_days": 367}}, "return_policy.grace_days"),
        ({"return_policy": {"grace_days": None}}, "return_policy.grace_days"),
        ({"return_policy": {"regret": "restore"}}, "terms"),
        ({"return_policy": ["restore"]}, "terms"),
        ({"scope": {"products": ["p"] * 50_001}}, "scope.products"),
        ({"scope": {"brands": ["b"]}}, "terms"),
        ({"scope": ["p"]}, "terms"),
        ({"scope": {"products": "p1"}}, "terms"),
        ({"scope": {"products": [1]}}, "scope.products"),
        ({"scope": {"products": [""]}}, "scope.products"),
        ({"scope": {"products": ["a\x00"]}}, "scope.products"),
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
        use_hours=(UseHours(), UseHours(weekdays=(7,), from_minute=60, until_minute=61)),
        time_zone="Asia/Tokyo",
        priority=-1,
        order_cap_permyriad=5_000,
        live_locks_per_user=3,
        late_confirm="accept",
        transferable=True,
        shareable=True,
        points_price=300,
    )
    assert Terms.from_payload(orjson.loads(orjson.dumps(terms.to_payload()))) == terms


@pytest.mark.parametrize(("share", "discount", "part"), [(0, 999, 0), (10_000, 999, 999), (3_333, 100, 33), (1, 9, 0)])
def test_the_merchants_part_is_rounded_down(share: int, discount: int, part: int) -> None:
    assert (
        Terms(benefit=Benefit(**OFF), currency="EUR", merchant_share_permyriad=share).merchant_funded_minor(discount)
        == part
    )


@pytest.mark.parametrize(
    ("benefit", "worth"),
    [
        (OFF, 500),
        (OFF | {"max_discount_minor": 400}, 400),
        ({"kind": "cash_voucher", "value_minor": 700, "leaves_balance": True}, 700),
        (PERCENT, None),
        (PERCENT | {"max_discount_minor": 50}, 50),
        ({"kind": "fixed_price", "value_minor": 700}, None),  # the price is what is paid, not what comes off
        ({"kind": "exchange", "value_minor": 700, "products": ("p",)}, None),
        ({"kind": "gift", "products": ("p",), "max_discount_minor": 900}, 900),
        ({"kind": "free_shipping"}, None),
        (STATED | {"max_discount_minor": 600}, 600),
    ],
)
def test_what_a_budget_counts_a_coupon_for(benefit: dict[str, Any], worth: int | None) -> None:
    assert Benefit(**benefit).worth_minor == worth

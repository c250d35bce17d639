"""The linter: what nobody can mean is refused, what is often meant is warned of, and the rest passes in silence."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from ledger.batch import BatchPlan
from ledger.benefit import Benefit
from ledger.errors import RiskyTerms
from ledger.linter import checked, lint
from ledger.scope import Scope
from ledger.terms import Terms
from tests.unit.specs import INSTANT, T0, after

OFF = Terms(benefit=Benefit(kind="amount_off", value_minor=500), currency="EUR")
PLAN = BatchPlan(name="Batch", quantity=10, valid_for_seconds=60)


def benefit(**fields: Any) -> Terms:
    return replace(OFF, benefit=Benefit(**fields))


def percent(permyriad: int, most: int | None = None) -> Terms:
    return benefit(kind="percent_off", percent_permyriad=permyriad, max_discount_minor=most)


def codes(terms: Terms, plan: BatchPlan | None = None, now: datetime = T0) -> list[str]:
    return [f"{finding.severity} {finding.code} {finding.field}" for finding in lint(terms, plan, now)]


FREE = "refuse discount_above_threshold min_spend_minor"
UNCAPPED = "warn discount_uncapped benefit.max_discount_minor"
EVERYTHING = "refuse everything_free benefit.max_discount_minor"
STACKS = "warn stackable_without_threshold stacking_mode"

BALANCE = benefit(kind="cash_voucher", value_minor=500, leaves_balance=True)
EXCHANGE = benefit(kind="exchange", value_minor=1, products=("p",), units=1_000)


@pytest.mark.parametrize(
    ("terms", "found"),
    [
        (OFF, []),
        (replace(OFF, min_spend_minor=1), [FREE]),
        (replace(OFF, min_spend_minor=500), [FREE]),
        (replace(OFF, min_spend_minor=501), []),
        (replace(benefit(kind="amount_off", value_minor=500, max_discount_minor=99), min_spend_minor=100), []),
        (replace(benefit(kind="cash_voucher", value_minor=5_000), min_spend_minor=500), [FREE]),
        (replace(benefit(kind="cash_voucher", value_minor=5_000), min_spend_minor=5_001), []),
        (replace(BALANCE, min_spend_minor=500), [FREE.replace("refuse", "warn")]),
        (replace(BALANCE, min_spend_minor=501), []),
        (percent(1_000, 50), []),
        (percent(1_000), [UNCAPPED]),
        (percent(9_999), [UNCAPPED]),
        (percent(10_000), [EVERYTHING]),
        (percent(10_000, 50), []),
        (replace(percent(10_000, 50), min_spend_minor=50), [FREE]),
        (replace(percent(10_000, 50), min_spend_minor=51), []),
        (replace(percent(9_999, 50), min_spend_minor=50), []),
        (replace(percent(10_000), min_spend_minor=50), [EVERYTHING]),
        (percent(10_000, 999_999), []),
        (percent(10_000, 1_000_000), [EVERYTHING]),
        (replace(percent(10_000, 1_000_000), min_spend_minor=1), [FREE]),
        (replace(percent(10_000, 1_000_000), min_spend_minor=1_000_001), []),
        (percent(9_999, 999_999), []),
        (percent(9_999, 1_000_000), [UNCAPPED]),
        (percent(9_999, 10**11), [UNCAPPED]),
        (benefit(kind="order_stated"), [UNCAPPED]),
        (benefit(kind="order_stated", max_discount_minor=50), []),
        (benefit(kind="order_stated", max_discount_minor=1_000_000), [UNCAPPED]),
        (replace(benefit(kind="order_stated", max_discount_minor=50), stacking_mode="stackable"), [STACKS]),
        (
            replace(benefit(kind="order_stated", max_discount_minor=50), stacking_mode="stackable", min_spend_minor=1),
            [],
        ),
        (replace(OFF, stacking_mode="stackable"), [STACKS]),
        (replace(percent(1_000), stacking_mode="stackable"), [UNCAPPED, STACKS]),
        (replace(OFF, stacking_mode="stackable", min_spend_minor=501), []),
        (replace(OFF, stacking_mode="group", stacking_group="g"), [STACKS]),
        (replace(OFF, stacking_mode="group", stacking_group="g", min_spend_minor=501), []),
        (replace(benefit(kind="cash_voucher", value_minor=500), stacking_mode="stackable"), [STACKS]),
        (benefit(kind="cash_voucher", value_minor=500), []),
        (replace(benefit(kind="free_shipping"), stacking_mode="stackable"), []),
        (replace(benefit(kind="gift", products=("p",)), stacking_mode="stackable"), []),
        (replace(benefit(kind="gift", products=("p",), units=2), stacking_mode="stackable"), [STACKS]),
        (replace(benefit(kind="trial", products=("p",), units=2), stacking_mode="group", stacking_group="g"), [STACKS]),
        (replace(benefit(kind="gift", products=("p",), units=2), stacking_mode="stackable", min_spend_minor=1), []),
        (benefit(kind="gift", products=("p",), units=2), []),
        (replace(benefit(kind="fixed_price", value_minor=1, units=5_000), stacking_mode="stackable"), [STACKS]),
        (replace(benefit(kind="fixed_price", value_minor=1), stacking_mode="stackable"), []),
        (benefit(kind="fixed_price", value_minor=1, units=5_000), []),
        (replace(EXCHANGE, stacking_mode="stackable"), [STACKS]),
        (replace(EXCHANGE, stacking_mode="group", stacking_group="g"), [STACKS]),
        (replace(EXCHANGE, stacking_mode="stackable", min_spend_minor=1), []),
        (replace(benefit(kind="exchange", value_minor=1, products=("p",)), stacking_mode="stackable"), []),
    ],
)
def test_terms(terms: Terms, found: list[str]) -> None:
    assert codes(terms) == found


GIFT = benefit(kind="gift", products=("p", "q"))


@pytest.mark.parametrize(
    ("terms", "scope", "field"),
    [
        (OFF, Scope(products=("p", "q"), excluded_products=("q", "p", "r")), "products"),
        (OFF, Scope(products=("p", "q"), excluded_products=("p",)), None),
        (OFF, Scope(products=("p",), categories=("tea",), excluded_products=("p",)), None),
        (OFF, Scope(products=("p",), categories=("tea",), excluded_products=("p",), excluded_categories=("tea",)),
         "products"),
        (OFF, Scope(categories=("tea",), excluded_categories=("tea",)), "categories"),
        (OFF, Scope(categories=("tea",), excluded_products=("p",)), None),
        (OFF, Scope(shops=("s",), excluded_shops=("s", "t")), "shops"),
        (OFF, Scope(shops=("s", "t"), excluded_shops=("s",)), None),
        (OFF, Scope(excluded_products=("p",), excluded_shops=("s",)), None),
        (GIFT, Scope(excluded_products=("p", "q")), "products"),
        (GIFT, Scope(excluded_products=("p",)), None),
        (GIFT, Scope(products=("r",)), None),
    ],
)  # fmt: skip
def test_a_coupon_that_can_never_be_used(terms: Terms, scope: Scope, field: str | None) -> None:
    found = [f"refuse never_usable scope.excluded_{field}"] if field else []
    assert codes(replace(terms, scope=scope)) == found


PAST = "refuse validity_past valid_until"
CLAIMS_PAST = "refuse claim_window_past claim_until"
FIXED = replace(PLAN, valid_for_seconds=None, valid_until=after(5))


@pytest.mark.parametrize(
    ("plan", "now", "found"),
    [
        (replace(PLAN, claim_until=after(1)), after(1) - INSTANT, []),
        (replace(PLAN, claim_until=after(1)), after(1), [CLAIMS_PAST]),
        (FIXED, after(5) - INSTANT, []),
        (FIXED, after(5), [PAST]),
        (replace(FIXED, ends_at_day_close=True), after(5), [PAST]),  # midnight is the close of the day before it
        (replace(FIXED, ends_at_day_close=True, time_zone="Asia/Shanghai"), after(5), []),
        (replace(FIXED, valid_delay_seconds=5 * 86_400), T0, [PAST]),
        (replace(FIXED, valid_delay_seconds=5 * 86_400 - 1), T0, []),
        (replace(FIXED, claim_from=after(5)), T0, [PAST]),
        (replace(FIXED, claim_until=after(5)), T0, []),
        (replace(FIXED, claim_until=after(5) + INSTANT), T0, ["warn claims_after_validity claim_until"]),
        (replace(FIXED, claim_until=after(4)), after(6), [CLAIMS_PAST, PAST]),
    ],
)
def test_windows(plan: BatchPlan, now: datetime, found: list[str]) -> None:
    assert codes(OFF, plan, now) == found


@pytest.mark.parametrize(
    ("terms", "plan", "found"),
    [
        (OFF, replace(PLAN, budget_minor=5_000), []),
        (OFF, replace(PLAN, budget_minor=4_999), ["warn budget_below_quantity budget_minor"]),
        (percent(1_000, 50), replace(PLAN, budget_minor=499), ["warn budget_below_quantity budget_minor"]),
        (replace(OFF, stacking_mode="stackable"), PLAN, [STACKS]),
        (replace(OFF, stacking_mode="stackable"), replace(PLAN, budget_minor=5_000), []),
        (
            replace(OFF, merchant_share_permyriad=9_999),
            PLAN,
            ["warn platform_funds_without_budget budget_minor"],
        ),
        (replace(OFF, merchant_share_permyriad=9_999), replace(PLAN, budget_minor=5_000), []),
        (replace(OFF, min_spend_minor=500), PLAN, [FREE]),
    ],
)
def test_budgets(terms: Terms, plan: BatchPlan, found: list[str]) -> None:
    assert codes(terms, plan) == found


def test_a_budget_says_how_far_it_goes() -> None:
    [finding] = lint(OFF, replace(PLAN, budget_minor=1_700), T0)
    assert finding.message == "the budget is spent after 3 of 10"


def test_refusals_come_first_and_can_be_accepted() -> None:
    terms = replace(percent(10_000), stacking_mode="stackable")
    found = lint(terms, None, T0)
    assert [finding.severity for finding in found] == ["refuse", "warn"]
    with pytest.raises(RiskyTerms, match="hundred percent") as caught:
        checked(found, accept_risk=False)
    shown = caught.value.facts["findings"]
    assert [finding["code"] for finding in shown] == ["everything_free", "stackable_without_threshold"]
    assert checked(found, accept_risk=True) == shown
    assert checked(found[1:], accept_risk=False) == shown[1:]


def test_history_is_judged_at_its_own_time() -> None:
    then = datetime(2017, 1, 1, tzinfo=UTC)
    plan = replace(PLAN, claim_until=datetime(2017, 2, 1, tzinfo=UTC))
    assert codes(OFF, plan, then) == []

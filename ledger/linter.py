"""The linter: terms and plans that are valid, and would lose money by mistake.

Shops set coupons wrongly and lose money: threshold and amount exchanged, a hundred percent, a coupon that stacks on
anything, a window of last year, a scope of nothing. What nobody can mean is refused unless the caller accepts the risk
in so many words; what is often meant is only warned of.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from ledger.batch import BatchPlan
from ledger.calendar import day_close
from ledger.errors import RiskyTerms
from ledger.terms import Terms

WHOLE_PERMYRIAD = 10_000
HUGE_MINOR = 1_000_000
"""A cap from here on, ten thousand of a currency with two decimals, bounds no order that a shopper makes."""
PRICE_CUTS = ("amount_off", "percent_off", "cash_voucher", "order_stated")
"""Kinds that take off any order; shipping is bounded by what it is."""
OF_UNITS = ("fixed_price", "gift", "exchange", "trial")
"""Kinds that work on single units: one is bounded by what it is, many are not."""


@dataclass(frozen=True)
class Finding:
    """One thing that is probably not meant."""

    code: str
    severity: Literal["refuse", "warn"]
    field: str
    """A member of the terms, or of the plan where there is one."""
    message: str


def lint(terms: Terms, plan: BatchPlan | None, now: datetime) -> list[Finding]:
    """What is risky about the terms, and about the plan to issue on them at this moment; refusals first."""
    found = [*_of_benefit(terms), *_of_threshold(terms), *_of_scope(terms), *_of_stacking(terms, plan)]
    if plan is not None:
        found += [*_of_windows(plan, now), *_of_budget(terms, plan)]
    return sorted(found, key=lambda finding: finding.severity)


def checked(findings: list[Finding], accept_risk: bool) -> list[dict[str, Any]]:
    """The findings as an answer shows them. Raises ``RiskyTerms`` when one refuses and the risk is not accepted."""
    refused = [finding for finding in findings if finding.severity == "refuse"]
    shown = [asdict(finding) for finding in findings]
    if refused and not accept_risk:
        raise RiskyTerms("; ".join(finding.message for finding in refused), findings=shown)
    return shown


def _of_benefit(terms: Terms) -> Iterator[Finding]:
    benefit = terms.benefit
    cap = benefit.max_discount_minor
    caps_nothing = cap is None or cap >= HUGE_MINOR
    if benefit.percent_permyriad == WHOLE_PERMYRIAD:
        if cap is None or (caps_nothing and not terms.min_spend_minor):
            yield Finding(
                "everything_free",
                "refuse",
                "benefit.max_discount_minor",
                "a hundred percent comes off, and " + ("nothing caps it" if cap is None else f"{cap} caps nothing"),
            )
    elif benefit.kind == "percent_off" and caps_nothing:
        yield _uncapped("a part of any order comes off, however large the order")
    if benefit.kind == "order_stated" and caps_nothing:
        yield _uncapped("the order system states the discount, and nothing caps it")


def _of_threshold(terms: Terms) -> Iterator[Finding]:
    """An amount, a voucher, and a hundred percent up to a cap all take off an order whole that is no larger."""
    benefit = terms.benefit
    worth = benefit.worth_minor
    whole = benefit.kind in ("amount_off", "cash_voucher") or benefit.percent_permyriad == WHOLE_PERMYRIAD
    if whole and worth is not None and 0 < terms.min_spend_minor <= worth:
        yield Finding(
            "discount_above_threshold",
            # What is not spent of such a voucher is not lost, so it may well be worth more than the least order.
            "warn" if benefit.leaves_balance else "refuse",
            "min_spend_minor",
            f"an order of the minimum spend, {terms.min_spend_minor}, is free: {worth} come off",
        )


def _of_scope(terms: Terms) -> Iterator[Finding]:
    """What is listed and excluded is excluded; where that is so of all, the coupon is for nothing."""
    scope = terms.scope
    gone = {
        name: set(getattr(scope, name)) <= set(getattr(scope, f"excluded_{name}"))
        for name in ("products", "categories", "shops")
    }
    listed_gone = gone["products"] and gone["categories"]
    given = set(terms.benefit.products)
    if (scope.products and listed_gone) or (given and given <= set(scope.excluded_products)):
        yield _never_usable("products")
    elif scope.categories and listed_gone:
        yield _never_usable("categories")
    if scope.shops and gone["shops"]:
        yield _never_usable("shops")


def _never_usable(name: str) -> Finding:
    return Finding(
        "never_usable", "refuse", f"scope.excluded_{name}", f"all {name} that the coupon is for are excluded from it"
    )


def _uncapped(message: str) -> Finding:
    return Finding("discount_uncapped", "warn", "benefit.max_discount_minor", message)


def _of_stacking(terms: Terms, plan: BatchPlan | None) -> Iterator[Finding]:
    benefit = terms.benefit
    cuts = benefit.kind in PRICE_CUTS or (benefit.kind in OF_UNITS and benefit.most_units > 1)
    if terms.min_spend_minor or not cuts or terms.stacking_mode == "exclusive":
        return
    if plan is None or plan.budget_minor is None:
        others = "any other coupon" if terms.stacking_mode == "stackable" else "any coupon of another group"
        message = f"it comes off together with {others}, without a minimum spend"
        message += " and without a budget" if plan is not None else ""
        yield Finding("stackable_without_threshold", "warn", "stacking_mode", message)


def _of_windows(plan: BatchPlan, now: datetime) -> Iterator[Finding]:
    if plan.claim_until is not None and plan.claim_until <= now:
        yield Finding("claim_window_past", "refuse", "claim_until", "the claim window is over already")
    if plan.valid_until is None:
        return
    end = day_close(plan.valid_until, plan.time_zone) if plan.ends_at_day_close else plan.valid_until
    if end <= now:
        yield Finding("validity_past", "refuse", "valid_until", "the validity is over already")
    elif end <= _first_begin(plan, now):
        yield Finding("validity_past", "refuse", "valid_until", "the validity is over before a coupon's can begin")
    elif plan.claim_until is not None and end < plan.claim_until:
        yield Finding(
            "claims_after_validity", "warn", "claim_until", "the validity is over before the claim window: claims fail"
        )


def _first_begin(plan: BatchPlan, now: datetime) -> datetime:
    """When the validity of the first coupon that can be issued begins."""
    issued_at = max(now, plan.claim_from) if plan.claim_from is not None else now
    if plan.valid_from is not None and not plan.valid_for_seconds:
        return max(issued_at, plan.valid_from)
    return issued_at + timedelta(seconds=plan.valid_delay_seconds)


def _of_budget(terms: Terms, plan: BatchPlan) -> Iterator[Finding]:
    worth = terms.benefit.worth_minor
    if plan.budget_minor is None:
        if terms.merchant_share_permyriad < WHOLE_PERMYRIAD:
            yield Finding(
                "platform_funds_without_budget", "warn", "budget_minor", "the platform funds a part, without a budget"
            )
    elif worth is not None and plan.quantity * worth > plan.budget_minor:
        enough = plan.budget_minor // worth
        yield Finding(
            "budget_below_quantity", "warn", "budget_minor", f"the budget is spent after {enough} of {plan.quantity}"
        )

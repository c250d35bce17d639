"""Use cases of rules: created, stopped, and what they issue for an occasion."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ledger.aggregate import derived_id
from ledger.commit import Unit
from ledger.errors import BatchStateConflict
from ledger.events import RuleCreated
from ledger.request import Request
from ledger.rules import Award, Occasion, RulePlan, Rules
from ledger.use_cases.batches import check_costs_no_points
from ledger.use_cases.checks import check_reason, unit_of
from ledger.use_cases.issuing import issue_by_message
from ledger.work import Loaded, Receipt, Work, fold


def rules_stream(merchant_id: str) -> str:
    """The stream of a merchant's rules."""
    return f"rules-{merchant_id}"


def create_rule(request: Request, plan: RulePlan) -> Work:
    """Issue by a rule from now on. The batch may still be a draft, but not one that issues no more.

    Nor one whose coupons cost points (``InvalidField``): an occasion brings no receipt.
    """
    rule_id = derived_id("rule", request.merchant_id, request.request_id)

    def decide(loaded: Loaded) -> Unit:
        batch = loaded.batch(plan.batch_id)
        state = batch.state_at(loaded.now)
        if state in ("STOPPED", "ENDED"):
            raise BatchStateConflict(f"the batch is {state}", batch_id=batch.key, state=state)
        check_costs_no_points(loaded.terms(batch.created.template_id, batch.created.template_version))
        rules = _rules(loaded)
        rules.create(request, loaded.now, rule_id, plan)
        unit = unit_of(request, rule_answer(rules.rules[rule_id]), rules)
        unit.reads[batch.id] = batch.version
        return unit

    return Work(request, (rules_stream(request.merchant_id), f"batch-{plan.batch_id}"), decide)


def stop_rule(request: Request, rule_id: str, *, reason: str) -> Work:
    """Issue nothing more by this rule, for good."""
    check_reason(reason)

    def decide(loaded: Loaded) -> Unit:
        rules = _rules(loaded)
        rules.stop(request, loaded.now, rule_id, reason)
        return unit_of(request, {"rule_id": rule_id}, rules)

    return Work(request, (rules_stream(request.merchant_id),), decide)


def issue_by_rules(request: Request, rules: Rules, occasion: Occasion) -> list[tuple[Award, Work]]:
    """Work for each coupon that the rules issue for an occasion, each to be done or refused by itself.

    The commit checks that the rules have not moved since they were read, so nothing is issued after a rule's stop.
    """
    return [(award, _issue_award(request, rules, award)) for award in rules.awards(occasion)]


def rule_answer(rule: RuleCreated) -> dict[str, Any]:
    """A rule as callers see it."""
    return {
        "rule_id": rule.rule_id,
        "trigger": rule.trigger,
        "batch_id": rule.batch_id,
        "receiver": rule.receiver,
        "min_paid_minor": rule.min_paid_minor,
        "currency": rule.currency,
        "tiers": rule.tiers,
    }


def _issue_award(request: Request, rules: Rules, award: Award) -> Work:
    work = issue_by_message(
        replace(request, request_id=award.request_id),
        award.rule.batch_id,
        award.user_id,
        channel=f"rule.{award.rule.trigger}",
        facts=award.facts,
    )

    def decide(loaded: Loaded) -> Unit | Receipt:
        unit = work.decide(loaded)
        if isinstance(unit, Unit):
            unit.reads[rules.id] = rules.version
        return unit

    return replace(work, decide=decide)


def _rules(loaded: Loaded) -> Rules:
    stream = rules_stream(loaded.merchant_id)
    return fold(Rules(stream), loaded.streams.get(stream, ()))

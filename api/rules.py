"""Rules: coupons that are issued without being asked for, when something happens to a member or an order."""

from __future__ import annotations

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from api import contract, rule_bodies
from api.access import caller, operation_name
from api.exchange import answer, command, ledger, perform
from api.rule_bodies import RuleBody, RulePath
from api.wire import NoQuery, ReasonBody
from ledger import errors, rule_refusals, use_cases
from ledger.aggregate import text_of
from ledger.rules import Rules
from ledger.work import fold

rules = APIBlueprint(
    "rules",
    __name__,
    url_prefix="/v1",
    abp_tags=[Tag(name="rules", description="Coupons issued when something happens to a member or an order.")],
    operation_id_callback=operation_name,
)


@rules.post(
    "/rules",
    responses=contract.write(
        201, rule_bodies.Rule, errors.BatchNotFound, errors.BatchStateConflict, errors.RuleLimitReached
    ),
)
def create_rule(body: RuleBody) -> Response:
    """Issue by a rule from now on."""
    return perform(use_cases.create_rule(command(), body.to_plan()), status=201)


@rules.get("/rules", responses=contract.read(rule_bodies.LiveRules))
def list_rules(query: NoQuery) -> Response:  # noqa: ARG001
    """Read the live rules, and what they could not issue."""
    merchant_id, store = caller().merchant_id, ledger().store
    stream = use_cases.rules_stream(merchant_id)
    live = fold(Rules(stream), store.load([stream]).streams[stream])
    with store.connection() as connection:
        refusals = rule_refusals.by_rule(connection, merchant_id)
    found = [
        {
            **use_cases.rule_answer(rule),
            "created_at": text_of(rule.occurred_at),
            "refusals": [
                {**each._asdict(), "last_at": text_of(each.last_at)} for each in refusals.get(rule.rule_id, ())
            ],
        }
        for rule in live.rules.values()
    ]
    return answer({"rules": found})


@rules.post("/rules/<rule_id>/stop", responses=contract.write(200, rule_bodies.StoppedRule, errors.RuleNotFound))
def stop_rule(path: RulePath, body: ReasonBody) -> Response:
    """Issue nothing more by a rule, for good; coupons that it issued stay valid."""
    return perform(use_cases.stop_rule(command(), path.rule_id, reason=body.reason))

"""What callers send and get about rules."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field, model_validator

from api.answers import Time
from api.wire import Body, Currency, Id, Minor, Parameters, obeying
from ledger.rules import Receiver, RulePlan, Trigger
from ledger.scope import WORD_LIMIT


class RuleBody(Body):
    """When something happens to a member or an order, one coupon of the batch is issued."""

    trigger: Trigger
    batch_id: Id
    receiver: Annotated[
        Receiver, Field(description="`referrer` only of `referred`. To reward both sides, create two rules.")
    ] = "user"
    min_paid_minor: Annotated[Minor, Field(description="Only of `order_paid`: what was paid at least.")] = 0
    currency: Annotated[
        Currency | None,
        Field(description="Only of `order_paid`: what the order is paid in. `min_paid_minor` needs it."),
    ] = None
    tiers: Annotated[
        list[Id],
        Field(max_length=WORD_LIMIT, description="Only of `tier_changed`: the tiers that count; all where empty."),
    ] = Field(default=[])

    @model_validator(mode="after")
    def _obeys(self) -> RuleBody:
        obeying(self.to_plan)
        return self

    def to_plan(self) -> RulePlan:
        """The domain's value."""
        return RulePlan(**vars(self) | {"tiers": tuple(self.tiers)})


class RulePath(Parameters):
    """A rule's id."""

    rule_id: Id


class Rule(BaseModel):
    """A rule."""

    rule_id: str
    trigger: Trigger
    batch_id: str
    receiver: Receiver
    min_paid_minor: int
    currency: str | None
    tiers: list[str]


class RefusalCount(BaseModel):
    """How often the rule could not issue for one reason."""

    code: str = Field(description="The refusal's code, such as `sold_out`.")
    refused: int
    last_request_id: str = Field(description="The rule and the cause of the last one: a user's or an order's id.")
    last_detail: str
    last_at: Time


class LiveRule(Rule):
    """A rule that issues."""

    created_at: Time
    refusals: list[RefusalCount] = Field(description="The newest first.")


class LiveRules(BaseModel):
    """The merchant's live rules, in the order of their creation."""

    rules: list[LiveRule]


class StoppedRule(BaseModel):
    """A rule that issues no more."""

    rule_id: str

"""Rules: coupons that are issued without being asked for, when something happens to a member or an order.

A newcomer's coupon (features.md K12), a referral that rewards one side or both (K11), a tier's gift, and issuing by
the amount spent (D13). All rules of a merchant are one stream, so that a decision reads one stream.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Literal, NamedTuple, get_args

from ledger.aggregate import Aggregate
from ledger.audience import Facts
from ledger.benefit import MONEY_LIMIT_MINOR, bounded, check_ids
from ledger.errors import InvalidField, RuleLimitReached, RuleNotFound
from ledger.events import RuleCreated, RuleStopped
from ledger.request import Request
from ledger.scope import WORD_LIMIT

Trigger = Literal["registered", "referred", "tier_changed", "order_paid"]
Receiver = Literal["user", "referrer"]

RULE_LIMIT = 100
"""Live rules of one merchant: each may issue a coupon for one and the same occasion."""


@dataclass(frozen=True, kw_only=True)
class RulePlan:
    """What a rule is to be; the fields are those of ``rule.created``."""

    trigger: Trigger
    batch_id: str
    receiver: Receiver = "user"
    """Who gets the coupon; a referral that rewards both sides is two rules."""
    min_paid_minor: int = 0
    """Of ``order_paid``: what was paid at least, in ``currency``."""
    currency: str | None = None
    """Of ``order_paid``: the ISO 4217 code of the orders that count; an amount needs it."""
    tiers: tuple[str, ...] = ()
    """Of ``tier_changed``: the tiers reached that count; all where empty."""

    def __post_init__(self) -> None:
        if self.trigger not in get_args(Trigger):
            raise InvalidField("trigger is not a known one", field="trigger")
        if self.receiver not in get_args(Receiver):
            raise InvalidField("receiver is user or referrer", field="receiver")
        if self.receiver == "referrer" and self.trigger != "referred":
            raise InvalidField("only a referral has a referrer", field="receiver")
        bounded("min_paid_minor", self.min_paid_minor, 0, MONEY_LIMIT_MINOR - 1)
        if self.min_paid_minor and self.trigger != "order_paid":
            raise InvalidField("only a paid order has an amount", field="min_paid_minor")
        if self.currency is None:
            if self.min_paid_minor:
                raise InvalidField("an amount needs its currency", field="currency")
        elif self.trigger != "order_paid":
            raise InvalidField("only a paid order has a currency", field="currency")
        elif not re.fullmatch(r"[A-Z]{3}", self.currency):
            raise InvalidField("currency is an ISO 4217 code of three capital letters", field="currency")
        check_ids("tiers", self.tiers, WORD_LIMIT)
        if self.tiers and self.trigger != "tier_changed":
            raise InvalidField("only a change of tier has tiers", field="tiers")


@dataclass(frozen=True, kw_only=True)
class Occasion:
    """Something that happened to a member or an order, for which rules may issue coupons."""

    trigger: Trigger
    user_id: str
    """Whom it happened to: who is new, was referred, reached the tier, or paid."""
    facts: Facts = field(default_factory=Facts)
    referrer_id: str | None = None
    referrer_facts: Facts = field(default_factory=Facts)
    tier: str | None = None
    order_id: str | None = None
    paid_minor: int = 0
    currency: str | None = None
    """In which it was paid, where that is known."""
    at: datetime | None = None
    """When it happened, where history is imported; otherwise it happens now."""

    def __post_init__(self) -> None:
        if self.referrer_id == self.user_id:
            raise InvalidField("nobody refers themselves", field="referrer_id")


class Award(NamedTuple):
    """A coupon that a rule issues for an occasion."""

    rule: RuleCreated
    user_id: str
    facts: Facts
    request_id: str
    """Says rule and cause, and nothing of the message that told of it: told again by any message, it is the same
    request. It begins with a space, so no caller's key and no message's id is like it."""


class Rules(Aggregate):
    """The live rules of one merchant, whose id is the stream's."""

    category = "rules"

    def __init__(self, id: str) -> None:
        super().__init__(id)
        self.rules: dict[str, RuleCreated] = {}
        """By rule id, in the order of their creation."""

    def create(self, request: Request, now: datetime, rule_id: str, plan: RulePlan) -> None:
        """Issue by this rule from now on. Raises ``RuleLimitReached`` when the merchant has 100 already."""
        if len(self.rules) >= RULE_LIMIT:
            raise RuleLimitReached(f"a merchant has at most {RULE_LIMIT} live rules", limit=RULE_LIMIT)
        self.trigger(RuleCreated, request, now, rule_id=rule_id, **asdict(plan) | {"tiers": list(plan.tiers)})

    def stop(self, request: Request, now: datetime, rule_id: str, reason: str) -> None:
        """Issue nothing more by this rule; coupons that it issued stay valid. Raises ``RuleNotFound``."""
        if rule_id not in self.rules:
            raise RuleNotFound(id=rule_id)
        self.trigger(RuleStopped, request, now, rule_id=rule_id, reason=reason)

    def awards(self, occasion: Occasion) -> Iterator[Award]:
        """What these rules issue for it: once for ever a rule and user, or a rule and order."""
        for rule in self.rules.values():
            if _matches(rule, occasion):
                user_id, facts = occasion.user_id, occasion.facts
                if rule.receiver == "referrer":
                    assert occasion.referrer_id is not None
                    user_id, facts = occasion.referrer_id, occasion.referrer_facts
                cause = occasion.order_id or occasion.user_id
                yield Award(rule, user_id, facts, f" rule {rule.rule_id} {rule.trigger} {cause}")


def _matches(rule: RuleCreated, occasion: Occasion) -> bool:
    return (
        rule.trigger == occasion.trigger
        and occasion.paid_minor >= rule.min_paid_minor
        and rule.currency in (None, occasion.currency)
        and (not rule.tiers or occasion.tier in rule.tiers)
        # A rule has no say in what happened before there was one, so importing a past issues nothing anew.
        and (occasion.at is None or occasion.at >= rule.occurred_at)
    )

"""Events of rules: what is issued without being asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ledger.events.base import Event


@dataclass(frozen=True, kw_only=True)
class RuleCreated(Event, topic="rule.created"):
    """From now on a batch's coupon is issued whenever something happens to a member or an order.

    All rules of a merchant are one stream, ``rules-<merchant id>``.
    """

    class_version: ClassVar[int] = 2

    rule_id: str
    trigger: str
    """``registered``, ``referred``, ``tier_changed`` or ``order_paid``."""
    batch_id: str
    receiver: str
    """``user``: whom it happened to; ``referrer``: who brought them."""
    min_paid_minor: int
    """Of ``order_paid``: what the order must have cost."""
    tiers: list[str]
    """Of ``tier_changed``: the tiers reached that count; all where empty."""
    currency: str | None
    """Of ``order_paid``: what the order must have been paid in (ISO 4217); any, where ``None``."""

    @staticmethod
    def upcast_v1_v2(payload: dict[str, Any]) -> None:
        """Version 1 compared amounts of any currency."""
        payload["currency"] = None

    def apply(self, aggregate: Any) -> None:
        aggregate.merchant_id = self.merchant_id
        aggregate.rules[self.rule_id] = self


@dataclass(frozen=True, kw_only=True)
class RuleStopped(Event, topic="rule.stopped"):
    """The rule issues no more."""

    rule_id: str
    reason: str

    def apply(self, aggregate: Any) -> None:
        aggregate.rules.pop(self.rule_id, None)

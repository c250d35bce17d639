"""Events of templates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ledger.events.base import Event

_TERMS_SINCE_V2: dict[str, Any] = {
    "use_hours": [],
    "time_zone": "UTC",
    "stacking_group": None,
    "priority": 0,
    "order_cap_permyriad": None,
    "live_locks_per_user": None,
    "late_confirm": "refuse",
    "transferable": False,
    "shareable": False,
    "points_price": None,
}


def _terms_v1_v2(payload: dict[str, Any]) -> None:
    """Version 2 has more kinds of terms, and a description; version 1 had what is the default now."""
    terms = payload["terms"]
    benefit = terms["benefit"] | {"products": [], "units": None, "leaves_balance": False}
    lists = ("excluded_products", "excluded_categories", "excluded_shops", "order_types", "user_types", "channels")
    scope = terms["scope"] | {name: [] for name in lists}
    payload["description"] = ""
    payload["terms"] = terms | _TERMS_SINCE_V2 | {"benefit": benefit, "scope": scope}


def _terms_v2_v3(payload: dict[str, Any]) -> None:
    """Version 3 knows reminders; nobody was reminded of coupons of version 2."""
    none: dict[str, Any] = {"days_before": [], "quiet_from_minute": None, "quiet_until_minute": None}
    payload["terms"] = payload["terms"] | {"reminders": none}


@dataclass(frozen=True, kw_only=True)
class TemplateCreated(Event, topic="template.created"):
    """Terms of an offer were defined. ``terms`` is ``Terms.to_payload()``; product lists live only here."""

    class_version: ClassVar[int] = 3
    upcast_v1_v2 = staticmethod(_terms_v1_v2)
    upcast_v2_v3 = staticmethod(_terms_v2_v3)

    name: str
    description: str
    terms: dict[str, Any]

    def apply(self, aggregate: Any) -> None:
        aggregate.merchant_id = self.merchant_id
        aggregate.name = self.name
        aggregate.description = self.description
        aggregate.terms = self.terms


@dataclass(frozen=True, kw_only=True)
class TemplateRevised(Event, topic="template.revised"):
    """The terms changed for batches to come; coupons already issued keep the version that they pinned."""

    class_version: ClassVar[int] = 3
    upcast_v1_v2 = staticmethod(_terms_v1_v2)
    upcast_v2_v3 = staticmethod(_terms_v2_v3)

    name: str
    description: str
    terms: dict[str, Any]

    def apply(self, aggregate: Any) -> None:
        aggregate.name = self.name
        aggregate.description = self.description
        aggregate.terms = self.terms

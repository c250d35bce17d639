"""Of what about a batch its makers want to hear: thresholds, each told once when it is crossed."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ledger.benefit import bounded_if_given
from ledger.errors import InvalidField

UNITS_LIMIT = 1_000_000_000


@dataclass(frozen=True, kw_only=True)
class Alerts:
    """Thresholds of one batch; nothing is told of those that are left out."""

    stock_below: int | None = None
    """Fewer coupons than this are left to issue."""
    budget_spent_permyriad: int | None = None
    """This part of the budget is spent, or more."""
    claims_per_minute: int | None = None
    """More coupons than this were issued in one minute of the clock."""

    def __post_init__(self) -> None:
        bounded_if_given("alerts.stock_below", self.stock_below, 1, UNITS_LIMIT)
        bounded_if_given("alerts.budget_spent_permyriad", self.budget_spent_permyriad, 1, 10_000)
        bounded_if_given("alerts.claims_per_minute", self.claims_per_minute, 1, UNITS_LIMIT)

    def check_budget(self, budget_minor: int | None) -> None:
        """Raise ``InvalidField`` when there is no budget to be told of."""
        if self.budget_spent_permyriad is not None and budget_minor is None:
            raise InvalidField("the batch has no budget to be told of", field="alerts")

    def to_payload(self) -> dict[str, Any]:
        """The form that an event stores: only the thresholds that there are."""
        return {name: threshold for name, threshold in asdict(self).items() if threshold is not None}

    @classmethod
    def from_payload(cls, payload: dict[str, Any]) -> Alerts:
        """As an event stored it."""
        return cls(**payload)

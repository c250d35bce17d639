"""The terms of an offer, as data: benefit, threshold, scope, hours, stacking, funders, return policy,
reminders.

They are value objects, written whole into ``template.created`` and pinned by each coupon through the template's
version. Money is integer minor units, shares are permyriad (1/10,000).
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Literal, get_args

from ledger.benefit import MONEY_LIMIT_MINOR, Benefit, bounded, bounded_if_given
from ledger.calendar import zone
from ledger.errors import InvalidField
from ledger.reminders import Reminders
from ledger.scope import WORD_LIMIT, Scope, UseHours

LOCK_TTL_LIMIT_SECONDS = 86_400
"""A lock may hold a coupon for a day at most: one without an end keeps it from everybody."""
GRACE_LIMIT_DAYS = 366
PRIORITY_LIMIT = 1_000_000
POINTS_LIMIT = 10**12
LIVE_LOCKS_LIMIT = 10_000

ReturnReason = Literal["order_cancelled", "merchant_refund", "buyer_refund"]
ReturnRule = Literal["restore", "keep_used", "restore_with_grace"]
StackingMode = Literal["exclusive", "stackable", "group"]
LateConfirm = Literal["refuse", "accept"]


@dataclass(frozen=True, kw_only=True)
class ReturnPolicy:
    """Whether a used coupon comes back, by reason: the sources contradict each other, so it is data.

    Defaults are those of features.md U13 to U15: back when the order is cancelled or the merchant refunds, kept when
    the buyer asks for the refund.
    """

    order_cancelled: ReturnRule = "restore"
    merchant_refund: ReturnRule = "restore"
    buyer_refund: ReturnRule = "keep_used"
    grace_days: int = 0

    def __post_init__(self) -> None:
        rules = {reason: getattr(self, reason) for reason in get_args(ReturnReason)}
        for reason, rule in rules.items():
            if rule not in get_args(ReturnRule):
                raise InvalidField(f"return_policy.{reason} is not a known rule", field=f"return_policy.{reason}")
        bounded("return_policy.grace_days", self.grace_days, 0, GRACE_LIMIT_DAYS)
        if "restore_with_grace" in rules.values() and not self.grace_days:
            raise InvalidField("restore_with_grace needs grace_days", field="return_policy.grace_days")

    def rule(self, reason: str) -> ReturnRule:
        """The rule for a return reason. Raises ``InvalidField`` for an unknown one."""
        if reason not in get_args(ReturnReason):
            raise InvalidField(f"unknown return reason {reason!r}", field="reason")
        rule: ReturnRule = getattr(self, reason)
        return rule


@dataclass(frozen=True, kw_only=True)
class Terms:
    """Everything that a template version fixes."""

    benefit: Benefit
    currency: str
    min_spend_minor: int = 0
    """What the lines in scope must cost together, before any coupon."""
    scope: Scope = field(default_factory=Scope)
    use_hours: tuple[UseHours, ...] = ()
    """When it may be used; always, where empty."""
    time_zone: str = "UTC"
    """The merchant's IANA zone, whose clock ``use_hours`` and ``reminders`` are on."""
    stacking_mode: StackingMode = "exclusive"
    """``exclusive``: alone; ``group``: with others, but with one of its ``stacking_group`` only; ``stackable``."""
    stacking_group: str | None = None
    priority: int = 0
    """The higher comes off first."""
    order_cap_permyriad: int | None = None
    """With this coupon on it, coupons take at most this part of an order's total off."""
    return_policy: ReturnPolicy = field(default_factory=ReturnPolicy)
    lock_ttl_seconds: int = 900
    live_locks_per_user: int | None = None
    """Coupons of this template that one user may hold locked at once."""
    late_confirm: LateConfirm = "refuse"
    """Whether a confirmation counts that comes after the lock's end, while nobody else holds the coupon."""
    transferable: bool = False
    """Whether its owner may give it to another user."""
    shareable: bool = False
    """Whether its owner may let friends use it too (features.md K14)."""
    points_price: int | None = None
    """Points that a user pays for one (features.md S10); each claim then names the receipt of the points."""
    merchant_share_permyriad: int = 10_000
    """The part of each discount that the merchant funds; the platform funds the rest."""
    reminders: Reminders = field(default_factory=Reminders)
    """When the owner is told that the coupon ends."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Z]{3}", self.currency):
            raise InvalidField("currency is an ISO 4217 code of three capital letters", field="currency")
        if self.stacking_mode not in get_args(StackingMode):
            raise InvalidField("stacking_mode is exclusive, stackable or group", field="stacking_mode")
        if (self.stacking_mode == "group") != (self.stacking_group is not None):
            raise InvalidField("stacking_group is of the stacking_mode group, which needs it", field="stacking_group")
        if self.stacking_group is not None and not (
            1 <= len(self.stacking_group) <= WORD_LIMIT and self.stacking_group.isprintable()
        ):
            raise InvalidField(f"stacking_group has 1 to {WORD_LIMIT} printable characters", field="stacking_group")
        if self.late_confirm not in get_args(LateConfirm):
            raise InvalidField("late_confirm is refuse or accept", field="late_confirm")
        for name in ("transferable", "shareable"):
            if type(getattr(self, name)) is not bool:
                raise InvalidField(f"{name} is true or false", field=name)
        if len(self.use_hours) > WORD_LIMIT:
            raise InvalidField(f"use_hours have at most {WORD_LIMIT} entries", field="use_hours")
        zone(self.time_zone)
        bounded("min_spend_minor", self.min_spend_minor, 0, MONEY_LIMIT_MINOR)
        bounded("priority", self.priority, -PRIORITY_LIMIT, PRIORITY_LIMIT)
        bounded_if_given("order_cap_permyriad", self.order_cap_permyriad, 1, 10_000)
        bounded_if_given("live_locks_per_user", self.live_locks_per_user, 1, LIVE_LOCKS_LIMIT)
        bounded_if_given("points_price", self.points_price, 1, POINTS_LIMIT)
        bounded("lock_ttl_seconds", self.lock_ttl_seconds, 1, LOCK_TTL_LIMIT_SECONDS)
        bounded("merchant_share_permyriad", self.merchant_share_permyriad, 0, 10_000)

    def usable_at(self, now: datetime) -> bool:
        """Whether ``use_hours`` hold at that instant."""
        if not self.use_hours:
            return True
        local = now.astimezone(zone(self.time_zone))
        return any(hours.hold(local) for hours in self.use_hours)

    def merchant_funded_minor(self, discount_minor: int) -> int:
        """The merchant's part of a discount, rounded down; the platform's part is the remainder."""
        return discount_minor * self.merchant_share_permyriad // 10_000

    def to_payload(self) -> dict[str, Any]:
        """The form that an event stores."""
        payload: dict[str, Any] = _plain(asdict(self))
        return payload

    @classmethod
    def from_payload(cls, payload: dict[str, Any]) -> Terms:
        """The terms that an event stored, or that a caller sent. Raises ``InvalidField``."""
        values = dict(payload)
        scope = values.get("scope") or {}
        try:
            benefit = values["benefit"]
            return cls(
                **{
                    **values,
                    "benefit": Benefit(**{**benefit, "products": _listed(benefit.get("products", ()))}),
                    "scope": Scope(**{name: _listed(ids) for name, ids in scope.items()}),
                    "use_hours": tuple(UseHours.from_payload(hours) for hours in _listed(values.get("use_hours", ()))),
                    "return_policy": ReturnPolicy(**(values.get("return_policy") or {})),
                    "reminders": Reminders.from_payload(values.get("reminders") or {}),
                }
            )
        except (AttributeError, KeyError, TypeError) as error:
            raise InvalidField(f"terms have a wrong form: {error}", field="terms") from None


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


def _listed(ids: Any) -> tuple[Any, ...]:
    if not isinstance(ids, list | tuple):
        raise TypeError("a list is a list")
    return tuple(ids)

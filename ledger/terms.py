"""The terms of an offer, as data: benefit, threshold, scope, funders, return policy.

They are value objects, written whole into ``template.created`` and pinned by each coupon through the template's
version. Money is integer minor units, shares are permyriad (1/10,000).
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from ledger.errors import InvalidField

MONEY_LIMIT_MINOR = 10**12
"""No single amount reaches this: ten billion of a currency with two decimals."""
LOCK_TTL_LIMIT_SECONDS = 86_400
"""A lock may hold a coupon for a day at most (features.md E: locks that never end)."""
GRACE_LIMIT_DAYS = 366
SCOPE_LIMIT = 50_000
"""Products that one template version may list."""

BenefitKind = Literal["amount_off", "percent_off", "order_stated"]
ReturnReason = Literal["order_cancelled", "merchant_refund", "buyer_refund"]
ReturnRule = Literal["restore", "keep_used", "restore_with_grace"]
StackingMode = Literal["exclusive", "stackable"]


@dataclass(frozen=True, kw_only=True)
class Benefit:
    """What the shopper gets.

    ``amount_off`` takes ``value_minor`` off; ``percent_off`` takes ``percent_permyriad`` of the total off, at most
    ``max_discount_minor``; ``order_stated`` leaves the amount to the order system, at most ``max_discount_minor``
    (a manufacturer's coupon that the till values).
    """

    kind: BenefitKind
    value_minor: int | None = None
    percent_permyriad: int | None = None
    max_discount_minor: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in get_args(BenefitKind):
            raise InvalidField("benefit.kind is not a known kind", field="benefit.kind")
        required = {"amount_off": "value_minor", "percent_off": "percent_permyriad"}.get(self.kind)
        for name in ("value_minor", "percent_permyriad"):
            if (name == required) != (getattr(self, name) is not None):
                raise InvalidField(
                    f"benefit.{name} {'is required' if name == required else 'is not allowed'} for {self.kind}",
                    field=f"benefit.{name}",
                )
        for name in ("value_minor", "percent_permyriad", "max_discount_minor"):
            if (value := getattr(self, name)) is not None:
                _bounded(f"benefit.{name}", value, 1, 10_000 if name == "percent_permyriad" else MONEY_LIMIT_MINOR)

    def most_minor(self, order_total_minor: int | None) -> int | None:
        """The largest discount that these terms allow on such an order; ``None`` where nothing bounds it."""
        bounds = [self.max_discount_minor, order_total_minor]
        if self.kind == "amount_off":
            bounds.append(self.value_minor)
        if self.percent_permyriad is not None and order_total_minor is not None:
            bounds.append(-(-order_total_minor * self.percent_permyriad // 10_000))
        known = [bound for bound in bounds if bound is not None]
        return min(known) if known else None


@dataclass(frozen=True, kw_only=True)
class Scope:
    """What the coupon may be used on. Empty lists mean everything."""

    products: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    shops: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        lists = (self.products, self.categories, self.shops)
        if max(map(len, lists)) > SCOPE_LIMIT:
            raise InvalidField(f"a scope list holds at most {SCOPE_LIMIT} entries", field="scope")
        if not all(type(id) is str and id and id.isprintable() for ids in lists for id in ids):
            raise InvalidField("a scope list holds ids of printable characters", field="scope")


@dataclass(frozen=True, kw_only=True)
class ReturnPolicy:
    """Whether a used coupon comes back, by reason: the sources contradict each other, so it is data.

    Defaults follow source 001 (U13 to U15): back when the order is cancelled or the merchant refunds, kept when
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
        _bounded("return_policy.grace_days", self.grace_days, 0, GRACE_LIMIT_DAYS)
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
    scope: Scope = field(default_factory=Scope)
    stacking_mode: StackingMode = "exclusive"
    return_policy: ReturnPolicy = field(default_factory=ReturnPolicy)
    lock_ttl_seconds: int = 900
    merchant_share_permyriad: int = 10_000
    """The part of each discount that the merchant funds; the platform funds the rest."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Z]{3}", self.currency):
            raise InvalidField("currency is an ISO 4217 code of three capital letters", field="currency")
        if self.stacking_mode not in get_args(StackingMode):
            raise InvalidField("stacking_mode is exclusive or stackable", field="stacking_mode")
        _bounded("min_spend_minor", self.min_spend_minor, 0, MONEY_LIMIT_MINOR)
        _bounded("lock_ttl_seconds", self.lock_ttl_seconds, 1, LOCK_TTL_LIMIT_SECONDS)
        _bounded("merchant_share_permyriad", self.merchant_share_permyriad, 0, 10_000)

    def merchant_funded_minor(self, discount_minor: int) -> int:
        """The merchant's part of a discount, rounded down; the platform's part is the remainder."""
        return discount_minor * self.merchant_share_permyriad // 10_000

    def to_payload(self) -> dict[str, Any]:
        """The form that an event stores."""
        scope = {name: list(ids) for name, ids in asdict(self.scope).items()}
        return asdict(self) | {"scope": scope}

    @classmethod
    def from_payload(cls, payload: dict[str, Any]) -> Terms:
        """The terms that an event stored, or that a caller sent. Raises ``InvalidField``."""
        values = dict(payload)
        scope = values.get("scope") or {}
        try:
            return cls(
                **{
                    **values,
                    "benefit": Benefit(**values["benefit"]),
                    "scope": Scope(**{name: _listed(ids) for name, ids in scope.items()}),
                    "return_policy": ReturnPolicy(**(values.get("return_policy") or {})),
                }
            )
        except (AttributeError, KeyError, TypeError) as error:
            raise InvalidField(f"terms have a wrong form: {error}", field="terms") from None


def _listed(ids: Any) -> tuple[str, ...]:
    if not isinstance(ids, list | tuple):
        raise TypeError("a scope list is a list")
    return tuple(ids)


def _bounded(name: str, value: int, least: int, most: int) -> None:
    if not (type(value) is int and least <= value <= most):
        raise InvalidField(f"{name} is a whole number from {least} to {most}", field=name)

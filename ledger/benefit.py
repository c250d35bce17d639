"""What a coupon gives: nine kinds that a ledger values itself, and one that it leaves to the order system."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from ledger.errors import InvalidField

MONEY_LIMIT_MINOR = 10**12
"""No single amount reaches this: ten billion of a currency with two decimals."""
ITEM_LIMIT = 1_000
"""Products that a gift, trial or exchange may name."""
UNITS_LIMIT = 10_000

BenefitKind = Literal[
    "amount_off",
    "percent_off",
    "fixed_price",
    "gift",
    "exchange",
    "trial",
    "cash_voucher",
    "free_shipping",
    "order_stated",
]

_FIELDS: dict[str, tuple[set[str], set[str]]] = {
    "amount_off": ({"value_minor"}, {"max_discount_minor"}),
    "percent_off": ({"percent_permyriad"}, {"max_discount_minor"}),
    "fixed_price": ({"value_minor"}, {"units", "max_discount_minor"}),
    "gift": ({"products"}, {"units", "max_discount_minor"}),
    "exchange": ({"value_minor", "products"}, {"units", "max_discount_minor"}),
    "trial": ({"products"}, {"units", "max_discount_minor"}),
    "cash_voucher": ({"value_minor"}, {"leaves_balance"}),
    "free_shipping": (set(), {"max_discount_minor"}),
    "order_stated": (set(), {"max_discount_minor"}),
}
"""Fields that a kind needs, and those that it may have besides."""


@dataclass(frozen=True, kw_only=True)
class Benefit:
    """What the shopper gets.

    - ``amount_off`` takes ``value_minor`` off what is in scope; without a minimum spend it is the no-threshold coupon.
    - ``percent_off`` takes ``percent_permyriad`` of it off, at most ``max_discount_minor``.
    - ``fixed_price`` sells each of at most ``units`` units in scope (1 unless told) at ``value_minor``.
    - ``gift`` and ``trial`` give ``units`` units of one of ``products`` in the basket away.
    - ``exchange`` does so for an addition of ``value_minor`` a unit.
    - ``cash_voucher`` is worth ``value_minor`` like money; with ``leaves_balance`` what is not spent stays on it.
    - ``free_shipping`` takes the shipping cost off.
    - ``order_stated`` leaves the amount to the order system (a manufacturer's coupon that the till values).
    """

    kind: BenefitKind
    value_minor: int | None = None
    percent_permyriad: int | None = None
    max_discount_minor: int | None = None
    products: tuple[str, ...] = ()
    units: int | None = None
    leaves_balance: bool = False

    def __post_init__(self) -> None:
        if self.kind not in get_args(BenefitKind):
            raise InvalidField("benefit.kind is not a known kind", field="benefit.kind")
        needed, allowed = _FIELDS[self.kind]
        given = {name for name, value in vars(self).items() if name != "kind" and value not in (None, (), False)}
        for name in sorted(needed - given):
            raise InvalidField(f"benefit.{name} is required for {self.kind}", field=f"benefit.{name}")
        for name in sorted(given - needed - allowed):
            raise InvalidField(f"benefit.{name} is not allowed for {self.kind}", field=f"benefit.{name}")
        bounded_if_given("benefit.value_minor", self.value_minor, 1, MONEY_LIMIT_MINOR)
        bounded_if_given("benefit.max_discount_minor", self.max_discount_minor, 1, MONEY_LIMIT_MINOR)
        bounded_if_given("benefit.percent_permyriad", self.percent_permyriad, 1, 10_000)
        bounded_if_given("benefit.units", self.units, 1, UNITS_LIMIT)
        check_ids("benefit.products", self.products, ITEM_LIMIT)
        if type(self.leaves_balance) is not bool:
            raise InvalidField("benefit.leaves_balance is true or false", field="benefit.leaves_balance")

    @property
    def most_units(self) -> int:
        """Units that a fixed price, gift, trial or exchange applies to."""
        return self.units or 1

    @property
    def needs_basket(self) -> bool:
        """Whether nothing but the order's lines bounds what it takes off."""
        return self.worth_minor is None and self.kind not in ("percent_off", "order_stated")

    @property
    def worth_minor(self) -> int | None:
        """The most that one coupon can ever take off; ``None`` where the basket alone bounds it."""
        if self.kind in ("amount_off", "cash_voucher"):
            known = [self.value_minor, self.max_discount_minor]
            return min(bound for bound in known if bound is not None)
        return self.max_discount_minor

    def most_minor(self, order_total_minor: int | None) -> int | None:
        """The largest discount that these terms allow on such an order; ``None`` where nothing bounds it."""
        bounds = [self.worth_minor, order_total_minor if self.kind != "free_shipping" else None]
        if self.percent_permyriad is not None and order_total_minor is not None:
            bounds.append(-(-order_total_minor * self.percent_permyriad // 10_000))
        known = [bound for bound in bounds if bound is not None]
        return min(known) if known else None


def bounded(name: str, value: int | None, least: int, most: int) -> None:
    """Raise ``InvalidField`` unless it is a whole number within the bounds."""
    if not (type(value) is int and least <= value <= most):
        raise InvalidField(f"{name} is a whole number from {least} to {most}", field=name)


def bounded_if_given(name: str, value: int | None, least: int, most: int) -> None:
    """The same, where it may be absent."""
    if value is not None:
        bounded(name, value, least, most)


def check_ids(name: str, ids: tuple[str, ...], limit: int) -> None:
    """Raise ``InvalidField`` unless these are at most so many ids of printable characters."""
    if len(ids) > limit:
        raise InvalidField(f"{name} holds at most {limit} entries", field=name)
    if not all(type(id) is str and id and id.isprintable() for id in ids):
        raise InvalidField(f"{name} holds ids of printable characters", field=name)

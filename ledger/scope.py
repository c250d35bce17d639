"""Scope: on which lines of which orders, and when, a coupon may be used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from functools import cached_property
from typing import Any, get_args

from ledger.basket import Basket, Channel, Line
from ledger.benefit import bounded, check_ids
from ledger.errors import InvalidField

SCOPE_LIMIT = 50_000
"""Products that one template version may list."""
WORD_LIMIT = 100
"""Order types, user types, use hours."""
MINUTES_OF_DAY = 24 * 60


class Places:
    """On which lines of a basket each product, category and shop stands: a bit for each line."""

    def __init__(self, lines: Sequence[Line]) -> None:
        self.all = (1 << len(lines)) - 1
        self._found: dict[str, dict[str | None, int]] = {"products": {}, "categories": {}, "shops": {}}
        products, categories, shops = self._found.values()
        for index, line in enumerate(lines):
            bit = 1 << index
            products[line.product_id] = products.get(line.product_id, 0) | bit
            shops[line.shop_id] = shops.get(line.shop_id, 0) | bit
            for category in line.categories:
                categories[category] = categories.get(category, 0) | bit

    def of(self, name: str, ids: frozenset[str]) -> int:
        """The lines on which one of these products, categories or shops stands."""
        found = self._found[name]
        lines = 0
        for id in ids.intersection(found):
            lines |= found[id]
        return lines


@dataclass(frozen=True, kw_only=True)
class Scope:
    """What the coupon may be used on. An empty list allows everything; an exclusion always wins.

    A line is covered when its product *or* one of its categories is listed (features.md S3, S4), and its shop is (S2).
    ``order_types`` (S5), ``user_types`` (S6) and ``channels`` are of the whole order.
    """

    products: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    shops: tuple[str, ...] = ()
    excluded_products: tuple[str, ...] = ()
    excluded_categories: tuple[str, ...] = ()
    excluded_shops: tuple[str, ...] = ()
    order_types: tuple[str, ...] = ()
    user_types: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for of in fields(self):
            goods = "products" in of.name or "categories" in of.name or "shops" in of.name
            check_ids(f"scope.{of.name}", getattr(self, of.name), SCOPE_LIMIT if goods else WORD_LIMIT)
        if not set(self.channels) <= set(get_args(Channel)):
            raise InvalidField("scope.channels are online and in_store", field="scope.channels")

    @cached_property
    def _sets(self) -> dict[str, frozenset[str]]:
        return {of.name: frozenset(getattr(self, of.name)) for of in fields(self)}

    def covered(self, places: Places) -> int:
        """The lines that the coupon may take something off, as a bit for each."""
        admitted = self.admitted(places)
        if not (self.products or self.categories):
            return admitted
        sets = self._sets
        listed = places.of("products", sets["products"]) | places.of("categories", sets["categories"])
        return admitted & listed

    def admitted(self, places: Places) -> int:
        """The lines of its shops that no exclusion names: what it gives away is one of them, listed or not."""
        sets = self._sets
        found = places.of("shops", sets["shops"]) if self.shops else places.all
        for name in ("products", "categories", "shops"):
            if excluded := sets[f"excluded_{name}"]:
                found &= ~places.of(name, excluded)
        return found

    def misses_of(self, basket: Basket) -> str | None:
        """The field of the order that is out of scope: ``order_type``, ``user_types`` or ``channel``."""
        if self.order_types and basket.order_type not in self.order_types:
            return "order_type"
        if self.user_types and not set(self.user_types).intersection(basket.user_types):
            return "user_types"
        if self.channels and basket.channel not in self.channels:
            return "channel"
        return None


@dataclass(frozen=True, kw_only=True)
class UseHours:
    """Hours of some weekdays in which a coupon may be used, on the clock of its merchant's zone.

    Minutes count from midnight, half-open; 1440 is the end of the day. Hours past midnight are two entries.
    """

    weekdays: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 7)
    """ISO 8601: 1 is Monday."""
    from_minute: int = 0
    until_minute: int = MINUTES_OF_DAY

    def __post_init__(self) -> None:
        if not self.weekdays or len(set(self.weekdays)) != len(self.weekdays):
            raise InvalidField("use_hours.weekdays are different days", field="use_hours.weekdays")
        for day in self.weekdays:
            bounded("use_hours.weekdays", day, 1, 7)
        bounded("use_hours.from_minute", self.from_minute, 0, MINUTES_OF_DAY - 1)
        bounded("use_hours.until_minute", self.until_minute, 1, MINUTES_OF_DAY)
        if self.from_minute >= self.until_minute:
            raise InvalidField("use_hours end after they begin", field="use_hours.until_minute")

    def hold(self, local: datetime) -> bool:
        """Whether this moment of the merchant's clock is within them."""
        return (
            local.isoweekday() in self.weekdays
            and self.from_minute <= local.hour * 60 + local.minute < self.until_minute
        )

    @classmethod
    def from_payload(cls, payload: dict[str, Any]) -> UseHours:
        """As an event stored it."""
        return cls(**(payload | {"weekdays": tuple(payload["weekdays"])} if "weekdays" in payload else payload))

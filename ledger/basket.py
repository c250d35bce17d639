"""The basket: what an order system says is being bought."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from ledger.benefit import MONEY_LIMIT_MINOR, bounded
from ledger.errors import InvalidField

LINE_LIMIT = 1_000
QUANTITY_LIMIT = 100_000
CATEGORY_LIMIT = 50

Channel = Literal["online", "in_store"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One product in a basket."""

    line_id: str
    product_id: str
    quantity: int = 1
    unit_price_minor: int
    discounted_minor: int = 0
    """Taken off the whole line already, by price cuts that are not coupons."""
    categories: tuple[str, ...] = ()
    shop_id: str | None = None

    @property
    def amount_minor(self) -> int:
        """What the line costs before coupons."""
        return self.quantity * self.unit_price_minor - self.discounted_minor

    def __post_init__(self) -> None:
        bounded("quantity", self.quantity, 1, QUANTITY_LIMIT)
        bounded("unit_price_minor", self.unit_price_minor, 0, MONEY_LIMIT_MINOR - 1)
        bounded("discounted_minor", self.discounted_minor, 0, MONEY_LIMIT_MINOR - 1)
        if not 0 <= self.amount_minor < MONEY_LIMIT_MINOR:
            raise InvalidField("a line costs from 0 to below 10^12 after discounted_minor", field="discounted_minor")
        if len(self.categories) > CATEGORY_LIMIT:
            raise InvalidField(f"a line has at most {CATEGORY_LIMIT} categories", field="categories")


@dataclass(frozen=True, slots=True, kw_only=True)
class Basket:
    """The lines of one order, and how it is placed."""

    lines: tuple[Line, ...]
    currency: str
    shipping_minor: int = 0
    order_type: str = "standard"
    """The caller's word, such as ``group_purchase``; scopes compare it."""
    channel: Channel = "online"
    user_types: tuple[str, ...] = field(default=())
    """The caller's words for what the buyer is, such as ``student``."""

    def __post_init__(self) -> None:
        if not 1 <= len(self.lines) <= LINE_LIMIT:
            raise InvalidField(f"a basket has 1 to {LINE_LIMIT} lines", field="lines")
        if len({line.line_id for line in self.lines}) != len(self.lines):
            raise InvalidField("a line is named twice", field="lines")
        if self.channel not in get_args(Channel):
            raise InvalidField("channel is online or in_store", field="channel")
        bounded("shipping_minor", self.shipping_minor, 0, MONEY_LIMIT_MINOR - 1)
        if self.total_minor + self.shipping_minor >= MONEY_LIMIT_MINOR:
            raise InvalidField("a basket costs less than 10^12", field="lines")

    @property
    def total_minor(self) -> int:
        """What the lines cost before coupons, without shipping."""
        return sum(line.amount_minor for line in self.lines)

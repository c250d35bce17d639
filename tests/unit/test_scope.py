"""Scope and hours: which lines of which orders a coupon covers, and when."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from ledger.basket import Basket, Line
from ledger.errors import InvalidField
from ledger.scope import Places, Scope, UseHours


def line(product_id: str = "p", categories: tuple[str, ...] = ("c",), shop_id: str = "s") -> Line:
    return Line(line_id="1", product_id=product_id, categories=categories, shop_id=shop_id, quantity=1,
                unit_price_minor=100)  # fmt: skip


def basket(**fields: Any) -> Basket:
    return Basket(**{"currency": "EUR", "lines": (line(),), **fields})


@pytest.mark.parametrize(
    ("scope", "covered"),
    [
        ({}, True),
        ({"products": ("p",)}, True),
        ({"products": ("q",)}, False),
        ({"categories": ("c", "d")}, True),
        ({"categories": ("d",)}, False),
        ({"products": ("q",), "categories": ("c",)}, True),
        ({"products": ("p",), "categories": ("d",)}, True),
        ({"shops": ("s",)}, True),
        ({"shops": ("t",)}, False),
        ({"products": ("p",), "shops": ("t",)}, False),
        ({"products": ("p",), "excluded_products": ("p",)}, False),
        ({"products": ("p",), "excluded_categories": ("c",)}, False),
        ({"shops": ("s",), "excluded_shops": ("s",)}, False),
        ({"excluded_products": ("q",), "excluded_categories": ("d",), "excluded_shops": ("t",)}, True),
    ],
)
def test_lines(scope: dict[str, Any], covered: bool) -> None:
    assert (Scope(**scope).covered(Places((line(),))) == 1) is covered


def test_a_line_without_category_is_in_none() -> None:
    assert Scope(categories=("c",)).covered(Places((line(categories=()),))) == 0
    assert Scope(excluded_categories=("c",)).covered(Places((line(categories=()),))) == 1


@pytest.mark.parametrize(
    ("scope", "order", "missed"),
    [
        ({}, {}, None),
        ({"order_types": ("group",)}, {"order_type": "group"}, None),
        ({"order_types": ("group",)}, {"order_type": "normal"}, "order_type"),
        ({"order_types": ("group",)}, {}, "order_type"),
        ({"user_types": ("staff", "vip")}, {"user_types": ("vip",)}, None),
        ({"user_types": ("staff",)}, {"user_types": ("vip",)}, "user_types"),
        ({"user_types": ("staff",)}, {}, "user_types"),
        ({"channels": ("in_store",)}, {"channel": "in_store"}, None),
        ({"channels": ("in_store",)}, {"channel": "online"}, "channel"),
    ],
)
def test_orders(scope: dict[str, Any], order: dict[str, Any], missed: str | None) -> None:
    assert Scope(**scope).misses_of(basket(**order)) == missed


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"products": ("p",) * 50_001}, "scope.products"),
        ({"excluded_shops": ("",)}, "scope.excluded_shops"),
        ({"order_types": ("t",) * 101}, "scope.order_types"),
        ({"user_types": (1,)}, "scope.user_types"),
        ({"channels": ("mail",)}, "scope.channels"),
    ],
)
def test_bounds(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidField) as caught:
        Scope(**fields)
    assert caught.value.facts["field"] == field


WORKDAYS = UseHours(weekdays=(1, 2, 3, 4, 5), from_minute=11 * 60, until_minute=14 * 60)


@pytest.mark.parametrize(
    ("hours", "local", "held"),
    [
        (UseHours(), "2026-11-22 00:00", True),
        (UseHours(), "2026-11-22 23:59:59.999999", True),
        (WORKDAYS, "2026-11-23 10:59:59.999999", False),
        (WORKDAYS, "2026-11-23 11:00", True),
        (WORKDAYS, "2026-11-23 13:59:59.999999", True),
        (WORKDAYS, "2026-11-23 14:00", False),
        (WORKDAYS, "2026-11-22 12:00", False),  # a Sunday
        (UseHours(weekdays=(7,)), "2026-11-22 12:00", True),
    ],
)
def test_hours(hours: UseHours, local: str, held: bool) -> None:
    assert hours.hold(datetime.fromisoformat(local).replace(tzinfo=ZoneInfo("Europe/Berlin"))) is held


@pytest.mark.parametrize(
    "fields",
    [
        {"weekdays": ()},
        {"weekdays": (0,)},
        {"weekdays": (8,)},
        {"weekdays": (1, 1)},
        {"from_minute": -1},
        {"from_minute": 1_440},
        {"until_minute": 0},
        {"until_minute": 1_441},
        {"from_minute": 60, "until_minute": 60},
        {"from_minute": 60, "until_minute": 59},
        {"from_minute": True},
    ],
)
def test_hours_have_bounds(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidField) as caught:
        UseHours(**fields)
    assert caught.value.facts["field"].startswith("use_hours.")

"""What is inside order messages: strict in every part, with room for the largest basket, and lenient with the old."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from jsonschema import Draft202012Validator

from consumers.messages import Undecodable, Wire, decode, encode
from consumers.payloads import PAYLOADS, BasketLine, OrderBasket, OrderCreated, OrderPaid, OrderRefunded
from ledger.basket import CATEGORY_LIMIT, LINE_LIMIT, QUANTITY_LIMIT
from ledger.benefit import MONEY_LIMIT_MINOR
from ledger.redemption import ALLOCATION_LIMIT
from ledger.scope import WORD_LIMIT

FOLDER = Path(__file__).parents[2] / "docs" / "contracts"
LINE = {"line_id": "1", "product_id": "tea", "unit_price_minor": 1_300}
BASKET = {"lines": [LINE], "currency": "EUR"}
ORDER = {"merchant_id": "m-1", "order_id": "o-1"}
CREATED = {**ORDER, "user_id": "u-1", "coupon_ids": ["c-1"]}
REFUNDED = {**ORDER, "coupon_ids": ["c-1"], "reason": "merchant_refund"}
LONG = "x" * 129
NO_MINOR = (-1, 1.5, "1", True, MONEY_LIMIT_MINOR)


def said(kind: str, fields: dict[str, Any]) -> Wire:
    """A message of this type with exactly these fields."""
    sample = PAYLOADS["order.cancelled.v1"](**{**ORDER, "coupon_ids": ["c-1"]})
    wire = encode(sample, source="/shop", id="1", time=datetime(2026, 11, 21, tzinfo=UTC))
    headers = [(name, kind.encode() if name == "ce_type" else value) for name, value in wire.headers]
    return wire._replace(value=json.dumps(fields).encode(), headers=headers)


def check(kind: str, fields: dict[str, Any], bad: str | None) -> None:
    """The message is read, or refused at ``bad``; the published schema says the same."""
    schema = Draft202012Validator(json.loads((FOLDER / f"{kind}.json").read_text()))
    assert schema.is_valid(fields) == (bad is None)
    if bad is None:
        assert decode(said(kind, fields)).payload.model_dump(exclude_unset=True) == fields
        return
    with pytest.raises(Undecodable) as refused:
        decode(said(kind, fields))
    assert refused.value.reason == "invalid_field"
    assert refused.value.detail.startswith(bad)


@pytest.mark.parametrize(
    ("part", "field", "bad"),
    [
        *(("line", field, value) for field in ("line_id", "product_id", "shop_id") for value in ("", " a", LONG, 1)),
        *(("line", field, value) for field in ("unit_price_minor", "discounted_minor") for value in NO_MINOR),
        *(("line", "quantity", value) for value in (0, QUANTITY_LIMIT + 1, 1.5, "1")),
        *(("line", "categories", value) for value in (["a"] * (CATEGORY_LIMIT + 1), [""], [1], "tea", None)),
        *(("basket", "lines", value) for value in ([], [LINE] * (LINE_LIMIT + 1), {}, None)),
        *(("basket", "currency", value) for value in ("eur", "EURO", "", None, 978)),
        *(("basket", "shipping_minor", value) for value in (*NO_MINOR, None)),
        *(("basket", "order_type", value) for value in ("", LONG, None)),
        *(("basket", "channel", value) for value in ("phone", "", None)),
        *(("basket", "user_types", value) for value in (["a"] * (WORD_LIMIT + 1), [""], "student", None)),
    ],
)  # fmt: skip
def test_a_basket_is_checked_strictly(part: str, field: str, bad: Any) -> None:
    basket = {"lines": [{**LINE, field: bad}], "currency": "EUR"} if part == "line" else {**BASKET, field: bad}
    where = f"basket.lines.0.{field}" if part == "line" else f"basket.{field}"
    check("order.created.v1", {**CREATED, "basket": basket}, where)


@pytest.mark.parametrize("left_out", ["basket.lines.0.line_id", "basket.lines.0.unit_price_minor", "basket.currency"])
def test_a_basket_needs_lines_with_prices_in_a_currency(left_out: str) -> None:
    name = left_out.rpartition(".")[2]
    line = {key: value for key, value in LINE.items() if key != name}
    basket = {key: value for key, value in {**BASKET, "lines": [line]}.items() if key != name}
    check("order.created.v1", {**CREATED, "basket": basket}, left_out)


@pytest.mark.parametrize("digest", ["", "two words", "x" * 129, "é", 1])
def test_a_quote_digest_has_the_form_of_one(digest: Any) -> None:
    check("order.created.v1", {**CREATED, "quote_digest": digest}, "quote_digest")


@pytest.mark.parametrize(
    ("line", "where"),
    [
        *(({"line_id": value}, "lines.0.line_id") for value in ("", "a ", LONG, None, 1)),
        *(({"line_id": "1", "discount_minor": value}, "lines.0.discount_minor") for value in NO_MINOR),
        ({"discount_minor": 1}, "lines.0.line_id"),
        ("1", "lines.0"),
    ],
)  # fmt: skip
def test_a_returned_line_is_checked_strictly(line: Any, where: str) -> None:
    check("order.refunded.v1", {**REFUNDED, "lines": [line]}, where)


def test_a_refund_has_a_limit_of_lines() -> None:
    lines = [{"line_id": str(number)} for number in range(ALLOCATION_LIMIT + 1)]
    check("order.refunded.v1", {**REFUNDED, "lines": lines[:-1]}, None)
    check("order.refunded.v1", {**REFUNDED, "lines": lines}, "lines")


@pytest.mark.parametrize("channel", ["phone", "", 1])
def test_a_payment_names_a_known_channel(channel: Any) -> None:
    check("order.paid.v1", {**ORDER, "redemptions": [{"coupon_id": "c-1"}], "channel": channel}, "channel")


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("order.created.v1", {**CREATED, "lines": [{"line_id": "1", "product_id": "p", "amount_minor": 1}]}),
        ("order.paid.v1", {**ORDER, "redemptions": [{"coupon_id": "c-1", "discount_minor": 5}]}),
        ("order.refunded.v1", REFUNDED),
    ],
)
def test_messages_of_older_producers_mean_what_they_did(kind: str, fields: dict[str, Any]) -> None:
    check(kind, fields, None)
    match decode(said(kind, fields)).payload:
        case OrderCreated() as order:
            assert (order.basket, order.quote_digest) == (None, None)
        case OrderPaid() as order:
            assert (order.redemptions[0].discount_minor, order.channel) == (5, None)
        case OrderRefunded() as order:
            assert order.lines == []


def test_the_longest_basket_has_room() -> None:
    """With ids as long as a UUID, in several categories, of several shops."""
    ids = [str(uuid4()) for _ in range(8)]
    lines = [
        BasketLine(
            line_id=str(uuid4()),
            product_id=str(uuid4()),
            quantity=QUANTITY_LIMIT,
            unit_price_minor=9_999,
            discounted_minor=9_999,
            categories=ids,
            shop_id=ids[0],
        )
        for _ in range(LINE_LIMIT)
    ]
    order = OrderCreated(**CREATED, basket=OrderBasket(lines=lines, currency="EUR"))
    wire = encode(order, source="/shop", id="1", time=datetime(2026, 11, 21, tzinfo=UTC))
    assert decode(wire).payload == order

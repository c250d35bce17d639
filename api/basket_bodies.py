"""A basket as an order system sends it, and a question about it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from api.wire import Body, Currency, Id, Minor, Name, obeying
from ledger.basket import CATEGORY_LIMIT, LINE_LIMIT, QUANTITY_LIMIT, Basket, Channel, Line
from ledger.scope import WORD_LIMIT
from ledger.use_cases import QUOTE_COUPON_LIMIT


class LineBody(Body):
    """One product in a basket."""

    line_id: Id
    product_id: Id
    quantity: Annotated[int, Field(ge=1, le=QUANTITY_LIMIT)] = 1
    unit_price_minor: Minor
    discounted_minor: Annotated[
        Minor, Field(description="Off the whole line already, by price cuts that are not coupons.")
    ] = 0
    categories: Annotated[list[Id], Field(max_length=CATEGORY_LIMIT)] = Field(default=[])
    shop_id: Id | None = None

    @model_validator(mode="after")
    def _obeys(self) -> LineBody:
        obeying(self.to_line)
        return self

    def to_line(self) -> Line:
        """The domain's value."""
        return Line(**{**vars(self), "categories": tuple(self.categories)})


class BasketBody(Body):
    """The lines of one order, and how it is placed. Each line has an id of its own."""

    lines: Annotated[list[LineBody], Field(min_length=1, max_length=LINE_LIMIT)]
    currency: Currency
    shipping_minor: Minor = 0
    order_type: Annotated[Name, Field(description="The caller's word, which scopes compare.")] = "standard"
    channel: Channel = "online"
    user_types: Annotated[
        list[Name], Field(max_length=WORD_LIMIT, description="The caller's words for what the buyer is.")
    ] = Field(default=[])

    @model_validator(mode="after")
    def _obeys(self) -> BasketBody:
        obeying(self.to_basket)
        return self

    def to_basket(self) -> Basket:
        """The domain's value."""
        own: dict[str, Any] = {
            "lines": tuple(line.to_line() for line in self.lines),
            "user_types": tuple(self.user_types),
        }
        return Basket(**{**vars(self), **own})


class TillBasketBody(BasketBody):
    """The lines of one order in a shop. Each line has an id of its own."""

    channel: Literal["in_store"] = "in_store"


class QuoteBody(Body):
    """A basket and the user who buys it."""

    user_id: Id
    basket: BasketBody
    coupon_ids: (
        Annotated[
            list[Id],
            Field(
                max_length=QUOTE_COUPON_LIMIT,
                json_schema_extra={"uniqueItems": True},
                description="Of the user's own, and those shared with the user; where left out, the user's coupons"
                " that end first, as the wallet shows them.",
            ),
        ]
        | None
    ) = None

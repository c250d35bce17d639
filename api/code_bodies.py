"""What callers send and get about codes, and what a till sends."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, model_validator
from pydantic_core import PydanticCustomError

from api.answers import Time
from api.basket_bodies import TillBasketBody
from api.batch_bodies import FactsBody
from api.order_bodies import AllocationBody
from api.wire import Body, Id, Minor, Parameters, obeying
from ledger.codes import SET_LIMIT, TEXT_MOST
from ledger.redemption import ALLOCATION_LIMIT, Redemption

IMPORT_LIMIT = 10_000
"""Codes of one request; files of a million are for the command line."""

CodeText = Annotated[
    str,
    Field(
        min_length=1,
        max_length=2 * TEXT_MOST,
        description="As it was typed: case, spaces and hyphens do not matter.",
        examples=["BZYJ-YDTS-CAFM-AR8G-DF"],
    ),
]


class CodesBody(Body):
    """New codes of a batch: `unique` ones, each for one coupon, or one `generic` word for many users."""

    kind: Literal["unique", "generic"] = "unique"
    count: Annotated[int, Field(ge=1, le=SET_LIMIT, description="Only of `unique`.")] | None = None
    code: Annotated[CodeText, Field(description="Only of `generic`: the word.")] | None = None

    @model_validator(mode="after")
    def _one_of_two(self) -> CodesBody:
        if (self.kind == "unique") != (self.count is not None) or (self.kind == "generic") != (self.code is not None):
            raise ValueError("unique codes need a count, a generic one needs its code")
        return self


class ImportBody(Body):
    """Unique codes that were made elsewhere, all or none."""

    codes: Annotated[list[str], Field(min_length=1, max_length=IMPORT_LIMIT)]


class RedeemCodeBody(Body):
    """A code that a user typed."""

    code: CodeText
    user_id: Id
    facts: FactsBody = FactsBody()
    client_address: (
        Annotated[
            Id,
            Field(
                description="The shopper's own address or device, as the shop's server sees it, of which a keyed hash"
                " is kept for a quarter of an hour to count wrong codes. Without it, only the user's are counted:"
                " the connection's address may be that of all shoppers."
            ),
        ]
        | None
    ) = None


class TillBody(Body):
    """A use in a shop: the code that a shopper showed, and the basket, what it took off the order, or both."""

    code: CodeText
    coupon_id: Annotated[Id, Field(description="Where the till knows it: the code must be this coupon's.")] | None = (
        None
    )
    order_id: Id
    discount_minor: Annotated[
        Minor | None,
        Field(description="With a basket at most what the coupon takes off it, which is also the default."),
    ] = None
    user_id: Annotated[
        Id | None,
        Field(description="Where the till knows it: the code must be the one shown for this user."),
    ] = None
    order_total_minor: Annotated[Minor | None, Field(description="The basket's, where there is one.")] = None
    basket: Annotated[
        TillBasketBody | None,
        Field(description="Prices the coupon on it, so that all of its terms hold: scope, minimum spend and hours."),
    ] = None
    allocation: Annotated[list[AllocationBody], Field(max_length=ALLOCATION_LIMIT)] = Field(default=[])

    @model_validator(mode="after")
    def _obeys(self) -> TillBody:
        obeying(lambda: Redemption(coupon_id="", discount_minor=self.discount_minor, allocation=self.parts()))
        if self.discount_minor is None and self.basket is None:
            context = {"field": "discount_minor"}
            raise PydanticCustomError("invalid_field", "is needed where there is no basket", context)
        return self

    def parts(self) -> list[dict[str, Any]]:
        """The allocation as the domain has it."""
        return [dict(vars(part)) for part in self.allocation]


class CodesPath(Parameters):
    """The id of a set of codes."""

    codes_id: Id


class TillCodeQuery(Parameters):
    """Who shows the code."""

    user_id: Annotated[Id, Field(description="The coupon's owner, or a friend with whom it is shared.")]


class ShownCodeQuery(TillCodeQuery):
    """Which of a user's two till codes."""

    code: Literal["changing", "static"] = Field("changing", description="`static` never changes: for paper.")


class CodeSet(BaseModel):
    """A set of codes."""

    codes_id: str
    batch_id: str
    kind: Literal["unique", "generic", "imported"]
    count: int
    exported: bool = Field(description="Whether they were handed over, after which nobody can read them here.")
    revoked: bool


class TillCode(BaseModel):
    """What a shopper's app shows at a till."""

    coupon_id: str
    code: str = Field(description="Changes every 30 seconds, and is good for half a minute after that.")
    changes_at: Time = Field(description="When to ask for the next one.")
    static_code: str = Field(description="Never changes: for paper, and for phones without a connection.")

"""Quotes: what an order may use before anything is locked."""

from __future__ import annotations

from typing import Any

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel, Field

from api import contract, coupon_answers, problems
from api.access import caller, operation_name
from api.basket_bodies import QuoteBody
from api.exchange import answer, ledger
from api.wire import OrderPath
from ledger import errors, use_cases
from ledger.pricing import Outcome
from ledger.request import Request
from projections import queries

quotes = APIBlueprint(
    "quotes",
    __name__,
    url_prefix="/v1",
    abp_tags=[Tag(name="orders", description="What an order holds, uses and gives back, all or none.")],
    operation_id_callback=operation_name,
)


class BestCoupon(BaseModel):
    """One coupon of the best combination, with what it takes off after those before it."""

    coupon_id: str
    template_id: str
    template_version: int
    discount_minor: int | None = Field(description="null where the order system states it.")
    shipping_discount_minor: int = Field(description="The part of the discount that is off the shipping cost.")
    allocation: list[coupon_answers.LineDiscount] = Field(description="Sums to the rest of the discount.")


class QuotedRefusal(BaseModel):
    """Why a coupon does not apply."""

    code: str
    detail: str
    facts: dict[str, Any]


class QuotedCoupon(BaseModel):
    """One coupon on this basket."""

    coupon_id: str
    outcome: Outcome = Field(
        description="`used` in the best combination; `refused`; `excluded` by `with_coupon_id`; `not_needed`, for it"
        " would add nothing beside the others; `unvalued`, for the order system says what it takes off."
    )
    usable: bool
    discount_minor: int | None = Field(description="What it takes off where it is used alone.")
    with_coupon_id: str | None
    refusal: QuotedRefusal | None


class Quote(BaseModel):
    """What a basket costs with the best combination of a user's coupons."""

    order_id: str
    user_id: str
    currency: str
    total_minor: int = Field(description="What the lines cost before coupons.")
    shipping_minor: int
    discount_minor: int = Field(description="Of the combination, off lines and shipping.")
    shipping_discount_minor: int
    payable_minor: int
    digest: str = Field(description="Pass it as `quote_digest` to a lock.")
    exact: bool = Field(
        description="Whether the search was whole: before rounding to minor units, no other combination takes off more."
        " After it another may, by at most one minor unit for each coupon. Otherwise `best` is the best one found."
    )
    best: list[BestCoupon] = Field(description="In the order in which they come off.")
    coupons: list[QuotedCoupon]


@quotes.post(
    "/orders/<callers_id:order_id>/quotes",
    responses=contract.read(
        Quote,
        problems.MalformedJson,
        problems.TooLarge,
        problems.UnsupportedMediaType,
        errors.CouponNotFound,
        errors.QueueFull,
    ),
)
def quote_order(path: OrderPath, body: QuoteBody) -> Response:
    """Ask what a basket may use and which combination takes the most off. Nothing is written or held.

    The wallet says which coupons there are when none are named, a moment late; what they are worth is decided on their
    newest events.
    """
    found = caller()
    coupon_ids = body.coupon_ids
    if coupon_ids is None:
        store = ledger().store
        with store.connection() as connection:
            page = queries.wallet(
                connection, found.merchant_id, body.user_id, store.now(), states=_ASKED, limit=queries.WALLET_LIMIT
            )
        coupon_ids = [coupon.coupon_id for coupon in page.coupons]
    # The request's id has a space, so it is none that a caller's write can have.
    request = Request(found.merchant_id, f"key:{found.key_id}", "quote ")
    work = use_cases.quote(
        request,
        path.order_id,
        user_id=body.user_id,
        coupon_ids=coupon_ids,
        basket=body.basket.to_basket(),
        of_wallet=body.coupon_ids is None,
    )
    return answer(ledger().ask(work).answer)


_ASKED = ("UNUSED", "LOCKED")
"""States of the coupons that a quote takes from a wallet: one that another order holds says so."""

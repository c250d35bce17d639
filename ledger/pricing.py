"""Pricing: what coupons take off a basket, which of them apply, and which combination is the best.

Pure: the clock is a parameter, and the same coupons and basket in any order have the same quote. All amounts are whole
minor units. The rules, and why they are as they are, stand in ``docs/adr/0013-pricing.md``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Literal, get_args

import orjson

from ledger.aggregate import text_of
from ledger.basket import Basket
from ledger.benefit import BenefitKind
from ledger.combination import Combination, best, come_off
from ledger.discount import ITEM_KINDS, Goods, Offered, Parts, Usable, usable
from ledger.errors import (
    BelowMinSpend,
    CouponExpired,
    CouponLocked,
    CouponNotStarted,
    CouponUsed,
    CouponVoid,
    ExclusiveConflict,
    InvalidField,
    NotApplicable,
    OutOfHours,
    OutOfScope,
    Refusal,
)

__all__ = ["Chosen", "CouponResult", "Offered", "Outcome", "Quote", "price", "quote"]

KIND_ORDER = {kind: place for place, kind in enumerate(get_args(BenefitKind))}

Outcome = Literal["used", "refused", "excluded", "not_needed", "unvalued"]
"""What became of a coupon in the quoted combination.

- ``used``: it is part of it.
- ``refused``: it does not apply to this order.
- ``excluded``: it applies, but not together with a coupon that is part of it.
- ``not_needed``: it would add nothing.
- ``unvalued``: it applies, and the order system says what it takes off.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class CouponResult:
    """One coupon on this basket."""

    coupon_id: str
    outcome: Outcome
    refusal: Refusal | None = None
    discount_minor: int | None = None
    """What it takes off where it is used alone; ``None`` when refused, or left to the order system."""
    with_coupon_id: str | None = None
    """The coupon that excludes it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """One coupon of the combination, with what it takes off after those before it."""

    coupon_id: str
    template_id: str
    template_version: int
    discount_minor: int | None
    """``None`` where the order system states it."""
    shipping_discount_minor: int
    """The part of the discount that is off the shipping cost and on no line."""
    allocation: list[dict[str, Any]]
    """``[{"line_id", "product_id", "discount_minor"}]``; sums to the discount without the part off the shipping."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """What a basket costs with coupons."""

    results: tuple[CouponResult, ...]
    chosen: tuple[Chosen, ...]
    """In the order in which they come off."""
    currency: str
    total_minor: int
    """What the lines cost before coupons."""
    shipping_minor: int
    discount_minor: int
    """Of all chosen coupons, off lines and shipping."""
    shipping_discount_minor: int
    digest: str
    """SHA-256 over the basket and the chosen coupons with their discounts: equal digests, equal prices.

    What the order system values is not priced here, so naming such a coupon changes no digest.
    """
    exact: bool
    """Whether the search was whole: before rounding, no other combination takes off more.

    After it another may, by at most one minor unit for each coupon. When it is ``False`` the combination is the best of
    those that the search looked at, and a coupon may be in it that could be left out.
    """

    @property
    def payable_minor(self) -> int:
        """What is left to pay, with shipping."""
        return self.total_minor + self.shipping_minor - self.discount_minor


def quote(coupons: Sequence[Offered], basket: Basket, now: datetime) -> Quote:
    """Each coupon on this basket, and the best combination of those that apply."""
    goods = Goods(basket)
    candidates, refusals = _judged(coupons, goods, now)
    combination, exact = best(candidates, goods.amounts)
    results = [
        CouponResult(coupon_id=coupon_id, outcome="refused", refusal=refusal) for coupon_id, refusal in refusals.items()
    ]
    results += [_explained(each, combination) for each in candidates]
    return _quoted(combination, basket, sorted(results, key=lambda result: result.coupon_id), exact)


def price(coupons: Sequence[Offered], basket: Basket, now: datetime) -> Quote:
    """The quote for exactly these coupons, used together.

    Raises the refusal of the first, in the order in which they come off, that does not apply, does not stand with
    another, or would be spent for nothing.
    """
    goods = Goods(basket)
    candidates, refusals = _judged(coupons, goods, now)
    for refusal in refusals.values():
        raise refusal
    for each in candidates:
        for other in candidates:
            if other is not each and (each.exclusive or (each.group is not None and each.group == other.group)):
                raise ExclusiveConflict(coupon_id=each.coupon.coupon_id, with_coupon_id=other.coupon.coupon_id)
    combination = come_off(candidates, goods.amounts)
    for each, parts in zip(combination.chosen, combination.parts, strict=True):
        if each.kind != "order_stated" and not any(part for _, part in parts):
            raise NotApplicable("the others leave the coupon nothing to take off", coupon_id=each.coupon.coupon_id)
    results = [_explained(each, combination) for each in candidates]
    return _quoted(combination, basket, sorted(results, key=lambda result: result.coupon_id), True)


# --- which coupons apply ------------------------------------------------------------------------------


def _judged(coupons: Sequence[Offered], goods: Goods, now: datetime) -> tuple[list[Usable], dict[str, Refusal]]:
    """Those that apply and those that do not, both in the order in which they come off."""
    if len({coupon.coupon_id for coupon in coupons}) != len(coupons):
        raise InvalidField("a coupon is named twice", field="coupon_ids")
    candidates: list[Usable] = []
    refusals: dict[str, Refusal] = {}
    for coupon in sorted(coupons, key=_turn):
        try:
            candidates.append(_applied(coupon, goods, now))
        except Refusal as refusal:
            refusals[coupon.coupon_id] = refusal
    return candidates, refusals


def _turn(coupon: Offered) -> tuple[int, int, str]:
    """The higher priority first, then by kind, then by id: the order decides the price, so it is fixed."""
    return -coupon.terms.priority, KIND_ORDER[coupon.terms.benefit.kind], coupon.coupon_id


def _applied(coupon: Offered, goods: Goods, now: datetime) -> Usable:
    """The coupon on this basket. Checks in the field's order (features.md U2): time, scope, minimum spend, worth."""
    _check_state(coupon, now)
    terms, coupon_id = coupon.terms, coupon.coupon_id
    if not terms.usable_at(now):
        raise OutOfHours(coupon_id=coupon_id)
    field = "currency" if terms.currency != goods.basket.currency else terms.scope.misses_of(goods.basket)
    if field is not None:
        raise OutOfScope(coupon_id=coupon_id, field=field)
    covered = terms.scope.covered(goods.places)
    if not covered:
        raise OutOfScope(coupon_id=coupon_id, field="lines")
    made = usable(coupon, goods, covered)
    if made.kind in ITEM_KINDS and not made.units:
        raise OutOfScope("the basket holds no product that the coupon gives", coupon_id=coupon_id, field="products")
    in_scope = goods.worth(covered)
    eligible = in_scope
    if terms.benefit.products:
        # What is given does not help to reach its own minimum spend.
        eligible -= sum(off + leaves for index, off, leaves in made.units if covered >> index & 1)
    if eligible < terms.min_spend_minor:
        raise BelowMinSpend(
            coupon_id=coupon_id,
            min_spend_minor=terms.min_spend_minor,
            eligible_minor=eligible,
            missing_minor=terms.min_spend_minor - eligible,
        )
    made.alone_minor = made.alone(goods.amounts, in_scope)
    if not made.alone_minor and made.kind != "order_stated":
        raise NotApplicable("the coupon takes nothing off this basket", coupon_id=coupon_id)
    return made


def _check_state(coupon: Offered, now: datetime) -> None:
    facts = {"coupon_id": coupon.coupon_id}
    if coupon.state == "VOIDED":
        raise CouponVoid(**facts)
    if coupon.state == "USED":
        raise CouponUsed(**facts)
    if coupon.held:
        return
    if coupon.state == "LOCKED":
        raise CouponLocked(**facts, lock_ends_at=text_of(coupon.lock_ends_at))
    if coupon.state == "EXPIRED" or now >= coupon.valid_until:
        raise CouponExpired(**facts, valid_until=text_of(coupon.valid_until))
    if now < coupon.valid_from:
        raise CouponNotStarted(**facts, valid_from=text_of(coupon.valid_from))


# --- what is answered -----------------------------------------------------------------------------------


def _explained(each: Usable, combination: Combination) -> CouponResult:
    """Why the coupon is in the combination or not."""
    made = partial(CouponResult, coupon_id=each.coupon.coupon_id)
    in_it = each in combination.chosen
    if each.kind == "order_stated":
        return made(outcome="used" if in_it else "unvalued")
    alone = each.alone_minor
    if in_it:
        return made(outcome="used", discount_minor=alone)
    for other in combination.chosen if alone else ():
        if each.exclusive or other.exclusive or (each.group is not None and each.group == other.group):
            return made(outcome="excluded", discount_minor=alone, with_coupon_id=other.coupon.coupon_id)
    return made(outcome="not_needed", discount_minor=alone)


def _quoted(combination: Combination, basket: Basket, results: Sequence[CouponResult], exact: bool) -> Quote:
    chosen = tuple(
        _chosen(each, parts, basket) for each, parts in zip(combination.chosen, combination.parts, strict=True)
    )
    priced = [each for each in chosen if each.discount_minor is not None]
    return Quote(
        results=tuple(results),
        chosen=chosen,
        currency=basket.currency,
        total_minor=basket.total_minor,
        shipping_minor=basket.shipping_minor,
        discount_minor=combination.total_minor,
        shipping_discount_minor=sum(each.shipping_discount_minor for each in chosen),
        digest=hashlib.sha256(orjson.dumps([basket, priced], option=orjson.OPT_SORT_KEYS)).hexdigest(),
        exact=exact,
    )


def _chosen(each: Usable, parts: Parts, basket: Basket) -> Chosen:
    discount = sum(part for _, part in parts)
    off_shipping = each.kind == "free_shipping"
    lines = [] if off_shipping else [(basket.lines[index], part) for index, part in sorted(parts)]
    return Chosen(
        coupon_id=each.coupon.coupon_id,
        template_id=each.coupon.template_id,
        template_version=each.coupon.template_version,
        discount_minor=None if each.kind == "order_stated" else discount,
        shipping_discount_minor=discount if off_shipping else 0,
        allocation=[
            {"line_id": line.line_id, "product_id": line.product_id, "discount_minor": part} for line, part in lines
        ],
    )

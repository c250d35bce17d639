"""Use cases of an order: hold coupons, spend them, let them go (Try, Confirm and Cancel of TCC)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

from ledger.aggregate import text_of
from ledger.basket import Basket, Channel
from ledger.commit import Unit
from ledger.coupon import Coupon, Redemption
from ledger.errors import InvalidField, NotApplicable, QuoteChanged
from ledger.pricing import Chosen, Quote, price
from ledger.redemption import lapsed_hold, lines_in_scope, was_held
from ledger.request import Request
from ledger.terms import Terms
from ledger.use_cases.checks import (
    check_id,
    check_money,
    check_reason,
    checked_coupon_ids,
    coupon_streams,
    held,
    released,
    terms_of,
    unit_of,
)
from ledger.use_cases.quotes import offered
from ledger.use_cases.together import carried_before, check_stacking, check_together, counted, off_lines
from ledger.work import Loaded, Work

LOCK_ENDED = "lock_ended"
"""Why a lock ends by the clock."""


def lock(
    request: Request,
    order_id: str,
    *,
    user_id: str,
    coupon_ids: Sequence[str],
    ttl_seconds: int | None = None,
    order_total_minor: int | None = None,
    quote_digest: str | None = None,
    basket: Basket | None = None,
) -> Work:
    """Hold coupons for an order, all or none (Try of TCC). Answers each coupon's ``lock_id`` and ``lock_ends_at``.

    With a ``basket`` the coupons are priced on it again: the lock keeps what each takes off which line, so that a
    confirmation need not say it, and answers that too. A ``quote_digest`` then says which quote the shopper saw;
    ``QuoteChanged`` when the coupons take off something else now. Without a basket it is stored as told.

    ``user_id`` is their owner, or a friend with whom they are shared. Coupons that the order holds for the user already
    keep their lock; a ``ttl_seconds`` that ends later extends it, to a day after it began at most. Where the call says
    another total, digest or basket, or another discount is found, they are judged anew and get another lock. Whether
    coupons may be used together is judged among those named here, not against others that the order locked before:
    name them all.
    """
    check_id("order_id", order_id)
    check_id("user_id", user_id)
    check_money("order_total_minor", order_total_minor)
    coupon_ids = checked_coupon_ids(coupon_ids)

    def decide(loaded: Loaded) -> Unit:
        coupons = [loaded.coupon(id) for id in coupon_ids]
        found = None
        if basket is not None:
            found = _priced(loaded, coupons, order_id, user_id, basket)
            if quote_digest not in (None, found.digest):
                raise QuoteChanged(quote_digest=found.digest, discount_minor=found.discount_minor)
        priced = {each.coupon_id: each for each in found.chosen} if found else {}
        for coupon in coupons:
            mine = priced.get(coupon.key)
            terms = terms_of(loaded, coupon)
            coupon.lock(
                request,
                loaded.now,
                terms,
                order_id=order_id,
                user_id=user_id,
                ttl_seconds=ttl_seconds,
                order_total_minor=basket.total_minor if basket else order_total_minor,
                quote_digest=found.digest if found else quote_digest,
                discount_minor=mine.discount_minor if mine else None,
                allocation=mine.allocation if mine else (),
                channel=basket.channel if basket else None,
                lines_in_scope=_stated_on(terms, basket, mine),
            )
        if found is None:
            check_stacking(loaded, coupons)
        answer: dict[str, Any] = {"order_id": order_id, "locks": [_locked(coupon, priced) for coupon in coupons]}
        if found:
            answer |= {"quote_digest": found.digest, "discount_minor": found.discount_minor}
        return held(unit_of(request, answer, *coupons), loaded, coupons)

    return Work(request, coupon_streams(coupon_ids), decide)


def _priced(loaded: Loaded, coupons: Sequence[Coupon], order_id: str, user_id: str, basket: Basket) -> Quote:
    for coupon in coupons:
        coupon.check_holder(user_id)
    return price([offered(loaded, coupon, order_id, user_id) for coupon in coupons], basket, loaded.now)


def _stated_on(terms: Terms, basket: Basket | None, mine: Chosen | None) -> list[dict[str, Any]]:
    """The lines off which an order system may say what a coupon takes that it values itself."""
    return lines_in_scope(terms, basket) if basket and mine and mine.discount_minor is None else []


def _locked(coupon: Coupon, priced: Mapping[str, Chosen]) -> dict[str, Any]:
    mine = priced.get(coupon.key)
    found = {"discount_minor": mine.discount_minor, "allocation": mine.allocation} if mine else {}
    return {
        "coupon_id": coupon.key,
        "lock_id": coupon.lock_id,
        "lock_ends_at": text_of(coupon.lock_ends_at),
        **found,
    }


def confirm(
    request: Request,
    order_id: str,
    redemptions: Sequence[Redemption],
    *,
    lock_id: str | None = None,
    order_total_minor: int | None = None,
    paid_minor: int | None = None,
    channel: str | None = None,
) -> Work:
    """Spend the coupons that the paid order holds, all or none (Confirm of TCC). Answers the redemptions.

    Where no ``channel`` is told it is that of the lock's basket, or ``online``.
    Whether they stand together (``check_together``) is judged among those named here and those that the order has used
    before and not returned.
    A voucher that leaves a balance answers ``balance_minor`` too, what is left on it; and where no allocation is told,
    the answer says which line carries what.
    """
    check_id("order_id", order_id)
    check_money("order_total_minor", order_total_minor)
    check_money("paid_minor", paid_minor)
    if channel is not None:
        _check_channel(channel)
    by_id = {redemption.coupon_id: redemption for redemption in redemptions}
    for redemption in redemptions:
        _check_allocation(redemption)
    coupon_ids = checked_coupon_ids([redemption.coupon_id for redemption in redemptions])

    def decide(loaded: Loaded) -> Unit:
        coupons = [loaded.coupon(id) for id in coupon_ids]
        carried = carried_before(loaded, order_id, coupon_ids)
        # What the order system values comes last, on what the others left of the lines.
        for coupon in sorted(coupons, key=lambda each: terms_of(loaded, each).benefit.kind == "order_stated"):
            coupon.confirm(
                request,
                loaded.now,
                terms_of(loaded, coupon),
                by_id[coupon.key],
                order_id=order_id,
                lock_id=lock_id,
                order_total_minor=order_total_minor,
                paid_minor=paid_minor,
                channel=channel,
                lapsed=lapsed_hold(loaded.streams[coupon.id]),
                carried=carried,
            )
            carried.update(off_lines(coupon.spent_on(order_id)))
        check_together(loaded, order_id, coupons)
        redeemed = [_redeemed(loaded, order_id, coupon, by_id[coupon.key]) for coupon in coupons]
        unit = unit_of(request, {"order_id": order_id, "redemptions": redeemed}, *coupons)
        return counted(released(unit, loaded, coupons), loaded, order_id)

    return Work(request, coupon_streams(coupon_ids), decide, order_id=order_id)


def redeem(
    request: Request,
    order_id: str,
    *,
    coupon_id: str,
    discount_minor: int | None = None,
    user_id: str | None = None,
    allocation: Sequence[Mapping[str, Any]] = (),
    order_total_minor: int | None = None,
    paid_minor: int | None = None,
    channel: str = "in_store",
    basket: Basket | None = None,
) -> Work:
    """Lock and spend one coupon at once, as a till does. Answers as ``confirm``.

    With a ``basket`` of the same channel the coupon is priced on it: all of its terms hold, the basket's total is the
    order's, ``discount_minor`` may be left out, and said it is at most what was found; or, where the terms leave it to
    the till, at most what is left of the lines in scope. Without a basket the till says what comes off. Nothing
    (``discount_minor`` 0) is refused: it would spend the coupon.

    Without a ``user_id`` the shown code stands for the owner. A coupon that another order holds is refused; one that
    this order used already too, under another request key, because a till that scans twice should hear of it.
    """
    check_id("order_id", order_id)
    check_id("coupon_id", coupon_id)
    if user_id is not None:
        check_id("user_id", user_id)
    check_money("order_total_minor", order_total_minor)
    check_money("paid_minor", paid_minor)
    _check_channel(channel)
    redemption = Redemption(coupon_id=coupon_id, discount_minor=discount_minor, allocation=allocation)
    _check_allocation(redemption)
    if basket is None and discount_minor is None:
        raise InvalidField("discount_minor is needed where there is no basket", field="discount_minor")
    if basket is not None and basket.channel != channel:
        raise InvalidField(f"the basket is bought {basket.channel}, and used {channel}", field="basket.channel")
    total_minor = order_total_minor if basket is None else basket.total_minor

    def decide(loaded: Loaded) -> Unit:
        coupon = loaded.coupon(coupon_id)
        terms = terms_of(loaded, coupon)
        holder_id = coupon.user_id if user_id is None else user_id
        found = None if basket is None else _priced(loaded, [coupon], order_id, holder_id, basket)
        mine = found.chosen[0] if found else None
        if mine and mine.discount_minor is None and discount_minor is None:
            raise InvalidField("the terms leave it to the till what comes off", field="discount_minor")
        if discount_minor == 0:
            raise NotApplicable("a discount of 0 would spend the coupon for nothing", coupon_id=coupon_id)
        coupon.lock(
            request,
            loaded.now,
            terms,
            order_id=order_id,
            user_id=holder_id,
            ttl_seconds=None,
            order_total_minor=total_minor,
            quote_digest=found.digest if found else None,
            discount_minor=mine.discount_minor if mine else None,
            allocation=mine.allocation if mine else (),
            channel=basket.channel if basket else None,
            lines_in_scope=_stated_on(terms, basket, mine),
        )
        coupon.confirm(
            request,
            loaded.now,
            terms,
            redemption,
            order_id=order_id,
            lock_id=None,
            order_total_minor=total_minor,
            paid_minor=paid_minor,
            channel=channel,
            carried=carried_before(loaded, order_id, [coupon_id]),
        )
        check_together(loaded, order_id, [coupon], basket, at_till=True)
        answer = {"order_id": order_id, "redemptions": [_redeemed(loaded, order_id, coupon, redemption)]}
        return counted(released(unit_of(request, answer, coupon), loaded, [coupon]), loaded, order_id)

    return Work(request, coupon_streams([coupon_id]), decide, order_id=order_id)


def unlock(
    request: Request, order_id: str, *, coupon_ids: Sequence[str], reason: str, lock_id: str | None = None
) -> Work:
    """Let coupons go that an unpaid order holds, all or none (Cancel of TCC).

    What it held before and holds no longer is let go already, and stays as it is. The reason ``lock_ended`` is for
    writing down an end by the clock, and refused before it.
    """
    check_id("order_id", order_id)
    check_reason(reason)
    coupon_ids = checked_coupon_ids(coupon_ids)

    def decide(loaded: Loaded) -> Unit:
        coupons = [loaded.coupon(id) for id in coupon_ids]
        for coupon in coupons:
            if reason == LOCK_ENDED:
                coupon.end_lock(request, loaded.now, order_id=order_id, lock_id=lock_id)
                continue
            let_go = was_held(loaded.streams[coupon.id], order_id, lock_id)
            coupon.unlock(request, loaded.now, order_id=order_id, lock_id=lock_id, reason=reason, let_go=let_go)
        states = [{"coupon_id": coupon.key, "state": coupon.state_at(loaded.now)} for coupon in coupons]
        return released(unit_of(request, {"order_id": order_id, "coupons": states}, *coupons), loaded, coupons)

    return Work(request, coupon_streams(coupon_ids), decide)


def _redeemed(loaded: Loaded, order_id: str, coupon: Coupon, told: Redemption) -> dict[str, Any]:
    spent = coupon.spent_on(order_id)
    redeemed = {
        "coupon_id": coupon.key,
        "redemption_id": spent.redemption_id,
        "discount_minor": spent.discount_minor,
    }
    left_minor = coupon.left_minor(terms_of(loaded, coupon))
    if left_minor is not None:
        redeemed["balance_minor"] = 0 if coupon.redemption_id is not None else left_minor
    if not told.allocation:
        redeemed["allocation"] = spent.allocation
    return redeemed


def _check_allocation(redemption: Redemption) -> None:
    for part in redemption.allocation:
        check_id("line_id", part["line_id"])
        if part.get("product_id") is not None:
            check_id("product_id", part["product_id"])


def _check_channel(channel: str) -> None:
    if channel not in get_args(Channel):
        raise InvalidField("channel is online or in_store", field="channel")

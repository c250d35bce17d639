"""Use cases of an order: hold coupons (Try, Confirm and Cancel of TCC), and undo their use after a refund."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

from ledger.aggregate import text_of
from ledger.basket import Basket, Channel
from ledger.commit import Unit
from ledger.coupon import ALLOCATION_LIMIT, Coupon, Redemption
from ledger.errors import InvalidField, QuoteChanged, ReturnNotAllowed
from ledger.pricing import Chosen, Quote, price
from ledger.redemption import lapsed_hold
from ledger.request import Request
from ledger.use_cases.checks import (
    check_id,
    check_money,
    check_reason,
    check_stacking,
    check_together,
    checked_coupon_ids,
    coupon_streams,
    held,
    released,
    terms_of,
    unit_of,
)
from ledger.use_cases.quotes import offered
from ledger.work import Loaded, Work


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

    ``user_id`` is their owner, or a friend with whom they are shared. Coupons that the order holds already keep their
    lock; a ``ttl_seconds`` that ends later extends it, to a day after it began at most. Whether coupons may be used
    together is judged among those named here, not against others that the order locked before: name them all.
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
            coupon.lock(
                request,
                loaded.now,
                terms_of(loaded, coupon),
                order_id=order_id,
                user_id=user_id,
                ttl_seconds=ttl_seconds,
                order_total_minor=basket.total_minor if basket else order_total_minor,
                quote_digest=found.digest if found else quote_digest,
                discount_minor=mine.discount_minor if mine else None,
                allocation=mine.allocation if mine else (),
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
    return price([offered(loaded, coupon, order_id) for coupon in coupons], basket, loaded.now)


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
    channel: str = "online",
) -> Work:
    """Spend the coupons that the paid order holds, all or none (Confirm of TCC). Answers the redemptions.

    Whether they stand together (``check_together``) is judged among those named here: name all of the order's.
    A voucher that leaves a balance answers ``balance_minor`` too, what is left on it.
    """
    check_id("order_id", order_id)
    check_money("order_total_minor", order_total_minor)
    check_money("paid_minor", paid_minor)
    _check_channel(channel)
    by_id = {redemption.coupon_id: redemption for redemption in redemptions}
    coupon_ids = checked_coupon_ids([redemption.coupon_id for redemption in redemptions])

    def decide(loaded: Loaded) -> Unit:
        coupons = [loaded.coupon(id) for id in coupon_ids]
        for coupon in coupons:
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
            )
        check_together(loaded, order_id, coupons)
        redeemed = [_redeemed(loaded, order_id, coupon) for coupon in coupons]
        unit = unit_of(request, {"order_id": order_id, "redemptions": redeemed}, *coupons)
        return released(unit, loaded, coupons)

    return Work(request, coupon_streams(coupon_ids), decide)


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
    order's, ``discount_minor`` may be left out, and said it is at most what was found. Without one the till says what
    comes off.

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
        )
        check_together(loaded, order_id, [coupon])
        redeemed = _redeemed(loaded, order_id, coupon)
        if mine and not allocation:
            redeemed["allocation"] = mine.allocation if redeemed["discount_minor"] == mine.discount_minor else []
        answer = {"order_id": order_id, "redemptions": [redeemed]}
        return released(unit_of(request, answer, coupon), loaded, [coupon])

    return Work(request, coupon_streams([coupon_id]), decide)


def unlock(
    request: Request, order_id: str, *, coupon_ids: Sequence[str], reason: str, lock_id: str | None = None
) -> Work:
    """Let coupons go that an unpaid order holds, all or none (Cancel of TCC)."""
    check_id("order_id", order_id)
    check_reason(reason)
    coupon_ids = checked_coupon_ids(coupon_ids)

    def decide(loaded: Loaded) -> Unit:
        coupons = [loaded.coupon(id) for id in coupon_ids]
        for coupon in coupons:
            coupon.unlock(request, loaded.now, order_id=order_id, lock_id=lock_id, reason=reason)
        states = [{"coupon_id": coupon.key, "state": coupon.state_at(loaded.now)} for coupon in coupons]
        return released(unit_of(request, {"order_id": order_id, "coupons": states}, *coupons), loaded, coupons)

    return Work(request, coupon_streams(coupon_ids), decide)


def return_coupons(
    request: Request,
    order_id: str,
    *,
    coupon_ids: Sequence[str],
    reason: str,
    lines: Sequence[Mapping[str, Any]] = (),
) -> Work:
    """Undo the use of coupons after a refund, all or none, as each one's pinned return policy says.

    ``lines`` are ``[{"line_id", "discount_minor"}]``: only what these lines of the order carried is given back, or
    so much of it; without an amount, all that is left. An amount is for one coupon only. A coupon of which nothing is
    left on these lines gives back nothing; ``ReturnNotAllowed`` where that is so of all. The coupon comes back with
    the return that completes the whole. Answers each coupon's state and ``returned_minor``.
    """
    check_id("order_id", order_id)
    coupon_ids = checked_coupon_ids(coupon_ids)
    _check_lines(lines, coupon_ids)

    def decide(loaded: Loaded) -> Unit:
        coupons = [loaded.coupon(id) for id in coupon_ids]
        given = [
            coupon.return_(request, loaded.now, terms_of(loaded, coupon), order_id=order_id, reason=reason, lines=lines)
            for coupon in coupons
        ]
        states = [
            {"coupon_id": coupon.key, "state": coupon.state_at(loaded.now), "returned_minor": returned_minor}
            for coupon, returned_minor in zip(coupons, given, strict=True)
        ]
        unit = unit_of(request, {"order_id": order_id, "coupons": states}, *coupons)
        if not unit.events:
            raise ReturnNotAllowed("nothing is left of these lines to return", order_id=order_id)
        return unit

    return Work(request, coupon_streams(coupon_ids), decide)


def _redeemed(loaded: Loaded, order_id: str, coupon: Coupon) -> dict[str, Any]:
    spent = coupon.spent_on(order_id)
    redeemed = {
        "coupon_id": coupon.key,
        "redemption_id": spent.redemption_id,
        "discount_minor": spent.discount_minor,
    }
    left_minor = coupon.left_minor(terms_of(loaded, coupon))
    if left_minor is not None:
        redeemed["balance_minor"] = 0 if coupon.redemption_id is not None else left_minor
    return redeemed


def _check_channel(channel: str) -> None:
    if channel not in get_args(Channel):
        raise InvalidField("channel is online or in_store", field="channel")


def _check_lines(lines: Sequence[Mapping[str, Any]], coupon_ids: Sequence[str]) -> None:
    if len(lines) > ALLOCATION_LIMIT:
        raise InvalidField(f"a return names at most {ALLOCATION_LIMIT} lines", field="lines")
    if len({line["line_id"] for line in lines}) != len(lines):
        raise InvalidField("a line is named twice", field="lines")
    for line in lines:
        check_id("line_id", line["line_id"])
        check_money("discount_minor", line.get("discount_minor"))
    if len(coupon_ids) > 1 and any(line.get("discount_minor") is not None for line in lines):
        raise InvalidField("an amount of a line is for one coupon", field="lines")

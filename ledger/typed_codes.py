"""A shopper's code in, its effect out: a redemption code becomes a coupon, a code shown at a till is used.

Both look the code up, let the ledger decide, and count misses. Whatever the look-up said, the request's earlier answer
comes first: a repeat is answered as it was, even when the code has become old, used or revoked since.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from ledger import code_store, till
from ledger.application import Ledger
from ledger.audience import Facts
from ledger.basket import Basket
from ledger.code_jobs import check_keys
from ledger.codes import CodeKeys, mistyped, normal
from ledger.commit import Unit
from ledger.coupon import Coupon
from ledger.errors import CodeNotFound, NotOwner, RedemptionCodeInvalid, Refusal, TooManyMisses
from ledger.events import CouponDebited, CouponUsed
from ledger.request import Request
from ledger.use_cases.checks import check_id
from ledger.use_cases.codes import redeem_code
from ledger.use_cases.issuing import NO_FACTS
from ledger.use_cases.orders import redeem
from ledger.work import Loaded, Receipt, Work, fold

CANDIDATES = 1_000
"""Coupons that one handle may mean. A batch of a thousand million has sixty to a handle."""


def exchange(
    ledger: Ledger,
    keys: CodeKeys,
    request: Request,
    typed: str,
    user_id: str,
    *,
    address: str | None = None,
    facts: Facts = NO_FACTS,
    to_staff: bool = False,
) -> Receipt:
    """Exchange a redemption code for a coupon. Answers the coupon.

    Raises ``CodeNotFound`` for a code that is unknown, revoked, another merchant's or used by another user, alike;
    ``CodeUsed`` to the user who exchanged it (and ``to_staff``); ``TooManyMisses`` when the user, or the address from
    which this merchant's shoppers ask, had too many codes not found; and what a claim raises.
    """
    check_keys(keys)
    check_id("user_id", user_id)
    text = normal(typed)
    limits = [(_who(keys, "user", request.merchant_id, request.actor, user_id), code_store.USER_MISSES)]
    if address is not None:
        limits.append((_who(keys, "address", request.merchant_id, address), code_store.ADDRESS_MISSES))
    with ledger.store.connection() as connection:
        blocked = code_store.blocked_until(connection, limits)
        found = code_store.look_up(connection, request.merchant_id, keys.hashes(request.merchant_id, text))
    if blocked is not None:
        return ledger.do(_refusing(request, _too_many(*blocked)))
    try:
        if found is None:
            detail = "the code has a typing error" if mistyped(text) else ""
            return ledger.do(_refusing(request, CodeNotFound(detail)))
        return ledger.do(redeem_code(request, found, user_id, facts=facts, to_staff=to_staff))
    except CodeNotFound:
        with ledger.store.connection() as connection:
            code_store.count_miss(connection, [who for who, _ in limits])
        raise


def use_at_till(
    ledger: Ledger,
    keys: CodeKeys,
    request: Request,
    typed: str,
    order_id: str,
    *,
    discount_minor: int | None = None,
    coupon_id: str | None = None,
    user_id: str | None = None,
    allocation: Sequence[Mapping[str, Any]] = (),
    order_total_minor: int | None = None,
    basket: Basket | None = None,
) -> Receipt:
    """Use the coupon whose code a shopper showed, on an order of the shop. Answers the redemption.

    It is used by the user for whom the code was shown: its owner, or a friend with whom it is shared. A ``coupon_id``
    or ``user_id`` that the till knows must be those of the code. Raises ``RedemptionCodeInvalid`` for a code that is
    wrong, no longer fresh, of a user who may not use the coupon any more, or was the proof of a use before;
    ``TooManyMisses`` when that was said too often of one coupon; and what ``redeem`` raises.
    """
    check_keys(keys)
    shown = till.read(normal(typed))
    if shown is None:
        return ledger.do(_refusing(request, RedemptionCodeInvalid()))
    who = _who(keys, "till", request.merchant_id, shown.handle)
    with ledger.store.connection() as connection:
        blocked = code_store.blocked_until(connection, [(who, code_store.USER_MISSES)])
        streams = code_store.streams_beginning(connection, f"coupon-{shown.handle}", CANDIDATES)
    if blocked is not None:
        return ledger.do(_refusing(request, _too_many(*blocked)))
    snapshot = ledger.store.load(streams)
    for stream in streams:
        coupon = fold(Coupon(stream), snapshot.streams[stream])
        if coupon.merchant_id != request.merchant_id or coupon_id not in (None, coupon.key):
            continue
        if not till.has_handle(coupon.key):
            continue
        proved = _proved(keys, coupon, shown, user_id, snapshot.now)
        if proved is None:
            continue
        holder_id, since = proved
        work = redeem(
            request,
            order_id,
            coupon_id=coupon.key,
            discount_minor=discount_minor,
            user_id=holder_id,
            allocation=allocation,
            order_total_minor=order_total_minor,
            basket=basket,
        )
        try:
            return ledger.do(work if shown.is_static else _once(work, stream, since))
        except NotOwner:
            # It was given away, or the sharing ended, since it was looked up.
            raise RedemptionCodeInvalid from None
    try:
        return ledger.do(_refusing(request, RedemptionCodeInvalid()))
    except RedemptionCodeInvalid:
        with ledger.store.connection() as connection:
            code_store.count_miss(connection, [who])
        raise


def _proved(
    keys: CodeKeys, coupon: Coupon, shown: till.Shown, user_id: str | None, now: datetime
) -> tuple[str, datetime] | None:
    """For which user of the coupon the code was shown, and since when; ``None`` where it is nobody's."""
    for holder_id in (coupon.user_id, *coupon.shared_with):
        if user_id not in (None, holder_id):
            continue
        whose = (keys, coupon.merchant_id, coupon.key, holder_id, shown.code)
        if shown.is_static and till.is_genuine(*whose):
            return holder_id, now
        if not shown.is_static and (since := till.shown_since(*whose, now)) is not None:
            return holder_id, since
    return None


def _once(work: Work, stream: str, since: datetime) -> Work:
    """The same work, refused where the coupon was used at a till since its code appeared: a code is good for one use.

    It matters where a use leaves the coupon usable: a voucher with a balance, or a quick return.
    """

    def decide(loaded: Loaded) -> Unit | Receipt:
        decided = work.decide(loaded)
        for event in loaded.streams[stream]:
            used = isinstance(event, CouponUsed | CouponDebited) and event.channel == "in_store"
            if used and event.occurred_at >= since:
                raise RedemptionCodeInvalid("the code was the proof of a use before")
        return decided

    return replace(work, decide=decide)


def _refusing(request: Request, refusal: Refusal) -> Work:
    """Work that is refused, unless the request had its answer before."""

    def decide(loaded: Loaded) -> Unit | Receipt:  # noqa: ARG001
        raise refusal

    return Work(request, (), decide)


def _too_many(now: datetime, until: datetime) -> TooManyMisses:
    return TooManyMisses(retry_after_seconds=max(1, round((until - now).total_seconds())))


def _who(keys: CodeKeys, *parts: str) -> bytes:
    """Who missed, so that the table tells nobody's id or address."""
    return hmac.digest(keys.derived("miss")[0], "\x1f".join(parts).encode(), "sha256")[:16]

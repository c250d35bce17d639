"""The use cases: what each loads, and how it decides. Each returns ``Work`` for ``Ledger.do`` or ``Ledger.do_all``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from ledger.aggregate import Aggregate, coupon_id, derived_id, text_of
from ledger.batch import Batch, BatchPlan
from ledger.commit import Unit
from ledger.coupon import Coupon, Redemption
from ledger.errors import IdempotencyKeyReused, InvalidField, InvalidQuantity, VersionConflict
from ledger.events import CouponExpired, CouponIssued
from ledger.request import Request
from ledger.template import Template
from ledger.terms import MONEY_LIMIT_MINOR, Terms
from ledger.work import Loaded, Receipt, Work

ISSUE_LIMIT = 1_000
"""Coupons that one request may issue."""
ORDER_COUPON_LIMIT = 100
"""Coupons that one command of an order may name."""
ID_LIMIT = 128
"""Characters of a caller's id: user, order, line."""
REASON_LIMIT = 200


# --- templates --------------------------------------------------------------------------------------


def create_template(request: Request, *, name: str, terms: Terms) -> Work:
    """Define an offer. Answers ``template_id`` and ``version``."""
    template_id = derived_id("template", request.merchant_id, request.request_id)
    stream = f"template-{template_id}"

    def decide(loaded: Loaded) -> Unit:
        template = Template(stream)
        template.create(request, loaded.now, name=name, terms=terms)
        return _unit(request, {"template_id": template_id, "version": template.version}, template)

    return Work(request, (stream,), decide)


def revise_template(
    request: Request, template_id: str, *, name: str, terms: Terms, expected_version: int | None = None
) -> Work:
    """Give a template new terms for batches to come. Answers ``template_id`` and the new ``version``."""

    def decide(loaded: Loaded) -> Unit:
        template = loaded.template(template_id)
        template.revise(request, loaded.now, name=name, terms=terms, expected=expected_version)
        return _unit(request, {"template_id": template_id, "version": template.version}, template)

    return Work(request, (f"template-{template_id}",), decide)


# --- batches ----------------------------------------------------------------------------------------


def create_batch(request: Request, plan: BatchPlan, *, template_id: str, template_version: int | None = None) -> Work:
    """Plan a batch on a template's version (the newest when none is named). Answers the batch, in DRAFT."""
    batch_id = derived_id("batch", request.merchant_id, request.request_id)

    def decide(loaded: Loaded) -> Unit:
        template = loaded.template(template_id)
        version = template.version if template_version is None else template_version
        if not 1 <= version <= template.version:
            raise InvalidField("the template has no such version", field="template_version")
        batch = Batch(f"batch-{batch_id}")
        batch.create(request, loaded.now, plan, template_id, version)
        unit = _unit(request, _batch_answer(batch, loaded.now), batch)
        unit.supply[batch_id] = batch.quantity
        unit.reads[template.id] = template.version
        return unit

    return Work(request, (f"template-{template_id}",), decide)


def start_batch(request: Request, batch_id: str, *, expected_version: int | None = None) -> Work:
    """DRAFT to RUNNING: coupons may be issued."""
    return _batch_step(request, batch_id, expected_version, lambda batch, now: batch.start(request, now))


def pause_batch(request: Request, batch_id: str, *, reason: str, expected_version: int | None = None) -> Work:
    """RUNNING to PAUSED: nothing is issued for a while."""
    _check_reason(reason)
    return _batch_step(request, batch_id, expected_version, lambda batch, now: batch.pause(request, now, reason))


def resume_batch(request: Request, batch_id: str, *, expected_version: int | None = None) -> Work:
    """PAUSED to RUNNING."""
    return _batch_step(request, batch_id, expected_version, lambda batch, now: batch.resume(request, now))


def stop_batch(request: Request, batch_id: str, *, reason: str, expected_version: int | None = None) -> Work:
    """To STOPPED: nothing more is ever issued; issued coupons stay valid."""
    _check_reason(reason)
    return _batch_step(request, batch_id, expected_version, lambda batch, now: batch.stop(request, now, reason))


def change_quantity(
    request: Request, batch_id: str, *, expected: int, target: int, expected_version: int | None = None
) -> Work:
    """Set the quantity if it is still the expected one and no more than the target is issued."""

    def step(batch: Batch, now: datetime) -> None:
        batch.change_quantity(request, now, expected=expected, target=target)

    work = _batch_step(request, batch_id, expected_version, step)

    def decide(loaded: Loaded) -> Unit | Receipt:
        unit = work.decide(loaded)
        if isinstance(unit, Unit):
            unit.supply[batch_id] = target
        return unit

    return Work(request, work.streams, decide)


def _batch_step(
    request: Request, batch_id: str, expected_version: int | None, step: Callable[[Batch, datetime], None]
) -> Work:
    def decide(loaded: Loaded) -> Unit:
        batch = loaded.batch(batch_id)
        _check_version(batch, expected_version)
        step(batch, loaded.now)
        return _unit(request, _batch_answer(batch, loaded.now), batch)

    return Work(request, (f"batch-{batch_id}",), decide)


def _batch_answer(batch: Batch, now: datetime) -> dict[str, Any]:
    return {
        "batch_id": batch.key,
        "state": batch.state_at(now),
        "quantity": batch.quantity,
        "version": batch.version,
    }


# --- issuing ----------------------------------------------------------------------------------------


def issue(request: Request, batch_id: str, user_ids: Sequence[str], *, channel: str = "issue") -> Work:
    """Issue one coupon for each user id named (twice named, two coupons), all or none. Answers the coupons."""
    if not 1 <= len(user_ids) <= ISSUE_LIMIT:
        raise InvalidQuantity(f"one request issues 1 to {ISSUE_LIMIT} coupons", field="user_ids")
    for user_id in user_ids:
        check_id("user_id", user_id)
    ids = [coupon_id(batch_id, request.request_id, ordinal) for ordinal in range(len(user_ids))]

    def decide(loaded: Loaded) -> Unit:
        _check_new(request, loaded, ids)
        batch = loaded.issuing_batch(batch_id)
        events = _issued(request, loaded.now, batch, ids, user_ids, channel)
        answer = {"batch_id": batch_id, "coupons": [_issued_answer(event) for event in events]}
        return _issue_unit(batch, events, answer, request)

    return Work(request, tuple(f"coupon-{id}" for id in ids), decide, batch_id, user_ids)


def claim(request: Request, batch_id: str, user_id: str, *, channel: str = "claim") -> Work:
    """Issue one coupon to the user who asks for it. Answers the coupon."""
    check_id("user_id", user_id)
    id = coupon_id(batch_id, request.request_id, 0)

    def decide(loaded: Loaded) -> Unit:
        _check_new(request, loaded, [id])
        batch = loaded.issuing_batch(batch_id)
        events = _issued(request, loaded.now, batch, [id], [user_id], channel)
        return _issue_unit(batch, events, _issued_answer(events[0]), request)

    return Work(request, (f"coupon-{id}",), decide, batch_id, [user_id])


def issue_by_message(request: Request, batch_id: str, user_id: str, *, channel: str) -> Work:
    """Issue one coupon, with the coupon's own stream as the guard against repeats.

    Its id comes from the request, so a repeat finds the stream there; millions of messages then need no row of
    their own in ``requests``.
    """
    check_id("user_id", user_id)
    id = coupon_id(batch_id, request.request_id, 0)
    stream = f"coupon-{id}"

    def decide(loaded: Loaded) -> Unit | Receipt:
        for issued in loaded.streams.get(stream, ())[:1]:
            assert isinstance(issued, CouponIssued)
            if (issued.merchant_id, issued.user_id, issued.channel) != (request.merchant_id, user_id, channel):
                raise IdempotencyKeyReused(request_id=request.request_id)
            return Receipt(_issued_answer(issued), 0, replayed=True)
        batch = loaded.issuing_batch(batch_id)
        events = _issued(request, loaded.now, batch, [id], [user_id], channel)
        return _issue_unit(batch, events, {}, None)

    return Work(request, (stream,), decide, batch_id, [user_id])


def _check_new(request: Request, loaded: Loaded, ids: Sequence[str]) -> None:
    """Raise ``IdempotencyKeyReused`` when a message (``issue_by_message``) issued under this request's id before."""
    if any(loaded.streams.get(stream) for stream in _coupon_streams(ids)):
        raise IdempotencyKeyReused(request_id=request.request_id)


def _issued(
    request: Request, now: datetime, batch: Batch, ids: Sequence[str], user_ids: Sequence[str], channel: str
) -> list[CouponIssued]:
    """New streams need no aggregate: the batch decides, and the event is the whole coupon."""
    valid_from, valid_until = batch.issuing_at(now)
    created = batch.created
    return [
        CouponIssued.made(
            {
                "originator_id": f"coupon-{id}",
                "originator_version": 1,
                "merchant_id": request.merchant_id,
                "actor": request.actor,
                "request_id": request.request_id,
                "occurred_at": now,
                "batch_id": batch.key,
                "user_id": user_id,
                "template_id": created.template_id,
                "template_version": created.template_version,
                "channel": channel,
                "valid_from": valid_from,
                "valid_until": valid_until,
            }
        )
        for id, user_id in zip(ids, user_ids, strict=True)
    ]


def _issue_unit(batch: Batch, events: Sequence[CouponIssued], answer: dict[str, Any], request: Request | None) -> Unit:
    unit = Unit(events, request, answer, reads={batch.id: batch.version}, stock={batch.key: len(events)})
    most = batch.created.per_user_limit
    if most is not None:
        taken = Counter(event.user_id for event in events) if len(events) > 1 else {events[0].user_id: 1}
        unit.quota = {(batch.key, user_id): (take, most) for user_id, take in taken.items()}
    return unit


def _issued_answer(event: CouponIssued) -> dict[str, Any]:
    return {
        "coupon_id": event.originator_id.removeprefix("coupon-"),
        "batch_id": event.batch_id,
        "user_id": event.user_id,
        "valid_from": text_of(event.valid_from),
        "valid_until": text_of(event.valid_until),
    }


# --- orders -----------------------------------------------------------------------------------------


def lock(
    request: Request,
    order_id: str,
    *,
    user_id: str,
    coupon_ids: Sequence[str],
    ttl_seconds: int | None = None,
    order_total_minor: int | None = None,
    quote_digest: str | None = None,
) -> Work:
    """Hold coupons for an order, all or none (Try of TCC). Answers each coupon's ``lock_id`` and ``lock_ends_at``."""
    check_id("order_id", order_id)
    check_id("user_id", user_id)
    _check_money("order_total_minor", order_total_minor)
    coupon_ids = _checked_coupon_ids(coupon_ids)

    def decide(loaded: Loaded) -> Unit:
        coupons = [loaded.coupon(id) for id in coupon_ids]
        for coupon in coupons:
            terms = loaded.terms(coupon.template_id, coupon.template_version)
            coupon.lock(
                request,
                loaded.now,
                terms,
                order_id=order_id,
                user_id=user_id,
                ttl_seconds=ttl_seconds,
                order_total_minor=order_total_minor,
                quote_digest=quote_digest,
            )
        locks = [
            {"coupon_id": coupon.key, "lock_id": coupon.lock_id, "lock_ends_at": text_of(coupon.lock_ends_at)}
            for coupon in coupons
        ]
        return _unit(request, {"order_id": order_id, "locks": locks}, *coupons)

    return Work(request, _coupon_streams(coupon_ids), decide)


def confirm(
    request: Request,
    order_id: str,
    redemptions: Sequence[Redemption],
    *,
    lock_id: str | None = None,
    order_total_minor: int | None = None,
    paid_minor: int | None = None,
) -> Work:
    """Spend the coupons that the paid order holds, all or none (Confirm of TCC). Answers the redemptions."""
    check_id("order_id", order_id)
    _check_money("order_total_minor", order_total_minor)
    _check_money("paid_minor", paid_minor)
    by_id = {redemption.coupon_id: redemption for redemption in redemptions}
    coupon_ids = _checked_coupon_ids([redemption.coupon_id for redemption in redemptions])

    def decide(loaded: Loaded) -> Unit:
        coupons = [loaded.coupon(id) for id in coupon_ids]
        for coupon in coupons:
            terms = loaded.terms(coupon.template_id, coupon.template_version)
            coupon.confirm(
                request,
                loaded.now,
                terms,
                by_id[coupon.key],
                order_id=order_id,
                lock_id=lock_id,
                order_total_minor=order_total_minor,
                paid_minor=paid_minor,
            )
        redeemed = [
            {
                "coupon_id": coupon.key,
                "redemption_id": coupon.redemption_id,
                "discount_minor": coupon.discount_minor,
            }
            for coupon in coupons
        ]
        return _unit(request, {"order_id": order_id, "redemptions": redeemed}, *coupons)

    return Work(request, _coupon_streams(coupon_ids), decide)


def unlock(
    request: Request, order_id: str, *, coupon_ids: Sequence[str], reason: str, lock_id: str | None = None
) -> Work:
    """Let coupons go that an unpaid order holds, all or none (Cancel of TCC)."""
    check_id("order_id", order_id)
    _check_reason(reason)
    coupon_ids = _checked_coupon_ids(coupon_ids)

    def decide(loaded: Loaded) -> Unit:
        coupons = [loaded.coupon(id) for id in coupon_ids]
        for coupon in coupons:
            coupon.unlock(request, loaded.now, order_id=order_id, lock_id=lock_id, reason=reason)
        return _unit(request, _states_answer(order_id, coupons, loaded.now), *coupons)

    return Work(request, _coupon_streams(coupon_ids), decide)


def return_coupons(request: Request, order_id: str, *, coupon_ids: Sequence[str], reason: str) -> Work:
    """Undo the use of coupons after a refund, all or none, as each one's pinned return policy says."""
    check_id("order_id", order_id)
    coupon_ids = _checked_coupon_ids(coupon_ids)

    def decide(loaded: Loaded) -> Unit:
        coupons = [loaded.coupon(id) for id in coupon_ids]
        for coupon in coupons:
            terms = loaded.terms(coupon.template_id, coupon.template_version)
            coupon.return_(request, loaded.now, terms, order_id=order_id, reason=reason)
        return _unit(request, _states_answer(order_id, coupons, loaded.now), *coupons)

    return Work(request, _coupon_streams(coupon_ids), decide)


# --- single coupons ---------------------------------------------------------------------------------


def void(request: Request, coupon_id: str, *, reason: str, expected_version: int | None = None) -> Work:
    """Withdraw one coupon that is not used."""
    _check_reason(reason)

    def decide(loaded: Loaded) -> Unit:
        coupon = loaded.coupon(coupon_id)
        _check_version(coupon, expected_version)
        coupon.void(request, loaded.now, reason=reason)
        return _unit(request, {"coupon_id": coupon_id, "state": coupon.state_at(loaded.now)}, coupon)

    return Work(request, (f"coupon-{coupon_id}",), decide)


def expire(request: Request, coupon_id: str) -> Work:
    """Write down that a coupon's validity has ended. Refused while it has not."""

    def decide(loaded: Loaded) -> Unit:
        coupon = loaded.coupon(coupon_id)
        coupon.expire(request, loaded.now)
        return _unit(request, {"coupon_id": coupon_id}, coupon)

    return Work(request, (f"coupon-{coupon_id}",), decide)


def expired_unit(
    request: Request, coupon_id: str, *, version: int, batch_id: str, user_id: str, valid_until: datetime
) -> Unit:
    """The unit of an expiry whose coupon is known at this version, for sweeping without loading.

    The version is the guard: if the coupon moved since, the verdict is ``conflict`` and nothing is written.
    """
    event = CouponExpired(
        originator_id=f"coupon-{coupon_id}",
        originator_version=version + 1,
        merchant_id=request.merchant_id,
        actor=request.actor,
        request_id=request.request_id,
        occurred_at=valid_until,
        batch_id=batch_id,
        user_id=user_id,
        valid_until=valid_until,
    )
    return Unit([event])


# --- what they share --------------------------------------------------------------------------------


def check_id(field: str, value: str) -> None:
    """Raise ``InvalidField`` unless it is 1 to 128 printable characters without surrounding space."""
    if not 1 <= len(value) <= ID_LIMIT or not value.isprintable() or value != value.strip():
        raise InvalidField(f"{field} is 1 to {ID_LIMIT} printable characters", field=field)


def _unit(request: Request, answer: dict[str, Any], *aggregates: Aggregate) -> Unit:
    return Unit([event for aggregate in aggregates for event in aggregate.collect_events()], request, answer)


def _states_answer(order_id: str, coupons: Sequence[Coupon], now: datetime) -> dict[str, Any]:
    states = [{"coupon_id": coupon.key, "state": coupon.state_at(now)} for coupon in coupons]
    return {"order_id": order_id, "coupons": states}


def _coupon_streams(coupon_ids: Sequence[str]) -> tuple[str, ...]:
    return tuple(f"coupon-{id}" for id in coupon_ids)


def _checked_coupon_ids(coupon_ids: Sequence[str]) -> list[str]:
    if not 1 <= len(coupon_ids) <= ORDER_COUPON_LIMIT:
        raise InvalidField(f"an order names 1 to {ORDER_COUPON_LIMIT} coupons", field="coupon_ids")
    if len(set(coupon_ids)) != len(coupon_ids):
        raise InvalidField("a coupon is named twice", field="coupon_ids")
    for id in coupon_ids:
        check_id("coupon_id", id)
    return sorted(coupon_ids)


def _check_money(field: str, value: int | None) -> None:
    if value is not None and not (type(value) is int and 0 <= value < MONEY_LIMIT_MINOR):
        raise InvalidField(f"{field} is a whole number from 0 to below 10^12", field=field)


def _check_reason(reason: str) -> None:
    if not 1 <= len(reason) <= REASON_LIMIT or not reason.isprintable():
        raise InvalidField(f"reason is 1 to {REASON_LIMIT} printable characters", field="reason")


def _check_version(aggregate: Aggregate, expected: int | None) -> None:
    if expected not in (None, aggregate.version):
        raise VersionConflict(expected=expected, version=aggregate.version)

"""Use cases that issue coupons: to users who are named, to the user who asks, and by message."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from ledger.aggregate import coupon_id, text_of
from ledger.batch import Batch
from ledger.commit import Unit
from ledger.errors import IdempotencyKeyReused, InvalidQuantity
from ledger.events import CouponIssued
from ledger.request import Request
from ledger.use_cases.checks import check_id, coupon_streams
from ledger.work import Loaded, Receipt, Work

ISSUE_LIMIT = 1_000
"""Coupons that one request may issue."""


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
    if any(loaded.streams.get(stream) for stream in coupon_streams(ids)):
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

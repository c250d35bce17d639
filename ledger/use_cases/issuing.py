"""Use cases that issue coupons: to users who are named, to the user who asks, and by message."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any

from ledger import limits
from ledger.aggregate import coupon_id, text_of
from ledger.audience import Facts
from ledger.batch import Batch
from ledger.calendar import local_day
from ledger.commit import Unit
from ledger.errors import FactRequired, IdempotencyKeyReused, InvalidField, InvalidQuantity
from ledger.events import CouponIssued
from ledger.request import Request
from ledger.terms import Terms
from ledger.use_cases.checks import check_id, coupon_streams
from ledger.work import Loaded, Receipt, Work

ISSUE_LIMIT = 1_000
"""Coupons that one request may issue."""

NO_FACTS = Facts()


@dataclass(frozen=True, slots=True)
class Given:
    """What comes with the wish for a coupon."""

    channel: str
    facts: Facts = NO_FACTS
    points_receipt: str | None = None
    extra_facts: Mapping[str, Any] = field(default_factory=dict)
    """What else is recorded with the decision, such as the set of codes that the coupon came from."""

    def __post_init__(self) -> None:
        # What becomes part of a guard's key has the form of an id.
        if self.facts.person is not None:
            check_id("facts.person", self.facts.person)
        if self.points_receipt is not None:
            check_id("points_receipt", self.points_receipt)


def issue(
    request: Request,
    batch_id: str,
    user_ids: Sequence[str],
    *,
    channel: str = "issue",
    facts: Facts = NO_FACTS,
    points_receipt: str | None = None,
) -> Work:
    """Issue one coupon for each user id named (twice named, two coupons), all or none. Answers the coupons.

    Facts and a points receipt are about one coupon, so they go with one user id only.
    """
    if not 1 <= len(user_ids) <= ISSUE_LIMIT:
        raise InvalidQuantity(f"one request issues 1 to {ISSUE_LIMIT} coupons", field="user_ids")
    for user_id in user_ids:
        check_id("user_id", user_id)
    if len(user_ids) > 1 and facts != NO_FACTS:
        raise InvalidField("facts are about one user, and more are named", field="facts")
    if len(user_ids) > 1 and points_receipt is not None:
        raise InvalidField("a points receipt is good for one coupon, and more are asked for", field="points_receipt")
    given = _given(channel, facts, points_receipt)
    ids = [coupon_id(batch_id, request.request_id, ordinal) for ordinal in range(len(user_ids))]

    def decide(loaded: Loaded) -> Unit:
        _check_new(request, loaded, ids)
        batch = loaded.issuing_batch(batch_id)
        events, unit = _issued(request, loaded, batch, ids, user_ids, given)
        unit.request = request
        unit.answer = {"batch_id": batch_id, "coupons": [_issued_answer(event) for event in events]}
        return unit

    return Work(request, tuple(f"coupon-{id}" for id in ids), decide, batch_id, user_ids)


def claim(
    request: Request,
    batch_id: str,
    user_id: str,
    *,
    channel: str = "claim",
    facts: Facts = NO_FACTS,
    points_receipt: str | None = None,
) -> Work:
    """Issue one coupon to the user who asks for it. Answers the coupon."""
    check_id("user_id", user_id)
    given = _given(channel, facts, points_receipt)
    id = coupon_id(batch_id, request.request_id, 0)

    def decide(loaded: Loaded) -> Unit:
        _check_new(request, loaded, [id])
        return issue_one(request, loaded, loaded.issuing_batch(batch_id), id, user_id, given)

    return Work(request, (f"coupon-{id}",), decide, batch_id, [user_id])


def issue_one(request: Request, loaded: Loaded, batch: Batch, id: str, user_id: str, given: Given) -> Unit:
    """The unit of one coupon under this id, answered with the coupon. For work that names ``issues_from``."""
    events, unit = _issued(request, loaded, batch, [id], [user_id], given)
    unit.request = request
    unit.answer = _issued_answer(events[0])
    return unit


def issue_by_message(
    request: Request,
    batch_id: str,
    user_id: str,
    *,
    channel: str,
    facts: Facts = NO_FACTS,
    points_receipt: str | None = None,
) -> Work:
    """Issue one coupon, with the coupon's own stream as the guard against repeats.

    Its id comes from the request, so a repeat finds the stream there; millions of messages then need no row of
    their own in ``requests``.
    """
    check_id("user_id", user_id)
    given = _given(channel, facts, points_receipt)
    id = coupon_id(batch_id, request.request_id, 0)
    stream = f"coupon-{id}"

    def decide(loaded: Loaded) -> Unit | Receipt:
        for issued in loaded.streams.get(stream, ())[:1]:
            assert isinstance(issued, CouponIssued)
            if (issued.merchant_id, issued.user_id, issued.channel) != (request.merchant_id, user_id, channel):
                raise IdempotencyKeyReused(request_id=request.request_id)
            return Receipt(_issued_answer(issued), 0, replayed=True)
        batch = loaded.issuing_batch(batch_id)
        return _issued(request, loaded, batch, [id], [user_id], given)[1]

    return Work(request, (stream,), decide, batch_id, [user_id])


def _given(channel: str, facts: Facts, points_receipt: str | None) -> Given:
    if facts is NO_FACTS and points_receipt is None:
        return _given_nothing(channel)
    return Given(channel, facts, points_receipt)


@lru_cache(maxsize=1_000)
def _given_nothing(channel: str) -> Given:
    """Most wishes come with nothing, and making one costs as much as looking up its batch."""
    return Given(channel)


def _check_new(request: Request, loaded: Loaded, ids: Sequence[str]) -> None:
    """Raise ``IdempotencyKeyReused`` when a message (``issue_by_message``) issued under this request's id before."""
    if any(loaded.streams.get(stream) for stream in coupon_streams(ids)):
        raise IdempotencyKeyReused(request_id=request.request_id)


def _issued(
    request: Request, loaded: Loaded, batch: Batch, ids: Sequence[str], user_ids: Sequence[str], given: Given
) -> tuple[list[CouponIssued], Unit]:
    """The coupons, and the unit that issues them, still without request and answer.

    New streams need no aggregate: the batch decides, and the event is the whole coupon.
    """
    valid_from, valid_until = batch.issuing_at(loaded.now)
    created = batch.created
    if created.audience:
        for user_id in user_ids:
            batch.check_audience(user_id, given.facts)
    terms = loaded.terms(created.template_id, created.template_version)
    used = _used(batch, terms, given)
    events = [
        CouponIssued.made(
            {
                "originator_id": f"coupon-{id}",
                "originator_version": 1,
                "merchant_id": request.merchant_id,
                "actor": request.actor,
                "request_id": request.request_id,
                "occurred_at": loaded.now,
                "batch_id": batch.key,
                "user_id": user_id,
                "template_id": created.template_id,
                "template_version": created.template_version,
                "channel": given.channel,
                "valid_from": valid_from,
                "valid_until": valid_until,
                "facts": used,
            }
        )
        for id, user_id in zip(ids, user_ids, strict=True)
    ]
    unit = Unit(events, reads={batch.id: batch.version}, stock={batch.key: len(events)})
    if batch.budget_minor is not None and terms.benefit.worth_minor is not None:
        unit.stock[limits.budget_key(batch.key)] = len(events) * terms.benefit.worth_minor
    taken = Counter(user_ids) if len(user_ids) > 1 else {user_ids[0]: 1}
    if created.per_user_limit is not None:
        unit.quota = {(batch.key, user_id): (take, created.per_user_limit) for user_id, take in taken.items()}
    if batch.counts_more_than_users:
        unit.quota |= _shares(batch, loaded.now, taken, used)
    if "points_receipt" in used:
        unit.quota[limits.points_key(request.merchant_id), used["points_receipt"]] = (1, 1)
    return events, unit


def _used(batch: Batch, terms: Terms, given: Given) -> dict[str, Any]:
    """What was needed for the decision, and so is recorded; what nobody asked for is not kept."""
    used: dict[str, Any] = {}
    if asked := batch.facts_asked:
        if "person" in asked and given.facts.person is None:
            raise FactRequired("the batch limits what one natural person gets", fact="person", field="facts.person")
        used = {name: value for name, value in given.facts.to_payload().items() if name in asked}
    if terms.points_price is not None:
        if given.points_receipt is None:
            raise FactRequired(
                f"a coupon costs {terms.points_price} points", fact="points_receipt", field="points_receipt"
            )
        used["points_receipt"] = given.points_receipt
    elif given.points_receipt is not None:
        # To drop it would leave the points paid for nothing, and the receipt good for another coupon.
        raise InvalidField("the coupon costs no points", field="points_receipt")
    used.update(given.extra_facts)
    return used


def _shares(
    batch: Batch, now: datetime, taken: Mapping[str, int], used: Mapping[str, Any]
) -> dict[tuple[str, str], tuple[int, int]]:
    """What is taken of limits by person and day, the narrowest first, for its refusal tells most."""
    plan = batch.created
    shares = {}
    if plan.per_person_limit is not None:
        shares[batch.key, limits.person_key(used["person"])] = (1, plan.per_person_limit)
    if plan.per_user_day_limit is not None or plan.per_day_limit is not None:
        day = local_day(now, plan.time_zone)
        if plan.per_user_day_limit is not None:
            for user_id, take in taken.items():
                shares[batch.key, limits.day_key(day, user_id)] = (take, plan.per_user_day_limit)
        if plan.per_day_limit is not None:
            shares[batch.key, limits.day_key(day)] = (sum(taken.values()), plan.per_day_limit)
    return shares


def _issued_answer(event: CouponIssued) -> dict[str, Any]:
    return {
        "coupon_id": event.originator_id.removeprefix("coupon-"),
        "batch_id": event.batch_id,
        "user_id": event.user_id,
        "valid_from": text_of(event.valid_from),
        "valid_until": text_of(event.valid_until),
    }

"""Use cases of redemption codes: generated, handed over, revoked, and exchanged for a coupon."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from ledger.aggregate import coupon_id
from ledger.audience import Facts
from ledger.batch import Batch
from ledger.code_store import FoundCode
from ledger.codes import Codes
from ledger.commit import Unit
from ledger.errors import BatchStateConflict, CodeNotFound, CodeUsed, IdempotencyKeyReused
from ledger.events import CodesRevoked, CouponIssued
from ledger.request import Request
from ledger.use_cases.batches import check_costs_no_points
from ledger.use_cases.checks import check_id, check_reason, unit_of
from ledger.use_cases.issuing import NO_FACTS, Given, issue_one
from ledger.work import Loaded, Work, fold

CHANNEL = "code"
"""Of coupons that were issued for a code."""


def record_codes(request: Request, codes_id: str, *, batch_id: str, kind: str, count: int) -> Work:
    """Write down that a set of codes is there (``ledger/code_jobs.py`` makes them). Answers the set."""

    def decide(loaded: Loaded) -> Unit:
        batch = loaded.batch(batch_id)
        check_takes_codes(batch, loaded.now)
        check_costs_no_points(loaded.terms(batch.created.template_id, batch.created.template_version))
        codes = _codes(loaded, codes_id)
        if codes.version:
            raise IdempotencyKeyReused(request_id=request.request_id)
        codes.generate(request, loaded.now, batch_id=batch_id, kind=kind, count=count)
        unit = unit_of(request, codes_answer(codes), codes)
        unit.reads[batch.id] = batch.version
        return unit

    return Work(request, (f"batch-{batch_id}", f"codes-{codes_id}"), decide)


def confirm_code_export(request: Request, codes_id: str) -> Work:
    """Write down that the codes were handed over. Answers the set."""

    def decide(loaded: Loaded) -> Unit:
        codes = _codes(loaded, codes_id)
        codes.export(request, loaded.now)
        return unit_of(request, codes_answer(codes), codes)

    return Work(request, (f"codes-{codes_id}",), decide)


def revoke_codes(request: Request, codes_id: str, *, reason: str) -> Work:
    """None of the set's codes is exchanged any more; coupons that were, stay. Answers the set."""
    check_reason(reason)

    def decide(loaded: Loaded) -> Unit:
        codes = _codes(loaded, codes_id)
        codes.revoke(request, loaded.now, reason=reason)
        return unit_of(request, codes_answer(codes), codes)

    return Work(request, (f"codes-{codes_id}",), decide)


def redeem_code(
    request: Request, found: FoundCode, user_id: str, *, facts: Facts = NO_FACTS, to_staff: bool = False
) -> Work:
    """Issue a coupon of the code's batch to the user. Answers the coupon.

    A unique code names its coupon, whose stream can begin only once: that is what makes it single-use. Who exchanged
    it, and staff, hear ``CodeUsed``; to anybody else it is a code like any that does not exist (``CodeNotFound``), as
    is one that was revoked.
    """
    check_id("user_id", user_id)
    unique = found.is_unique
    id = coupon_of(found) if unique else coupon_id(found.batch_id, request.request_id, 0)
    given = Given(CHANNEL, facts, extra_facts={"codes_id": found.codes_id})
    codes_stream, stream = f"codes-{found.codes_id}", f"coupon-{id}"

    def decide(loaded: Loaded) -> Unit:
        version, revoked = len(found.topics), CodesRevoked.TOPIC in found.topics
        if codes_stream in loaded.streams:
            codes = _codes(loaded, found.codes_id)
            version, revoked = codes.version, codes.revoked
        if revoked:
            raise CodeNotFound
        for issued in loaded.streams.get(stream, ())[:1]:
            assert isinstance(issued, CouponIssued)
            if not unique:
                raise IdempotencyKeyReused(request_id=request.request_id)
            raise CodeUsed(coupon_id=id) if to_staff or issued.user_id == user_id else CodeNotFound
        batch = loaded.issuing_batch(found.batch_id)
        unit = issue_one(request, loaded, batch, id, user_id, given)
        unit.reads[codes_stream] = version
        return unit

    return Work(request, (stream, codes_stream), decide, found.batch_id, [user_id])


def coupon_of(found: FoundCode) -> str:
    """The id of the one coupon that a unique code is good for."""
    return coupon_id(found.batch_id, f" code {found.code_hash.hex()}", 0)


def check_takes_codes(batch: Batch, now: datetime) -> None:
    """Raise ``BatchStateConflict`` when the batch issues no more for good, so that its codes would be worth nothing."""
    state = batch.state_at(now)
    if state in ("STOPPED", "ENDED"):
        raise BatchStateConflict(f"the batch is {state}", batch_id=batch.key, state=state)


def codes_answer(codes: Codes) -> dict[str, Any]:
    """A set as callers see it."""
    return {
        "codes_id": codes.key,
        "batch_id": codes.generated.batch_id,
        "kind": codes.generated.kind,
        "count": codes.generated.count,
        "exported": codes.exported,
        "revoked": codes.revoked,
    }


def _codes(loaded: Loaded, codes_id: str) -> Codes:
    stream = f"codes-{codes_id}"
    return fold(Codes(stream), loaded.streams.get(stream, ()))

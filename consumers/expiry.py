"""The sweeper: writes down expiries and ends of locks that are already true by the clock.

No answer of the ledger waits for it. It finds what is due in the read model, which may be behind; the commit checks
each coupon's version, so a coupon that moved since is left alone until the read model has caught up.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import psycopg

from consumers.patience import keep_doing
from ledger import use_cases
from ledger.application import Ledger
from ledger.commit import Unit, commit_group
from ledger.errors import Refusal, ServiceError
from ledger.request import Request
from ledger.work import Work
from projections import queries

log = logging.getLogger(__name__)

GROUP_LIMIT = 1_000
"""Coupons of one transaction: other writers wait for it no longer than for a poll of messages."""
INTERVAL_SECONDS = 30.0
ACTOR = "job:expiry"


def sweep(ledger: Ledger, on_progress: Callable[[int], None] | None = None) -> int:
    """Write down all that is due now, and answer for how many coupons.

    ``on_progress`` is told that number after each group. Raises a ``ServiceError`` when the database is away; what
    was written until then stays.
    """
    total = 0
    for written in _groups(ledger):
        total += written
        if on_progress is not None:
            on_progress(total)
    return total


def run(ledger: Ledger, stop: threading.Event, interval_seconds: float = INTERVAL_SECONDS) -> None:
    """Sweep again and again until told to stop; the group in hand is finished first."""

    def step() -> float:
        total = 0
        for written in _groups(ledger):
            total += written
            if stop.is_set():
                break
        if total:
            log.info("wrote down the end of %d coupons or locks", total)
        return interval_seconds

    # Without the read model's view the projections have not been started yet.
    keep_doing("the sweep", step, stop, (ServiceError, psycopg.errors.UndefinedTable))


def _groups(ledger: Ledger) -> Iterator[int]:
    """How many coupons each group wrote down."""
    with ledger.store.connection() as connection:
        now = ledger.store.load((), (), connection).now
        after = queries.START
        while locks := queries.ended_locks(connection, now, after=after, limit=GROUP_LIMIT):
            with connection.transaction():
                results = ledger.do_all([_after_lock(lock, now) for lock in locks], connection)
            yield sum(not isinstance(result, Refusal) and not result.replayed for result in results)
            after = locks[-1].lock_ends_at, locks[-1].coupon_id
        after = queries.START
        while coupons := queries.due(connection, now, after=after, limit=GROUP_LIMIT):
            units = [_expiry(coupon) for coupon in coupons]
            with connection.transaction():
                verdicts = commit_group(ledger.store, connection, units)
            yield sum(verdict.word == "done" for verdict in verdicts)
            after = coupons[-1].valid_until, coupons[-1].coupon_id


def _after_lock(lock: queries.EndedLock, now: datetime) -> Work:
    """Expire the coupon if its time is over too, else let it go as of the end of the lock."""
    if lock.valid_until <= now:
        return use_cases.expire(Request(lock.merchant_id, ACTOR, f" expiry {lock.coupon_id}"), lock.coupon_id)
    request = Request(
        lock.merchant_id, ACTOR, f" lock_ended {lock.coupon_id} {lock.lock_id}", at=lock.lock_ends_at.astimezone(UTC)
    )
    return use_cases.unlock(
        request, lock.order_id, coupon_ids=[lock.coupon_id], reason="lock_ended", lock_id=lock.lock_id
    )


def _expiry(coupon: queries.DueCoupon) -> Unit:
    request = Request(coupon.merchant_id, ACTOR, " expiry")
    return use_cases.expired_unit(
        request,
        coupon.coupon_id,
        version=coupon.version,
        batch_id=coupon.batch_id,
        user_id=coupon.user_id,
        valid_until=coupon.valid_until,
    )

"""Why something was refused: the real use case decides again, on the log as it was and with the clock of then."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ledger import errors, events
from ledger.commit import Unit
from ledger.errors import LedgerError, Refusal
from ledger.events import Event, Recorded
from ledger.history.batches import EVENT_LIMIT, folded_batch
from ledger.history.coupons import last_of
from ledger.history.guards import StreamsOf, judge
from ledger.history.moment import Connection, Cut
from ledger.history.past import Past
from ledger.history.reading import histories, select
from ledger.store import Store
from ledger.work import Work

_OWNER = (events.CouponIssued, events.CouponTransferred)
_VALIDITY = (events.CouponIssued, events.CouponExtended, events.CouponReturned)
_HOLD = (events.CouponLocked, events.CouponUnlocked, events.CouponUsed, events.CouponDebited)
_LOCK = (events.CouponLocked, events.CouponLockExtended)
_USE = (events.CouponUsed, events.CouponDebited)
_RETURN = (events.CouponReturned, events.CouponCredited)

DECISIVE: dict[type[LedgerError], tuple[tuple[type[Event], ...], ...]] = {
    errors.CouponNotStarted: ((events.CouponIssued,),),
    errors.CouponExpired: (_VALIDITY, (events.CouponExpired,)),
    errors.CouponVoid: ((events.CouponVoided,),),
    errors.CouponUsed: (_USE,),
    errors.CouponLocked: ((events.CouponLocked,), _LOCK),
    errors.NotOwner: (_OWNER, (events.CouponShared,)),
    errors.NotLocked: (_HOLD,),
    errors.LockMismatch: ((events.CouponLocked,), _USE),
    errors.LockExpired: ((events.CouponLocked,), _LOCK, _HOLD),
    errors.NotUsed: (_USE, _RETURN),
    errors.ReturnNotAllowed: (_USE, _RETURN),
    errors.NotTransferable: (_OWNER,),
    errors.NotShareable: (_OWNER,),
    errors.NotApplicable: ((events.CouponLocked,), _USE),
    errors.QuoteChanged: ((events.CouponIssued,),),
}
"""Of a coupon, the last event of each of these kinds made the refusal so. Of a refusal that is not in it, those of its
nearest base did, and else the coupon's last event."""

_PLAN = (events.BatchCreated, events.BatchQuantityChanged, events.BatchBudgetChanged)
_STEP = (
    events.BatchCreated,
    events.BatchSubmitted,
    events.BatchApproved,
    events.BatchRejected,
    events.BatchStarted,
    events.BatchPaused,
    events.BatchResumed,
    events.BatchStopped,
)


@dataclass(slots=True, kw_only=True)
class Explanation:
    """What the ledger would have said, and by what."""

    refusal: Refusal | None
    answer: dict[str, Any] | None = None
    """What it would have answered instead; of a repeat, what it had answered."""
    replayed_position: int | None = None
    """Where the same request had its effect before: then nothing was decided again."""
    terms: list[dict[str, Any]] = field(default_factory=list)
    """Which version of which template each coupon pinned, and the position of that version."""
    because: list[Recorded] = field(default_factory=list)
    """The events that made it so, in the order of the log."""
    unknown: list[str] = field(default_factory=list)
    """What the log cannot tell; where this is not empty, the verdict is without it."""


def explain(
    store: Store,
    connection: Connection,
    work: Work,
    cut: Cut,
    streams_of: StreamsOf,
    limit: int | None = EVENT_LIMIT,
) -> Explanation:
    """Decide on the work as it would have been decided then. Nothing is written, whatever comes of it.

    ``streams_of`` names the coupons that a user ever had or might use; limits of what one may hold at once ask for it.
    """
    if repeat := _repeated(connection, work, cut):
        return repeat
    past = Past(store, connection, cut)
    loaded = past.loaded(work)
    positions: list[int] = []
    unknown: list[str] = []
    refusal: Refusal | None = None
    answer = None
    try:
        decided = work.decide(loaded)
    except Refusal as refused:
        refusal = refused
    else:
        answer = decided.answer
        if isinstance(decided, Unit):
            judged = judge(connection, past, work, decided, streams_of, limit)
            refusal, positions, unknown = judged.refusal, judged.positions, judged.unknown
    because = {recorded.position: recorded for recorded in _because(past, work, refusal)} if refusal else {}
    for recorded in select(store, connection, BY_POSITION, {"positions": positions}) if positions else ():
        because[recorded.position] = recorded
    return Explanation(
        refusal=refusal,
        answer=None if refusal else answer,
        terms=_terms(store, connection, past, work),
        because=[because[position] for position in sorted(because)],
        unknown=unknown,
    )


def _repeated(connection: Connection, work: Work, cut: Cut) -> Explanation | None:
    """What is told of a request that had its effect by then: it is answered the same for ever, and never refused."""
    key = (work.request.merchant_id, work.request.request_id)
    row: Any = connection.execute(ANSWERED, (*key, cut.position)).fetchone()
    if row is None:
        return None
    answer, position = row.values() if isinstance(row, dict) else row
    unknown = ["whether the repeat had the same body: of a body the ledger keeps a digest only"]
    return Explanation(refusal=None, answer=answer, replayed_position=position, unknown=unknown)


def _because(past: Past, work: Work, refusal: Refusal) -> Iterator[Recorded]:
    """The events that a refusal rests on: of the coupons and of the batch that it is about."""
    named = {refusal.facts.get("coupon_id"), refusal.facts.get("with_coupon_id")} - {None}
    coupons = [] if isinstance(refusal, errors.NotFound) else _own_coupons(past, work)
    for history in [each for each in coupons if each[0].event.originator_id.partition("-")[2] in named] or coupons:
        yield from _of_coupon(history, refusal)
    if history := _own_batch(past, work):
        yield history[0]
        yield from _last(history, (_STEP if isinstance(refusal, errors.BatchNotOpen) else _PLAN,))


def _own_coupons(past: Past, work: Work) -> list[Sequence[Recorded]]:
    """The histories of the work's coupons, of its own merchant alone: of another's nobody learns anything."""
    histories = [past.history(stream) for stream in work.streams if stream.startswith("coupon-")]
    return [history for history in histories if history and history[0].event.merchant_id == work.request.merchant_id]


def _own_batch(past: Past, work: Work) -> Sequence[Recorded]:
    history = () if work.issues_from is None else past.history(f"batch-{work.issues_from}")
    return history if history and history[0].event.merchant_id == work.request.merchant_id else ()


def _of_coupon(history: Sequence[Recorded], refusal: Refusal) -> Iterator[Recorded]:
    kinds = next((DECISIVE[base] for base in type(refusal).__mro__ if base in DECISIVE), None)
    found = list(_last(history, kinds)) if kinds else []
    yield from found or [history[-1]]


def _last(history: Sequence[Recorded], groups: Iterable[tuple[type[Event], ...]]) -> Iterator[Recorded]:
    for kinds in groups:
        if recorded := last_of(history, *kinds):
            yield recorded


def _terms(store: Store, connection: Connection, past: Past, work: Work) -> list[dict[str, Any]]:
    pinned: list[tuple[str | None, str, int]] = []
    for issued in (history[0].event for history in _own_coupons(past, work)):
        assert isinstance(issued, events.CouponIssued)
        pinned.append((issued.originator_id.partition("-")[2], issued.template_id, issued.template_version))
    if history := _own_batch(past, work):
        created = folded_batch(history).created
        pinned.append((None, created.template_id, created.template_version))
    templates = histories(store, connection, list({f"template-{template_id}" for _, template_id, _ in pinned}))
    return [
        {
            "coupon_id": coupon_id,
            "template_id": template_id,
            "template_version": version,
            "position": templates[f"template-{template_id}"][version - 1].position,
        }
        for coupon_id, template_id, version in pinned
    ]


BY_POSITION = """
select e.*
  from unnest(%(positions)s::bigint[]) as p (position)
 cross join lateral (
       select originator_id, originator_version, topic, state, notification_id, recorded_at
         from events where notification_id = p.position offset 0) e
"""

ANSWERED = """
select answer::jsonb as answer, position from requests
 where merchant_id = %s and request_id = %s and position <= %s
"""

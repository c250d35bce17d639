"""Undoing what was issued by mistake: the unused coupons of a batch, or of one job, are voided page by page.

The log itself says which coupons there are, so nothing waits for a read model. A batch's coupons lie together in it,
because their ids begin like the batch's.
"""

from __future__ import annotations

from dataclasses import dataclass

from psycopg.rows import tuple_row

from ledger.aggregate import coupons_begin
from ledger.application import Connection, Ledger
from ledger.batch import Batch
from ledger.commit import Unit
from ledger.errors import BatchNotFound, InvalidField, Unavailable
from ledger.request import Request
from ledger.use_cases.checks import ORDER_COUPON_LIMIT, check_reason
from ledger.use_cases.coupons import void_all
from ledger.work import Loaded, Receipt, Work, fold

PAGE = ORDER_COUPON_LIMIT
"""Coupons that one call voids or refuses."""
LOOK = 5_000
"""Coupons of the batch that one call looks at to find those of a job, so that a call is short in any batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """Which of a batch's coupons: all, or those that were asked for under one request id, or under any that begins so,
    or those for which codes of one set were exchanged.

    Raises ``InvalidField`` where more than one is given.
    """

    by: str | None = None
    by_prefix: str | None = None
    """A message's request id is its source, a space and its id, so one source's begin alike, and so may one job's."""

    codes_id: str | None = None
    """The set: each code is exchanged under a request id of its own."""

    def __post_init__(self) -> None:
        if self.by is not None and self.by_prefix is not None:
            raise InvalidField("one request id or one prefix of them", field="issued_by_prefix")
        if self.codes_id is not None and (self.by is not None or self.by_prefix is not None):
            raise InvalidField("one set of codes, or request ids", field="codes_id")


def void_issued(
    ledger: Ledger, request: Request, batch_id: str, *, reason: str, issued: Issued, after: str | None = None
) -> Receipt:
    """Void the next coupons of a batch, in the order of their ids, that can be; a live lock ends with its coupon.

    Answers ``{"voided": count, "refused": [{"coupon_id", "code"}], "next"}``; ``next`` is the ``after`` of the page
    that follows, ``None`` where there is none. A page may be empty and not the last. What is issued while the pages
    are walked may be missed, so pause or stop the batch first. Raises ``BatchNotFound``.
    """
    check_reason(reason)
    stream = f"batch-{batch_id}"
    batch = fold(Batch(stream), ledger.store.load([stream]).streams[stream])
    if not batch.version or batch.merchant_id != request.merchant_id:
        raise BatchNotFound(id=batch_id)
    with ledger.store.connection() as connection:
        coupon_ids, following = page(connection, batch_id, issued, after)
    while True:
        try:
            return ledger.do(_void_page(request, coupon_ids, following, reason))
        except Unavailable:
            # Nothing was written: perhaps because its coupons are used faster than so many can be voided at once.
            if len(coupon_ids) < 2:
                raise
            coupon_ids = coupon_ids[: max(1, len(coupon_ids) // 4)]
            following = coupon_ids[-1]


def _void_page(request: Request, coupon_ids: list[str], following: str | None, reason: str) -> Work:
    if not coupon_ids:
        answer = {"voided": 0, "refused": [], "next": following}
        return Work(request, (), lambda loaded: Unit((), request, answer))  # noqa: ARG005
    work = void_all(request, coupon_ids, reason=reason)

    def decide(loaded: Loaded) -> Unit | Receipt:
        unit = work.decide(loaded)
        if isinstance(unit, Unit):
            unit.answer = unit.answer | {"voided": len(unit.answer["voided"]), "next": following}
        return unit

    return Work(request, work.streams, decide)


# A range of the primary key, read in its order until the limit: the beginning of a batch's id is nearly always its own.
_PAGE = """
select stream,
       payload->>'batch_id' = %(batch_id)s
       and (%(by)s::text is null or payload->>'request_id' = %(by)s)
       and (%(by_prefix)s::text is null or starts_with(payload->>'request_id', %(by_prefix)s))
       and (%(codes_id)s::text is null or payload->'facts'->>'codes_id' = %(codes_id)s) as wanted
  from event_log
 where stream > %(after)s and stream < %(beginning)s || 'g'  -- after every hexadecimal digit
   and version = 1
 order by stream
"""
# As literals, for a plan that does not know how few are asked for reads the whole range and sorts it.
STATEMENTS = {limit: f"{_PAGE} limit {limit}" for limit in (PAGE, LOOK)}


def page(connection: Connection, batch_id: str, issued: Issued, after: str | None) -> tuple[list[str], str | None]:
    """At most ``PAGE`` such coupons, by id, and the last id that was looked at where more may follow."""
    beginning = "coupon-" + coupons_begin(batch_id)
    limit = PAGE if issued == Issued() else LOOK
    asked = {
        "batch_id": batch_id,
        "by": issued.by,
        "by_prefix": issued.by_prefix,
        "codes_id": issued.codes_id,
        "after": beginning if after is None else f"coupon-{after}",
        "beginning": beginning,
    }
    rows = connection.cursor(row_factory=tuple_row).execute(STATEMENTS[limit], asked).fetchall()
    found: list[str] = []
    for count, (stream, wanted) in enumerate(rows, 1):
        if wanted:
            found.append(stream.removeprefix("coupon-"))
        if count == limit or len(found) == PAGE:
            return found, stream.removeprefix("coupon-")
    return found, None

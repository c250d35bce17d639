"""The tables of mass issuance (migrations/0015): jobs, what became of their rows, and how both are read.

A job's rows settle in the transactions of their effects: each is issued, or refused and then among the failures, once,
however often its message comes. So accepted = issued + refused + waiting, at every moment.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import orjson
from psycopg.rows import class_row, tuple_row

from ledger import use_cases
from ledger.application import Connection, Ledger
from ledger.errors import Refusal
from ledger.issuance import chunks as issuance_chunks
from ledger.issuance.job import JobNotFound
from ledger.request import Request
from ledger.store import Store
from ledger.work import Receipt

FAILURES_PAGE = 5_000
DETAIL_LIMIT = 1_000

RowKey = tuple[str, int]
"""A job's id and the number of a row of its file."""


@dataclass(frozen=True, slots=True)
class JobProgress:
    """A job, and how far it is."""

    job_id: str
    merchant_id: str
    batch_id: str
    state: str
    """RUNNING, FINISHED, UNDOING, UNDONE."""
    accepted: int
    rejected: int
    sent: int
    """Rows of chunks that are acknowledged whole, and never fewer than those that have settled meanwhile."""
    issued: int
    refused: int
    refused_by_code: dict[str, int]
    voided: int
    kept: int
    """Coupons that an undo could not void."""
    undo_reason: str | None
    started_at: datetime
    ended_at: datetime | None
    last_at: datetime | None
    """When a row settled last."""
    upload_id: str

    @property
    def waiting(self) -> int:
        """Rows that are neither issued nor refused yet."""
        return self.accepted - self.issued - self.refused

    @property
    def rows_per_second(self) -> float:
        """Rows that settled, over the time from the start to the last of them."""
        if self.last_at is None:
            return 0.0
        seconds = (self.last_at - self.started_at).total_seconds()
        return round((self.issued + self.refused) / seconds, 1) if seconds > 0 else 0.0

    @property
    def seconds_left(self) -> int | None:
        """What the waiting rows take at that rate; ``None`` where nothing is known, or nothing will come."""
        if self.state != "RUNNING" or not self.rows_per_second:
            return None
        return round(self.waiting / self.rows_per_second)


class Failure(NamedTuple):
    """A row that got no coupon, or whose coupon an undo could not void; and why."""

    row: int
    user_id: str
    code: str
    detail: str
    coupon_id: str | None


class HeldJob(NamedTuple):
    """A job that is not undone before the transaction ends, unless it is already."""

    merchant_id: str
    batch_id: str
    is_undone: bool
    rows: int


# --- a job begins, and is undone ----------------------------------------------------------------------


def begin(connection: Connection, job_id: str, upload_id: str) -> None:
    """Write the job's rows, in the transaction of its first event."""
    connection.execute(_BEGIN, {"job_id": job_id, "upload_id": upload_id})


def undo(ledger: Ledger, request: Request, job_id: str, *, reason: str) -> Receipt:
    """Decide that a job is undone; the coupons are voided in the background. Raises ``JobNotFound``.

    It waits for the rows that are being issued at this moment, and no row is issued after it.
    """
    work = use_cases.undo_job(request, job_id, reason=reason)
    with ledger.store.connection() as connection, connection.transaction():
        connection.execute(f"select pg_advisory_xact_lock({_LOCK})", {"job_id": job_id})
        (receipt,) = ledger.do_all([work], connection)
        if isinstance(receipt, Refusal):
            raise receipt
        if not receipt.replayed:
            connection.execute(_UNDO, {"job_id": job_id, "reason": reason})
        return receipt


# --- rows settle --------------------------------------------------------------------------------------


def hold(connection: Connection, job_ids: Collection[str]) -> dict[str, HeldJob]:
    """Those of these jobs that there are; nobody begins to undo them before the connection's transaction ends."""
    cursor = connection.cursor(row_factory=tuple_row)
    for job_id in sorted(job_ids):  # always in one order, so that two consumers never wait for each other in a ring
        cursor.execute(f"select pg_advisory_xact_lock_shared({_LOCK})", {"job_id": job_id}, prepare=True)
    rows = cursor.execute(_HELD, (list(job_ids),), prepare=True)
    return {job_id: HeldJob(*held) for job_id, *held in rows}


def refused_before(connection: Connection, keys: Collection[RowKey]) -> set[RowKey]:
    """Those of these rows that are settled without a coupon."""
    cursor = connection.cursor(row_factory=tuple_row)
    columns = ([job_id for job_id, _ in keys], [row for _, row in keys])
    return set(cursor.execute(_REFUSED_BEFORE, columns, prepare=True))


def settle(connection: Connection, issued: Mapping[str, int], refused: Mapping[RowKey, tuple[str, Refusal]]) -> None:
    """Count what was issued, by job, and keep what was refused, by row: (user id, why)."""
    counts: Counter[tuple[str, str]] = Counter({(job_id, ""): rows for job_id, rows in issued.items()})
    counts.update((job_id, why.code()) for (job_id, _), (_, why) in refused.items())
    if refused:
        _add_failures(
            connection,
            {key: (user_id, why.code(), why.detail, None) for key, (user_id, why) in refused.items()},
        )
    if counts:
        rows = [{"job_id": job_id, "code": code, "rows": count} for (job_id, code), count in counts.items()]
        connection.execute(_COUNT, {"rows": orjson.dumps(rows).decode()}, prepare=True)


def add_kept(connection: Connection, job_id: str, kept: Mapping[str, str]) -> None:
    """Keep the coupons that an undo could not void, with the refusals' codes, under their rows."""
    cursor = connection.cursor(row_factory=tuple_row)
    rows = cursor.execute(_ISSUED_TO, ([f"coupon-{coupon_id}" for coupon_id in kept],))
    failures = {}
    for stream, user_id, request_id in rows:
        coupon_id = stream.removeprefix("coupon-")
        row = int(request_id.rpartition(" ")[2])
        failures[job_id, row] = (user_id, kept[coupon_id], "the coupon could not be voided", coupon_id)
    _add_failures(connection, failures)


def _add_failures(connection: Connection, failures: Mapping[RowKey, tuple[str, str, str, str | None]]) -> None:
    rows = [
        {"job_id": id, "row": row, "user_id": user, "code": code, "detail": detail[:DETAIL_LIMIT], "coupon_id": coupon}
        for (id, row), (user, code, detail, coupon) in failures.items()
    ]
    connection.execute(_FAIL, {"rows": orjson.dumps(rows).decode()}, prepare=True)


# --- reading ------------------------------------------------------------------------------------------


def find(connection: Connection, job_id: str, merchant_id: str | None = None) -> JobProgress:
    """A job, of this merchant where one is named. Raises ``JobNotFound``."""
    cursor = connection.cursor(row_factory=class_row(JobProgress))
    asked = {"job_id": job_id, "merchant_id": merchant_id}
    found = cursor.execute(f"{_PROGRESS} where j.job_id = %(job_id)s", asked).fetchone()
    if found is None or merchant_id not in (None, found.merchant_id):
        raise JobNotFound(job_id=job_id)
    return found


def list_jobs(
    connection: Connection,
    merchant_id: str,
    *,
    batch_id: str | None = None,
    before: tuple[datetime, str] | None = None,
    limit: int,
) -> list[JobProgress]:
    """A merchant's jobs, the newest first, of one batch where it is named; from the one after ``before``."""
    conditions = ["j.merchant_id = %(merchant_id)s"]
    if batch_id is not None:
        conditions.append("j.batch_id = %(batch_id)s")
    if before is not None:
        conditions.append("(j.started_at, j.job_id) < (%(started_at)s, %(job_id)s)")
    cursor = connection.cursor(row_factory=class_row(JobProgress))
    started_at, job_id = before or (None, None)
    asked = {"merchant_id": merchant_id, "batch_id": batch_id, "started_at": started_at, "job_id": job_id}
    order = "order by j.started_at desc, j.job_id desc limit %(limit)s"
    return cursor.execute(f"{_PROGRESS} where {' and '.join(conditions)} {order}", asked | {"limit": limit}).fetchall()


def failures(store: Store, job: JobProgress) -> Iterator[Failure]:
    """All rows of a job that failed so far: those that were no good first, then the others, each by their number.

    No connection is held between pages, so that a slow reader keeps none.
    """
    number = 1
    while True:
        with store.connection() as connection:
            rejected = issuance_chunks.rejected_rows(connection, job.upload_id, number)
        if not rejected:
            break
        yield from (Failure(*row, None) for row in rejected)
        number += 1
    after = 0
    while True:
        with store.connection() as connection:
            cursor = connection.cursor(row_factory=class_row(Failure))
            page = cursor.execute(_FAILURES, (job.job_id, after, FAILURES_PAGE)).fetchall()
        yield from page
        if len(page) < FAILURES_PAGE:
            return
        after = page[-1].row


_LOCK = "hashtext('issuance job'), hashtext(%(job_id)s)"

_BEGIN = """
with begun as (
    insert into issuance_jobs (job_id, merchant_id, batch_id, upload_id, accepted, rejected, state, started_at)
    select %(job_id)s, payload->>'merchant_id', payload->>'batch_id', %(upload_id)s, (payload->>'rows')::int,
           (payload->>'rejected_rows')::int, 'RUNNING', (payload->>'occurred_at')::timestamptz
      from event_log where stream = 'job-' || %(job_id)s and version = 1
    returning job_id
)
insert into issuance_job_work (job_id) select job_id from begun
"""

_UNDO = """
update issuance_jobs set state = 'UNDOING', undo_reason = %(reason)s, ended_at = null
 where job_id = %(job_id)s and state in ('RUNNING', 'FINISHED')
"""

_HELD = """
select job_id, merchant_id, batch_id, state in ('UNDOING', 'UNDONE'), accepted + rejected
  from issuance_jobs where job_id = any(%s)
"""

# Lateral, so that a plan made while the table was small never reads the whole of it.
_REFUSED_BEFORE = """
select q.job_id, q.row from unnest(%s::text[], %s::int[]) as q (job_id, row)
 cross join lateral (select from issuance_job_failures f where f.job_id = q.job_id and f.row = q.row limit 1) f
"""

_FAIL = """
insert into issuance_job_failures (job_id, row, user_id, code, detail, coupon_id)
select * from jsonb_to_recordset(%(rows)s::jsonb)
         as n (job_id text, row int, user_id text, code text, detail text, coupon_id text)
"""

# Always in one order, so that two consumers never wait for each other in a ring.
_COUNT = """
insert into issuance_job_outcomes as o (job_id, code, rows)
select job_id, code, rows from jsonb_to_recordset(%(rows)s::jsonb) as n (job_id text, code text, rows int)
 order by job_id, code
on conflict (job_id, code) do update set rows = o.rows + excluded.rows, last_at = excluded.last_at
"""

_ISSUED_TO = """
select stream, payload->>'user_id', payload->>'request_id' from event_log where stream = any(%s) and version = 1
"""

_PROGRESS = """
select j.job_id, j.merchant_id, j.batch_id, j.state, j.accepted, j.rejected,
       greatest(w.sent, o.issued + o.refused) as sent, o.issued, o.refused, o.refused_by_code,
       w.voided, w.kept, j.undo_reason, j.started_at, j.ended_at, o.last_at, j.upload_id
  from issuance_jobs j
  join issuance_job_work w using (job_id)
 cross join lateral (select coalesce(sum(rows) filter (where code = ''), 0)::int as issued,
                            coalesce(sum(rows) filter (where code <> ''), 0)::int as refused,
                            coalesce(jsonb_object_agg(code, rows) filter (where code <> ''), '{}') as refused_by_code,
                            max(last_at) as last_at
                       from issuance_job_outcomes o where o.job_id = j.job_id) o
"""

_FAILURES = """
select row, user_id, code, detail, coupon_id from issuance_job_failures
 where job_id = %s and row > %s order by row limit %s
"""

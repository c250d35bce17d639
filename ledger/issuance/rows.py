"""Rows of jobs, as their messages ask for them: what becomes of each is counted in the transaction of its effect."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from ledger.application import Connection, Ledger
from ledger.errors import Refusal
from ledger.issuance import jobs as issuance_jobs
from ledger.issuance.job import SOURCE, JobIsUndone
from ledger.issuance.jobs import HeldJob, RowKey
from ledger.work import Receipt, Work


class _Row(NamedTuple):
    """A work that asks for a row of a job."""

    place: int
    key: RowKey
    work: Work


def do_all(ledger: Ledger, works: Sequence[Work], connection: Connection) -> list[Receipt | Refusal | None]:
    """As ``Ledger.do_all``, and rows of jobs settle.

    A row that is refused becomes a failure of its job, so its result here is ``None``. It stays refused when its
    message comes again, even if it could be issued by then, for its job has counted it.
    """
    rows = [row for place, work in enumerate(works) if (row := _row_of(place, work)) is not None]
    if not rows:
        return list(ledger.do_all(works, connection))
    jobs = issuance_jobs.hold(connection, {row.key[0] for row in rows})
    rows = [row for row in rows if _belongs(row, jobs.get(row.key[0]))]
    settled = issuance_jobs.refused_before(connection, [row.key for row in rows])
    # By its key, so that a row whose message came twice at once settles once.
    open_rows = {row.key: row for row in reversed(rows) if row.key not in settled}
    undone = [row for row in open_rows.values() if jobs[row.key[0]].is_undone]
    issued_before = _issued_before(ledger, connection, undone)
    refused: dict[RowKey, tuple[str, Refusal]] = {
        row.key: (row.work.issues_to[0], JobIsUndone(job_id=row.key[0]))
        for row in undone
        if row.key not in issued_before
    }
    asking = {row.place: row.key for row in open_rows.values() if not jobs[row.key[0]].is_undone}
    idle = {row.place for row in rows} - asking.keys()
    places = [place for place in range(len(works)) if place not in idle]
    results: list[Receipt | Refusal | None] = [None] * len(works)
    issued: Counter[str] = Counter()
    for place, result in zip(places, ledger.do_all([works[place] for place in places], connection), strict=True):
        key = asking.get(place)
        if key is not None and isinstance(result, Refusal):
            refused[key] = (works[place].issues_to[0], result)
            continue
        if key is not None and isinstance(result, Receipt) and not result.replayed:
            issued[key[0]] += 1
        results[place] = result
    issuance_jobs.settle(connection, issued, refused)
    return results


def _row_of(place: int, work: Work) -> _Row | None:
    """The row that a work is of, as its request id says: ``<source> <row>``."""
    request_id = work.request.request_id
    if not request_id.startswith(SOURCE):
        return None
    job_id, _, row = request_id.removeprefix(SOURCE).partition(" ")
    if not row.isdecimal() or len(row) > 8 or row != str(int(row)):
        return None
    return _Row(place, (job_id, int(row)), work)


def _belongs(row: _Row, job: HeldJob | None) -> bool:
    """Whether the job knows such a row. A message that only looks like one is a message like any."""
    asked = (row.work.request.merchant_id, row.work.issues_from)
    return job is not None and asked == (job.merchant_id, job.batch_id) and 1 <= row.key[1] <= job.rows


def _issued_before(ledger: Ledger, connection: Connection, rows: Sequence[_Row]) -> set[RowKey]:
    """Those that got their coupon before the job was undone, whose message comes again."""
    streams = {row.key: row.work.streams[0] for row in rows}
    loaded = ledger.store.load(list(streams.values()), (), connection).streams if rows else {}
    return {key for key, stream in streams.items() if loaded[stream]}

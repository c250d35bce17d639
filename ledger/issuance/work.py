"""The work on jobs, a step at a time: whose turn it is, what is to be sent, and the pages of an undo.

A step happens in one transaction that holds the row of the job's work. So one process works on a job at a time, and
where it is killed another goes on from the row that it stood at.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg.rows import class_row, tuple_row

from ledger import use_cases
from ledger.aggregate import coupons_begin
from ledger.application import Connection, Ledger
from ledger.batch import Batch
from ledger.errors import Refusal
from ledger.issuance import jobs as issuance_jobs
from ledger.issuance.chunks import delete_chunks
from ledger.issuance.job import SOURCE
from ledger.request import Request
from ledger.use_cases import ORDER_COUPON_LIMIT, void_all
from ledger.work import Receipt, Work, fold

ACTOR = "job:issuance"
AHEAD_LIMIT_ROWS = 50_000
"""Rows of one job that are sent and not settled: some seconds of a consumer, for so long others' messages wait."""

PAUSED_LOOK_SECONDS = 2.0
"""For so long a job whose batch is paused is left alone: it waits in no other's way, and goes on soon after."""
LOOK_COUPONS = 1_000
"""Coupons of the batch that one step of an undo looks at; those of the job are voided in its transaction."""


@dataclass(frozen=True, slots=True)
class Turn:
    """A job whose work this transaction holds."""

    job_id: str
    merchant_id: str
    batch_id: str
    state: str
    started_at: datetime
    upload_id: str
    undo_reason: str | None
    accepted: int
    chunks_sent: int
    sent: int
    undo_after: str | None
    voided: int
    kept: int
    issued: int
    refused: int

    @property
    def source(self) -> str:
        """Of its messages."""
        return f"{SOURCE}{self.job_id}"

    @property
    def is_settled(self) -> bool:
        """Whether each row has its answer."""
        return self.issued + self.refused == self.accepted


def take_turn(connection: Connection) -> Turn | None:
    """Hold the work of the job that has waited longest and has something to do; ``None`` where none has."""
    cursor = connection.cursor(row_factory=class_row(Turn))
    turn = cursor.execute(_TAKE, {"ahead": AHEAD_LIMIT_ROWS}, prepare=True).fetchone()
    if turn is not None:
        connection.execute(
            "update issuance_job_work set turn_at = clock_timestamp() where job_id = %s", (turn.job_id,), prepare=True
        )
    return turn


def is_paused(ledger: Ledger, connection: Connection, turn: Turn) -> bool:
    """Whether the job's batch is paused, so that rows that were sent now would be refused for that."""
    stream = f"batch-{turn.batch_id}"
    snapshot = ledger.store.load([stream], (), connection)
    return fold(Batch(stream), snapshot.streams[stream]).state_at(snapshot.now) == "PAUSED"


def leave_alone(connection: Connection, turn: Turn) -> None:
    """Send nothing of the job for a while; its undo and its end wait for nothing."""
    connection.execute(
        "update issuance_job_work set turn_at = clock_timestamp() + make_interval(secs => %s) where job_id = %s",
        (PAUSED_LOOK_SECONDS, turn.job_id),
        prepare=True,
    )


def mark_sent(connection: Connection, turn: Turn, rows: int) -> None:
    """One more chunk of so many rows was acknowledged."""
    connection.execute(
        "update issuance_job_work set chunks_sent = chunks_sent + 1, sent = sent + %s where job_id = %s",
        (rows, turn.job_id),
        prepare=True,
    )


def finish(ledger: Ledger, connection: Connection, turn: Turn) -> None:
    """Write down that the job is finished, and forget its rows."""
    request = Request(turn.merchant_id, ACTOR, f" job {turn.job_id} finish")
    work = use_cases.finish_job(request, turn.job_id, issued=turn.issued, refused=turn.refused)
    _end(ledger, connection, turn, work, "FINISHED")


def undo_page(ledger: Ledger, connection: Connection, turn: Turn) -> None:
    """Void the job's coupons among the next of its batch, or write down that there are none left.

    Raises ``Unavailable`` when they are used faster than they can be voided.
    """
    coupon_ids, following = _page(connection, turn)
    works = []
    for start in range(0, len(coupon_ids), ORDER_COUPON_LIMIT):
        some = coupon_ids[start : start + ORDER_COUPON_LIMIT]
        request = Request(turn.merchant_id, ACTOR, f" job {turn.job_id} undo {some[0]}")
        works.append(void_all(request, some, reason=turn.undo_reason or ""))
    voided, kept = 0, dict[str, str]()
    for result in ledger.do_all(works, connection):
        answer = _answer(result)
        voided += len(answer["voided"])
        kept |= {each["coupon_id"]: each["code"] for each in answer["refused"]}
    if kept:
        issuance_jobs.add_kept(connection, turn.job_id, kept)
    connection.execute(_MOVE_UNDO, (following, voided, len(kept), turn.job_id), prepare=True)
    if following is None:
        request = Request(turn.merchant_id, ACTOR, f" job {turn.job_id} undone")
        work = use_cases.end_undo(request, turn.job_id, voided=turn.voided + voided, kept=turn.kept + len(kept))
        _end(ledger, connection, turn, work, "UNDONE")


def _page(connection: Connection, turn: Turn) -> tuple[list[str], str | None]:
    """The job's coupons among the batch's next, by id, and the last id that was looked at where more may follow."""
    beginning = "coupon-" + coupons_begin(turn.batch_id)
    asked = {
        "prefix": f"{turn.source} ",
        "after": beginning if turn.undo_after is None else f"coupon-{turn.undo_after}",
        "beginning": beginning,
    }
    # The limit as a literal, for a plan that does not know it may read the whole range and sort it.
    rows = connection.cursor(row_factory=tuple_row).execute(f"{_PAGE} limit {LOOK_COUPONS}", asked).fetchall()
    found = [stream.removeprefix("coupon-") for stream, wanted in rows if wanted]
    return found, rows[-1][0].removeprefix("coupon-") if len(rows) == LOOK_COUPONS else None


def _end(ledger: Ledger, connection: Connection, turn: Turn, work: Work, state: str) -> None:
    """Where the event says that the job is in this state, so does its row, and its rows are sent no more."""
    (result,) = ledger.do_all([work], connection)
    if _answer(result)["state"] == state:
        connection.execute(
            "update issuance_jobs set state = %s, ended_at = clock_timestamp() where job_id = %s", (state, turn.job_id)
        )
        delete_chunks(connection, turn.upload_id, ("accepted",))


def _answer(result: Receipt | Refusal) -> dict[str, Any]:
    if isinstance(result, Refusal):
        raise result
    return result.answer


# A job has something to do while it is undone, while there is a row to be sent and not too many wait for their answer,
# and when it is to be finished. Only a job whose batch was paused has its turn in the future.
_TAKE = """
select j.job_id, j.merchant_id, j.batch_id, j.state, j.started_at, j.upload_id, j.undo_reason, j.accepted,
       w.chunks_sent, w.sent, w.undo_after, w.voided, w.kept, o.issued, o.refused
  from issuance_jobs j
  join issuance_job_work w using (job_id)
 cross join lateral (select coalesce(sum(rows) filter (where code = ''), 0)::int as issued,
                            coalesce(sum(rows) filter (where code <> ''), 0)::int as refused
                       from issuance_job_outcomes o where o.job_id = j.job_id) o
 where j.state = 'UNDOING'
    or j.state = 'RUNNING' and (o.issued + o.refused = j.accepted
                                or w.sent < j.accepted and w.sent - o.issued - o.refused < %(ahead)s
                                   and w.turn_at <= clock_timestamp())
 order by w.turn_at
 limit 1
   for no key update of w skip locked
"""

# A range of the primary key. A batch's coupons lie together in it, because their ids begin like the batch's.
_PAGE = """
select stream, starts_with(payload->>'request_id', %(prefix)s)
  from event_log
 where stream > %(after)s and stream < %(beginning)s || 'g'  -- after every hexadecimal digit
   and version = 1
 order by stream
"""

_MOVE_UNDO = """
update issuance_job_work set undo_after = %s, voided = voided + %s, kept = kept + %s where job_id = %s
"""

"""The job: one file of users for whom a batch issues coupons. It decides; the rows themselves are beside the log."""

from __future__ import annotations

from datetime import datetime

from ledger.aggregate import Aggregate, derived_id
from ledger.errors import InvalidInput, NotFound, Refusal
from ledger.events import JobFinished, JobStarted, JobUndone, JobUndoStarted
from ledger.request import Request

SOURCE = "/coupon-ledger/jobs/"
"""A job's messages have this source, with the job's id behind it, and the number of the row as their id."""


class JobNotFound(NotFound):
    """No such job."""


class JobIsUndone(Refusal):
    """The job was undone before this row was issued."""

    @classmethod
    def code(cls) -> str:
        """The code by which failures name it."""
        return "job_undone"


class UnreadableFile(InvalidInput):
    """The file cannot be read as users, so nothing of it was taken."""


class Job(Aggregate):
    """A job as the log knows it."""

    category = "job"
    started: JobStarted
    state: str = ""
    """RUNNING, FINISHED, UNDOING, UNDONE; empty before it started."""
    undo_reason: str | None = None

    def start(
        self, request: Request, now: datetime, *, batch_id: str, rows: int, rejected_rows: int, digest: str
    ) -> None:
        """Take the file."""
        self.trigger(JobStarted, request, now, batch_id=batch_id, rows=rows, rejected_rows=rejected_rows, digest=digest)

    def finish(self, request: Request, now: datetime, *, issued: int, refused: int) -> None:
        """Write down that each row has its answer. Where somebody undoes the job meanwhile, nothing happens."""
        if self.state == "RUNNING":
            self.trigger(JobFinished, request, now, batch_id=self.started.batch_id, issued=issued, refused=refused)

    def start_undo(self, request: Request, now: datetime, *, reason: str) -> None:
        """Issue nothing more, and void what was issued. Where that was decided before, nothing happens."""
        self.check_owned(request.merchant_id)
        if self.state in ("RUNNING", "FINISHED"):
            self.trigger(JobUndoStarted, request, now, batch_id=self.started.batch_id, reason=reason)

    def end_undo(self, request: Request, now: datetime, *, voided: int, kept: int) -> None:
        """Write down that each of its coupons was looked at."""
        if self.state == "UNDOING":
            self.trigger(JobUndone, request, now, batch_id=self.started.batch_id, voided=voided, kept=kept)

    def check_owned(self, merchant_id: str) -> None:
        """Raise ``JobNotFound`` unless the job is there and this merchant's."""
        if not self.version or self.merchant_id != merchant_id:
            raise JobNotFound(job_id=self.key)


def job_id_of(merchant_id: str, batch_id: str, digest: str) -> str:
    """The same file for the same batch is the same job."""
    return derived_id("job", merchant_id, batch_id, digest)

"""What callers get about jobs of mass issuance."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from api.answers import Time
from ledger.aggregate import text_of
from ledger.issuance.jobs import JobProgress

JobState = Literal["RUNNING", "FINISHED", "UNDOING", "UNDONE"]


class JobStep(BaseModel):
    """A job after a write."""

    job_id: str
    batch_id: str
    state: JobState
    accepted: int = Field(description="Rows that ask for a coupon.")
    rejected: int = Field(description="Rows that were no good; they are among the failures.")


class IssuanceJob(JobStep):
    """A job, and how far it is: accepted = issued + waiting + all that is in refused."""

    sent: int = Field(description="Rows that lie on Kafka or are settled.")
    issued: int
    waiting: int
    refused: dict[str, int] = Field(description="Rows that were refused, by the refusal's code.")
    voided: int = Field(description="Coupons that its undo voided so far.")
    kept: int = Field(description="Coupons that its undo could not void; they are among the failures.")
    undo_reason: str | None
    rows_per_second: float = Field(description="Settled rows, over the time from the start to the last of them.")
    seconds_left: int | None = Field(description="What the waiting rows take at that rate, where it is known.")
    started_at: Time
    ended_at: Time | None = Field(description="When each row was settled, or each coupon of an undo looked at.")


class IssuanceJobs(BaseModel):
    """A page of jobs, the newest first."""

    jobs: list[IssuanceJob]
    next_cursor: str | None


def shown(job: JobProgress) -> dict[str, Any]:
    """A job as callers see it."""
    return {
        "job_id": job.job_id,
        "batch_id": job.batch_id,
        "state": job.state,
        "accepted": job.accepted,
        "rejected": job.rejected,
        "sent": job.sent,
        "issued": job.issued,
        "waiting": job.waiting,
        "refused": job.refused_by_code,
        "voided": job.voided,
        "kept": job.kept,
        "undo_reason": job.undo_reason,
        "rows_per_second": job.rows_per_second,
        "seconds_left": job.seconds_left,
        "started_at": text_of(job.started_at),
        "ended_at": text_of(job.ended_at),
    }

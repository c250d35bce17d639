"""Events of jobs: mass issuance from a file of users. One stream a job, ``job-<id>``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ledger.events.base import Event


@dataclass(frozen=True, kw_only=True)
class JobStarted(Event, topic="job.started"):
    """A file of users was taken: each good row asks for one coupon of the batch."""

    batch_id: str
    rows: int
    """Good rows."""
    rejected_rows: int
    """Rows that were no good, and ask for nothing."""
    digest: str
    """SHA-256 of the good rows in their normal form, in hexadecimal."""

    def apply(self, aggregate: Any) -> None:
        aggregate.merchant_id = self.merchant_id
        aggregate.started = self
        aggregate.state = "RUNNING"


@dataclass(frozen=True, kw_only=True)
class JobFinished(Event, topic="job.finished"):
    """Each row of the job was issued or refused."""

    batch_id: str
    issued: int
    refused: int

    def apply(self, aggregate: Any) -> None:
        aggregate.state = "FINISHED"


@dataclass(frozen=True, kw_only=True)
class JobUndoStarted(Event, topic="job.undo_started"):
    """The job is to be undone: from here on it issues nothing more, and its coupons are voided one after the other."""

    batch_id: str
    reason: str

    def apply(self, aggregate: Any) -> None:
        aggregate.state = "UNDOING"
        aggregate.undo_reason = self.reason


@dataclass(frozen=True, kw_only=True)
class JobUndone(Event, topic="job.undone"):
    """Each coupon of the job was voided, or kept because it could not be."""

    batch_id: str
    voided: int
    kept: int

    def apply(self, aggregate: Any) -> None:
        aggregate.state = "UNDONE"

"""Use cases of jobs: started with their file, finished, and undone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ledger.commit import Unit
from ledger.issuance.job import Job, job_id_of
from ledger.request import Request
from ledger.use_cases.checks import check_reason, unit_of
from ledger.work import Loaded, Receipt, Work, fold


def start_job(request: Request, batch_id: str, *, rows: int, rejected_rows: int, digest: str) -> Work:
    """Take a file for a batch that issues now. Answers the job; the one that is there, where the file came before."""
    job_id = job_id_of(request.merchant_id, batch_id, digest)

    def decide(loaded: Loaded) -> Unit | Receipt:
        batch = loaded.batch(batch_id)
        job = _job(loaded, job_id)
        if job.version:
            return Receipt(job_answer(job), 0, replayed=True)
        batch.check_open(loaded.now)
        job.start(request, loaded.now, batch_id=batch_id, rows=rows, rejected_rows=rejected_rows, digest=digest)
        unit = unit_of(request, job_answer(job), job)
        unit.reads[batch.id] = batch.version
        return unit

    return Work(request, (f"batch-{batch_id}", f"job-{job_id}"), decide)


def finish_job(request: Request, job_id: str, *, issued: int, refused: int) -> Work:
    """Write down that each row was issued or refused. Answers the job."""
    return _step(request, job_id, lambda job, now: job.finish(request, now, issued=issued, refused=refused))


def undo_job(request: Request, job_id: str, *, reason: str) -> Work:
    """Decide that the job issues nothing more and that its coupons are voided. Answers the job."""
    check_reason(reason)
    return _step(request, job_id, lambda job, now: job.start_undo(request, now, reason=reason))


def end_undo(request: Request, job_id: str, *, voided: int, kept: int) -> Work:
    """Write down that each coupon of an undone job was looked at. Answers the job."""
    return _step(request, job_id, lambda job, now: job.end_undo(request, now, voided=voided, kept=kept))


def _step(request: Request, job_id: str, step: Callable[[Job, Any], None]) -> Work:
    def decide(loaded: Loaded) -> Unit:
        job = _job(loaded, job_id)
        job.check_owned(request.merchant_id)
        step(job, loaded.now)
        return unit_of(request, job_answer(job), job)

    return Work(request, (f"job-{job_id}",), decide)


def job_answer(job: Job) -> dict[str, Any]:
    """A job as writes answer it."""
    return {
        "job_id": job.key,
        "batch_id": job.started.batch_id,
        "state": job.state,
        "accepted": job.started.rows,
        "rejected": job.started.rejected_rows,
    }


def _job(loaded: Loaded, job_id: str) -> Job:
    stream = f"job-{job_id}"
    return fold(Job(stream), loaded.streams.get(stream, ()))

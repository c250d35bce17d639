"""Mass issuance: a file of users becomes a job, whose progress can be watched and whose coupons can be voided again."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime

import orjson
from flask import Response, current_app, g
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import Field

from api import contract, cursors, problems
from api.access import caller, operation_name
from api.exchange import answer, answer_receipt, command, ledger
from api.job_answers import IssuanceJob, IssuanceJobs, JobStep, shown
from api.json_body import present
from api.problems import BadRequest, UnsupportedMediaType
from api.wire import PAGE_DEFAULT, BatchPath, Cursor, Id, Limit, NoQuery, Parameters, ReasonBody
from ledger import errors
from ledger.csv_text import csv_text
from ledger.errors import ServiceError
from ledger.issuance import jobs as issuance_jobs
from ledger.issuance.files import ROW_LIMIT, FileFormat
from ledger.issuance.job import JobNotFound, UnreadableFile
from ledger.issuance.jobs import Failure
from ledger.issuance.uploads import take_file
from ledger.request import Request
from ledger.store import Store

jobs = APIBlueprint(
    "issuance_jobs",
    __name__,
    url_prefix="/v1",
    abp_tags=[Tag(name="issuance jobs", description="Coupons for each user of a file.")],
    operation_id_callback=operation_name,
)

FORMATS: dict[str, FileFormat] = {"text/csv": "csv", "application/x-ndjson": "ndjson"}
STREAM_SECONDS = 300.0
"""After which a stream of progress ends; whoever wants more connects again."""
TELL_SECONDS = 1.0

FILE_BODY = {
    "required": True,
    "description": f"UTF-8, at most {ROW_LIMIT:,} rows and 2 GiB, also with `Content-Encoding: gzip`. CSV has a heading"
    " with `user_id`, and as it likes `channel`, `points_receipt` and `facts` (a JSON object, as of a claim); NDJSON"
    " has a user id or an object of the same members in each line.",
    "content": {
        "text/csv": {"schema": {"type": "string"}, "example": "user_id\nuser-1\nuser-2\n"},
        "application/x-ndjson": {"schema": {"type": "string"}, "example": '"user-1"\n{"user_id": "user-2"}\n'},
    },
}


EVENT_SCHEMA = {
    "type": "object",
    "description": "One event: `progress`, whose data is the job as `GET /v1/issuance-jobs/{job_id}` has it, or `end`.",
    "properties": {"event": {"enum": ["progress", "end"]}, "data": {"type": "string"}},
    "required": ["event", "data"],
}
EVENTS = {"content": {"text/event-stream": {"schema": EVENT_SCHEMA}}}


class TooManyStreams(ServiceError):
    """As many callers as may watch progress do; read it, or come again."""


class JobPath(Parameters):
    """A job's id."""

    job_id: Id


class JobsQuery(Parameters):
    """Which jobs."""

    batch_id: Id | None = Field(None, description="Only this batch's.")
    cursor: Cursor | None = None
    limit: Limit = PAGE_DEFAULT


class Streams:
    """Bounds how many streams of progress one process serves at once, for each takes a thread."""

    def __init__(self, most: int) -> None:
        self.free = threading.BoundedSemaphore(most)
        self.stopping: Callable[[], bool] = lambda: False
        """Whether the process is about to end, so that streams should."""


@jobs.post(
    "/batches/<batch_id>/issuance-jobs",
    responses=contract.write(201, JobStep, errors.BatchNotFound, errors.BatchNotOpen, UnreadableFile),
    openapi_extensions={"requestBody": FILE_BODY},
)
def create_issuance_job(path: BatchPath) -> Response:
    """Issue a coupon to each user of a file, in the background; the same file for the same batch is the same job."""
    asked, found = present(), caller()
    kind, coding = FORMATS.get(asked.mimetype), asked.headers.get("Content-Encoding", "identity").lower()
    charset = asked.mimetype_params.get("charset", "utf-8").lower()
    if kind is None or coding not in ("identity", "gzip") or charset not in ("utf-8", "utf8"):
        raise UnsupportedMediaType(f"a file of users is {' or '.join(FORMATS)} in UTF-8, plain or gzip")

    def request(digest: str) -> Request:
        message = "\n".join([asked.method, asked.path, digest]).encode()
        body_hash = hashlib.sha256(message).hexdigest()
        return Request(found.merchant_id, f"key:{found.key_id}", g.idempotency_key, body_hash)

    receipt = take_file(ledger(), request, path.batch_id, _Body(), kind, gzipped=coding == "gzip")
    return answer_receipt(receipt, status=201, location="issuance-jobs/{job_id}")


class _Body:
    """The request's body, which ends where its sender said."""

    def __init__(self) -> None:
        self._stream = present().stream

    def read(self, size: int, /) -> bytes:
        try:
            return self._stream.read(size)
        except OSError:  # of a body without a declared length; with one, the framework itself refuses
            raise BadRequest("the body was cut off") from None


@jobs.get("/issuance-jobs", responses=contract.read(IssuanceJobs, problems.BadCursor))
def list_issuance_jobs(query: JobsQuery) -> Response:
    """Read the merchant's jobs, the newest first."""
    name = f"issuance jobs {query.batch_id or ''}"
    before = None
    if query.cursor is not None:
        started_at, job_id = cursors.unseal(name, query.cursor)
        before = (datetime.fromisoformat(started_at), job_id)
    with ledger().store.connection() as connection:
        found = issuance_jobs.list_jobs(
            connection, caller().merchant_id, batch_id=query.batch_id, before=before, limit=query.limit + 1
        )
    page = found[: query.limit]
    more = len(found) > query.limit
    cursor = cursors.seal(name, [page[-1].started_at.isoformat(), page[-1].job_id]) if more else None
    return answer({"jobs": [shown(job) for job in page], "next_cursor": cursor})


@jobs.get("/issuance-jobs/<job_id>", responses=contract.read(IssuanceJob, JobNotFound))
def get_issuance_job(path: JobPath, query: NoQuery) -> Response:  # noqa: ARG001
    """Read a job: what was issued, refused and waits, and how long it may take."""
    with ledger().store.connection() as connection:
        return answer(shown(issuance_jobs.find(connection, path.job_id, caller().merchant_id)))


@jobs.get(
    "/issuance-jobs/<job_id>/progress",
    responses=contract.file("text/event-stream", JobNotFound, TooManyStreams) | {200: EVENTS},
)
def get_issuance_job_progress(path: JobPath, query: NoQuery) -> Response:  # noqa: ARG001
    """Watch a job as server-sent events: `progress` each second, then `end`; at most five minutes in one go."""
    streams: Streams = current_app.extensions["streams"]
    store = ledger().store
    with store.connection() as connection:
        issuance_jobs.find(connection, path.job_id, caller().merchant_id)
    if not streams.free.acquire(blocking=False):
        raise TooManyStreams
    response = Response(_events(store, path.job_id, streams.stopping), content_type="text/event-stream; charset=utf-8")
    response.headers["X-Accel-Buffering"] = "no"
    response.call_on_close(streams.free.release)
    return response


def _events(store: Store, job_id: str, stopping: Callable[[], bool]) -> Iterator[str]:
    ends_at = time.monotonic() + STREAM_SECONDS
    while not stopping():
        try:
            with store.connection() as connection:
                job = issuance_jobs.find(connection, job_id)
        except ServiceError:
            return  # the reader connects again
        yield f"event: progress\ndata: {orjson.dumps(shown(job)).decode()}\n\n"
        if job.state in ("FINISHED", "UNDONE"):
            yield "event: end\ndata: {}\n\n"
            return
        next_at = time.monotonic() + TELL_SECONDS
        if next_at > ends_at:
            return
        while time.monotonic() < next_at and not stopping():
            time.sleep(min(0.1, TELL_SECONDS))


@jobs.get("/issuance-jobs/<job_id>/failures", responses=contract.file("text/csv", JobNotFound))
def get_issuance_job_failures(path: JobPath, query: NoQuery) -> Response:  # noqa: ARG001
    """Read the rows that got no coupon, and the coupons that an undo could not void, as CSV with the reasons."""
    store = ledger().store
    with store.connection() as connection:
        job = issuance_jobs.find(connection, path.job_id, caller().merchant_id)
    name = f'attachment; filename="failures-{path.job_id}.csv"'
    return Response(
        csv_text(Failure._fields, issuance_jobs.failures(store, job)),
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": name},
    )


@jobs.post("/issuance-jobs/<job_id>/undo", responses=contract.write(200, JobStep, JobNotFound))
def undo_issuance_job(path: JobPath, body: ReasonBody) -> Response:
    """Issue nothing more of a job, and void its unused coupons in the background."""
    return answer_receipt(issuance_jobs.undo(ledger(), command(), path.job_id, reason=body.reason))

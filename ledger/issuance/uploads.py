"""Taking a file: its rows become compressed chunks in the database, and then a job.

The chunks are written as the file comes, each by itself, and belong to nothing until the job begins: an upload that is
cut off can be repeated, and leaves nothing that anybody sees (``issuance_chunks.sweep`` removes what is left of it).
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterator

import orjson

from ledger import use_cases
from ledger.application import Connection, Ledger
from ledger.batch import Batch
from ledger.errors import BatchNotFound, BatchNotOpen, Refusal, ServiceError, Unavailable
from ledger.issuance import jobs as issuance_jobs
from ledger.issuance.chunks import CHUNK_ROWS, Kind, delete_chunks, store_chunk, stored_rows
from ledger.issuance.files import BadRow, FileFormat, Readable, Row, read_rows
from ledger.issuance.job import UnreadableFile
from ledger.request import Request
from ledger.work import Receipt, fold

Progress = Callable[[int], None]
"""Is told how many rows were taken."""


def take_file(
    ledger: Ledger,
    request: Callable[[str], Request],
    batch_id: str,
    file: Readable,
    format: FileFormat,
    *,
    gzipped: bool,
    progress: Progress | None = None,
) -> Receipt:
    """Take a file of users and begin its job. Answers the job; the same file for the same batch is the same job.

    ``request`` makes the envelope from the digest of the rows. Raises ``BatchNotFound`` before anything is read,
    ``BatchNotOpen``, ``UnreadableFile``, ``IdempotencyKeyReused``; then nothing of the file is kept.
    """
    closed = _why_closed(ledger, request("").merchant_id, batch_id)
    upload = _Upload(ledger, progress, is_kept=closed is None)
    begun = False
    try:
        digest = upload.take(read_rows(file, format, gzipped=gzipped))
        work = use_cases.start_job(
            request(digest),
            batch_id,
            rows=upload.rows["accepted"],
            rejected_rows=upload.rows["rejected"],
            digest=digest,
        )
        with ledger.store.connection() as connection, connection.transaction():
            (receipt,) = ledger.do_all([work], connection)
            if isinstance(receipt, Refusal):
                raise receipt
            if not receipt.replayed:
                if closed is not None:  # it opened while the file was read
                    raise closed
                upload.check_whole(connection)
                issuance_jobs.begin(connection, receipt.answer["job_id"], upload.id)
        begun = not receipt.replayed
        return receipt
    finally:
        if not begun:
            upload.discard()


def _why_closed(ledger: Ledger, merchant_id: str, batch_id: str) -> BatchNotOpen | None:
    """Why a job could not begin now, where the file may be one of a job that is there: it is read, and not kept.

    Raises ``BatchNotFound``, and ``BatchNotOpen`` where the batch has no job at all.
    """
    stream = f"batch-{batch_id}"
    snapshot = ledger.store.load([stream])
    batch = fold(Batch(stream), snapshot.streams[stream])
    if not batch.version or batch.merchant_id != merchant_id:
        raise BatchNotFound(id=batch_id)
    try:
        batch.check_open(snapshot.now)
    except BatchNotOpen as refusal:
        with ledger.store.connection() as connection:
            if not issuance_jobs.list_jobs(connection, merchant_id, batch_id=batch_id, limit=1):
                raise
        return refusal
    return None


class _Upload:
    """The chunks of one file, kept in the database or only read for their digest."""

    def __init__(self, ledger: Ledger, progress: Progress | None, *, is_kept: bool) -> None:
        self.id = uuid.uuid4().hex
        self._is_kept = is_kept
        self.rows: dict[Kind, int] = {"accepted": 0, "rejected": 0}
        self._ledger = ledger
        self._progress = progress
        # Bytes in one piece: each text that orjson makes keeps the room of 4 KiB that it was made in.
        self._lines: dict[Kind, bytearray] = {"accepted": bytearray(), "rejected": bytearray()}
        self._stored: dict[Kind, int] = {"accepted": 0, "rejected": 0}
        self._chunks: dict[Kind, int] = {"accepted": 0, "rejected": 0}
        self._digest = hashlib.sha256()

    def take(self, rows: Iterator[Row | BadRow]) -> str:
        """Take all rows; the digest of those that ask for something, and of how many there are."""
        first_bad: BadRow | None = None
        counts, lines = self.rows, self._lines
        kind: Kind
        for row in rows:
            if isinstance(row, Row):
                kind, said = "accepted", tuple(row) if row.extras else row[:2]
            else:
                kind, said = "rejected", tuple(row)
                first_bad = first_bad or row
            lines[kind] += orjson.dumps(said, option=orjson.OPT_APPEND_NEWLINE)
            counts[kind] += 1
            if counts[kind] % CHUNK_ROWS == 0:
                self._store(kind)
        self._store("accepted")
        self._store("rejected")
        if not self.rows["accepted"]:
            if first_bad is None:
                raise UnreadableFile("the file has no rows")
            raise UnreadableFile(f"no row of the file is good; row {first_bad.number}: {first_bad.detail}")
        self._digest.update(b"%d" % sum(self.rows.values()))
        return self._digest.hexdigest()

    def _store(self, kind: Kind) -> None:
        count, lines = self.rows[kind] - self._stored[kind], self._lines[kind]
        if not count:
            return
        if kind == "accepted":
            self._digest.update(lines)
        data = bytes(lines[:-1])
        lines.clear()
        self._stored[kind] += count
        self._chunks[kind] += 1
        number = self._chunks[kind]
        if self._is_kept:
            self._ledger.store.retrying(lambda connection: store_chunk(connection, self.id, kind, number, count, data))
        if self._progress is not None:
            self._progress(sum(self.rows.values()))

    def check_whole(self, connection: Connection) -> None:
        """Raise ``Unavailable`` when the upload took so long that its chunks were swept meanwhile."""
        if stored_rows(connection, self.id) != sum(self.rows.values()):
            raise Unavailable("the upload took too long, and what came first is gone; send the file again")

    def discard(self) -> None:
        """Forget the rows. Where the database is away, the sweep does it later."""
        try:
            with self._ledger.store.connection() as connection:
                delete_chunks(connection, self.id)
        except ServiceError:
            return

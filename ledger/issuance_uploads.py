"""Taking a file: its rows become compressed chunks in the database, and then a job.

The chunks are written as the file comes, each by itself, and belong to nothing until the job begins: an upload that is
cut off can be repeated, and leaves nothing that anybody sees (``issuance_chunks.sweep`` removes what is left of it).
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterator

import orjson

from ledger import issuance_jobs, use_cases
from ledger.application import Connection, Ledger
from ledger.batch import Batch
from ledger.errors import BatchNotFound, Refusal, ServiceError, Unavailable
from ledger.issuance_chunks import CHUNK_ROWS, Kind, delete_chunks, store_chunk, stored_rows
from ledger.issuance_files import BadRow, FileFormat, Readable, Row, read_rows
from ledger.job import UnreadableFile
from ledger.request import Request
from ledger.work import Receipt, fold

Progress = Callable[[int], None]
"""Is told how many rows were stored."""


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
    stream = f"batch-{batch_id}"
    batch = fold(Batch(stream), ledger.store.load([stream]).streams[stream])
    if not batch.version or batch.merchant_id != request("").merchant_id:
        raise BatchNotFound(id=batch_id)
    upload = _Upload(ledger, progress)
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
                upload.check_whole(connection)
                issuance_jobs.begin(connection, receipt.answer["job_id"], upload.id)
        begun = not receipt.replayed
        return receipt
    finally:
        if not begun:
            upload.discard()


class _Upload:
    """The chunks of one file."""

    def __init__(self, ledger: Ledger, progress: Progress | None) -> None:
        self.id = uuid.uuid4().hex
        self.rows: dict[Kind, int] = {"accepted": 0, "rejected": 0}
        self._ledger = ledger
        self._progress = progress
        self._waiting: dict[Kind, list[bytes]] = {"accepted": [], "rejected": []}
        self._chunks: dict[Kind, int] = {"accepted": 0, "rejected": 0}
        self._digest = hashlib.sha256()

    def take(self, rows: Iterator[Row | BadRow]) -> str:
        """Store all rows; the digest of those that ask for something, and of how many there are."""
        first_bad: BadRow | None = None
        accepted, rejected, dumps = self._waiting["accepted"], self._waiting["rejected"], orjson.dumps
        for row in rows:
            if isinstance(row, Row):
                accepted.append(dumps(tuple(row) if row.extras else row[:2]))
                if len(accepted) == CHUNK_ROWS:
                    self._store("accepted")
            else:
                first_bad = first_bad or row
                rejected.append(dumps(tuple(row)))
                if len(rejected) == CHUNK_ROWS:
                    self._store("rejected")
        self._store("accepted")
        self._store("rejected")
        if not self.rows["accepted"]:
            why = f"row {first_bad.number}: {first_bad.detail}" if first_bad else "there are none"
            raise UnreadableFile(f"no row of the file is good; {why}")
        self._digest.update(b"%d" % sum(self.rows.values()))
        return self._digest.hexdigest()

    def _store(self, kind: Kind) -> None:
        lines = self._waiting[kind]
        if not lines:
            return
        data, count = b"\n".join(lines), len(lines)
        lines.clear()
        if kind == "accepted":
            self._digest.update(data + b"\n")
        self.rows[kind] += count
        self._chunks[kind] += 1
        number = self._chunks[kind]
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

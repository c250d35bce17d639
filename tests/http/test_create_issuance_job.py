"""POST /v1/batches/{id}/issuance-jobs."""

from __future__ import annotations

import gzip
import hashlib
import io

import pytest

from ledger import use_cases
from ledger.issuance import uploads as issuance_uploads
from tests.http.jobs import USERS, settle, started, upload

CHUNKS = "select count(*) as chunks from issuance_chunks"


@pytest.fixture
def nothing_kept(ledger):
    """Nothing of any file may be left in the end."""
    yield
    with ledger.store.connection() as connection:
        assert connection.execute(CHUNKS).fetchone() == {"chunks": 0}
        assert connection.execute("select 1 from issuance_jobs").fetchone() is None


def test_begins_a_job(operator, shop, ledger):
    batch_id = shop.batch()
    answer = upload(operator, batch_id, USERS + b"two words \n")
    job = answer.ok(201)
    assert job == {
        "job_id": job["job_id"],
        "batch_id": batch_id,
        "state": "RUNNING",
        "accepted": 3,
        "rejected": 1,
    }
    assert answer.headers["Location"] == f"/v1/issuance-jobs/{job['job_id']}"
    (recorded,) = ledger.store.history(f"job-{job['job_id']}")
    event = recorded.event
    assert (event.TOPIC, event.batch_id, event.rows, event.rejected_rows) == ("job.started", batch_id, 3, 1)
    rows = b'[1,"user-1"]\n[2,"user-2"]\n[3,"user-3"]\n'
    assert event.digest == hashlib.sha256(rows + b"4").hexdigest()
    assert int(answer.headers["Ledger-Position"]) == recorded.position


SAME = [
    (USERS, "text/csv", {}),
    (gzip.compress(USERS, mtime=0), "text/csv; charset=UTF-8", {"Content-Encoding": "gzip"}),
    (b'"user-1"\n{"user_id": "user-2"}\n\n"user-3"\n', "application/x-ndjson", {"Content-Encoding": "identity"}),
    (b"\xef\xbb\xbfUSER_ID,channel\r\nuser-1,\r\nuser-2,issue\r\n\r\nuser-3,\r\n", "text/csv", {}),
]


def test_the_same_file_is_the_same_job_however_it_comes(operator, shop, ledger):
    batch_id = shop.batch(per_user_limit=None)
    first = upload(operator, batch_id).ok(201)
    head = ledger.store.head()
    for data, kind, headers in SAME:
        again = upload(operator, batch_id, data, kind, headers=headers)
        assert again.ok(201) == first
        assert again.headers["Idempotent-Replayed"] == "true"
    assert ledger.store.head() == head
    with ledger.store.connection() as connection:
        assert connection.execute(CHUNKS).fetchone() == {"chunks": 1}
    settle(ledger)
    assert upload(operator, batch_id).ok(201) == first | {"state": "FINISHED"}
    ledger.do(use_cases.stop_batch(shop.request(), batch_id, reason="over"))
    assert upload(operator, batch_id).ok(201) == first | {"state": "FINISHED"}
    assert ledger.store.head() == head + 5  # three coupons, the ends of the job and of the batch


def test_another_file_or_batch_is_another_job(operator, shop):
    batch_id = shop.batch()
    ids = {started(operator, batch_id), started(operator, shop.batch()), started(operator, batch_id, USERS + b"x\n")}
    assert len(ids) == 3


def test_a_key_is_good_for_one_file(operator, shop, ledger):
    batch_id = shop.batch()
    first = upload(operator, batch_id, key="once")
    head = ledger.store.head()
    assert upload(operator, batch_id, key="once").response.data == first.response.data
    upload(operator, batch_id, USERS + b"user-4\n", key="once").refused(422, "idempotency_key_reused")
    upload(operator, shop.batch(), key="once").refused(422, "idempotency_key_reused")
    upload(operator, batch_id, key=None).refused(400, "idempotency_key_required")
    assert len(ledger.store.history(f"job-{first.json['job_id']}")) == 1
    assert ledger.store.head() == head + 3  # the other batch
    with ledger.store.connection() as connection:
        assert connection.execute(CHUNKS).fetchone() == {"chunks": 1}


@pytest.mark.usefixtures("nothing_kept")
@pytest.mark.parametrize(
    ("data", "kind", "headers", "detail"),
    [
        (b"", "text/csv", {}, "the file has no rows"),
        (b"", "application/x-ndjson", {}, "the file has no rows"),
        (b"user_id\n", "text/csv", {}, "the file has no rows"),
        (b"user_id;channel\na;mail\n", "text/csv", {}, "; commas cut its cells, not semicolons"),
        (b"user_id\n a\n,\n", "text/csv", {}, "no row of the file is good; row 1: user_id is"),
        (b"name\na\n", "text/csv", {}, "line 1 is not a heading"),
        (USERS + b"\xff\n", "text/csv", {}, "line 5 is not UTF-8"),
        (USERS, "text/csv", {"Content-Encoding": "gzip"}, "the gzip is broken"),
        (gzip.compress(USERS, mtime=0)[:-6], "text/csv", {"Content-Encoding": "gzip"}, "the gzip is broken"),
        (b"{\n", "application/x-ndjson", {}, "no row of the file is good; row 1: the line is no JSON"),
    ],
)
def test_a_file_that_cannot_be_read_leaves_nothing(data, kind, headers, detail, operator, shop, ledger):
    batch_id = shop.batch()
    head = ledger.store.head()
    problem = upload(operator, batch_id, data, kind, headers=headers).refused(422, "unreadable_file")
    assert detail in problem["detail"]
    assert ledger.store.head() == head


@pytest.mark.usefixtures("nothing_kept")
def test_what_was_stored_of_a_file_that_breaks_later_is_forgotten(operator, shop):
    data = b"user_id\n" + b"".join(b"user-%d\n" % number for number in range(25_000)) + b"\xff\n"
    upload(operator, shop.batch(), data).refused(422, "unreadable_file")


@pytest.mark.usefixtures("nothing_kept")
def test_an_upload_that_is_cut_off_leaves_nothing(operator, shop, ledger):
    path = f"/v1/batches/{shop.batch()}/issuance-jobs"
    head = ledger.store.head()
    answer = operator.client.post(
        path,
        input_stream=io.BytesIO(USERS),
        content_type="text/csv",
        headers={"Authorization": f"Bearer {operator.token}", "Idempotency-Key": "cut-off"},
        environ_overrides={"CONTENT_LENGTH": "5000"},
    )
    assert (answer.status_code, answer.json["code"]) == (400, "bad_request")
    assert ledger.store.head() == head


@pytest.mark.usefixtures("nothing_kept")
def test_a_body_without_a_length_that_is_cut_off_leaves_nothing(operator, shop):
    class CutOff(io.BytesIO):
        def read(self, size=-1):
            raise OSError("the peer is gone")

    answer = operator.client.post(
        f"/v1/batches/{shop.batch()}/issuance-jobs",
        input_stream=CutOff(),
        content_type="text/csv",
        headers={"Authorization": f"Bearer {operator.token}", "Idempotency-Key": "cut-off"},
        environ_overrides={"wsgi.input_terminated": True},
    )
    assert (answer.status_code, answer.json["code"]) == (400, "bad_request")


@pytest.mark.usefixtures("nothing_kept")
@pytest.mark.parametrize(
    ("kind", "headers"),
    [
        ("application/json", {}),
        ("text/plain", {}),
        (None, {}),
        ("text/csv; charset=latin-1", {}),
        ("text/csv", {"Content-Encoding": "br"}),
        ("text/csv", {"Content-Encoding": "gzip, gzip"}),
    ],
)
def test_other_media_types_are_refused(kind, headers, operator, shop):
    upload(operator, shop.batch(), USERS, kind, headers=headers).refused(415, "unsupported_media_type")


@pytest.mark.usefixtures("nothing_kept")
def test_a_batch_that_does_not_issue_takes_no_file(operator, shop, ledger):
    upload(operator, shop.batch(start=False)).refused(409, "batch_not_open")
    paused = shop.batch()
    ledger.do(use_cases.pause_batch(shop.request(), paused, reason="lunch"))
    upload(operator, paused).refused(409, "batch_not_open")
    upload(operator, "0" * 26).refused(404, "batch_not_found")


class Watched(io.BytesIO):
    """A body that knows whether anybody read it."""

    was_read = False

    def read(self, size=-1):
        self.was_read = True
        return super().read(size)


def _upload_watched(operator, batch_id, key):
    body = Watched(USERS)
    answer = operator.client.post(
        f"/v1/batches/{batch_id}/issuance-jobs",
        input_stream=body,
        content_type="text/csv",
        headers={"Authorization": f"Bearer {operator.token}", "Idempotency-Key": key},
        environ_overrides={"wsgi.input_terminated": True},
    )
    return answer, body.was_read


@pytest.mark.usefixtures("nothing_kept")
def test_a_batch_that_never_took_a_file_and_does_not_issue_has_none_read(operator, shop):
    answer, was_read = _upload_watched(operator, shop.batch(start=False), "early")
    assert (answer.status_code, answer.json["code"], was_read) == (409, "batch_not_open", False)
    answer, was_read = _upload_watched(operator, "0" * 26, "nowhere")
    assert (answer.status_code, answer.json["code"], was_read) == (404, "batch_not_found", False)


def _no_chunk_may_be_stored(monkeypatch):
    def refuse(*_):
        raise AssertionError("a chunk was stored")

    monkeypatch.setattr(issuance_uploads, "store_chunk", refuse)


def test_a_batch_that_issues_no_more_stores_nothing_and_knows_its_files(operator, shop, ledger, monkeypatch):
    batch_id = shop.batch()
    first = upload(operator, batch_id).ok(201)
    ledger.do(use_cases.pause_batch(shop.request(), batch_id, reason="lunch"))
    _no_chunk_may_be_stored(monkeypatch)
    head = ledger.store.head()
    upload(operator, batch_id, USERS + b"user-4\n").refused(409, "batch_not_open")
    upload(operator, batch_id, b"").refused(422, "unreadable_file")
    again = upload(operator, batch_id)
    assert again.ok(201) == first
    assert again.headers["Idempotent-Replayed"] == "true"
    assert ledger.store.head() == head


def test_a_batch_that_opens_while_its_file_is_read_refuses_it_as_at_the_beginning(operator, shop, ledger):
    """Nothing was stored of what was read, so no job may begin of it."""
    batch_id = shop.batch()
    started(operator, batch_id)
    ledger.do(use_cases.pause_batch(shop.request(), batch_id, reason="lunch"))

    class Resuming(io.BytesIO):
        def read(self, size=-1):
            if not self.tell():
                ledger.do(use_cases.resume_batch(shop.request(), batch_id))
            return super().read(size)

    answer = operator.client.post(
        f"/v1/batches/{batch_id}/issuance-jobs",
        input_stream=Resuming(USERS + b"user-4\n"),
        content_type="text/csv",
        headers={"Authorization": f"Bearer {operator.token}", "Idempotency-Key": "resumed"},
        environ_overrides={"wsgi.input_terminated": True},
    )
    assert (answer.status_code, answer.json["code"]) == (409, "batch_not_open")
    assert len(operator.get("/v1/issuance-jobs").ok()["jobs"]) == 1
    assert upload(operator, batch_id, USERS + b"user-4\n", key="resumed").ok(201)["accepted"] == 4


def test_memory_is_bounded_by_chunks(operator, shop, ledger):
    data = b"user_id\n" + b"".join(b"user-%d\n" % number for number in range(20_001)) + b" \n" * 10_001
    job = upload(operator, shop.batch(), data).ok(201)
    assert (job["accepted"], job["rejected"]) == (20_001, 10_001)
    with ledger.store.connection() as connection:
        chunks = connection.execute("select kind, number, rows from issuance_chunks order by 1, 2").fetchall()
    assert [tuple(chunk.values()) for chunk in chunks] == [
        ("accepted", 1, 10_000),
        ("accepted", 2, 10_000),
        ("accepted", 3, 1),
        ("rejected", 1, 10_000),
        ("rejected", 2, 1),
    ]

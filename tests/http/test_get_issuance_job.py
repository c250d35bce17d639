"""GET /v1/issuance-jobs/{id}."""

from __future__ import annotations

from collections.abc import Callable

from ledger import use_cases
from tests.http.jobs import USERS, consume_first_chunk, settle, started, step, upload


def test_shows_how_far_it_is(operator, shop, ledger):
    batch_id = shop.batch(per_user_limit=1, quantity=3)
    job_id = started(operator, batch_id, USERS + b"user-1\nuser-4\n\x07\n")
    path = f"/v1/issuance-jobs/{job_id}"
    new = operator.get(path).ok()
    assert new == {
        "job_id": job_id,
        "batch_id": batch_id,
        "state": "RUNNING",
        "accepted": 5,
        "rejected": 1,
        "sent": 0,
        "issued": 0,
        "waiting": 5,
        "refused": {},
        "voided": 0,
        "kept": 0,
        "undo_reason": None,
        "rows_per_second": 0.0,
        "seconds_left": None,
        "started_at": new["started_at"],
        "ended_at": None,
    }
    step(ledger, only=(1, 2, 4))
    part = operator.get(path).ok()
    told = {"state": "RUNNING", "sent": 5, "issued": 2, "waiting": 2, "refused": {"user_limit_reached": 1}}
    assert {name: part[name] for name in told} == told
    assert part["rows_per_second"] > 0
    assert part["seconds_left"] == round(2 / part["rows_per_second"])


def test_no_more_has_settled_than_was_sent(operator, shop, ledger):
    """A chunk counts as sent when all of it is acknowledged; consumers are often faster."""
    job_id = started(operator, shop.batch(quantity=2))
    consume_first_chunk(ledger)
    path = f"/v1/issuance-jobs/{job_id}"
    job = operator.get(path).ok()
    assert (job["sent"], job["issued"], job["refused"], job["waiting"]) == (3, 2, {"sold_out": 1}, 0)
    (listed,) = operator.get("/v1/issuance-jobs").ok()["jobs"]
    assert listed == job


def test_finishes_when_every_row_has_its_answer(operator, shop, ledger):
    batch_id = shop.batch(per_user_limit=1, quantity=3)
    job_id = started(operator, batch_id, USERS + b"user-1\nuser-4\n")
    settle(ledger)
    job = operator.get(f"/v1/issuance-jobs/{job_id}").ok()
    told = {
        "state": "FINISHED",
        "sent": 5,
        "issued": 3,
        "waiting": 0,
        "refused": {"user_limit_reached": 1, "sold_out": 1},
        "seconds_left": None,
    }
    assert {name: job[name] for name in told} == told
    assert job["ended_at"] >= job["started_at"]
    finished = ledger.store.history(f"job-{job_id}")[-1].event
    assert (finished.TOPIC, finished.issued, finished.refused, finished.actor) == ("job.finished", 3, 2, "job:issuance")
    assert step(ledger) is False
    with ledger.store.connection() as connection:
        assert connection.execute("select 1 from issuance_chunks").fetchone() is None


def test_each_row_is_issued_as_its_file_says(operator, shop, ledger):
    batch_id = shop.batch()
    data = b'{"user_id": "user-1", "channel": "mail"}\n"user-2"\n'
    job_id = upload(operator, batch_id, data, "application/x-ndjson").ok(201)["job_id"]
    settle(ledger)
    events = operator.get("/v1/events", after=4).ok()["events"]
    issued = [each["payload"] for each in events if each["topic"] == "coupon.issued"]
    assert [(each["user_id"], each["channel"], each["request_id"]) for each in issued] == [
        ("user-1", "mail", f"/coupon-ledger/jobs/{job_id} 1"),
        ("user-2", "issue", f"/coupon-ledger/jobs/{job_id} 2"),
    ]


def test_facts_reach_the_batchs_conditions(operator, shop, ledger):
    from ledger.audience import Audience

    batch_id = shop.batch(audience=Audience(tiers=("gold",)))
    data = (
        b'{"user_id": "a", "facts": {"tier": "gold", "tags": ["x"]}}\n{"user_id": "b", "facts": {"tier": "tin"}}\n"c"\n'
    )
    job_id = upload(operator, batch_id, data, "application/x-ndjson").ok(201)["job_id"]
    settle(ledger)
    job = operator.get(f"/v1/issuance-jobs/{job_id}").ok()
    assert (job["issued"], job["refused"]) == (1, {"not_in_audience": 1, "fact_required": 1})


def test_a_row_that_was_refused_stays_refused_when_its_message_comes_again(operator, shop, ledger):
    batch_id = shop.batch(quantity=2)
    job_id = started(operator, batch_id)
    path = f"/v1/issuance-jobs/{job_id}"
    step(ledger)
    before = operator.get(path).ok()
    assert (before["issued"], before["refused"]) == (2, {"sold_out": 1})
    ledger.do(use_cases.change_quantity(shop.request(), batch_id, expected=2, target=10))
    results = consume_first_chunk(ledger) + consume_first_chunk(ledger)  # as after a kill between sending and noting it
    assert [result and result.replayed for result in results] == [True, True, None] * 2
    assert operator.get(path).ok() == before | {"sent": 3}
    settle(ledger)
    assert operator.get(path).ok()["issued"] == 2


def test_a_message_that_only_looks_like_a_row_is_a_message_like_any(operator, shop, ledger):
    from consumers.asked import Asked, perform
    from ledger.request import Request

    mine, other = shop.batch(per_user_limit=None), shop.batch(per_user_limit=None)
    job_id = started(operator, mine)

    def ask(id: str, batch_id: str) -> Asked:
        request = Request("merchant-1", "consumer:test", id)
        return Asked(request, use_cases.issue_by_message(request, batch_id, "user-9", channel="issue"))

    source = f"/coupon-ledger/jobs/{job_id}"
    ids = [(f"{source} 1", other), (f"{source} 4", mine), (f"{source} 01", mine), (f"{source} x", mine)]
    ids += [(f"{source} 123456789", mine), ("/coupon-ledger/jobs/unknown 1", mine), (f"{source}x 1", mine)]
    with ledger.store.connection() as connection, connection.transaction():
        results = perform(ledger, connection, [ask(*each) for each in ids])
    assert [result.replayed for result in results] == [False] * len(ids)
    assert operator.get(f"/v1/issuance-jobs/{job_id}").ok()["issued"] == 0


def test_another_merchants_job_looks_like_none(operator, shop, stranger: Callable):
    job_id = started(operator, shop.batch())
    for end in ("", "/progress", "/failures"):
        foreign = stranger("operator").get(f"/v1/issuance-jobs/{job_id}{end}").refused(404, "job_not_found")
        unknown = operator.get(f"/v1/issuance-jobs/{'0' * 26}{end}").refused(404, "job_not_found")
        assert foreign | {"facts": 0} == unknown | {"facts": 0}

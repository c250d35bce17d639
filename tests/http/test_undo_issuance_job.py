"""POST /v1/issuance-jobs/{id}/undo."""

from __future__ import annotations

from ledger import use_cases
from ledger.issuance import work as issuance_work
from tests.http.jobs import USERS, settle, started, step, upload

VOIDED = "select payload->>'reason' as reason, payload->>'actor' as actor from event_log where topic = 'coupon.voided'"


def undo(operator, job_id, **options):
    return operator.post(f"/v1/issuance-jobs/{job_id}/undo", {"reason": "wrong users"}, **options)


def test_voids_what_it_issued_and_nothing_else(operator, shop, ledger):
    batch_id = shop.batch(per_user_limit=None)
    other = shop.coupon("user-1", batch_id)
    job_id = started(operator, batch_id)
    settle(ledger)
    answer = undo(operator, job_id)
    assert answer.ok() == {"job_id": job_id, "batch_id": batch_id, "state": "UNDOING", "accepted": 3, "rejected": 0}
    settle(ledger)
    job = operator.get(f"/v1/issuance-jobs/{job_id}").ok()
    told = {"state": "UNDONE", "issued": 3, "voided": 3, "kept": 0, "undo_reason": "wrong users"}
    assert {name: job[name] for name in told} == told
    events = [recorded.event for recorded in ledger.store.history(f"job-{job_id}")]
    assert [event.TOPIC for event in events] == ["job.started", "job.finished", "job.undo_started", "job.undone"]
    assert events[2].actor.startswith("key:")
    assert (events[2].reason, events[3].voided, events[3].kept) == ("wrong users", 3, 0)
    with ledger.store.connection() as connection:
        voids = connection.execute(VOIDED).fetchall()
    assert [tuple(void.values()) for void in voids] == [("wrong users", "job:issuance")] * 3
    assert operator.get(f"/v1/coupons/{other}").ok()["state"] == "UNUSED"


def test_rows_whose_messages_come_afterwards_are_refused(operator, shop, ledger):
    job_id = started(operator, shop.batch(), USERS + b"user-4\n")
    step(ledger, only=(1, 3))
    undo(operator, job_id).ok()
    _deliver(ledger, job_id, [1, 2])
    settle(ledger)
    job = operator.get(f"/v1/issuance-jobs/{job_id}").ok()
    told = {"state": "UNDONE", "issued": 2, "voided": 2, "refused": {"job_undone": 1}, "waiting": 1}
    assert {name: job[name] for name in told} == told
    _deliver(ledger, job_id, [1, 2, 3, 4])  # once more, and one for the first time, when all is over
    again = operator.get(f"/v1/issuance-jobs/{job_id}").ok()
    assert again == job | {"refused": {"job_undone": 2}, "waiting": 0} | {
        name: again[name] for name in ("rows_per_second", "seconds_left")
    }


def _deliver(ledger, job_id, rows):
    from consumers.asked import perform
    from consumers.issuance import asked
    from consumers.messages import decode, encode
    from consumers.payloads import IssueRequested
    from ledger.request import Request

    event = ledger.store.history(f"job-{job_id}")[0].event
    source = f"/coupon-ledger/jobs/{job_id}"
    wanted = []
    for row in rows:
        payload = IssueRequested(merchant_id="merchant-1", batch_id=event.batch_id, user_id=f"user-{row}")
        message = decode(encode(payload, source=source, id=str(row), time=event.occurred_at))
        wanted.append(asked(message, Request("merchant-1", "consumer:test", message.request_id)))
    with ledger.store.connection() as connection, connection.transaction():
        perform(ledger, connection, wanted)


def test_is_decided_once(operator, shop, ledger):
    job_id = started(operator, shop.batch())
    first = undo(operator, job_id, key="once")
    head = ledger.store.head()
    assert undo(operator, job_id, key="once").response.data == first.response.data
    assert undo(operator, job_id).ok() == first.json
    settle(ledger)
    assert undo(operator, job_id).ok() == first.json | {"state": "UNDONE"}
    assert ledger.store.head() == head + 1
    again = upload(operator, first.json["batch_id"])
    assert again.ok(201)["state"] == "UNDONE"
    settle(ledger)
    assert operator.get(f"/v1/issuance-jobs/{job_id}").ok()["issued"] == 0


def test_goes_page_by_page_and_keeps_what_cannot_be_voided(operator, shop, ledger, monkeypatch):
    monkeypatch.setattr(issuance_work, "LOOK_COUPONS", 120)
    batch_id = shop.batch(quantity=1_000)
    data = b"user_id\n" + b"".join(b"user-%d\n" % number for number in range(250))
    job_id = started(operator, batch_id, data)
    settle(ledger)
    with ledger.store.connection() as connection:
        rows = connection.execute("select stream from event_log where topic = 'coupon.issued'").fetchall()
    coupons = [row["stream"].removeprefix("coupon-") for row in rows]
    for coupon in coupons[:5]:
        ledger.do(use_cases.redeem(shop.request(), f"till-{coupon}", coupon_id=coupon, discount_minor=1))
    for coupon in coupons[5:8]:
        ledger.do(use_cases.void(shop.request(), coupon, reason="fraud"))
    undo(operator, job_id).ok()
    steps = [operator.get(f"/v1/issuance-jobs/{job_id}").ok() for _ in iter(lambda: step(ledger), False)]
    assert len(steps) == 3
    assert [job["voided"] + job["kept"] for job in steps] == [120, 240, 250]
    assert (steps[-1]["voided"], steps[-1]["kept"], steps[-1]["state"]) == (242, 8, "UNDONE")


def test_needs_a_reason_and_the_merchants_own_job(operator, shop, stranger):
    job_id = started(operator, shop.batch())
    operator.post(f"/v1/issuance-jobs/{job_id}/undo").refused(422, "invalid_field")
    undo(stranger("operator"), job_id).refused(404, "job_not_found")
    undo(operator, "0" * 26).refused(404, "job_not_found")

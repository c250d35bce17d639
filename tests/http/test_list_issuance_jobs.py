"""GET /v1/issuance-jobs."""

from __future__ import annotations

from tests.http.jobs import started


def test_lists_the_newest_first_in_pages(operator, shop):
    one, other = shop.batch(), shop.batch()
    ids = [started(operator, one if number % 2 else other, b"user_id\nuser-%d\n" % number) for number in range(5)]
    whole = operator.get("/v1/issuance-jobs").ok()
    assert [job["job_id"] for job in whole["jobs"]] == ids[::-1]
    assert whole["next_cursor"] is None
    first = operator.get("/v1/issuance-jobs", limit=3).ok()
    second = operator.get("/v1/issuance-jobs", limit=3, cursor=first["next_cursor"]).ok()
    assert [job["job_id"] for job in first["jobs"] + second["jobs"]] == ids[::-1]
    assert second["next_cursor"] is None
    of_one = operator.get("/v1/issuance-jobs", batch_id=one).ok()
    assert [job["job_id"] for job in of_one["jobs"]] == [ids[3], ids[1]]
    assert {**of_one["jobs"][0]} == operator.get(f"/v1/issuance-jobs/{ids[3]}").ok()


def test_a_cursor_is_good_for_its_list(operator, shop, stranger):
    for number in range(2):
        started(operator, shop.batch(), b"user_id\nuser-%d\n" % number)
    cursor = operator.get("/v1/issuance-jobs", limit=1).ok()["next_cursor"]
    operator.get("/v1/issuance-jobs", cursor=cursor, batch_id="b").refused(400, "bad_cursor")
    stranger("operator").get("/v1/issuance-jobs", cursor=cursor).refused(400, "bad_cursor")


def test_holds_nothing_of_another_merchant(operator, shop, stranger):
    started(operator, shop.batch())
    assert stranger("auditor").get("/v1/issuance-jobs").ok() == {"jobs": [], "next_cursor": None}

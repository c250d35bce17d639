"""GET /v1/issuance-jobs/{id}/failures."""

from __future__ import annotations

import csv
import io

from ledger import use_cases
from ledger.issuance import jobs as issuance_jobs
from tests.http.jobs import settle, started, upload

HEADING = ["row", "user_id", "code", "detail", "coupon_id"]


def download(operator, job_id):
    response = operator.get(f"/v1/issuance-jobs/{job_id}/failures", headers={"Accept": "text/csv"}).response
    assert response.status_code == 200
    assert response.content_type == "text/csv; charset=utf-8"
    assert response.headers["Content-Disposition"] == f'attachment; filename="failures-{job_id}.csv"'
    assert response.is_streamed
    heading, *rows = csv.reader(io.StringIO(response.text, newline=""))
    assert heading == HEADING
    return rows


def test_names_each_row_and_why(operator, shop, ledger):
    job_id = started(operator, shop.batch(quantity=1), b"user_id\na\n b\nc\n")
    bad = ["2", " b", "invalid_field", "user_id is 1 to 128 printable characters", ""]
    assert download(operator, job_id) == [bad]
    settle(ledger)
    (only, refused) = download(operator, job_id)
    assert only == bad
    assert refused[:3] == ["3", "c", "sold_out"]
    assert refused[4] == ""


def test_no_cell_is_computed_by_a_spreadsheet(operator, shop, ledger):
    users = ['=HYPERLINK("http://x")', "+1", "-1", "@SUM(A1)", "a=1"]
    lines = "".join('"{}"\n'.format(user.replace('"', '""')) for user in users)
    job_id = started(operator, shop.batch(quantity=1), f"user_id\nfirst\n{lines}\t=1\n".encode())
    settle(ledger)
    cells = [row[1] for row in download(operator, job_id)]
    assert cells == [r"\t=1", *(f"'{user}" for user in users[:4]), "a=1"]


def test_no_control_character_comes_back(operator, shop):
    """A terminal would obey it, and a cell of two lines would look like two rows."""
    lines = '{"user_id": "a\\u001b[2J\\u0007"}\n"b\\r\\n5,x"\n"c\\u202e\\u009b\\u2028"\n"fine"\n'
    job_id = upload(operator, shop.batch(), lines.encode(), "application/x-ndjson").ok(201)["job_id"]
    text = operator.get(f"/v1/issuance-jobs/{job_id}/failures", headers={"Accept": "text/csv"}).response.text
    assert all(line.isprintable() for line in text.split("\r\n"))
    assert [row[:2] for row in download(operator, job_id)] == [
        ["1", r"a\x1b[2J\x07"],
        ["2", r"b\r\n5,x"],
        ["3", r"c\u202e\x9b\u2028"],
    ]


def test_is_read_in_pages(operator, shop, ledger, monkeypatch):
    monkeypatch.setattr(issuance_jobs, "FAILURES_PAGE", 7)
    data = b"user_id\n" + b"".join(b"user-%d\n" % number for number in range(50))
    job_id = started(operator, shop.batch(quantity=1), data)
    settle(ledger)
    assert [row[0] for row in download(operator, job_id)] == [str(number) for number in range(2, 51)]


def test_names_coupons_that_an_undo_could_not_void(operator, shop, ledger):
    batch_id = shop.batch()
    job_id = started(operator, batch_id)
    settle(ledger)
    issued = operator.get("/v1/events", after=3).ok()["events"]
    coupon = next(each for each in issued if each["payload"].get("user_id") == "user-2")["stream"].removeprefix(
        "coupon-"
    )
    ledger.do(use_cases.redeem(shop.request(), "till-1", coupon_id=coupon, discount_minor=1))
    operator.post(f"/v1/issuance-jobs/{job_id}/undo", {"reason": "oops"}).ok()
    settle(ledger)
    assert download(operator, job_id) == [["2", "user-2", "coupon_used", "the coupon could not be voided", coupon]]

"""GET /v1/codes/{id}/export, and its confirmation."""

from __future__ import annotations

import csv
import io


def test_streams_csv_until_it_is_confirmed(operator, scene, as_role):
    codes_id = scene.codes(2_500)
    path = f"/v1/codes/{codes_id}"
    for accept in ("text/csv", "*/*"):
        response = operator.get(f"{path}/export", headers={"Accept": accept}).response
        assert response.status_code == 200
        assert response.content_type == "text/csv; charset=utf-8"
        assert response.headers["Content-Disposition"] == f'attachment; filename="codes-{codes_id}.csv"'
        assert response.is_streamed
        heading, *rows = csv.reader(io.StringIO(response.text))
        assert heading == ["code"]
        assert len({code for (code,) in rows}) == 2_500
    body = {"code": rows[1_234][0], "user_id": "user-1"}
    as_role("shopper-app").post("/v1/codes/redemptions", body).ok(201)
    assert operator.post(f"{path}/export-confirmations").ok()["exported"] is True
    operator.get(f"{path}/export").refused(409, "codes_exported")
    operator.post(f"{path}/export-confirmations").refused(409, "codes_exported")


def test_refusals_come_before_the_first_byte(operator):
    operator.get(f"/v1/codes/{'0' * 26}/export", headers={"Accept": "text/csv"}).refused(404, "codes_not_found")


def test_imported_codes_are_not_given_out(operator, scene):
    codes_id = operator.post(*scene.call("import_codes")).ok(201)["codes_id"]
    operator.get(f"/v1/codes/{codes_id}/export").refused(409, "codes_exported")


def test_only_csv_is_given(operator, scene):
    path, _ = scene.call("get_codes_export")
    operator.get(path, headers={"Accept": "image/png"}).refused(406, "not_acceptable")

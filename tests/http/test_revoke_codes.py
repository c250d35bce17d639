"""POST /v1/codes/{id}/revocations."""

from __future__ import annotations

from ledger import code_jobs
from tests.http.conftest import CODE_KEYS


def test_ends_a_set_and_leaves_its_coupons(operator, as_role, scene, ledger, shop):
    codes_id = scene.codes(2)
    codes = list(code_jobs.export(ledger, CODE_KEYS, shop.merchant_id, codes_id))
    app = as_role("shopper-app")
    kept = app.post("/v1/codes/redemptions", {"code": codes[0], "user_id": "user-1"}).ok(201)["coupon_id"]
    path = f"/v1/codes/{codes_id}/revocations"
    assert operator.post(path, {"reason": "leak"}).ok()["revoked"] is True
    app.post("/v1/codes/redemptions", {"code": codes[1], "user_id": "user-2"}).refused(404, "code_not_found")
    assert app.get(f"/v1/coupons/{kept}").ok()["state"] == "UNUSED"
    head = ledger.store.head()
    assert operator.post(path, {"reason": "again"}).ok()["revoked"] is True
    assert ledger.store.head() == head

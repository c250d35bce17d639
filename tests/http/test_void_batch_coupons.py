"""POST /v1/batches/{id}/voids: what a batch or a job issued by mistake is undone, page by page."""

from __future__ import annotations

import pytest

from ledger import code_jobs, undoing, use_cases
from ledger.aggregate import coupon_id
from ledger.coupon import Redemption
from ledger.typed_codes import exchange
from tests.http.conftest import CODE_KEYS


@pytest.fixture
def batch_id(shop):
    return shop.batch(quantity=1_000, per_user_limit=None)


def issued(shop, batch_id, count, key=None):
    work = use_cases.issue(shop.request(key), batch_id, ["user-1"] * count)
    return [coupon["coupon_id"] for coupon in shop.ledger.do(work).answer["coupons"]]


def used(shop, coupon_id, order_id):
    lock = use_cases.lock(shop.request(), order_id, user_id="user-1", coupon_ids=[coupon_id])
    shop.ledger.do(lock)
    redemption = Redemption(coupon_id=coupon_id, discount_minor=1)
    shop.ledger.do(use_cases.confirm(shop.request(), order_id, [redemption]))


def walked(operator, batch_id, **named):
    """Every page, to the last."""
    pages, cursor = [], {}
    while True:
        body = {"reason": "by mistake", **named, **cursor}
        pages.append(operator.post(f"/v1/batches/{batch_id}/voids", body).ok())
        if pages[-1]["next_cursor"] is None:
            return pages
        cursor = {"cursor": pages[-1]["next_cursor"]}


def voided(ledger, coupon_ids):
    return {id for id in coupon_ids if ledger.store.history(f"coupon-{id}")[-1].event.TOPIC == "coupon.voided"}


def test_voids_what_is_unused_and_reports_what_is_not(operator, shop, ledger, batch_id):
    ids, others = issued(shop, batch_id, 205), issued(shop, shop.batch(per_user_limit=None), 2)
    used(shop, ids[0], "order-1")
    ledger.do(use_cases.void(shop.request(), ids[1], reason="before"))
    pages = walked(operator, batch_id)
    assert [page["voided"] + len(page["refused"]) for page in pages] == [100, 100, 5]
    refused = {each["coupon_id"]: each["code"] for page in pages for each in page["refused"]}
    assert refused == {ids[0]: "coupon_used", ids[1]: "coupon_void"}
    assert voided(ledger, ids + others) == set(ids[1:])
    assert ledger.store.history(f"coupon-{ids[2]}")[-1].event.reason == "by mistake"
    (again,) = {page["voided"] for page in walked(operator, batch_id)}
    assert again == 0


def test_a_job_alone(operator, shop, ledger, batch_id):
    first, second = issued(shop, batch_id, 7, "import-1"), issued(shop, batch_id, 5, "import-12")
    (page,) = walked(operator, batch_id, issued_by="import-1")
    assert page == {"voided": 7, "refused": [], "next_cursor": None}
    assert voided(ledger, first + second) == set(first)
    (page,) = walked(operator, batch_id, issued_by="nobody")
    assert page == {"voided": 0, "refused": [], "next_cursor": None}


def test_a_job_of_many_messages(operator, shop, ledger, batch_id):
    """A message's request id is its source, a space and its id."""
    ids = {}
    for source in ("shop/june", "shop/june-2", "shop/july"):
        for n in range(3):
            request = shop.request(f"{source} {n}")
            ledger.do(use_cases.issue_by_message(request, batch_id, f"user-{n}", channel="message"))
            ids[coupon_id(batch_id, request.request_id, 0)] = source
    (page,) = walked(operator, batch_id, issued_by_prefix="shop/june ")
    assert page["voided"] == 3
    assert {ids[id] for id in voided(ledger, ids)} == {"shop/june"}
    (page,) = walked(operator, batch_id, issued_by_prefix="shop/")
    assert (page["voided"], len(page["refused"])) == (6, 3)


def test_what_a_leaked_set_of_codes_gave(operator, shop, ledger, batch_id):
    """Each exchange has the request id of its own user's app, so only the set says which coupons they are."""
    coupons = {}
    for name in ("leaked", "other"):
        codes_id = code_jobs.generate(ledger, CODE_KEYS, shop.request(), batch_id, 3).answer["codes_id"]
        for number, code in enumerate(code_jobs.export(ledger, CODE_KEYS, shop.merchant_id, codes_id)):
            got = exchange(ledger, CODE_KEYS, shop.request(), code, f"user-{number}").answer["coupon_id"]
            coupons[got] = codes_id, name
    others = issued(shop, batch_id, 3)
    spent, leaked = next((coupon_id, codes_id) for coupon_id, (codes_id, name) in coupons.items() if name == "leaked")
    ledger.do(use_cases.redeem(shop.request(), "till-1", coupon_id=spent, discount_minor=1))
    (page,) = walked(operator, batch_id, codes_id=leaked)
    assert page == {"voided": 2, "refused": [{"coupon_id": spent, "code": "coupon_used"}], "next_cursor": None}
    assert {coupons[id][1] for id in voided(ledger, [*coupons, *others])} == {"leaked"}
    (page,) = walked(operator, batch_id, codes_id="nowhere")
    assert page == {"voided": 0, "refused": [], "next_cursor": None}


def test_a_job_in_a_large_batch_takes_pages_that_may_hold_nothing(operator, shop, ledger, batch_id, monkeypatch):
    issued(shop, batch_id, 30)
    mine = issued(shop, batch_id, 2, "import-1")
    monkeypatch.setattr(undoing, "LOOK", 10)
    monkeypatch.setitem(undoing.STATEMENTS, 10, f"{undoing._PAGE} limit 10")
    pages = walked(operator, batch_id, issued_by="import-1")
    assert len(pages) == 4
    assert sum(page["voided"] for page in pages) == 2
    assert voided(ledger, mine) == set(mine)


def test_a_repeat_of_a_page_is_the_same_page(operator, shop, ledger, batch_id):
    issued(shop, batch_id, 150)
    path, body = f"/v1/batches/{batch_id}/voids", {"reason": "by mistake"}
    first = operator.post(path, body, key="page-1")
    issued(shop, batch_id, 20)  # which would be on it now
    head = ledger.store.head()
    again = operator.post(path, body, key="page-1")
    assert again.response.data == first.response.data
    assert again.headers["Idempotent-Replayed"] == "true"
    assert ledger.store.head() == head


def test_a_live_lock_ends_with_its_coupon(operator, orders, scene):
    coupon_id, _ = scene.locked()
    batch_id = operator.get(f"/v1/coupons/{coupon_id}").ok()["batch_id"]
    assert walked(operator, batch_id)[0]["voided"] == 1
    redemption = {"coupon_id": coupon_id, "discount_minor": 1}
    orders.post("/v1/orders/order-1/confirmations", {"redemptions": [redemption]}).refused(410, "coupon_void")


def test_a_cursor_is_good_for_its_walk(operator, as_role, shop, batch_id):
    issued(shop, batch_id, 101, "import-1")
    path, body = f"/v1/batches/{batch_id}/voids", {"reason": "by mistake"}
    on = body | {"cursor": operator.post(path, body).ok()["next_cursor"]}
    operator.post(path, on | {"issued_by": "import-1"}).refused(400, "bad_cursor")
    operator.post(path, on | {"codes_id": "import-1"}).refused(400, "bad_cursor")
    operator.post(f"/v1/batches/{shop.batch()}/voids", on).refused(400, "bad_cursor")
    as_role("operator").post(path, on).refused(400, "bad_cursor")
    assert operator.post(path, on).ok()["voided"] == 1


@pytest.mark.parametrize(
    ("named", "pointer"),
    [
        ({"reason": ""}, "/reason"),
        ({"reason": "two\nlines"}, "/reason"),
        ({"issued_by": ""}, "/issued_by"),
        ({"issued_by": "x" * 256}, "/issued_by"),
        ({"issued_by_prefix": "caf\u00e9"}, "/issued_by_prefix"),
        ({"issued_by": "a", "issued_by_prefix": "a"}, "/issued_by_prefix"),
        ({"issued_by": "a", "codes_id": "a"}, "/codes_id"),
        ({"issued_by_prefix": "a", "codes_id": "a"}, "/codes_id"),
        ({"codes_id": ""}, "/codes_id"),
        ({"cursor": "not/a/cursor"}, "/cursor"),
    ],
)
def test_what_makes_no_sense(named, pointer, operator, batch_id):
    answer = operator.post(f"/v1/batches/{batch_id}/voids", {"reason": "by mistake"} | named)
    answer.refused(422, "invalid_field")
    assert answer.pointers() == [pointer]


def test_an_empty_batch_and_an_unknown_one(operator, batch_id):
    assert walked(operator, batch_id) == [{"voided": 0, "refused": [], "next_cursor": None}]
    operator.post("/v1/batches/nowhere/voids", {"reason": "by mistake"}).refused(404, "batch_not_found")

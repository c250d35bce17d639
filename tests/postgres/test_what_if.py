"""What would have been under another limit or stacking rule: by hand, and that nothing is written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from ledger import use_cases
from ledger.application import Ledger
from ledger.benefit import Benefit
from ledger.coupon import Redemption
from ledger.database import Database
from ledger.errors import BatchNotFound, InvalidField, Refusal, TemplateNotFound
from ledger.terms import Terms
from projections.what_if import limits, stacking
from tests.conftest import MERCHANT, Shop

T0 = datetime(2026, 3, 1, 9, tzinfo=UTC)
STACKABLE = Terms(benefit=Benefit(kind="amount_off", value_minor=500), currency="EUR", stacking_mode="stackable")


def at(hours: float) -> datetime:
    return T0 + timedelta(hours=hours)


def issue(shop: Shop, batch_id: str, hours: float, *users: str) -> list[str]:
    """The ids of coupons issued by one request."""
    answer = shop.ledger.do(use_cases.issue(shop.request(at=at(hours)), batch_id, users)).answer
    return [row["coupon_id"] for row in answer["coupons"]]


def use(shop: Shop, order_id: str, hours: float, coupons: list[str], paid: int, user: str = "ann") -> None:
    """Locked and paid."""
    shop.ledger.do(use_cases.lock(shop.request(at=at(hours)), order_id, user_id=user, coupon_ids=coupons))
    redemptions = [Redemption(coupon_id=each, discount_minor=500) for each in coupons]
    shop.ledger.do(use_cases.confirm(shop.request(at=at(hours)), order_id, redemptions, paid_minor=paid))


def everything(database: Database) -> list[Any]:
    """The rows of every table, to see that none changed."""
    with psycopg.connect(database.url, options=f"-c search_path={database.schema}") as connection:
        tables = connection.execute(
            "select table_name from information_schema.tables where table_schema = %s and table_type = 'BASE TABLE'",
            (database.schema,),
        ).fetchall()
        return [connection.execute(f'select * from "{name}" order by 1').fetchall() for (name,) in sorted(tables)]


@pytest.mark.parametrize("written", [False, True])
def test_a_lock_that_a_late_use_writes_down_once_more_is_one(shop: Shop, database: Database, written: bool) -> None:
    terms = replace(STACKABLE, late_confirm="accept")
    batch = shop.batch(per_user_limit=None, start=False, terms=terms)
    shop.ledger.do(use_cases.start_batch(shop.request(at=at(0)), batch))
    issue(shop, batch, 1, "ann")
    [second] = issue(shop, batch, 1, "ann")
    order = {"user_id": "ann", "coupon_ids": [second]}
    shop.ledger.do(use_cases.lock(shop.request(at=at(2)), "order-1", **order))
    if written:
        ended = use_cases.unlock(shop.request(at=at(4)), "order-1", coupon_ids=[second], reason="lock_ended")
        shop.ledger.do(ended)
    late = [Redemption(coupon_id=second, discount_minor=500)]
    shop.ledger.do(use_cases.confirm(shop.request(at=at(5)), "order-1", late))
    report = limits.judge(database, MERCHANT, batch, {"per_user_limit": 1})
    assert (report.locks_lost, report.uses_lost) == (1, 1)


def test_a_refused_coupon_is_never_used(shop: Shop, database: Database) -> None:
    batch = shop.batch(per_user_limit=None, start=False)
    shop.ledger.do(use_cases.start_batch(shop.request(at=at(0)), batch))
    shop.coupon("ann", shop.batch(per_user_limit=None))  # of another batch, which is nobody's business here
    [first] = issue(shop, batch, 1, "ann")
    [second, bobs] = issue(shop, batch, 2, "ann", "bob")
    [third] = issue(shop, batch, 3, "ann")
    issue(shop, batch, 3, "cy")
    use(shop, "order-1", 4, [first], 1_000)
    use(shop, "order-2", 5, [second, third], 9_000)
    shop.ledger.do(
        use_cases.return_coupons(shop.request(at=at(6)), "order-2", coupon_ids=[second], reason="order_cancelled")
    )
    before = everything(database)
    report = limits.judge(database, MERCHANT, batch, {"per_user_limit": 1})
    assert (report.requests, report.requests_refused, report.not_judged) == (4, 2, 0)
    assert report.refused == {"user_limit_reached": 3}
    assert [each.coupon_id for each in report.listed] == [second, bobs, third], "a request is refused whole"
    assert (report.locks_lost, report.uses_lost) == (2, 2)
    [order] = report.orders.values()
    assert order == ("order-2", "EUR", 1_000, 9_000)
    assert report.returned_minor == {"EUR": 500}
    assert everything(database) == before


def test_what_was_refused_takes_no_stock(shop: Shop, database: Database) -> None:
    batch = shop.batch(per_user_limit=None, quantity=100, start=False)
    shop.ledger.do(use_cases.start_batch(shop.request(at=at(0)), batch))
    issue(shop, batch, 1, "a")
    issue(shop, batch, 2, "b", "c", "d")
    issue(shop, batch, 3, "e")
    shop.ledger.do(use_cases.change_quantity(shop.request(at=at(4)), batch, expected=100, target=200))
    issue(shop, batch, 5, "f")
    report = limits.judge(database, MERCHANT, batch, {"quantity": 2})
    assert report.refused == {"sold_out": 4}
    assert [each.user_id for each in report.listed] == ["b", "c", "d", "f"]


def test_a_day_is_the_batchs_and_the_change_holds_in_its_time(shop: Shop, database: Database) -> None:
    batch = shop.batch(per_user_limit=None, time_zone="Asia/Shanghai", start=False)
    shop.ledger.do(use_cases.start_batch(shop.request(at=at(0)), batch))
    for hours, user in ((1, "a"), (6.5, "b"), (7.5, "c"), (8, "d")):  # midnight in Shanghai is seven hours on
        issue(shop, batch, hours, user)
    report = limits.judge(database, MERCHANT, batch, {"per_day_limit": 1})
    assert report.refused == {"day_limit_reached": 2}
    assert [each.user_id for each in report.listed] == ["b", "d"]
    report = limits.judge(database, MERCHANT, batch, {"per_day_limit": 1}, since=at(7), until=at(9))
    assert [each.user_id for each in report.listed] == ["d"]
    report = limits.judge(database, MERCHANT, batch, {"per_user_limit": 1}, since=at(8))
    assert (report.requests, report.listed) == (1, [])


@pytest.mark.parametrize("changed", [{"per_user_limit": 2}, {"per_day_limit": 3}, {"quantity": 5}])
def test_it_agrees_with_a_batch_that_had_the_limit(shop: Shop, database: Database, changed: dict[str, int]) -> None:
    """The same wishes, asked of a batch with the limit: what that refused is what the what-if refuses."""
    loose = shop.batch(per_user_limit=None, start=False)
    plan: dict[str, Any] = {"per_user_limit": None} | changed
    tight = shop.batch(**plan, start=False)
    for batch in (loose, tight):
        shop.ledger.do(use_cases.start_batch(shop.request(at=at(0)), batch))
    refused = []
    for hours in range(30):
        users = [f"user-{hours * 7 % 4}"] * (1 + hours % 2)
        issue(shop, loose, hours, *users)
        try:
            issue(shop, tight, hours, *users)
        except Refusal as refusal:
            refused += [(at(hours), refusal.code())] * len(users)
    report = limits.judge(database, MERCHANT, loose, changed)
    assert refused
    assert [(each.occurred_at, each.code) for each in report.listed] == refused


def test_a_looser_limit_is_told_to_be_unknowable(shop: Shop, database: Database) -> None:
    batch = shop.batch(per_user_limit=1, quantity=10)
    shop.coupon("ann", batch)
    report = limits.judge(database, MERCHANT, batch, {"per_user_limit": 5, "quantity": 10})
    assert not report.refused
    assert [sentence for sentence in report.cannot_know if "looser" in sentence and "per_user_limit" in sentence]
    assert not [sentence for sentence in report.cannot_know if sentence.startswith("quantity")]


def test_orders_that_stacked_what_would_stand_alone(shop: Shop, ledger: Ledger, database: Database) -> None:
    one = shop.batch(per_user_limit=None, terms=STACKABLE, start=False)
    other = shop.batch(per_user_limit=None, terms=replace(STACKABLE, priority=1), start=False)
    for batch in (one, other):
        ledger.do(use_cases.start_batch(shop.request(at=at(0)), batch))
    coupons = {batch: issue(shop, batch, 1, *["ann"] * 5) for batch in (one, other)}
    use(shop, "alone", 2, [coupons[one][0]], 1_000)
    use(shop, "both", 3, [coupons[one][1], coupons[other][0]], 5_000)
    use(shop, "others", 4, [coupons[other][1], coupons[other][2]], 7_000)
    use(shop, "twice", 5, [coupons[one][2]], 8_000)
    use(shop, "twice", 6, [coupons[other][3]], 8_500)
    template = ledger.store.history(f"batch-{one}")[0].event.template_id  # type: ignore[attr-defined]
    before = everything(database)
    report = stacking.judge(database, MERCHANT, template, "exclusive")
    assert everything(database) == before
    assert report.refused == {"exclusive_conflict": 3}
    assert [(each.order_id, each.coupon_id) for each in report.listed] == [
        ("both", report.listed[0].coupon_id),
        ("both", report.listed[1].coupon_id),
        ("twice", coupons[other][3]),
    ]
    assert report.locks_lost == 2, "what is locked later is judged when it is used"
    assert report.orders == {
        "both": ("both", "EUR", 1_000, 5_000),
        "twice": ("twice", "EUR", 500, 8_500),
    }
    assert not stacking.judge(database, MERCHANT, template, "stackable").refused
    assert not stacking.judge(database, MERCHANT, template, "group", "gifts").refused, "one of the group in each order"
    assert not stacking.judge(database, MERCHANT, template, "exclusive", until=at(2)).refused


def test_other_merchants_things_are_not_there(shop: Shop, ledger: Ledger, database: Database) -> None:
    batch = shop.batch()
    template = ledger.store.history(f"batch-{batch}")[0].event.template_id  # type: ignore[attr-defined]
    with pytest.raises(BatchNotFound):
        limits.judge(database, "merchant-2", batch, {"quantity": 1})
    with pytest.raises(TemplateNotFound):
        stacking.judge(database, "merchant-2", template, "exclusive")
    with pytest.raises(InvalidField):
        stacking.judge(database, MERCHANT, template, "group")


def run(database: Database, *arguments: str) -> subprocess.CompletedProcess[str]:
    settings = {"DATABASE_URL": database.url, "COUPON_LEDGER_SCHEMA": database.schema}
    return subprocess.run(
        [sys.executable, "-m", "coupon_ledger", "what-if", "--merchant", MERCHANT, *arguments],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_command_tells_people_and_programs(shop: Shop, database: Database) -> None:
    batch = shop.batch(per_user_limit=None, start=False)
    shop.ledger.do(use_cases.start_batch(shop.request(at=at(0)), batch))
    issue(shop, batch, 1, "ann")
    [second] = issue(shop, batch, 2, "ann")
    use(shop, "order-1", 3, [second], 1_234)
    result = run(database, "--batch", batch, "--per-user-limit", "1")
    assert (result.returncode, result.stderr) == (0, "")
    assert "coupons refused: 1 (user_limit_reached 1)" in result.stdout
    assert "discount not given: 500 minor units of EUR\n" in result.stdout
    assert "of that given back since: 0\n" in result.stdout
    assert "paid totals of those orders: 1234 minor units of EUR\n" in result.stdout
    assert "cannot be known: " in result.stdout
    result = run(database, "--batch", batch, "--per-user-limit", "1", "--json")
    report = json.loads(result.stdout)
    assert (report["coupons_refused"], report["discount_minor"]) == (1, {"EUR": 500})
    assert [each["coupon_id"] for each in report["coupons"]] == [second]
    assert report["coupons"][0]["occurred_at"] == "2026-03-01T11:00:00Z"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ((), 2),
        (("--batch", "b"), 2),
        (("--batch", "b", "--stacking", "exclusive"), 2),
        (("--batch", "b", "--quantity", "0"), 2),
        (("--template", "t", "--quantity", "1"), 2),
        (("--template", "t", "--stacking", "never"), 2),
        (("--batch", "b", "--quantity", "1"), 1),
        (("--template", "t", "--stacking", "exclusive"), 1),
    ],
)
def test_what_it_cannot_do_is_one_line(arguments: tuple[str, ...], code: int, shop: Shop, database: Database) -> None:
    shop.batch()
    result = run(database, *arguments)
    assert (result.returncode, result.stdout) == (code, "")
    assert result.stderr.startswith("coupon-ledger: ")
    assert result.stderr.count("\n") == 1


def test_a_merchant_of_whom_the_ledger_knows_nothing_is_bad_usage(database: Database) -> None:
    result = run(database, "--batch", "b", "--quantity", "1")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == f"coupon-ledger: the ledger knows no merchant {MERCHANT}\n"

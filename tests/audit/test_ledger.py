"""Bundles of a real ledger's log: what the ledger lets happen, the audit finds right, coupon by coupon."""

from __future__ import annotations

import io
import json
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from psycopg.rows import dict_row

from coupon_ledger_audit.batch_fold import COUNTERS, STEPS
from coupon_ledger_audit.bundle import Balances, Row
from coupon_ledger_audit.check import audit
from coupon_ledger_audit.fold import VERSIONS
from ledger import use_cases
from ledger.application import Ledger
from ledger.basket import Basket, Line
from ledger.benefit import Benefit
from ledger.coupon import Redemption
from ledger.database import Database
from ledger.errors import BatchNotOpen, CouponNotExpired
from ledger.events import EVENTS
from ledger.terms import Terms
from projections.runner import Runner
from tests.audit.logs import Sealed, trust
from tests.postgres.bustle import Bustle
from tests.postgres.test_projections_fold import History
from tests.postgres.trade import Trade

BENEFITS = [
    Benefit(kind="amount_off", value_minor=501),
    Benefit(kind="percent_off", percent_permyriad=1_234),
    Benefit(kind="percent_off", percent_permyriad=9_999, max_discount_minor=100),
    Benefit(kind="fixed_price", value_minor=100, units=3),
    Benefit(kind="gift", products=("p",)),
    Benefit(kind="exchange", value_minor=100, products=("p",)),
    Benefit(kind="trial", products=("p",), max_discount_minor=99),
    Benefit(kind="cash_voucher", value_minor=577),
    Benefit(kind="cash_voucher", value_minor=5_000, leaves_balance=True),
    Benefit(kind="free_shipping"),
    Benefit(kind="order_stated"),
]


def rows_of(database: Database) -> list[Row]:
    with database.connect() as connection:
        found = connection.execute(
            "select notification_id, originator_id, originator_version, topic,"
            "       (extract(epoch from recorded_at) * 1000000)::bigint, convert_from(state, 'utf8')"
            "  from events order by notification_id"
        )
        return [Row(*row) for row in found]


@pytest.mark.parametrize("seed", [0, 21])
def test_a_ledgers_own_log_is_right(ledger: Ledger, shop: Any, database: Database, seed: int) -> None:
    history = History(ledger, shop, seed)
    for _ in range(250):
        history.step()
    Runner(database).catch_up()
    with database.connect(row_factory=dict_row) as connection:
        names = ("quantity", *COUNTERS)
        rows = connection.execute("select * from batch_balance")
        published = {row["batch_id"]: {name: row[name] for name in names} for row in rows}
    log = rows_of(database)
    sealed = Sealed(log)
    whole = sealed.whole(balances=Balances(len(log), published), earlier=[len(log) // 2])
    report = audit(io.BytesIO(whole), trust(sealed.note(len(log) // 3)), history.coupons)
    assert report.finding is None, report.finding.text
    assert sum(len(rows) for rows in report.coupons.values()) == sum("coupon-" in row.stream for row in log)
    for coupon in history.folded():
        others = (f"batch-{coupon.batch_id}", f"template-{coupon.template_id}")
        finding = audit(io.BytesIO(sealed.coupon(coupon.id, *others)), trust(), [coupon.key]).finding
        assert finding is None, finding.text


@pytest.mark.parametrize("kind", ["bustle", "trade"])
def test_ledgers_in_which_everything_happens_are_right(
    ledger: Ledger, shop: Any, database: Database, kind: str
) -> None:
    """Every kind of event, several merchants' streams, history of the past and what is done now."""
    if kind == "bustle":
        bustle = Bustle(ledger, 5)
        bustle.go_on(400)
        bustle.live()
        bustle.go_on(100)
    else:
        Trade(shop, 5).go_on(400)
    log = rows_of(database)
    sealed = Sealed(log)
    report = audit(io.BytesIO(sealed.whole()), trust(whole=True))
    assert report.finding is None, report.finding.text
    topics = {row.topic for row in log}
    assert topics >= {"coupon.issued", "coupon.used", "coupon.returned"}
    for stream in sorted({row.stream for row in log if row.topic == "coupon.used"})[:20]:
        issued = json.loads(next(row.state for row in log if row.stream == stream))
        others = (f"batch-{issued['batch_id']}", f"template-{issued['template_id']}")
        finding = audit(io.BytesIO(sealed.coupon(stream, *others)), trust(), [stream]).finding
        assert finding is None, finding.text


@pytest.mark.parametrize("zone", ["America/St_Johns", "Pacific/Auckland", "Asia/Beirut", "UTC"])
def test_every_plan_of_validity_is_right(ledger: Ledger, shop: Any, database: Database, zone: str) -> None:
    """Fixed and relative, with and without a delay, to the close of a day, over the days when clocks are set."""
    spring = datetime(2026, 3, 1, tzinfo=UTC)
    fixed = {"valid_from": spring, "valid_until": spring + timedelta(days=250)}
    relative = {"valid_for_seconds": 86_400 * 20 + 1}
    plans = [fixed, relative, fixed | relative, relative | {"valid_delay_seconds": 7_200}]
    plans += [fixed | relative | {"valid_delay_seconds": 86_400 * 30}, {"valid_until": fixed["valid_until"]}]
    for plan in plans:
        for close in (False, True):
            times = dict.fromkeys(fixed) | {"valid_for_seconds": None} | plan
            batch_id = shop.batch(per_user_limit=None, time_zone=zone, ends_at_day_close=close, **times)
            for day in range(-15, 240, 15):
                at = spring + timedelta(days=day, hours=-day % 24, microseconds=day % 7)
                with suppress(BatchNotOpen):
                    ledger.do(use_cases.claim(shop.request(at=at), batch_id, "ann"))
    log = rows_of(database)
    report = audit(io.BytesIO(Sealed(log).whole()), trust())
    assert report.finding is None, report.finding.text
    assert sum(row.topic == "coupon.issued" for row in log) > 150


@pytest.mark.parametrize("benefit", BENEFITS, ids=lambda benefit: benefit.kind)
def test_what_a_basket_is_worth_is_right(ledger: Ledger, shop: Any, database: Database, benefit: Benefit) -> None:
    """Every kind of benefit, with a basket where it needs one; a lock that is renewed, and one that a till makes."""
    at = datetime(2026, 3, 1, tzinfo=UTC)
    terms = Terms(benefit=benefit, currency="EUR", min_spend_minor=600, merchant_share_permyriad=3_333)
    batch_id = shop.batch(terms=terms, per_user_limit=None)
    ids = [ledger.do(use_cases.claim(shop.request(at=at), batch_id, "ann")).answer["coupon_id"] for _ in range(2)]
    lines = [Line(line_id=str(number), product_id="p", unit_price_minor=333 + number, quantity=4) for number in (1, 2)]
    baskets = [Basket(lines=tuple(some), currency="EUR", shipping_minor=490) for some in (lines, lines[:1])]
    said = 7 if benefit.kind == "order_stated" else None
    for number, basket in enumerate((*baskets, baskets[0])):
        request = shop.request(at=at + timedelta(minutes=number))
        ledger.do(
            use_cases.lock(request, "order", user_id="ann", coupon_ids=ids[:1], basket=basket, ttl_seconds=86_400)
        )
    used = Redemption(coupon_id=ids[0], discount_minor=said)
    ledger.do(use_cases.confirm(shop.request(at=at + timedelta(minutes=9)), "order", [used]))
    till = Basket(lines=baskets[0].lines, currency="EUR", shipping_minor=490, channel="in_store")
    redeemed = use_cases.redeem(shop.request(at=at), "till", coupon_id=ids[1], discount_minor=said, basket=till)
    ledger.do(redeemed)
    for order_id, id in zip(("order", "till"), ids, strict=True):
        ledger.do(use_cases.return_coupons(shop.request(at=at), order_id, coupon_ids=[id], reason="buyer_refund"))
    report = audit(io.BytesIO(Sealed(rows_of(database)).whole()), trust(), ids)
    assert report.finding is None, report.finding.text
    topics = [row.topic for rows in report.coupons.values() for row in rows]
    assert topics.count("coupon.used") + topics.count("coupon.debited") == 2
    assert topics.count("coupon.locked") == 4


def test_an_end_that_is_written_down_at_once_or_much_later_is_right(
    ledger: Ledger, shop: Any, database: Database
) -> None:
    """Imported history is of the past; an expiry occurred at its end, whenever the sweep comes by."""
    long_ago = datetime.now(UTC) - timedelta(days=300)
    batch_id = shop.batch(per_user_limit=None, valid_for_seconds=1)
    old = ledger.do(use_cases.claim(shop.request(at=long_ago), batch_id, "ann")).answer["coupon_id"]
    new = ledger.do(use_cases.claim(shop.request(), batch_id, "ann")).answer["coupon_id"]
    ledger.do(use_cases.expire(shop.request(), old))
    deadline = time.monotonic() + 10
    while True:
        try:
            ledger.do(use_cases.expire(shop.request(), new))
            break
        except CouponNotExpired:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    report = audit(io.BytesIO(Sealed(rows_of(database)).whole()), trust(), [old, new])
    assert report.finding is None, report.finding.text
    assert [[row.topic for row in rows] for rows in report.coupons.values()] == [
        ["coupon.issued", "coupon.expired"]
    ] * 2


def test_the_audit_knows_every_event_of_today() -> None:
    """A new version of a payload, or a new event, is judged here before it is written anywhere."""
    assert {topic: event.class_version for topic, event in EVENTS.items()} == VERSIONS
    assert {topic for topic in VERSIONS if topic.startswith("batch.")} == {"batch.created", *STEPS}

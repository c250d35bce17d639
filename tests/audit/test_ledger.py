"""Bundles of a real ledger's log: what the ledger lets happen, the audit finds right, coupon by coupon."""

from __future__ import annotations

import io
import json
import time
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
from ledger.database import Database
from ledger.errors import CouponNotExpired
from ledger.events import EVENTS
from projections.runner import Runner
from tests.audit.logs import Sealed, trust
from tests.postgres.bustle import Bustle
from tests.postgres.test_projections_fold import History
from tests.postgres.trade import Trade


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

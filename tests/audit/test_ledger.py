"""Bundles of a real ledger's log: what the ledger lets happen, the audit finds right, coupon by coupon."""

from __future__ import annotations

import io
from typing import Any

import pytest
from psycopg.rows import dict_row

from coupon_ledger_audit.bundle import Balances, Row
from coupon_ledger_audit.check import audit
from coupon_ledger_audit.fold import COUNTERS, KNOWN_VERSIONS
from ledger.application import Ledger
from ledger.database import Database
from ledger.events import EVENTS
from projections.runner import Runner
from tests.audit.logs import Sealed, trust
from tests.postgres.test_projections_fold import History


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


def test_the_audit_knows_every_event_of_today() -> None:
    """A new version of a payload, or a new event, is judged here before it is written anywhere."""
    folded = {topic: event for topic, event in EVENTS.items() if topic.split(".")[0] in ("coupon", "batch", "template")}
    assert {topic: event.class_version for topic, event in folded.items() if event.class_version > 1} == KNOWN_VERSIONS

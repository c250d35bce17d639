"""Case projections: both runners fold the same log, and what they folded is checked."""

from __future__ import annotations

from contextlib import nullcontext

import psycopg

from benchmarks import projections, results
from benchmarks.lived import LIVES, store_lives
from benchmarks.options import Options
from ledger.database import Database
from projections.models.moves import COUPON_EVENTS


def test_both_fold_the_same_log(database_url: str) -> None:
    told: list[str] = []
    options = Options(url=database_url, redis=lambda _: nullcontext(""), seconds=1.0, projected=3_000, tell=told.append)
    rows = list(projections.measure(options))
    assert [(row.case, row.contender, row.exact) for row in rows] == [
        ("projections", "library_runner", True),
        ("projections", "library_runner_async", True),
        ("projections", "ledger", True),
    ]
    assert all(row.rate_per_s > 0 for row in rows)
    assert told == ["3,000 events stored"]
    assert set(results.ratios(rows)) == {
        "projections.1.ledger/library_runner",
        "projections.1.ledger/library_runner_async",
    }
    assert [judgement.wanted for judgement in results.judge(rows)] == ["at least 15", "at least 11,112"]


def test_the_log_has_exactly_so_many_events_of_every_kind(database: Database) -> None:
    """Steps are mixed, so some lives have not come to their ends."""
    store_lives(database.url, database.schema, 4_000)
    with psycopg.connect(database.url, options=f"-c search_path={database.schema}") as connection:
        [(count, last)] = connection.execute("select count(*), max(notification_id) from events").fetchall()
        topics = {topic for (topic,) in connection.execute("select distinct topic from events")}
    assert (count, last) == (4_000, 4_000)
    assert topics >= {event.TOPIC for event in COUPON_EVENTS}
    assert sum(weight for weight, _ in LIVES) == 100

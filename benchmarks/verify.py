"""Case verify: every promise of a log of all kinds of events checked, its read models and its seal among them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from benchmarks.lived import store_lives
from benchmarks.options import Options
from benchmarks.results import Row
from benchmarks.seal import await_sealed, sealing
from benchmarks.servers import schema, settle
from ledger.database import PROJECTOR_ROLE, Database
from ledger.migrate import migrate
from ledger.store import Store
from projections.runner import Runner
from projections.verify.report import Report
from projections.verify.run import verify


def measure(options: Options) -> Iterator[Row]:
    """One row ``verify``: events checked a second."""
    database = Database(options.url, "bench_verify")
    with schema(options.url, database.schema), tempfile.TemporaryDirectory(prefix="coupon-ledger-bench-") as state:
        folder = Path(state) / "seal"
        migrate(options.url, database.schema)
        store_lives(options.url, database.schema, options.projected)
        Runner(Database(options.url, database.schema, PROJECTOR_ROLE)).catch_up()
        with closing(Store(database)) as store, sealing(store, folder) as sealer:
            await_sealed(store, sealer, store.head())
        options.tell(f"{options.projected:,} events stored, folded and sealed")
        settle(options.url)
        yield checked(database, folder)


def checked(database: Database, folder: Path) -> Row:
    """The row of one verification. The bench waits for its processes, so their CPU is counted with its own."""
    before = sum(os.times()[:4])
    report = verify(database, seal=folder)
    cpu = sum(os.times()[:4]) - before
    return Row(
        case="verify",
        contender="ledger",
        callers=1,
        processes=1,
        rate_per_s=round(report.position / report.seconds, 1),
        p50_ms=None,
        p99_ms=None,
        cpu_s_per_1000=round(cpu / report.position * 1_000, 4),
        exact=report.ok and _whole(report),
    )


def _whole(report: Report) -> bool:
    """Whether no part of the ledger was left out: all of it was sealed, and every read model was there."""
    sealed, models = (next(check for check in report.checks if check.id == id) for id in ("I15", "I10"))
    return sealed.looked_at == report.position and not models.note

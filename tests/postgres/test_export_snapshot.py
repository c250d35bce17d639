"""The read models of an export are one snapshot, whatever happens to the ledger and its tables meanwhile."""

from __future__ import annotations

import threading
import time

import psycopg
import pytest

from ledger.database import Database
from projections import checkpoints
from projections.catalogue import PROJECTIONS
from projections.export.check import check
from projections.export.manifest import Manifest
from projections.export.run import Options, export
from projections.rebuild import rebuild
from projections.runner import Runner

COUPONS = 5
WALLET = next(projection for projection in PROJECTIONS if projection.name == "wallet")


@pytest.fixture
def issued(database, shop):
    for number in range(COUPONS):
        shop.coupon(f"user-{number}")
    checkpoints.install(database, PROJECTIONS)
    Runner(database, PROJECTIONS).catch_up()
    return database


def waits_for_a_lock(database: Database) -> bool:
    with psycopg.connect(database.url) as connection:
        query = (
            "select from pg_stat_activity where wait_event_type = 'Lock'"
            " and exists (select from pg_locks l join pg_class c on c.oid = l.relation"
            "              where l.pid = pg_stat_activity.pid and not l.granted and c.relnamespace = %s::regnamespace)"
        )
        return connection.execute(query.encode(), (database.schema,)).rowcount > 0


def test_a_rebuild_that_ends_meanwhile_does_not_empty_it(issued, tmp_path):
    rebuilding = threading.Thread(target=rebuild, args=(issued, WALLET))

    def progress(what: str, _done: int, _total: int | None) -> None:
        if what == "coupon_status" and rebuilding.ident is None:  # the wallet comes after it
            rebuilding.start()
            while rebuilding.is_alive() and not waits_for_a_lock(issued):
                time.sleep(0.01)

    done = export(issued, tmp_path, Options(format="ndjson", what=("coupon_status", "wallet")), progress)
    rebuilding.join(60)
    assert not rebuilding.is_alive()
    assert {file.what: file.rows for file in done.written} == {"coupon_status": COUPONS, "wallet": COUPONS}


def test_all_stand_where_they_stood_at_the_beginning(issued, shop, tmp_path):
    head = shop.ledger.store.head()

    def progress(what: str, _done: int, _total: int | None) -> None:
        if what == "coupon_status":
            shop.coupon("late")
            Runner(issued, PROJECTIONS).catch_up()

    done = export(issued, tmp_path, Options(format="ndjson"), progress)
    assert {model.position for model in done.manifest.models.values()} == {head}
    assert done.manifest.log is not None
    assert done.manifest.log.last_position == head
    assert {file.rows for file in done.written if file.what in ("coupon_status", "wallet")} == {COUPONS}
    assert check(tmp_path)[1] == []
    assert shop.ledger.store.head() > head


def test_a_model_that_stopped_is_told(issued, tmp_path):
    with issued.connect() as connection:
        connection.execute("set role none")
        connection.execute(
            "update projection_checkpoints set state = 'FAULTED', fault = 'x', position = 3 where name = 'wallet'"
        )
    done = export(issued, tmp_path, Options(format="ndjson"))
    assert done.faulted == ["wallet"]
    assert done.manifest.models["wallet"].position == 3


def test_what_a_model_passed_over_is_in_the_manifest(issued, tmp_path):
    version = WALLET.version
    with issued.connect() as connection:
        connection.execute("set role none")
        for skipped in ((version, 2), (version, 2), (version, 3), (version, 999), (version + 1, 1)):
            connection.execute(
                "insert into projection_skips (name, version, position, reason, actor)"
                " values ('wallet', %s, %s, 'a test', 'cli:ann')",
                skipped,
            )
    options = Options(format="ndjson", what=("coupon_status", "wallet"))
    done = export(issued, tmp_path, options)
    assert {name: model.skips for name, model in done.manifest.models.items()} == {"coupon_status": 0, "wallet": 2}
    assert Manifest.read(tmp_path) == done.manifest

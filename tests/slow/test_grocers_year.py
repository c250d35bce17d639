"""A grocer's whole year, imported as the demo does: every read model replayed equals live, and every figure pandas."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from psycopg.rows import dict_row

from coupon_ledger.embedded import EmbeddedPostgres
from ledger.database import Database
from projections.catalogue import PROJECTIONS
from projections.export.check import check
from projections.export.run import Options, export
from tests.slow import grocer

ROOT = Path(__file__).parents[2]
JOB = ROOT / "examples" / "spark" / "batch_balances.py"
NAME = re.compile(r"Coupon (\d+) of campaign (\d+) \(")
IMPORT_SECONDS = 1_200

pytestmark = pytest.mark.timeout(1_800)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Settings of the embedded servers that hold the year, and keep it between commands."""
    others = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "KAFKA_BOOTSTRAP")}
    return {**others, "COUPON_LEDGER_STATE": str(tmp_path_factory.mktemp("year"))}


@pytest.fixture(scope="module")
def year(environment: dict[str, str]) -> Iterator[Database]:
    """The ledger after the demo's import, with its server up."""
    state = environment["COUPON_LEDGER_STATE"]
    result = coupon_ledger(environment, "demo", "--exit", "--state", state, timeout=IMPORT_SECONDS)
    assert result.returncode == 0, result.stderr
    with EmbeddedPostgres(Path(state)) as server:
        yield Database(server.address)


def coupon_ledger(environment: dict[str, str], *arguments: str, timeout: int = 600) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "coupon_ledger", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout)


def rows(database: Database, query: str) -> pd.DataFrame:
    """What the ledger says; of batches, by the data set's names for them."""
    with database.connect(row_factory=dict_row) as connection, connection.transaction():
        connection.execute("set local statement_timeout = '5min'; set local transaction_timeout = 0")
        frame = pd.DataFrame(connection.execute(query.encode()).fetchall())
    if "name" in frame:
        names = frame.pop("name").str.extract(NAME).astype("int64")
        frame = frame.assign(coupon_upc=names[0], campaign_id=names[1])
    return frame


def same(ours: pd.DataFrame, theirs: pd.DataFrame, key: list[str]) -> None:
    """Compare every figure of every row."""
    columns = [*key, *sorted(set(ours.columns) - set(key))]
    left, right = (frame[columns].sort_values(key).reset_index(drop=True) for frame in (ours, theirs))
    pd.testing.assert_frame_equal(left, right, check_dtype=False, check_exact=True)


def test_every_read_model_replayed_equals_live_row_by_row(year, environment):
    result = coupon_ledger(environment, "replay", "--json")
    assert result.returncode == 0, result.stdout + result.stderr
    found = {each["name"]: each for each in json.loads(result.stdout)}
    assert found.keys() == {projection.name for projection in PROJECTIONS}
    assert {each["differing"] for each in found.values()} == {0}
    head = rows(year, "select max(notification_id) as head from events")["head"][0]
    assert {each["position"] for each in found.values()} == {head}
    assert found["coupon_status"]["folded_rows"] == found["wallet"]["folded_rows"] > 800_000
    for name in ("order_coupons", "daily_statistics", "customers", "funnel", "liability"):
        assert found[name]["folded_rows"] > 0, name


def test_what_became_of_each_batch_equals_pandas(year):
    ours = rows(
        year,
        """
        select b.name, b.quantity, sum(d.issued)::bigint as issued, sum(d.used)::bigint as used,
               sum(d.orders)::bigint as orders, sum(d.expired)::bigint as expired, sum(d.voided)::bigint as voided,
               sum(d.returned)::bigint as returned, sum(d.discount_minor)::bigint as discount_minor,
               sum(d.paid_minor)::bigint as paid_minor,
               sum(d.issued)::float8 / b.quantity as claim_rate, sum(d.first_uses)::float8 / sum(d.issued) as use_rate
          from batch_balance b join daily_statistics d using (batch_id)
         group by batch_id, b.name, b.quantity
        """,
    )
    used = (
        grocer.uses()
        .groupby(grocer.OFFER)
        .agg(used=("household_id", "count"), discount_minor=("discount_minor", "sum"), paid_minor=("paid_minor", "sum"))
    )
    theirs = grocer.offers().drop(columns="products").merge(used.reset_index(), on=grocer.OFFER, how="left").fillna(0)
    theirs = theirs.assign(
        issued=theirs["quantity"],
        orders=theirs["used"],
        expired=theirs["quantity"] - theirs["used"],
        voided=0,
        returned=0,
        claim_rate=1.0,
        use_rate=theirs["used"] / theirs["quantity"],
    )
    assert len(ours) > 1_000
    same(ours, theirs, grocer.OFFER)
    balance = rows(
        year,
        "select name, issued, used, expired, orders, discount_minor, paid_minor, unused + locked as left"
        "  from batch_balance",
    )
    columns = [*grocer.OFFER, "issued", "used", "expired", "orders", "discount_minor", "paid_minor"]
    same(balance, theirs[columns].assign(left=0), grocer.OFFER)


def test_every_day_equals_pandas(year):
    ours = rows(
        year,
        """
        select b.name, d.day, sum(d.used)::bigint as used, sum(d.discount_minor)::bigint as discount_minor,
               sum(d.paid_minor)::bigint as paid_minor
          from daily_statistics d join batch_balance b using (batch_id)
         where d.used > 0 group by b.name, d.day
        """,
    )
    used = grocer.uses()
    theirs = (
        used.assign(day=used["paid_at"].dt.date)
        .groupby([*grocer.OFFER, "day"])
        .agg(used=("household_id", "count"), discount_minor=("discount_minor", "sum"), paid_minor=("paid_minor", "sum"))
    )
    same(ours, theirs.reset_index(), [*grocer.OFFER, "day"])


def test_customers_the_funnel_and_the_books_equal_pandas(year):
    used = grocer.uses()
    customers = rows(
        year,
        "select user_id, uses, orders, discount_minor, paid_minor, first_used_at, last_used_at from customers"
        " where is_first",
    )
    theirs = used.groupby("household_id").agg(
        uses=("paid_at", "count"),
        orders=("paid_at", "count"),
        discount_minor=("discount_minor", "sum"),
        paid_minor=("paid_minor", "sum"),
        first_used_at=("paid_at", "min"),
        last_used_at=("paid_at", "max"),
    )
    theirs = theirs.reset_index().assign(user_id=lambda frame: "household-" + frame["household_id"].astype(str))
    for name in ("first_used_at", "last_used_at"):
        customers[name] = pd.to_datetime(customers[name], utc=True).astype("datetime64[us, UTC]")
        theirs[name] = theirs[name].astype("datetime64[us, UTC]")
    same(customers, theirs.drop(columns="household_id"), ["user_id"])

    funnel = rows(
        year,
        "select sum(issued)::bigint as issued, sum(locked)::bigint as locked, sum(used)::bigint as used from funnel",
    )
    assert funnel.iloc[0].tolist() == [grocer.offers()["quantity"].sum(), len(used), len(used)]
    books = rows(
        year,
        "select sum(redeemed_credit_minor - redeemed_debit_minor)::bigint as redeemed,"
        "       sum(coupons_issued) filter (where funder = 'merchant')::bigint as issued,"
        "       sum(coupons_used) filter (where funder = 'merchant')::bigint as used from liability",
    )
    assert books.iloc[0].tolist() == [used["discount_minor"].sum(), grocer.offers()["quantity"].sum(), len(used)]


def test_spark_recomputes_every_balance_from_the_exported_year(year, spark_python, spark_environment, tmp_path):
    done = export(year, tmp_path, Options(format="parquet", what=("log", "batch_balance")))
    assert check(tmp_path)[1] == []
    result = subprocess.run(
        [spark_python, JOB, tmp_path], env=spark_environment, capture_output=True, text=True, timeout=900
    )
    position = done.manifest.models["batch_balance"].position
    assert result.stdout == f"{len(grocer.offers())} batches at position {position}: 0 differ\n", result.stderr
    assert result.returncode == 0

"""Recompute every batch's balance from the exported log with Spark, and compare it with the exported balances.

    python batch_balances.py FOLDER [--master local[2]]

FOLDER is a Parquet export that holds ``log``, whole from position 1, and ``batch_balance``. Exit code 0 when every
batch agrees, 1 when one differs, 2 when there is no answer: the folder does not hold what is needed, or Spark is
missing or failed. Needs PySpark alone: no database, and none of the ledger's own code, so it is a second opinion.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

try:
    from pyspark.sql import Column, DataFrame, SparkSession
    from pyspark.sql import functions as f
    from pyspark.sql.window import Window
except ImportError as missing:
    sys.stderr.write(f"batch_balances: {missing}\n")
    sys.exit(2)

COUNTED = (
    "quantity", "issued", "unused", "locked", "used", "expired", "voided", "returned", "discount_minor",
    "returned_minor",
)  # fmt: skip
SHOWN = 20


def main() -> int:
    """Run the job."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--master", default="local[2]", help="The cluster; this machine, where none is named.")
    options = parser.parse_args()
    try:
        manifest = json.loads((options.folder / "manifest.json").read_text("utf-8"))
        position = position_of(manifest)
        return 1 if differs(options.master, options.folder, manifest, position) else 0
    except Exception as error:  # Spark's, Java's or the folder's: Python would end with 1, which says that one differs
        told = str(error).strip().partition("\n")[0]
        sys.stderr.write(f"batch_balances: {options.folder}: {told or type(error).__name__}\n")
        return 2


def differs(master: str, folder: Path, manifest: dict, position: int) -> bool:
    """Whether a batch differs; says how many do, and shows the first of them."""
    spark = SparkSession.builder.master(master).appName("batch balances").getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    try:
        log = read(spark, folder, manifest, "log").where(f.col("position") <= position)
        exported = read(spark, folder, manifest, "batch_balance").select("batch_id", *COUNTED)
        differences = compared(balances(log), exported)
        differing = differences.limit(SHOWN).collect()
        sys.stdout.write(f"{exported.count()} batches at position {position}: {differences.count()} differ\n")
        for row in differing:
            sys.stdout.write(f"{json.dumps(row.asDict(recursive=True))}\n")
        return bool(differing)
    finally:
        spark.stop()


def position_of(manifest: dict) -> int:
    """Where the exported balances stand in the log. Raises ``ValueError`` when the log does not reach there."""
    log, model = manifest["log"], manifest["models"].get("batch_balance")
    if manifest["format"] != "parquet" or log is None or model is None:
        raise ValueError("a Parquet export of log and batch_balance is needed")
    if log["first_position"] != 1 or log["last_position"] < model["position"]:
        raise ValueError(f"the log is needed from position 1 to {model['position']}")
    return model["position"]


def read(spark: SparkSession, folder: Path, manifest: dict, what: str) -> DataFrame:
    """The rows of the files that the manifest names, and of no others."""
    return spark.read.parquet(*[str(folder / file["path"]) for file in manifest["files"] if file["what"] == what])


def balances(log: DataFrame) -> DataFrame:
    """Each batch's balance: its coupons by the state that their last event left them in, and its money."""
    coupons = log.where(f.col("topic").startswith("coupon."))
    stepped = coupons.withColumn("state", state_after()).where(f.col("state").isNotNull())
    last = Window.partitionBy("coupon_id").orderBy(f.col("version").desc())
    states = stepped.withColumn("place", f.row_number().over(last)).where("place = 1")
    counted = states.groupBy("batch_id").agg(
        f.count(f.lit(1)).alias("issued"),
        *[f.count(f.when(f.col("state") == state, 1)).alias(state) for state in STATES],
    )
    undone = f.col("topic").isin("coupon.returned", "coupon.credited")
    money = coupons.groupBy("batch_id").agg(
        f.count(f.when(undone, 1)).alias("returned"),
        summed("discount_minor", f.col("topic").isin("coupon.used", "coupon.debited")),
        (zero_or(f.sum("returned_minor")) + zero_or(f.sum("credited_minor"))).alias("returned_minor"),
    )
    plans = log.where(f.col("topic").isin("batch.created", "batch.quantity_changed"))
    quantities = plans.groupBy("batch_id").agg(f.max_by("quantity", "position").alias("quantity"))
    # A batch of which nothing was issued has its quantity alone.
    whole = quantities.join(counted, "batch_id", "left").join(money, "batch_id", "left")
    return whole.select("batch_id", *[zero_or(f.col(name)).alias(name) for name in COUNTED])


STATES = ("unused", "locked", "used", "expired", "voided")


def state_after() -> Column:
    """The state that an event leaves its coupon in; null where it leaves it as it was."""
    topic, restored = f.col("topic"), f.col("restored")
    return (
        f.when(topic.isin("coupon.issued", "coupon.unlocked", "coupon.debited"), "unused")
        .when(topic == "coupon.locked", "locked")
        .when(topic == "coupon.used", "used")
        .when(topic.isin("coupon.returned", "coupon.credited") & restored, "unused")
        .when(topic == "coupon.expired", "expired")
        .when(topic == "coupon.voided", "voided")
    )


def summed(name: str, condition: Column) -> Column:
    """The sum of a column over some rows."""
    return zero_or(f.sum(f.when(condition, f.col(name)))).alias(name)


def zero_or(value: Column) -> Column:
    """The value, 0 where there is none."""
    return f.coalesce(value, f.lit(0)).cast("long")


def compared(recomputed: DataFrame, exported: DataFrame) -> DataFrame:
    """The batches that differ, or that only one side has: both rows."""
    ours = recomputed.select("batch_id", f.struct(*COUNTED).alias("recomputed"))
    theirs = exported.select("batch_id", f.struct(*[f.col(name).cast("long") for name in COUNTED]).alias("exported"))
    both = ours.join(theirs, "batch_id", "full_outer")
    return both.where(~f.col("recomputed").eqNullSafe(f.col("exported"))).orderBy("batch_id")


if __name__ == "__main__":
    sys.exit(main())

"""``python -m benchmarks``: every contender in turns on its own embedded PostgreSQL, then results and ratios."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import click
import psycopg
from rich.console import Console
from rich.table import Table

from benchmarks.contenders import CONTENDERS
from benchmarks.load import contender_class, run
from coupon_ledger.embedded import EmbeddedPostgres

RESULTS = Path(__file__).parent / "results.json"


def claims(url: str, seconds: float, callers: tuple[int, ...], processes: int) -> list[dict[str, Any]]:
    """Claims on one hot batch: each contender gets a fresh schema for each number of callers."""
    rows = []
    for count in callers:
        for kind in CONTENDERS:
            schema = f"{kind.name}_{count}"
            contender = kind(url, schema, count)
            contender.prepare()
            contender.close()
            row = run(kind.name, url, schema, count, min(processes, count), seconds)
            row["exact"] = _exact(kind.name, url, schema)
            rows.append(row)
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute(f'drop schema "{schema}" cascade')
                connection.execute("checkpoint")
    return rows


def _exact(name: str, url: str, schema: str) -> bool:
    """Whether as many coupons exist as the contender's counter says."""
    contender = contender_class(name)(url, schema, 1)
    coupons, counted = contender.issued()
    contender.close()
    return coupons == counted


def ratios(rows: list[dict[str, Any]]) -> dict[str, float]:
    """The ledger's rate over each rival's, by case and callers."""
    rates = {(row["case"], row["callers"], row["contender"]): row["rate_per_s"] for row in rows}
    return {
        f"{case}.{callers}.ledger/{contender}": round(rates[case, callers, "ledger"] / rate, 2)
        for (case, callers, contender), rate in rates.items()
        if contender != "ledger"
    }


def show(result: dict[str, Any]) -> None:
    """Print the rows and ratios."""
    console = Console(width=120)
    table = Table("case", "contender", "callers", "processes", "rate/s", "p50 ms", "p99 ms", "CPU s/1000", "exact")
    for row in result["rows"]:
        shown = dict(row, rate_per_s=row["rate_per_s"] if row["exact"] else f"[strike]{row['rate_per_s']}[/strike]")
        table.add_row(*(str(value) for value in shown.values()))
    console.print(table)
    for name, ratio in result["ratios"].items():
        console.print(f"{name}  {ratio} x")


CASES = {"claims": claims}


@click.command()
@click.option("--case", type=click.Choice(list(CASES)), default="claims", help="What to measure.")
@click.option("--seconds", type=float, default=5.0, help="How long each contender runs at each number of callers.")
@click.option("--callers", type=int, multiple=True, default=(1, 8, 64), help="Threads that call at once.")
@click.option("--processes", type=int, default=1, help="Processes that the callers are spread over.")
def main(case: str, seconds: float, callers: tuple[int, ...], processes: int) -> None:
    """Measure beside the rivals, and write benchmarks/results.json."""
    state = Path(tempfile.mkdtemp(prefix="coupon-ledger-bench-"))
    try:
        with EmbeddedPostgres(state) as server:
            rows = CASES[case](server.address, seconds, callers, processes)
    finally:
        shutil.rmtree(state, ignore_errors=True)
    result = {"rows": rows, "ratios": ratios(rows)}
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    show(result)


if __name__ == "__main__":
    main()

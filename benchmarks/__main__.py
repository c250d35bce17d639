"""``python -m benchmarks``: every contender in turns on servers of the bench's own, then results and ratios."""

from __future__ import annotations

import shutil
import sys
import tempfile
import traceback
from pathlib import Path

import click
from rich.console import Console

from benchmarks import (
    bulk,
    claims,
    commit_latency,
    from_kafka,
    growth,
    http,
    projections,
    quote,
    report,
    results,
    seal,
    servers,
    verify,
)
from benchmarks.options import Measure, Options

CASES: dict[str, Measure] = {
    "claims": claims.measure,
    "lock_confirm": claims.measure_lock_confirm,
    "bulk": bulk.measure,
    "http": http.measure,
    "growth": growth.measure,
    "commit_latency": commit_latency.measure,
    "quote": quote.measure,
    "kafka": from_kafka.measure,
    "projections": projections.measure,
    "verify": verify.measure,
    "seal": seal.measure,
}
DOCUMENT = Path(__file__).parent.parent / "docs" / "performance.md"


@click.command()
@click.option("--case", "cases", type=click.Choice(list(CASES)), multiple=True, help="What to measure. [default: all]")
@click.option("--seconds", type=click.FloatRange(0.1), default=5.0, show_default=True, help="Of each measurement.")
@click.option(
    "--callers",
    type=int,
    multiple=True,
    default=(1, 8, 32, 64, 256),
    show_default=True,
    help="Threads that call at once.",
)
@click.option(
    "--processes",
    type=int,
    multiple=True,
    default=(1, 2),
    show_default=True,
    help="Processes that the callers are spread over.",
)
@click.option(
    "--stored",
    type=int,
    multiple=True,
    default=(10_000, 1_000_000, 10_000_000),
    show_default=True,
    help="Events stored, for growth.",
)
@click.option(
    "--connections",
    type=int,
    multiple=True,
    default=(1, 16, 64),
    show_default=True,
    help="Keep-alive connections, for HTTP.",
)
@click.option("--bulk-rows", type=int, default=1_000_000, show_default=True, help="Coupons, for bulk issuance.")
@click.option(
    "--projected",
    type=int,
    default=1_000_000,
    show_default=True,
    help="Events in the log, for projections, verify and seal.",
)
@click.option("--output", type=click.Path(path_type=Path), default=results.RESULTS, help="Where results are kept.")
@click.option("--write-docs", is_flag=True, help="Put the tables between the markers in docs/performance.md.")
def main(
    cases: tuple[str, ...],
    seconds: float,
    callers: tuple[int, ...],
    processes: tuple[int, ...],
    stored: tuple[int, ...],
    connections: tuple[int, ...],
    bulk_rows: int,
    projected: int,
    output: Path,
    write_docs: bool,
) -> None:
    """Measure beside the rivals, and keep rows and ratios in benchmarks/results.json.

    Rows of cases that are not measured now stay there as they are. Exit code 1: a case failed, and the others ran.
    """
    console = Console(width=120)
    cases = tuple(case for case in CASES if not cases or case in cases)
    if "claims" in cases:
        try:
            servers.redis_binary()
        except servers.RedisMissing as missing:
            click.echo(missing, err=True)
            sys.exit(2)
    state = Path(tempfile.mkdtemp(prefix="coupon-ledger-bench-"))
    try:
        with servers.postgres(state) as url:
            options = Options(
                url=url,
                redis=servers.redis_server,
                seconds=seconds,
                callers=callers,
                processes=processes,
                stored=stored,
                connections=connections,
                bulk_rows=bulk_rows,
                projected=projected,
                tell=console.print,
            )
            failed = [case for case in cases if not _measured(console, case, options, output)]
    finally:
        shutil.rmtree(state, ignore_errors=True)
    rows = [row for row in results.read(output) if results.case_of(row.case) in cases]
    for table in (report.row_table(rows), report.ratio_table(rows), report.target_table(rows)):
        console.print(table)
    if write_docs:
        text = report.markdown(results.read(output), f'make bench ARGS="{" ".join(sys.argv[1:])}"')
        DOCUMENT.write_text(report.replaced(DOCUMENT.read_text("utf-8"), text), "utf-8")
    if failed:
        console.print(f"[bold red]failed: {', '.join(failed)}[/bold red]")
        sys.exit(1)


def _measured(console: Console, case: str, options: Options, output: Path) -> bool:
    """Run a case and keep its rows in place of those of before; say whether it came to its end."""
    kept = [row for row in results.read(output) if results.case_of(row.case) != case]
    rows: list[results.Row] = []
    try:
        for row in CASES[case](options):
            rows.append(row)
            console.print(_line(row), highlight=False)
    except Exception:  # the other cases are still worth their time
        traceback.print_exc()
        return False
    finally:
        results.write(output, kept + rows)
    return True


def _line(row: results.Row) -> str:
    p99 = "" if row.p99_ms is None else f"  p99 {row.p99_ms} ms"
    exact = "" if row.exact else "  NOT EXACT"
    return (
        f"{row.case}  {row.contender}  {row.callers} callers  {row.processes} processes"
        f"  {row.rate_per_s:,.0f}/s{p99}{exact}"
    )


if __name__ == "__main__":
    main()

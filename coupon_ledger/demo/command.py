"""``coupon-ledger demo``: a grocer's year, from messages to reconciled balances."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column, Table

from api import keys
from consumers.inputs import ISSUANCE, ORDERS
from consumers.worker import calm_the_collector
from coupon_ledger.demo.memory import MemoryWatch
from coupon_ledger.servers import open_ledger
from coupon_ledger.service import Service, service
from coupon_ledger.settings import Settings
from ledger.application import Ledger
from ledger.errors import LedgerError

MERCHANT = "grocer"
KEY_DAYS = 1


class FiguresDiffer(LedgerError):
    """The ledger and the data set do not agree."""


@click.command()
@click.option("--campaigns", default="", help="Only these campaigns of the data set, such as 8,13.")
@click.option("--exit", "exit_after", is_flag=True, help="End after the summary instead of staying up.")
@click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(".state/demo"),
    show_default=True,
    help="Folder of the embedded servers' data.",
)
@click.pass_obj
def demo(settings: Settings, campaigns: str, exit_after: bool, state: Path) -> None:
    """Replay a real grocer's year of coupons, and reconcile every batch with the data set."""
    # Imported here: pyarrow and pandas come with the extra `demo` and take a second to load.
    from coupon_ledger.demo.dataset import load_offers  # noqa: PLC0415

    calm_the_collector()
    chosen = _campaign_ids(campaigns)
    settings = settings.model_copy(update={"state": state, "business_time": "message"})
    load_offers(chosen)  # an unknown campaign is told before anything starts
    with MemoryWatch() as memory, service(settings, importing=True) as running, open_ledger(running.settings) as ledger:
        agree = _play(running, ledger, chosen, memory)
        _show_way_in(running, ledger)
        if exit_after:
            if not agree:
                raise FiguresDiffer("figures differ, see above")
            return
        running.go_live()
        click.echo("It stays up until Ctrl-C.")
        running.wait()


def _play(running: Service, ledger: Ledger, campaign_ids: list[int] | None, memory: MemoryWatch) -> bool:
    """Replay and reconcile; whether every figure agrees."""
    from coupon_ledger.demo.reconcile import reconcile  # noqa: PLC0415
    from coupon_ledger.demo.replay import Running, replay  # noqa: PLC0415

    prefix = running.settings.topic_prefix
    started = time.monotonic()
    with _progress() as show:

        def progress(step: str, done: int, total: int) -> None:
            running.processes.check()  # a process that died ends the wait for its work
            show(step, done, total)

        system = Running(
            ledger=ledger,
            merchant_id=MERCHANT,
            bootstrap=running.settings.bootstrap_servers[0],
            issuance_topic=prefix + ISSUANCE.topic,
            issuance_group=ISSUANCE.group,
            orders_topic=prefix + ORDERS.topic,
            orders_group=ORDERS.group,
            progress=progress,
        )
        batch_ids = replay(system, campaign_ids)
        running.processes.check()
        figures = reconcile(ledger, batch_ids, campaign_ids)
    seconds = time.monotonic() - started
    table = Table(
        "figure", Column("ledger", justify="right"), Column("data set", justify="right"), "", title="A grocer's year"
    )
    for figure in figures:
        table.add_row(figure.name, f"{figure.ledger:,}", f"{figure.data_set:,}", "ok" if figure.ok else "DIFFERS")
        for place in figure.differences:
            table.add_row(f"  {place}", "", "", "")
    Console(soft_wrap=True).print(table)
    click.echo(
        f"{seconds:.0f} s from servers started to reconciled; {ledger.store.head():,} events; "
        f"{memory.peak_bytes / 2**20:,.0f} MiB at most in all processes together"
    )
    return all(figure.ok for figure in figures)


def _show_way_in(running: Service, ledger: Ledger) -> None:
    """Where the API is, and a key to look around with."""
    with ledger.store.connection() as connection:
        expires_at = datetime.now(UTC) + timedelta(days=KEY_DAYS)
        token = keys.create(connection, MERCHANT, "auditor", "demo", expires_at)
    click.echo(
        f"API   {running.url}\nDocs  {running.url}/docs\n"
        f'Try   curl -H "Authorization: Bearer {token}" "{running.url}/v1/events?limit=3"\n'
        f"      COUPON_LEDGER_STATE={running.settings.state} .venv/bin/coupon-ledger verify"
    )


def _campaign_ids(text: str) -> list[int] | None:
    try:
        return [int(word) for word in text.split(",")] if text else None
    except ValueError:
        raise click.BadParameter("numbers separated by commas, such as 8,13", param_hint="--campaigns") from None


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """Bars on a terminal; a line for each finished step elsewhere."""
    console = Console(stderr=True)
    if not console.is_terminal:
        finished: set[tuple[str, int]] = set()
        started = time.monotonic()

        def tell(step: str, done: int, total: int) -> None:
            if done >= total and (step, total) not in finished:
                finished.add((step, total))
                click.echo(f"{time.monotonic() - started:5.0f} s  {step}: {done:,}", err=True)

        yield tell
        return
    columns = (TextColumn("{task.description:<24}"), BarColumn(40), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bars:
        tasks = {}

        def show(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = bars.add_task(step, total=total)
            bars.update(tasks[step], completed=done, total=total)

        yield show

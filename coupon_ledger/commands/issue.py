"""``coupon-ledger issue`` and ``coupon-ledger jobs``: coupons for each user of a file."""

from __future__ import annotations

import getpass
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import make_dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from api.job_answers import IssuanceJob, shown
from consumers.job_sender import JobSender
from consumers.worker import calm_the_collector, stop_on_signals
from coupon_ledger.commands.output import json_option, log_to_stderr, show_record, show_rows
from coupon_ledger.servers import open_ledger, servers
from coupon_ledger.settings import Settings
from ledger.application import Ledger
from ledger.csv_text import csv_text
from ledger.issuance import jobs as issuance_jobs
from ledger.issuance.files import FileFormat
from ledger.issuance.jobs import Failure, JobProgress
from ledger.issuance.uploads import take_file
from ledger.request import Request

FORMATS: dict[str, FileFormat] = {".csv": "csv", ".ndjson": "ndjson", ".jsonl": "ndjson"}
LOOK_SECONDS = 0.5
COLUMNS = (
    *("job_id", "batch_id", "state", "accepted", "rejected", "sent", "issued", "refused", "waiting"),
    *("rows_per_second", "seconds_left", "started_at"),
)


@click.command()
@click.option("--file", "path", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--batch", "batch_id", required=True, help="The batch that issues.")
@click.option("--merchant", required=True, help="The merchant whose batch it is.")
@click.option("--format", "format_", type=click.Choice(["csv", "ndjson"]), help="By the file's name where left out.")
@click.option("--no-wait", is_flag=True, help="Return when the job has begun.")
@json_option
@click.pass_obj
def issue(
    settings: Settings,
    path: Path,
    batch_id: str,
    merchant: str,
    format_: FileFormat | None,
    no_wait: bool,
    as_json: bool,
) -> None:
    """Issue a coupon to each user of a file (CSV or NDJSON, .gz too), and wait until all are settled.

    The same file for the same batch is the same job: run it again to watch it on. The rows are sent by
    "coupon-ledger jobs run" and issued by "coupon-ledger consume issuance".
    """
    gzipped = path.suffix == ".gz"
    format_ = format_ or FORMATS.get(Path(path.stem).suffix if gzipped else path.suffix)
    if format_ is None:
        raise click.BadParameter("the file's name does not say: name csv or ndjson", param_hint="--format")
    key = f" issue {uuid.uuid4().hex}"
    with servers(settings) as resolved, open_ledger(resolved) as ledger:
        with path.open("rb") as file, _bar("rows read") as bar:
            task = bar.add_task("rows read", total=None)
            receipt = take_file(
                ledger,
                lambda digest: Request(merchant, f"cli:{getpass.getuser()}", key, digest),
                batch_id,
                file,
                format_,
                gzipped=gzipped,
                progress=lambda rows: bar.update(task, completed=rows),
            )
        job_id = receipt.answer["job_id"]
        job = _found(ledger, job_id) if no_wait else _watched(ledger, job_id)
    show_record(_answer(job), as_json)


@click.group()
def jobs() -> None:
    """Send, watch and undo jobs of mass issuance."""


@jobs.command("run")
@click.pass_obj
def work_on_jobs(settings: Settings) -> None:
    """Send the rows of jobs to Kafka, finish jobs and undo them; any number of processes share the work."""
    log_to_stderr()
    stop = stop_on_signals()
    calm_the_collector()
    with servers(settings, kafka=True) as resolved, open_ledger(resolved) as ledger:
        JobSender(ledger, resolved.bootstrap_servers, prefix=resolved.topic_prefix).run(stop)


@jobs.command("list")
@click.option("--merchant", required=True, help="Whose jobs.")
@click.option("--batch", "batch_id", help="Only this batch's.")
@click.option("--limit", default=50, type=click.IntRange(1, 1_000), help="How many, the newest first.")
@json_option
@click.pass_obj
def list_(settings: Settings, merchant: str, batch_id: str | None, limit: int, as_json: bool) -> None:
    """List a merchant's jobs, the newest first."""
    with servers(settings) as resolved, open_ledger(resolved) as ledger, ledger.store.connection() as connection:
        found = issuance_jobs.list_jobs(connection, merchant, batch_id=batch_id, limit=limit)
        show_rows([_answer(job) for job in found], as_json, COLUMNS)


@jobs.command()
@click.argument("job_id")
@click.option(
    "--watch", is_flag=True, help="Show a bar until all rows are settled, or all coupons of an undo looked at."
)
@json_option
@click.pass_obj
def show(settings: Settings, job_id: str, watch: bool, as_json: bool) -> None:
    """Show a job and how far it is."""
    with servers(settings) as resolved, open_ledger(resolved) as ledger:
        show_record(_answer(_watched(ledger, job_id) if watch else _found(ledger, job_id)), as_json)


@jobs.command()
@click.argument("job_id")
@click.pass_obj
def failures(settings: Settings, job_id: str) -> None:
    """Print the rows that got no coupon, and the coupons that an undo could not void, as CSV with the reasons."""
    with servers(settings) as resolved, open_ledger(resolved) as ledger:
        job = _found(ledger, job_id)
        for piece in csv_text(Failure._fields, issuance_jobs.failures(ledger.store, job)):
            click.echo(piece, nl=False)


@jobs.command()
@click.argument("job_id")
@click.option("--reason", required=True, help="Why; it is recorded with each coupon.")
@click.option("--no-wait", is_flag=True, help="Return when the undo has begun.")
@json_option
@click.pass_obj
def undo(settings: Settings, job_id: str, reason: str, no_wait: bool, as_json: bool) -> None:
    """Issue nothing more of a job, and void its unused coupons."""
    with servers(settings) as resolved, open_ledger(resolved) as ledger:
        job = _found(ledger, job_id)
        request = Request(job.merchant_id, f"cli:{getpass.getuser()}", f" undo {uuid.uuid4().hex}")
        issuance_jobs.undo(ledger, request, job_id, reason=reason)
        show_record(_answer(_found(ledger, job_id) if no_wait else _watched(ledger, job_id)), as_json)


# Dataclasses are what commands show; this one has the names of the API's answer.
_Answer = make_dataclass("_Answer", IssuanceJob.model_fields)


def _answer(job: JobProgress) -> Any:
    return _Answer(**shown(job))


def _found(ledger: Ledger, job_id: str) -> JobProgress:
    with ledger.store.connection() as connection:
        return issuance_jobs.find(connection, job_id)


def _watched(ledger: Ledger, job_id: str) -> JobProgress:
    """The job, when there is nothing more to be done for it."""
    job = _found(ledger, job_id)
    what = "voided" if job.state in ("UNDOING", "UNDONE") else "settled"
    with _bar(what) as bar:
        task = bar.add_task(what, total=job.issued if what == "voided" else job.accepted)
        while True:
            job = _found(ledger, job_id)
            if what == "voided":
                bar.update(task, completed=job.voided + job.kept)
            else:
                bar.update(task, completed=job.issued + job.refused, rate=job.rows_per_second)
            if job.state in ("FINISHED", "UNDONE"):
                return job
            time.sleep(LOOK_SECONDS)


class _Rate(ProgressColumn):
    """The job's own rate where it is known, otherwise how fast the bar moves."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.fields.get('rate', task.finished_speed or task.speed or 0.0):,.0f} rows/s")


@contextmanager
def _bar(what: str) -> Iterator[Progress]:
    """A bar on a terminal, nothing elsewhere."""
    console = Console(stderr=True)
    times = (TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(
        TextColumn(what),
        BarColumn(40),
        MofNCompleteColumn(),
        _Rate(),
        *times,
        console=console,
        disable=not console.is_terminal,
    ) as bar:
        yield bar

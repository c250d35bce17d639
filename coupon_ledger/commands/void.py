"""``coupon-ledger void``: undo what a batch or a job issued."""

from __future__ import annotations

import getpass
import uuid
from collections import Counter

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from coupon_ledger.servers import open_ledger, servers
from coupon_ledger.settings import Settings
from ledger.aggregate import coupons_begin
from ledger.errors import BatchNotFound
from ledger.request import Request
from ledger.undoing import Issued, void_issued

STEPS = 16**6
"""Of the bar."""


@click.command()
@click.option("--batch", "batch_id", required=True, help="The batch whose coupons are voided.")
@click.option("--reason", required=True, help="Why; it is recorded with each coupon.")
@click.option("--job", help="Only what was issued under this request id (idempotency key).")
@click.option("--job-prefix", help="Only what was issued under request ids that begin so: '<source> ' for messages.")
@click.option("--codes", "codes_id", help="Only those for which codes of this set were exchanged.")
@click.pass_obj
def void(
    settings: Settings, batch_id: str, reason: str, job: str | None, job_prefix: str | None, codes_id: str | None
) -> None:
    """Void a batch's unused coupons, and count those that were not. If it is cut off, run it again."""
    issued = Issued(by=job, by_prefix=job_prefix, codes_id=codes_id)
    console, run = Console(stderr=True), uuid.uuid4().hex
    columns = (TextColumn("looked at"), BarColumn(40), TaskProgressColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    counts: Counter[str] = Counter(voided=0)
    with (
        servers(settings) as resolved,
        open_ledger(resolved) as ledger,
        Progress(*columns, console=console, disable=not console.is_terminal) as bar,
    ):
        history = ledger.store.history(f"batch-{batch_id}")
        if not history:
            raise BatchNotFound(id=batch_id)
        merchant_id, actor = history[0].event.merchant_id, f"cli:{getpass.getuser()}"
        task, after, number = bar.add_task("", total=STEPS), None, 0
        while True:
            request = Request(merchant_id, actor, f" void {run} {number}")
            done = void_issued(ledger, request, batch_id, reason=reason, issued=issued, after=after).answer
            counts["voided"] += done["voided"]
            counts.update(each["code"] for each in done["refused"])
            after, number = done["next"], number + 1
            if after is None:
                break
            # Ids are hashes, so they are spread evenly over their range.
            bar.update(task, completed=int(after.removeprefix(coupons_begin(batch_id))[:6], 16))
    click.echo(f"{batch_id} " + ", ".join(f"{code} {count}" for code, count in counts.items()))

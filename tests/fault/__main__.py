"""``make fault``: schedules of load and faults on the whole service, real servers, real processes.

``--seed N --schedules 1`` runs one again.
"""

from __future__ import annotations

import signal
import sys
import tempfile
import time
from pathlib import Path

import click

from tests.fault.runs import runs
from tests.fault.schedule import Schedule


@click.command()
@click.option("--schedules", default=200, show_default=True, help="How many.")
@click.option("--seed", default=1, show_default=True, help="Of the first; each next one has the next number.")
@click.option("--go-on", is_flag=True, help="After a violation go on with the next schedule.")
@click.option("--state", type=click.Path(path_type=Path, file_okay=False), help="Keep servers' data and logs here.")
def main(schedules: int, seed: int, go_on: bool, state: Path | None) -> None:
    """Run fault schedules and check the promises I1 to I14 after each."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the world is taken down
    failed, faults = 0, 0
    began = time.monotonic()
    with runs(state or Path(tempfile.mkdtemp(prefix="coupon-ledger-fault-"))) as all_runs:
        for number in range(seed, seed + schedules):
            schedule = Schedule.of(number)
            click.echo(f"schedule {schedule}")
            at = time.monotonic()
            violations = all_runs.run(schedule)
            faults += len(schedule.faults)
            click.echo(f"  {'VIOLATED' if violations else 'ok'} in {time.monotonic() - at:.1f} s")
            for violation in violations[:20]:
                click.echo(f"  {violation}")
            failed += bool(violations)
            if violations and not go_on:
                break
        final = all_runs.checks.final()
        for violation in final:
            click.echo(f"  {violation}")
        events = all_runs.world.ledger.store.head()
        click.echo(
            f"{all_runs.count} schedules, {faults} faults, {events} events, {failed} with violations,"
            f" {time.monotonic() - began:.0f} s; logs in {all_runs.world.logs}"
        )
    sys.exit(1 if failed or final else 0)


if __name__ == "__main__":
    main()

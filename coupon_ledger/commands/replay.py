"""``coupon-ledger replay``: the log folded again beside the ledger, and compared with what readers see."""

from __future__ import annotations

import click
import orjson

from coupon_ledger.commands.output import json_option, show_rows
from coupon_ledger.commands.projections import chosen, differs, progress_bar
from coupon_ledger.servers import servers
from coupon_ledger.settings import Settings
from ledger.database import PROJECTOR_ROLE
from projections import replay as replaying


@click.command()
@click.option("--models", help="Read models, separated by commas. [default: all]")
@click.option("--keep", metavar="SCHEMA", help="Fold into a new schema, to look at.")
@click.option("--to", type=click.IntRange(0), help="With --keep: as they were after the event at this position.")
@json_option
@click.pass_context
def replay(context: click.Context, models: str | None, keep: str | None, to: int | None, as_json: bool) -> None:
    """Fold the whole log again, and compare each read model row by row with the live one.

    Writes and the read models go on meanwhile. With --keep, what is compared is the live rows that have not moved
    since, where they say when they did. Exit code 1: a row differs.
    """
    if to is not None and keep is None:
        raise click.UsageError("--to needs --keep: the live read models are not as they were then")
    projections = chosen(models)
    settings: Settings = context.obj
    with servers(settings) as resolved, progress_bar("replay") as told:
        database = resolved.database(PROJECTOR_ROLE)
        if keep is not None:
            kept = replaying.keep(database, projections, keep, to, told)
        else:
            found = replaying.compare(database, projections, told)
    if keep is not None:
        show_rows(kept, as_json)
        if any(each.differing for each in kept):
            context.exit(1)
        return
    if as_json:
        click.echo(orjson.dumps(found, option=orjson.OPT_INDENT_2))
    else:
        for each in found:
            told_of = differs(each) if each.differing else "as live"
            if each.skips:
                told_of += f"; {each.skips} event{'s' if each.skips > 1 else ''} skipped"
            click.echo(f"{each.name} at position {each.position}: {each.folded_rows} rows, {told_of}")
            if each.differing:
                click.echo(f"  live:     {_row(each.live_row)}")
                click.echo(f"  replayed: {_row(each.folded_row)}")
    if any(each.differing for each in found):
        context.exit(1)


def _row(row: object) -> str:
    return orjson.dumps(row).decode() if row is not None else "no row"

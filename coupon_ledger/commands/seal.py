"""``coupon-ledger seal`` and ``coupon-ledger bundle``: the seal of the log, and what auditors are handed of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn

from consumers.worker import calm_the_collector, stop_on_signals
from coupon_ledger.commands.output import log_to_stderr
from coupon_ledger.seal_keys import key_of, read_key, signer_of
from coupon_ledger.servers import open_ledger, servers
from coupon_ledger.settings import Settings
from ledger.errors import CouponNotFound, Unavailable
from projections.seal.anchors import anchors_of
from projections.seal.bundles import own_checkpoints, streams_of, wait_for, write_proven, write_whole
from projections.seal.folder import SealFolder
from projections.seal.proofs import prove
from projections.seal.sealer import SEALER_ROLE, Sealer

checkpoint_file = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.pass_obj
def seal(settings: Settings) -> None:
    """Seal the log: grow the tree, sign checkpoints; of several processes one works."""
    log_to_stderr()
    stop = stop_on_signals()
    calm_the_collector()
    # An embedded database is for one machine alone, where a single command works without preparation.
    key = key_of(settings) if settings.database_url is None else read_key(settings.seal_key_file, settings.seal_origin)
    signer = signer_of(settings, key)
    folder = SealFolder(settings.sealed_in)
    try:
        folder.prepare()
    except OSError as error:
        raise Unavailable(f"{settings.sealed_in} cannot be written: {error.strerror}") from None
    with servers(settings) as resolved:
        Sealer(resolved.database(SEALER_ROLE), folder, signer, anchors_of(resolved.seal_anchors)).run(stop)


@click.command()
@click.option("--coupon", "coupons", multiple=True, metavar="ID", help="A coupon whose story it holds, any number.")
@click.option("--whole", is_flag=True, help="Every event of the log.")
@click.option("--since", multiple=True, type=checkpoint_file, help="A checkpoint that the auditor has; any number.")
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The file.")
@click.pass_obj
def bundle(settings: Settings, coupons: Sequence[str], whole: bool, since: Sequence[Path], output: Path) -> None:
    """Write a bundle for coupon-ledger-audit, at the newest checkpoint."""
    if whole == bool(coupons):
        raise click.UsageError("either --whole or --coupon is needed")
    with servers(settings) as resolved, open_ledger(resolved) as ledger, _written(output) as file:
        folder = SealFolder(resolved.sealed_in)
        with resolved.database().connect() as connection:
            earlier = own_checkpoints(connection, [path.read_text("utf-8", "replace") for path in since])
            if whole:
                with _bar() as progress:
                    signed = write_whole(connection, folder, file, earlier, progress)
                click.echo(f"{output} holds {signed.size} events")
                return
            streams: dict[str, None] = {}
            for coupon_id in coupons:
                found = streams_of(connection, coupon_id)
                if not found:
                    raise CouponNotFound(f"there is no coupon {coupon_id}")
                streams |= dict.fromkeys(found)
            wait_for(connection, ledger.store.head())
            proven = prove(connection, folder, list(streams))
            write_proven(file, folder, proven, earlier)
    click.echo(f"{output} holds {len(proven.rows)} events of {len(coupons)} coupons")


@contextmanager
def _written(path: Path) -> Iterator[IO[bytes]]:
    """A file that is there when it is whole."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("wb") as file:
            yield file
        beside.rename(path)
    except OSError as error:
        raise Unavailable(f"{path} cannot be written: {error.strerror}") from None
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def _bar() -> Iterator[Callable[[int, int], None]]:
    console = Console(stderr=True)
    columns = ("{task.description}", BarColumn(40), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("events", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)

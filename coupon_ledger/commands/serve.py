"""``coupon-ledger serve``: the HTTP API."""

from __future__ import annotations

import click

from coupon_ledger.serve import Server
from coupon_ledger.servers import servers
from coupon_ledger.settings import Settings


@click.command()
@click.pass_obj
def serve(settings: Settings) -> None:
    """Serve the HTTP API."""
    with servers(settings) as resolved:
        Server(resolved).run()

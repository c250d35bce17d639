"""Whether a merchant is known, for commands that take its id from who types it."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg.rows import tuple_row

from ledger.errors import InvalidInput
from ledger.use_cases import check_id


class UnknownMerchant(InvalidInput):
    """The ledger has nothing of this merchant, so most likely its id is mistyped."""


def check_known(connection: psycopg.Connection[Any], merchant_id: str) -> None:
    """Raise ``UnknownMerchant`` where nothing was ever done for this merchant, ``InvalidField`` for what is no id."""
    check_id("merchant", merchant_id)
    if connection.cursor(row_factory=tuple_row).execute(_KNOWN, {"merchant_id": merchant_id}).fetchone() is None:
        raise UnknownMerchant(f"the ledger knows no merchant {merchant_id}")


# Addresses and messages are kept without a request in the log.
_KNOWN = """
select where exists (select from requests where merchant_id = %(merchant_id)s)
          or exists (select from contacts where merchant_id = %(merchant_id)s)
          or exists (select from messages where merchant_id = %(merchant_id)s)
"""

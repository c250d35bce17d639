"""Writes beside the log: the same request key for tables that are no part of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg

from ledger.application import Ledger
from ledger.commit import Unit
from ledger.errors import Refusal
from ledger.request import Request
from ledger.work import Receipt, Work

Connection = psycopg.Connection[Any]


def once(ledger: Ledger, request: Request, answer: dict[str, Any], write: Callable[[Connection, int], None]) -> Receipt:
    """Write to tables beside the log, once for the request, which has ``answer`` for ever.

    ``write`` is told the last position of the log, which does not move before it is done. What it raises undoes
    everything. The request's key is taken among those of all writes, in the same transaction.

    Raises ``IdempotencyKeyReused``, and a ``ServiceError`` after which the same request may be sent again.
    """
    work = Work(request, (), lambda _: Unit((), request, answer))

    def attempt(connection: Connection) -> Receipt:
        with connection.transaction():
            (result,) = ledger.do_all([work], connection)
            if isinstance(result, Refusal):
                raise result
            if not result.replayed:
                write(connection, result.position)
        return result

    return ledger.store.retrying(attempt)

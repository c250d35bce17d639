"""Read models as rows: each is one snapshot, at the position of its checkpoint."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import tuple_row

from ledger.errors import InvalidInput, LedgerError
from projections import faults
from projections.export.columns import Column, Row, column_of, selected

PAGE_ROWS = 10_000

Connection = psycopg.Connection[Any]


class ModelMissing(LedgerError):
    """A read model has no table yet: run coupon-ledger migrate."""


class NotByMerchant(InvalidInput):
    """A read model cannot be exported for one merchant, for its rows do not say whose they are."""


@dataclass(frozen=True, slots=True)
class Model:
    """A read model as one snapshot has it."""

    name: str
    version: int
    position: int
    """Of the last event that it holds."""
    skips: int
    """Events before that one that it was made to pass over."""
    faulted: bool
    columns: tuple[Column, ...]
    query: sql.Composed
    """Its rows in order of their key, so that the same state makes the same file."""

    def pages(self, connection: Connection, merchant_id: str | None) -> Iterator[list[Row]]:
        """Its rows, in pages of a bounded size."""
        query = self.query
        if merchant_id is not None and "merchant_id" not in [column.name for column in self.columns]:
            raise NotByMerchant(f"{self.name} has no column merchant_id: leave it out with --what")
        with connection.cursor(name="export", binary=True, row_factory=tuple_row, scrollable=False) as cursor:
            cursor.execute(query, {"merchant_id": merchant_id})
            while rows := cursor.fetchmany(PAGE_ROWS):
                yield rows


def begin_snapshot(connection: Connection, names: Sequence[str]) -> None:
    """Begin, in a new transaction, the one snapshot that all these models are read in.

    Their tables are locked against a switch to a rebuilt one before anything is seen: the rows of a table that was
    put in place later would be invisible, and the export empty.
    """
    connection.execute("set transaction isolation level repeatable read, read only")
    connection.execute(
        "set local statement_timeout = '10min'; set local transaction_timeout = 0; set local work_mem = '64MB';"
        "set local idle_in_transaction_session_timeout = '10min'; set local lock_timeout = '30s';"
        "set local cursor_tuple_fraction = 1"  # all rows are wanted, not the first of them soon
    )
    views = sql.SQL(", ").join(map(sql.Identifier, names))
    if names:
        try:
            connection.execute(sql.SQL("lock table {} in access share mode").format(views))
        except psycopg.errors.UndefinedTable as error:
            raise ModelMissing(f"{str(error).splitlines()[0]}: run coupon-ledger migrate") from None


def read_model(connection: Connection, name: str, merchant_id: str | None) -> Model:
    """A model as this snapshot has it. Raises ``ModelMissing``."""
    cursor = connection.cursor(row_factory=tuple_row)
    checkpoint = cursor.execute(_CHECKPOINT, (name,)).fetchone()
    if checkpoint is None:
        raise ModelMissing(f"{name} has no table yet: run coupon-ledger migrate")
    version, position, state = checkpoint
    described = cursor.execute(_COLUMNS, (name,)).fetchall()
    columns = tuple(column_of(*one) for one in described)
    key = [column for (column,) in cursor.execute(_KEY, (f"{name}_v{version}",))]
    values = [
        sql.SQL(selected(column, sql_type)).format(sql.Identifier("t", column.name))
        for column, (_, sql_type) in zip(columns, described, strict=True)
    ]
    query = sql.SQL("select {values} from {view} t{where}{order}").format(
        values=sql.SQL(", ").join(values),
        view=sql.Identifier(name),
        where=sql.SQL("" if merchant_id is None else " where merchant_id = %(merchant_id)s"),
        order=sql.SQL(" order by ") + sql.SQL(", ").join(sql.Identifier("t", column) for column in key)
        if key
        else sql.SQL(""),
    )
    skips = sum(at <= position for at in faults.skipped(connection, name, version))
    return Model(name, version, position, skips, state == "FAULTED", columns, query)


_CHECKPOINT = """
select version, position, state from projection_checkpoints where name = %s
"""

_COLUMNS = """
select attname, format_type(atttypid, null)
  from pg_attribute where attrelid = %s::regclass and attnum > 0 and not attisdropped order by attnum
"""

_KEY = """
select a.attname
  from pg_index i
 cross join lateral unnest(i.indkey::smallint[]) with ordinality as k (attnum, place)
  join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
 where i.indrelid = to_regclass(%s) and i.indisprimary
 order by k.place
"""

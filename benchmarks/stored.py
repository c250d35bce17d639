"""Logs that are already long: coupons issued through the ledger's tables, made inside the server.

One coupon of each batch is claimed from the ledger itself, and its rows are the pattern of the others: every column
of the event, of the user's quota and of the request is that of a real claim but for the ids. Positions have no holes,
and the guards say what the log says.
"""

from __future__ import annotations

import uuid
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import tuple_row

from ledger import use_cases
from ledger.application import Ledger
from ledger.batch import BatchPlan
from ledger.benefit import Benefit
from ledger.database import Database
from ledger.request import Request
from ledger.store import Store
from ledger.terms import Terms

MERCHANT = "bench"
BATCH_COUPONS = 100_000
"""Coupons of each batch of a long log, or fewer."""
SMALLEST = 4
"""Events of a template, and of a batch with one coupon."""
INDEXED_AFTER = 100_000
"""Rows from which building the keys at the end is faster."""
RANDOM_FILL = 70
"""Percent: how full the pages of an index on random keys are after growing row by row."""

Connection = psycopg.Connection[Any]


def store_events(url: str, schema: str, count: int) -> None:
    """Grow the migrated, so far smaller ledger until its log holds exactly ``count`` events, then tidy up.

    The URL is that of the tables' owner. Each coupon has its own user's quota and its own answered request.
    """
    ledger = Ledger(Store(Database(url, schema)))
    try:
        missing = count - ledger.store.head()
        if missing < SMALLEST:
            raise ValueError(f"the log has {count - missing} events already, too many to fill it up to {count}")
        template_id = new_template(ledger)
        batches = -(-missing // BATCH_COUPONS)
        coupons = missing - 1 - 2 * batches
        shares = [coupons // batches + (batch < coupons % batches) for batch in range(batches)]
        patterns = [_claim(ledger, running_batch(ledger, share, template_id)) for share in shares]
        with _owner(url, schema) as connection:
            again = [_without_key(connection, table) for table in _CHANGED] if coupons > INDEXED_AFTER else []
            for pattern, share in zip(patterns, shares, strict=True):
                _copy_claim(connection, pattern, share - 1)
            for statement in again:
                connection.execute(statement)
            connection.execute("vacuum analyze")
            connection.execute("checkpoint")
    finally:
        ledger.close()


def issue_coupons(url: str, ledger: Ledger, batch_id: str, count: int) -> None:
    """Issue that many coupons of a running batch, each to a user of its own."""
    pattern = _claim(ledger, batch_id)
    with _owner(url, ledger.store.database.schema) as connection:
        _copy_claim(connection, pattern, count - 1)
        connection.execute("analyze")


def new_template(ledger: Ledger) -> str:
    """The id of a new template: five off, no minimum."""
    terms = Terms(benefit=Benefit(kind="amount_off", value_minor=500), currency="EUR")
    template_id: str = ledger.do(use_cases.create_template(_request(), name="bench", terms=terms)).answer["template_id"]
    return template_id


def running_batch(ledger: Ledger, quantity: int, template_id: str | None = None, per_user_limit: int = 1) -> str:
    """The id of a new batch that issues one coupon to each user, or up to so many."""
    plan = BatchPlan(name="bench", quantity=quantity, per_user_limit=per_user_limit, valid_for_seconds=90 * 86_400)
    created = use_cases.create_batch(_request(), plan, template_id=template_id or new_template(ledger))
    batch_id: str = ledger.do(created).answer["batch_id"]
    ledger.do(use_cases.start_batch(_request(), batch_id))
    return batch_id


def _request() -> Request:
    return Request(MERCHANT, "bench", uuid.uuid4().hex, "digest")


def _owner(url: str, schema: str) -> Connection:
    """A session of the owner that does not wait for its commits: the checkpoint at the end makes them durable."""
    options = f"-c search_path={schema} -c synchronous_commit=off -c maintenance_work_mem=512MB -c statement_timeout=0"
    return psycopg.connect(url, autocommit=True, options=options, row_factory=tuple_row)


def _without_key(connection: Connection, table: str) -> sql.Composed:
    """Drop the primary key of a table whose keys are random, and give the statement that makes it again.

    Built at once from millions of rows it takes seconds, and is then as full as one that grew by random keys.
    """
    name, definition = connection.execute(
        "select conname, pg_get_constraintdef(oid) from pg_constraint where conrelid = %s::regclass and contype = 'p'",
        (table,),
    ).fetchall()[0]
    connection.execute(sql.SQL("alter table {} drop constraint {}").format(sql.Identifier(table), sql.Identifier(name)))
    return sql.SQL("alter table {} add constraint {} {} with (fillfactor = {})").format(
        sql.Identifier(table), sql.Identifier(name), sql.SQL(definition), RANDOM_FILL
    )


def _claim(ledger: Ledger, batch_id: str) -> dict[str, Any]:
    """The ids of a claim that the ledger itself makes."""
    request, user_id = _request(), "user-pattern"
    answer = ledger.do(use_cases.claim(request, batch_id, user_id)).answer
    return {
        "batch_id": batch_id,
        "user_id": user_id,
        "request_id": request.request_id,
        "coupon_id": answer["coupon_id"],
    }


def _copy_claim(connection: Connection, pattern: dict[str, Any], copies: int) -> None:
    """So many claims like that one, at the end of the log."""
    with connection.transaction():
        # No other writer may take a position meanwhile.
        connection.execute("lock table events in share row exclusive mode")
        head = connection.execute("select max(notification_id) from events").fetchall()[0][0]
        ids = pattern | {"head": head, "copies": copies}
        connection.execute(_COPIES, ids)
        for table, (condition, expressions) in _CHANGED.items():
            connection.execute(_insert(connection, table, condition, expressions), ids)
        connection.execute("update batch_stock set issued = issued + %(copies)s where batch_id = %(batch_id)s", ids)
        connection.execute("drop table copies")


# The ids of the copies. A coupon's id is made as ledger.aggregate.coupon_id makes it.
_COPIES = """
create temporary table copies as
select n, request_id, 'user-' || n as user_id,
       left(%(batch_id)s, 8)
           || left(encode(sha256(convert_to(concat_ws(E'\\x1f', %(batch_id)s, request_id, '0'), 'utf8')), 'hex'), 18)
           as coupon_id
  from generate_series(1, %(copies)s::bigint) as n, md5(%(batch_id)s || n) as request_id
"""

# Of each table the pattern's row, and what is different in its copies.
_CHANGED = {
    "events": (
        "originator_id = 'coupon-' || %(coupon_id)s",
        {
            "originator_id": "'coupon-' || c.coupon_id",
            "state": "convert_to(replace(replace(convert_from(p.state, 'utf8'),"
            " %(request_id)s, c.request_id), %(user_id)s, c.user_id), 'utf8')",
            "notification_id": "%(head)s + c.n",
        },
    ),
    "user_quota": ("batch_id = %(batch_id)s and user_id = %(user_id)s", {"user_id": "c.user_id"}),
    "requests": (
        "request_id = %(request_id)s",
        {
            "request_id": "c.request_id",
            "answer": "replace(replace(p.answer, %(coupon_id)s, c.coupon_id), %(user_id)s, c.user_id)",
            "position": "%(head)s + c.n",
        },
    ),
}


def _insert(connection: Connection, table: str, condition: str, expressions: dict[str, str]) -> bytes:
    """Rows come in the order of ``copies``; a sort of them would only take time, for they carry their positions."""
    columns = [
        column.name for column in connection.execute(f"select * from {table} limit 0".encode()).description or ()
    ]
    values = ", ".join(expressions.get(column, f"p.{column}") for column in columns)
    return (
        f"insert into {table} ({', '.join(columns)}) select {values}"
        f" from copies c, (select * from {table} where {condition}) p"
    ).encode()

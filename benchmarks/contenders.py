"""Who competes on one hot batch: each claims coupons for users, and says afterwards whether it was exact."""

from __future__ import annotations

import json
import random
import uuid
from abc import ABC, abstractmethod
from typing import Any

import psycopg
from eventsourcing.application import AggregateNotFoundError, Application
from eventsourcing.domain import Aggregate, event
from eventsourcing.persistence import IntegrityError
from psycopg.conninfo import conninfo_to_dict
from psycopg_pool import ConnectionPool

from ledger import use_cases
from ledger.aggregate import derived_id
from ledger.application import Ledger
from ledger.batch import BatchPlan
from ledger.migrate import migrate
from ledger.request import Request
from ledger.store import Database, Store
from ledger.terms import Benefit, Terms

QUANTITY = 100_000_000
PER_USER_LIMIT = 1_000_000
USERS = 100_000


class Contender(ABC):
    """One way to claim a coupon from a hot batch. Built once in each process, used by many threads."""

    name: str

    def __init__(self, url: str, schema: str, callers: int) -> None:
        self.url, self.schema, self.callers = url, schema, callers

    @abstractmethod
    def prepare(self) -> None:
        """Make tables and the batch, once."""

    @abstractmethod
    def claim(self, user_id: str) -> None:
        """One coupon for the user, durable when this returns."""

    @abstractmethod
    def issued(self) -> tuple[int, int]:
        """(Coupons that exist, coupons that the counter says)."""

    @abstractmethod
    def close(self) -> None:
        """Let go of connections."""


class LedgerClaims(Contender):
    """Ours: group commit."""

    name = "ledger"
    _batch_id = "batch_of_the_bench"

    def __init__(self, url: str, schema: str, callers: int) -> None:
        super().__init__(url, schema, callers)
        self.ledger = Ledger(Store(Database(url, schema)))

    def prepare(self) -> None:
        migrate(self.url, self.schema)
        terms = Terms(benefit=Benefit(kind="amount_off", value_minor=500), currency="EUR")
        template = self.ledger.do(use_cases.create_template(self._request("template"), name="bench", terms=terms))
        plan = BatchPlan(name="bench", quantity=QUANTITY, per_user_limit=PER_USER_LIMIT, valid_for_seconds=86_400)
        work = use_cases.create_batch(self._request("batch"), plan, template_id=template.answer["template_id"])
        self.ledger.do(use_cases.start_batch(self._request("start"), self.ledger.do(work).answer["batch_id"]))

    def claim(self, user_id: str) -> None:
        self.ledger.do(use_cases.claim(self._request(uuid.uuid4().hex), self.batch_id, user_id))

    @property
    def batch_id(self) -> str:
        """The same in every process, because ids derive from the request."""
        return derived_id("batch", "bench", "batch")

    def issued(self) -> tuple[int, int]:
        with self.ledger.store.connection() as connection:
            row = connection.execute(
                "select (select count(*) from events where topic = 'coupon.issued') as coupons, issued"
                "  from batch_stock where batch_id = %s",
                (self.batch_id,),
            ).fetchone()
        assert row is not None
        return row["coupons"], row["issued"]

    def close(self) -> None:
        self.ledger.close()

    @staticmethod
    def _request(request_id: str) -> Request:
        return Request("bench", "bench", request_id, "hash")


class AppSave(Contender):
    """The library as its documentation shows it: a batch aggregate, ``app.save``, retries on conflict."""

    name = "app_save"

    class Batch(Aggregate):
        """Counts what it issued."""

        def __init__(self, quantity: int) -> None:
            self.quantity = quantity
            self.count = 0

        @staticmethod
        def create_id(*_: Any, **__: Any) -> uuid.UUID:
            return uuid.UUID(int=1)  # one hot batch, which every process can name

        @event("Issued")
        def issue(self, user_id: str) -> None:  # noqa: ARG002  # a field of the event
            self.count += 1

    _id = uuid.UUID(int=1)

    def __init__(self, url: str, schema: str, callers: int) -> None:
        super().__init__(url, schema, callers)
        parts = conninfo_to_dict(url)
        self.app = Application[uuid.UUID](
            env={
                "PERSISTENCE_MODULE": "eventsourcing.postgres",
                "POSTGRES_DBNAME": str(parts.get("dbname", "postgres")),
                "POSTGRES_HOST": str(parts["host"]),
                "POSTGRES_PORT": str(parts.get("port", 5432)),
                "POSTGRES_USER": str(parts.get("user", "postgres")),
                "POSTGRES_PASSWORD": str(parts.get("password") or "none"),
                "POSTGRES_SCHEMA": schema,
                "POSTGRES_POOL_SIZE": str(min(callers, 16)),
                "POSTGRES_MAX_OVERFLOW": "8",
                "CREATE_TABLE": "no" if self._exists() else "yes",
                "AGGREGATE_CACHE_MAXSIZE": "1000",
            }
        )

    def _exists(self) -> bool:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f'create schema if not exists "{self.schema}"')
            found = connection.execute("select to_regclass(%s)", (f"{self.schema}.application_events",)).fetchone()
            return found is not None and found[0] is not None

    def prepare(self) -> None:
        self.app.save(self.Batch(quantity=QUANTITY))

    def claim(self, user_id: str) -> None:
        while True:
            batch: AppSave.Batch = self.app.repository.get(self._id)
            batch.issue(user_id=user_id)
            try:
                self.app.save(batch)
                return
            except (IntegrityError, AggregateNotFoundError):
                continue

    def issued(self) -> tuple[int, int]:
        batch: AppSave.Batch = self.app.repository.get(self._id)
        with psycopg.connect(self.url) as connection:
            row = connection.execute(f'select count(*) - 1 from "{self.schema}".application_events').fetchone()
        assert row is not None
        return row[0], batch.count

    def close(self) -> None:
        self.app.close()


class Relational(Contender):
    """The textbook: one transaction with a guarded UPDATE, an INSERT of the coupon and one of its record."""

    name = "relational"

    def __init__(self, url: str, schema: str, callers: int) -> None:
        super().__init__(url, schema, callers)
        self.pool = ConnectionPool(
            url,
            kwargs={"options": f"-c search_path={schema}"},
            min_size=min(callers, 32),
            max_size=min(callers, 32),
            timeout=60,
            open=False,
        )

    def prepare(self) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f'create schema "{self.schema}"')
            connection.execute(f'set search_path to "{self.schema}"')
            connection.execute("create table batch (id int primary key, remaining bigint check (remaining >= 0))")
            connection.execute("create table coupon (id uuid primary key, batch_id int, user_id text, state text)")
            connection.execute(
                "create table record (id bigserial primary key, coupon_id uuid, kind text,"
                " at timestamptz default now(), payload jsonb)"
            )
            connection.execute("insert into batch values (1, %s)", (QUANTITY,))

    def claim(self, user_id: str) -> None:
        self.pool.open()
        coupon_id = uuid.uuid4()
        with self.pool.connection() as connection:
            taken = connection.execute(
                "update batch set remaining = remaining - 1 where id = 1 and remaining > 0", prepare=True
            ).rowcount
            if not taken:
                raise RuntimeError("sold out")
            connection.execute("insert into coupon values (%s, 1, %s, 'UNUSED')", (coupon_id, user_id), prepare=True)
            connection.execute(
                "insert into record (coupon_id, kind, payload) values (%s, 'issued', %s::jsonb)",
                (coupon_id, json.dumps({"user_id": user_id})),
                prepare=True,
            )

    def issued(self) -> tuple[int, int]:
        self.pool.open()
        with self.pool.connection() as connection:
            row = connection.execute(
                "select (select count(*) from coupon), %s - remaining from batch", (QUANTITY,)
            ).fetchone()
        assert row is not None
        return row[0], row[1]

    def close(self) -> None:
        self.pool.close()


CONTENDERS: tuple[type[Contender], ...] = (LedgerClaims, AppSave, Relational)


def random_user() -> str:
    """One of the users, evenly."""
    return f"user-{random.randrange(USERS)}"  # noqa: S311  # no secret

"""The library as its documentation shows it: aggregates, ``app.save``, and retries on conflict."""

from __future__ import annotations

import itertools
import random
import uuid
from typing import Any

import psycopg
from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event
from eventsourcing.persistence import IntegrityError
from psycopg.conninfo import conninfo_to_dict

from benchmarks.contenders.base import QUANTITY, Contender, Coupon, Place, random_user

CHUNK = 500
"""Coupons that one save makes, before the clock starts."""
COUPON_LIMIT = 60_000
"""Coupons made at most: it is far from using up so many, and makes them one by one."""


class Batch(Aggregate):
    """Counts what it issued."""

    ID = uuid.UUID(int=1)  # one hot batch, which every process can name

    def __init__(self, quantity: int) -> None:
        self.quantity = quantity
        self.count = 0

    @staticmethod
    def create_id(*_: Any, **__: Any) -> uuid.UUID:
        return Batch.ID

    @event("Issued")
    def issue(self, user_id: str) -> None:  # noqa: ARG002  # a field of the event
        if self.count >= self.quantity:
            raise RuntimeError("sold out")
        self.count += 1


class OwnedCoupon(Aggregate):
    """One coupon of one user."""

    def __init__(self, user_id: str) -> None:
        self.user_id = user_id
        self.state = "UNUSED"
        self.order_id = ""

    @event("Locked")
    def lock(self, user_id: str, order_id: str) -> None:
        if self.state != "UNUSED" or self.user_id != user_id:
            raise RuntimeError("not to be locked")
        self.state, self.order_id = "LOCKED", order_id

    @event("Used")
    def confirm(self, order_id: str, discount_minor: int) -> None:  # noqa: ARG002  # a field of the event
        if self.state != "LOCKED" or self.order_id != order_id:
            raise RuntimeError("not locked")
        self.state = "USED"


class AppSave(Contender):
    """One application in each process, with the library's cache on, for a batch of thousands of events is slow to load.

    It knows no request keys and no user's limit. A coupon is an event of the batch alone, not a stream of its own.
    """

    name = "app_save"

    def __init__(self, place: Place, callers: int) -> None:
        super().__init__(place, callers)
        self._made: list[Coupon] = []
        parts = conninfo_to_dict(place.address)
        self._app = Application[uuid.UUID](
            env={
                "PERSISTENCE_MODULE": "eventsourcing.postgres",
                "POSTGRES_DBNAME": str(parts.get("dbname", "postgres")),
                "POSTGRES_HOST": str(parts["host"]),
                "POSTGRES_PORT": str(parts.get("port", 5432)),
                "POSTGRES_USER": str(parts.get("user", "postgres")),
                "POSTGRES_PASSWORD": str(parts.get("password") or "none"),
                "POSTGRES_SCHEMA": place.schema,
                "POSTGRES_POOL_SIZE": str(min(callers, 16)),
                "POSTGRES_MAX_OVERFLOW": "8",
                "CREATE_TABLE": "no" if self._exists() else "yes",
                "AGGREGATE_CACHE_MAXSIZE": "1000",
            }
        )

    def _exists(self) -> bool:
        with psycopg.connect(self.place.address, autocommit=True) as connection:
            connection.execute("set client_min_messages = warning")
            connection.execute(f'create schema if not exists "{self.place.schema}"')
            table = f'"{self.place.schema}".application_events'
            found = connection.execute("select to_regclass(%s)", (table,)).fetchone()
            return found is not None and found[0] is not None

    def prepare(self, claims: int, coupons: int) -> None:  # noqa: ARG002  # the batch's quantity is a number
        self._app.save(Batch(quantity=QUANTITY))
        users = (random_user() for _ in range(min(coupons, COUPON_LIMIT)))
        while chunk := [OwnedCoupon(user_id=user) for user in itertools.islice(users, CHUNK)]:
            self._app.save(*chunk)
            self._made += [Coupon(str(coupon.id), coupon.user_id) for coupon in chunk]

    def claim(self, user_id: str) -> None:
        while True:
            batch: Batch = self._app.repository.get(Batch.ID)
            batch.issue(user_id=user_id)
            try:
                self._app.save(batch)
                return
            except IntegrityError:
                continue

    def claimed(self) -> tuple[int, ...]:
        batch: Batch = self._app.repository.get(Batch.ID)
        return batch.count, self._count("%:Batch.Issued")

    def coupons(self, count: int) -> list[Coupon]:
        return random.sample(self._made, min(count, len(self._made)))

    def lock_confirm(self, coupon: Coupon, order_id: str) -> None:
        id = uuid.UUID(coupon.id)
        held: OwnedCoupon = self._app.repository.get(id)
        held.lock(user_id=coupon.user_id, order_id=order_id)
        self._app.save(held)
        held = self._app.repository.get(id)
        held.confirm(order_id=order_id, discount_minor=500)
        self._app.save(held)

    def confirmed(self) -> tuple[int, ...]:
        used = self._count("%:OwnedCoupon.Used", "count(distinct originator_id)")
        return self._count("%:OwnedCoupon.Locked"), self._count("%:OwnedCoupon.Used"), used

    def close(self) -> None:
        self._app.close()

    def _count(self, topic: str, count: str = "count(*)") -> int:
        with psycopg.connect(self.place.address) as connection:
            query = f'select {count} from "{self.place.schema}".application_events where topic like %s'
            row = connection.execute(query.encode(), (topic,)).fetchone()
        assert row is not None
        number: int = row[0]
        return number

"""Ours: every promise, by group commit."""

from __future__ import annotations

import random
import uuid
from dataclasses import replace

from benchmarks.contenders.base import DISCOUNT_MINOR, ORDER_TOTAL_MINOR, QUANTITY, Contender, Coupon, Place
from benchmarks.stored import issue_coupons, running_batch
from ledger import use_cases
from ledger.application import Ledger
from ledger.coupon import Redemption
from ledger.database import Database
from ledger.migrate import migrate
from ledger.request import Request
from ledger.store import Store


class GroupCommit(Contender):
    """The service's own object, one in each process, with a pool of the service's own size.

    It checks the stock, the user's limit of one, the batch's state and the request's key, none of which a rival does
    all of. Its schema may hold a log already.
    """

    name = "ledger"

    def __init__(self, place: Place, callers: int) -> None:
        super().__init__(place, callers)
        self._ledger = Ledger(Store(Database(place.address, place.schema)))
        self._head = 0

    def prepare(self, claims: int, coupons: int) -> None:  # noqa: ARG002  # the hot batch's quantity is a number
        migrate(self.place.address, self.place.schema)
        issued = self._count("topic = 'coupon.issued'")
        if issued < coupons:
            batch_id = running_batch(self._ledger, coupons - issued)
            issue_coupons(self.place.address, self._ledger, batch_id, coupons - issued)
        self.place = replace(self.place, batch_id=running_batch(self._ledger, QUANTITY))
        self._head = self._ledger.store.head()

    def claim(self, user_id: str) -> None:
        self._ledger.do(use_cases.claim(_request(), self.place.batch_id, user_id))

    def claimed(self) -> tuple[int, ...]:
        with self._ledger.store.connection() as connection:
            stock = connection.execute(
                "select issued from batch_stock where batch_id = %s", (self.place.batch_id,)
            ).fetchone()
            assert stock is not None
            quotas = connection.execute(
                "select coalesce(sum(issued), 0)::bigint as issued from user_quota where batch_id = %s",
                (self.place.batch_id,),
            ).fetchone()
            assert quotas is not None
        return self._count("topic = 'coupon.issued'"), self._answered(), stock["issued"], quotas["issued"]

    def coupons(self, count: int) -> list[Coupon]:
        """Positions have no holes, so random positions are random events; a coupon's second event spends it here."""
        found: dict[str, Coupon] = {}
        while len(found) < count:
            positions = random.sample(range(1, self._head + 1), min(self._head, 2 * count))
            with self._ledger.store.connection() as connection:
                rows = connection.execute(_UNUSED, (positions,)).fetchall()
            found |= {row["id"]: Coupon(row["id"], row["user_id"]) for row in rows}
        return list(found.values())[:count]

    def lock_confirm(self, coupon: Coupon, order_id: str) -> None:
        id, user_id = coupon
        locked = use_cases.lock(
            _request(), order_id, user_id=user_id, coupon_ids=[id], order_total_minor=ORDER_TOTAL_MINOR
        )
        lock_id = self._ledger.do(locked).answer["locks"][0]["lock_id"]
        redemption = Redemption(coupon_id=id, discount_minor=DISCOUNT_MINOR)
        self._ledger.do(
            use_cases.confirm(_request(), order_id, [redemption], lock_id=lock_id, paid_minor=ORDER_TOTAL_MINOR)
        )

    def confirmed(self) -> tuple[int, ...]:
        return (
            self._count("topic = 'coupon.locked'"),
            self._count("topic = 'coupon.used'"),
            self._count("topic = 'coupon.used'", "count(distinct originator_id)"),
            self._answered() // 2,
        )

    def close(self) -> None:
        self._ledger.close()

    def _count(self, condition: str, count: str = "count(*)") -> int:
        """Of events since the place was ready."""
        return self._one(f"select {count} as n from events where notification_id > {self._head} and {condition}")

    def _answered(self) -> int:
        """Requests answered since the place was ready."""
        return self._one(f"select count(*) as n from requests where position > {self._head}")

    def _one(self, query: str) -> int:
        with self._ledger.store.connection() as connection:
            row = connection.execute(query.encode()).fetchone()
        assert row is not None
        number: int = row["n"]
        return number


_UNUSED = """
select substr(originator_id, 8) as id, convert_from(state, 'utf8')::json->>'user_id' as user_id
  from events e
 where notification_id = any(%s) and topic = 'coupon.issued'
   and not exists (select from events l where l.originator_id = e.originator_id and l.originator_version = 2)
"""


def _request() -> Request:
    return Request("bench", "bench", uuid.uuid4().hex, "digest")

"""A short story in which each kind of rule is at work, and whoever edits its events with all rights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import psycopg
from psycopg.rows import tuple_row

from ledger import use_cases
from ledger.application import Ledger
from ledger.basket import Basket, Line
from ledger.batch import BatchPlan
from ledger.benefit import Benefit
from ledger.coupon import Redemption
from ledger.database import Database
from ledger.request import Request
from ledger.terms import ReturnPolicy, Terms
from ledger.work import Work

BEGIN = datetime(2026, 3, 1, 22, 30, tzinfo=UTC)
PLANNER, SUBMITTER, APPROVER = "key:planner", "key:submitter", "key:approver"
BASKET = Basket(lines=(Line(line_id="1", product_id="p", unit_price_minor=4_000),), currency="EUR")
POLICY = ReturnPolicy(merchant_refund="restore_with_grace", grace_days=3)


class Story:
    """What happened, told by the use cases themselves; each coupon is named by what becomes of it."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger, self.now, self.number = ledger, BEGIN, 0
        self.plain, self.given, self.voucher = self._plans()
        self.coupons: dict[str, str] = {}
        self._money_off()
        self._given_away()
        self._vouchers()

    def stream(self, name: str) -> str:
        return f"coupon-{self.coupons[name]}"

    def _do(self, work: Work) -> Any:
        return self.ledger.do(work).answer

    def _request(self, actor: str = PLANNER) -> Request:
        self.number += 1
        self.now += timedelta(seconds=10)
        return Request("merchant-1", actor, f"request-{self.number}", "", self.now)

    def _plans(self) -> tuple[str, str, str]:
        off = Benefit(kind="amount_off", value_minor=500)
        plain = Terms(benefit=off, currency="EUR", min_spend_minor=1_000, merchant_share_permyriad=3_333)
        batch_id = self._batch(
            replace(plain, return_policy=POLICY),
            BatchPlan(
                name="Plain",
                quantity=50,
                per_user_limit=20,
                per_day_limit=40,
                time_zone="Asia/Shanghai",
                valid_for_seconds=30 * 86_400,
                needs_approval=True,
            ),
        )
        self._do(use_cases.submit_batch(self._request(SUBMITTER), batch_id))
        self._do(use_cases.approve_batch(self._request(APPROVER), batch_id))
        stated = Benefit(kind="order_stated")
        given = Terms(benefit=stated, currency="EUR", late_confirm="accept", transferable=True, shareable=True)
        until = BatchPlan(
            name="Given",
            quantity=50,
            valid_from=BEGIN - timedelta(days=1),
            valid_until=BEGIN + timedelta(days=40),
            time_zone="Europe/Berlin",
            ends_at_day_close=True,
            per_user_limit=None,
        )
        worth = Benefit(kind="cash_voucher", value_minor=900, leaves_balance=True)
        later = BatchPlan(
            name="Voucher", quantity=50, valid_delay_seconds=60, valid_for_seconds=86_400 * 9, per_user_limit=None
        )
        voucher = Terms(benefit=worth, currency="EUR", return_policy=POLICY)
        batches = (batch_id, self._batch(given, until), self._batch(voucher, later))
        for id in batches:
            self._do(use_cases.start_batch(self._request(), id))
        self._change_plan(batch_id)
        return batches

    def _change_plan(self, batch_id: str) -> None:
        """Made smaller while it runs and pauses, and larger, which is reviewed again."""
        for expected, target in ((50, 45), (45, 44), (44, 48)):
            self._do(use_cases.change_quantity(self._request(), batch_id, expected=expected, target=target))
            if target == 44:
                self._do(use_cases.resume_batch(self._request(), batch_id))
            if target < 48:
                self._do(use_cases.pause_batch(self._request(), batch_id, reason="stock count"))
        self._do(use_cases.submit_batch(self._request(SUBMITTER), batch_id))
        self._do(use_cases.approve_batch(self._request(APPROVER), batch_id))
        self._do(use_cases.start_batch(self._request(), batch_id))

    def _batch(self, terms: Terms, plan: BatchPlan) -> str:
        template = self._do(use_cases.create_template(self._request(), name=plan.name, terms=terms))
        work = use_cases.create_batch(self._request(), plan, template_id=template["template_id"], accept_risk=True)
        return str(self._do(work)["batch_id"])

    def _coupon(self, name: str, batch_id: str) -> str:
        self.coupons[name] = id = self._do(use_cases.claim(self._request(), batch_id, "ann"))["coupon_id"]
        return id

    def _lock(self, id: str, order: str, user_id: str = "ann", **said: Any) -> None:
        said = {"order_total_minor": 4_000, **said}
        self._do(use_cases.lock(self._request(), order, user_id=user_id, coupon_ids=[id], **said))

    def _confirm(self, id: str, order: str, discount: int | None) -> None:
        self._do(use_cases.confirm(self._request(), order, [Redemption(coupon_id=id, discount_minor=discount)]))

    def _return(self, id: str, order: str, reason: str) -> None:
        self._do(use_cases.return_coupons(self._request(), order, coupon_ids=[id], reason=reason))

    def _money_off(self) -> None:
        for reason in ("order_cancelled", "buyer_refund", "merchant_refund"):
            id = self._coupon(reason, self.plain)
            self._lock(id, f"o-{reason}")
            self._confirm(id, f"o-{reason}", 500)
            self.now += timedelta(days=28)
            self._return(id, f"o-{reason}", reason)
            self.now -= timedelta(days=28)
        id = self._coupon("used", self.plain)
        self._lock(id, "o-used", basket=BASKET, order_total_minor=None)
        self._confirm(id, "o-used", None)
        id = self._coupon("extended", self.plain)
        until = self.now + timedelta(days=50)
        self._do(use_cases.extend(self._request(), id, valid_until=until, reason="storm"))
        id = self._coupon("held", self.plain)
        self._lock(id, "o-held")
        self._lock(id, "o-held", ttl_seconds=5_000)
        self._lock(id, "o-held", order_total_minor=5_000)
        self._do(use_cases.unlock(self._request(), "o-held", coupon_ids=[id], reason="left"))
        id = self._coupon("let go", self.plain)
        self._lock(id, "o-let-go", ttl_seconds=600)
        self.now += timedelta(seconds=700)
        self._do(use_cases.unlock(self._request(), "o-let-go", coupon_ids=[id], reason="lock_ended"))

    def _given_away(self) -> None:
        id = self._coupon("shared", self.given)
        self._do(use_cases.share(self._request(), id, user_id="ann", with_user_ids=["bob"]))
        self._lock(id, "o-shared", "bob")
        self._confirm(id, "o-shared", 70)
        id = self._coupon("late", self.given)
        self._do(use_cases.transfer(self._request(), id, user_id="ann", to_user_id="bob"))
        self._lock(id, "o-late", "bob", ttl_seconds=60)
        self.now += timedelta(seconds=90)
        self._confirm(id, "o-late", 70)

    def _vouchers(self) -> None:
        id = self._coupon("voucher", self.voucher)
        self.now += timedelta(seconds=60)
        for order, discount in (("o-1", 300), ("o-2", 200)):
            self._lock(id, order, basket=BASKET, order_total_minor=None)
            self._confirm(id, order, discount)
        self._return(id, "o-1", "order_cancelled")
        self._lock(id, "o-3", basket=BASKET, order_total_minor=None)
        self._confirm(id, "o-3", None)
        id = self._coupon("graced", self.voucher)
        self.now += timedelta(seconds=60)
        for order in ("o-4", "o-5"):
            self._lock(id, order, basket=BASKET, order_total_minor=None)
            self._confirm(id, order, 100)
        self._return(id, "o-4", "order_cancelled")
        self.now += timedelta(days=8)
        self._return(id, "o-5", "merchant_refund")
        self.now -= timedelta(days=8)


class Forger:
    """Somebody for whom no trigger holds."""

    def __init__(self, connection: psycopg.Connection[Any], story: Story) -> None:
        self.connection, self.story = connection, story

    def edit(self, stream: str, topic: str, nth: int = 1, **fields: Any) -> int:
        """Change fields of the stream's nth event of that topic; one that is called gives what it makes of the old."""
        query = "select position, payload from event_log where stream = %s and topic = %s order by version"
        position, payload = self.connection.execute(query, (stream, topic)).fetchall()[nth - 1]
        fields = {name: said(payload) if callable(said) else said for name, said in fields.items()}
        state = orjson.dumps(payload | fields)
        self.connection.execute("update events set state = %s where notification_id = %s", (state, position))
        return int(position)

    def coupon(self, name: str, verb: str, nth: int = 1, **fields: Any) -> int:
        """The same of a coupon of the story."""
        return self.edit(self.story.stream(name), f"coupon.{verb}", nth, **fields)

    def batch(self, batch_id: str, verb: str, nth: int = 1, **fields: Any) -> int:
        """The same of a batch."""
        return self.edit(f"batch-{batch_id}", f"batch.{verb}", nth, **fields)

    def terms(self, batch_id: str, **terms: Any) -> int:
        """Change terms of the batch's template; answers where those are."""
        query = "select 'template-' || (payload->>'template_id') from event_log where stream = %s and version = 1"
        [(stream,)] = self.connection.execute(query, (f"batch-{batch_id}",))
        return self.edit(stream, "template.created", terms=lambda payload: payload["terms"] | terms)

    def position(self, name: str, verb: str, nth: int = 1) -> int:
        """Where the coupon's nth event of that topic is."""
        return self.coupon(name, verb, nth)


@contextmanager
def forging(database: Database, story: Story) -> Iterator[Forger]:
    """All rights on the events; afterwards they are as they were."""
    options = f"-c search_path={database.schema} -c session_replication_role=replica"
    with psycopg.connect(database.url, autocommit=True, options=options, row_factory=tuple_row) as connection:
        connection.execute("create temporary table kept as select * from events")
        try:
            yield Forger(connection, story)
        finally:
            connection.execute(
                "update events e set state = k.state from kept k"
                " where k.notification_id = e.notification_id and k.state <> e.state"
            )
            connection.execute("insert into events select * from kept on conflict do nothing")

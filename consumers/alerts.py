"""Alerts told: each crossing that the read model holds, in their order, on ``coupons.alerts.v1`` and on channels.

Which one is the last that was told is kept beside the read model, so a rebuild tells nothing twice.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from psycopg.rows import class_row

from consumers.follower import MOVE, Connection, Follower
from consumers.messages import Wire, encode
from consumers.outlet import Outlet
from consumers.payloads import CouponAlert
from consumers.topics import ALERTS
from ledger.batch import Batch
from ledger.events import Event
from ledger.store import Store
from ledger.telling.channels import Channel, wanting
from ledger.telling.deliveries import Delivery, enqueue
from ledger.work import fold

NAME = "alerts"
SOURCE = "/coupon-ledger/alerts"
GROUP_LIMIT = 100


class Crossing(NamedTuple):
    """A row of the read model."""

    batch_id: str
    kind: Any
    number: int
    merchant_id: str
    position: int
    recorded_at: datetime
    facts: dict[str, Any]


class AlertTeller(Follower):
    """Follows the read model of alerts instead of the log. All crossings up to its position are told."""

    def __init__(
        self, store: Store, bootstrap: str | list[str], *, prefix: str = "", kafka: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(store, NAME, lambda *_: None)
        self._outlet = Outlet(bootstrap, f"{prefix}{ALERTS}", kafka or {})

    def _chunk(self, connection: Connection, position: int) -> int:
        if not connection.execute("select from pg_class where oid = to_regclass('alerts')").rowcount:
            return 0  # the projector has not been started yet
        # Read before the crossings, so that none of them up to here can appear later.
        folded = connection.execute(_FOLDED, prepare=True).fetchone()
        cursor = connection.cursor(row_factory=class_row(Crossing))
        crossings = cursor.execute(_NEXT, (position, GROUP_LIMIT), prepare=True).fetchall()
        if not crossings and folded is not None and folded["position"] > position:
            connection.execute(MOVE, (folded["position"], NAME), prepare=True)
        if crossings:
            batches = self._batches(connection, {each.batch_id for each in crossings})
            alerts = [_alert(each, batches[each.batch_id]) for each in crossings]
            self._outlet.send([_message(each, alert) for each, alert in zip(crossings, alerts, strict=True)])
            self._enqueue(connection, alerts, batches)
            connection.execute(MOVE, (crossings[-1].position, NAME), prepare=True)
        return len(crossings)

    def close(self) -> None:
        """Let Kafka go."""
        self._outlet.close()

    def _batches(self, connection: Connection, batch_ids: set[str]) -> dict[str, Batch]:
        streams = self._load(connection, [f"batch-{batch_id}" for batch_id in batch_ids])
        batches = [fold(Batch(stream), events) for stream, events in streams.items()]
        return {batch.key: batch for batch in batches}

    def _enqueue(self, connection: Connection, alerts: Sequence[CouponAlert], batches: Mapping[str, Batch]) -> None:
        """To the channels of whoever made the template; where they have none, to all of the merchant that want it.

        What is for a disabled one waits there, and goes to no others instead.
        """
        of_batch = {batch_id: f"template-{batch.created.template_id}" for batch_id, batch in batches.items()}
        templates = self._load(connection, list(set(of_batch.values())))
        deliveries = []
        for alert in alerts:
            creator = templates[of_batch[alert.batch_id]][0].actor
            for channel in _channels(connection, alert.merchant_id, creator):
                key = f"alert {_id(alert)} {channel.channel_id}"
                body = alert.model_dump(mode="json") | _words(alert, batches[alert.batch_id])
                deliveries.append(Delivery(key, channel.channel_id, alert.merchant_id, "alert", body))
        enqueue(connection, deliveries)

    def _load(self, connection: Connection, streams: Sequence[str]) -> Mapping[str, Sequence[Event]]:
        return self._store.load(streams, (), connection).streams


def run(store: Store, bootstrap: str | list[str], stop: threading.Event, *, prefix: str = "") -> None:
    """Tell alerts until told to stop, in a process of its own. Of several processes one works."""
    teller = AlertTeller(store, bootstrap, prefix=prefix)
    try:
        teller.run(stop)
    finally:
        teller.close()


def _alert(crossing: Crossing, batch: Batch) -> CouponAlert:
    facts = crossing.facts
    return CouponAlert(
        merchant_id=crossing.merchant_id,
        batch_id=crossing.batch_id,
        template_id=batch.created.template_id,
        alert=crossing.kind,
        number=crossing.number,
        position=crossing.position,
        threshold=facts["threshold"],
        level=facts["level"],
        capacity=facts["capacity"],
    )


def _message(crossing: Crossing, alert: CouponAlert) -> Wire:
    return encode(alert, source=SOURCE, id=_id(alert), time=crossing.recorded_at.astimezone(UTC))


def _id(alert: CouponAlert) -> str:
    return f"{alert.batch_id}-{alert.alert}-{alert.number}"


def _channels(connection: Connection, merchant_id: str, creator: str) -> list[Channel]:
    return wanting(connection, merchant_id, "alert", owner=creator) or wanting(connection, merchant_id, "alert")


def _words(alert: CouponAlert, batch: Batch) -> dict[str, str]:
    name = batch.created.name
    if alert.alert == "stock_below":
        left = (alert.capacity or 0) - alert.level
        return {"title": f"“{name}” is running out", "text": f"{left} of {alert.capacity} coupons are left."}
    if alert.alert == "budget_spent":
        percent = alert.level * 100 // (alert.capacity or 1)
        return {"title": f"The budget of “{name}” is nearly spent", "text": f"{percent} % of the budget is spent."}
    text = f"More than {alert.threshold} coupons were issued in one minute."
    return {"title": f"“{name}” is claimed unusually fast", "text": text}


# Several thresholds may be crossed by one event, and are told together.
_NEXT = """
select batch_id, kind, number, merchant_id, position, recorded_at, facts
  from alerts where position > %s order by position fetch first %s rows with ties
"""

_FOLDED = "select position from projection_checkpoints where name = 'alerts'"

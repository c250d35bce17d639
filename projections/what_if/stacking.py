"""Which orders could not have used the coupons that they did, under another stacking rule of a template."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import replace
from datetime import datetime
from itertools import groupby
from typing import NamedTuple

from psycopg.rows import tuple_row

from ledger.coupon import Coupon
from ledger.database import Database
from ledger.errors import ExclusiveConflict, TemplateNotFound
from ledger.events import (
    CouponCredited,
    CouponIssued,
    CouponLocked,
    CouponReturned,
    CouponSpent,
    CouponUnlocked,
    Event,
    Recorded,
)
from ledger.terms import StackingMode, Terms
from ledger.use_cases.together import check_stacking
from ledger.work import Loaded
from projections.what_if.reading import Progress, Reading, no_batch, reading
from projections.what_if.report import Refused, Report

ORDERS = 500
"""Orders whose coupons are read at a time."""

ALONE = "Orders that were refused in the past are not in the log: what a looser rule would have let through is unknown."
PRICED = "Coupons that stay together are not priced anew, so what a changed rule would have taken off is not told."
NAMED = "A coupon that was named with others and was held already left no event, so it is judged when it is used."
LASTS = "Where another lock would have been refused, the one before it is taken to have lasted until the use."


class _Order(NamedTuple):
    order_id: str
    coupons: list[str]
    """Streams of the coupons that it ever locked."""


def judge(
    database: Database,
    merchant_id: str,
    template_id: str,
    mode: StackingMode,
    group: str | None = None,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    progress: Progress = lambda _done, _total: None,
) -> Report:
    """Decide each lock and each use of several coupons again, with this mode in every version of the template.

    The rule holds for locks and uses in ``[since, until)`` of business time. An order's command is refused whole, and a
    use whose lock was refused goes with it, unless the order held the coupon before and locked it anew. Memory does not
    grow with the log, only with what is lost. Raises ``TemplateNotFound``, or ``InvalidField`` for a mode without its
    group.
    """
    with reading(database) as source:
        versions = source.stream(f"template-{template_id}")
        if not versions or versions[0].merchant_id != merchant_id:
            raise TemplateNotFound(id=template_id)
        changed = {"stacking_mode": mode} | ({} if group is None else {"stacking_group": group})
        report = Report(
            merchant_id=merchant_id,
            about=f"template-{template_id}",
            changed=dict(changed),
            since=since,
            until=until,
            position=source.head,
            cannot_know=[ALONE, PRICED, NAMED, LASTS],
        )
        others = {
            (template_id, number): replace(source.terms(template_id, number), stacking_mode=mode, stacking_group=group)
            for number in range(1, len(versions) + 1)
        }
        done = 0
        for orders in _some(_orders_of_several(source, merchant_id)):
            streams = sorted({stream for order in orders for stream in order.coupons})
            events: dict[str, list[Recorded]] = {}
            for recorded in source.recorded("originator_id = any(%s)", (streams,)):
                events.setdefault(recorded.event.originator_id, []).append(recorded)
            for order in orders:
                _Replay(source, order, events, others, report).run()
            done += len(orders)
            progress(done, done)
    return report


class _Replay:
    """One order's commands, in their order."""

    def __init__(
        self,
        source: Reading,
        order: _Order,
        events: dict[str, list[Recorded]],
        others: dict[tuple[str, int], Terms],
        report: Report,
    ) -> None:
        self._source = source
        self._others = others
        self._report = report
        self._coupons: dict[str, Coupon] = {}
        rows = []
        for stream in order.coupons:
            issued = events[stream][0].event
            assert isinstance(issued, CouponIssued)
            coupon = Coupon(stream)
            issued.mutate(coupon)
            self._coupons[stream] = coupon
            rows += [row for row in events[stream] if getattr(row.event, "order_id", None) == order.order_id]
        self._rows = sorted(rows, key=lambda row: row.position)
        self._spent: dict[str, int] = {}
        """Coupons that the order used and did not give back, and what of it its lines have left."""
        self._refused: dict[str, str] = {}
        """Coupons that it would not have, and the currency in which they were used."""

    def run(self) -> None:
        """Decide each of them again, where the template has any part in the order."""
        if not any((c.template_id, c.template_version) in self._others for c in self._coupons.values()):
            return
        for _, rows in groupby(self._rows, lambda row: row.event.request_id):
            self._command(list(rows))

    def _command(self, rows: Sequence[Recorded]) -> None:
        """All that one request wrote: a use may write its lock too, and a lock the end of the one before."""
        locked = [row for row in rows if isinstance(row.event, CouponLocked)]
        spent = [row for row in rows if isinstance(row.event, CouponSpent)]
        if spent:
            self._use(spent, locked)
        elif locked:
            still_held = {row.event.originator_id for row in rows if _ends_for_another(row.event)}
            self._lock(locked, still_held)
        for row in rows:
            if isinstance(row.event, CouponReturned | CouponCredited):
                self._give_back(row)

    def _lock(self, locked: Sequence[Recorded], still_held: Set[str]) -> None:
        """Where it is refused, what the order held until then it holds on."""
        streams = [row.event.originator_id for row in locked]
        if self._judged(locked, streams):
            self._refuse(locked)
            for row in locked:
                self._report.lose_lock(row.event)
            self._refused.update((stream, "") for stream in streams if stream not in still_held)
        else:
            for stream in streams:
                self._refused.pop(stream, None)

    def _use(self, spent: Sequence[Recorded], locked: Sequence[Recorded]) -> None:
        """A till's use has a lock of its own. A late one writes its old lock down once more, and follows that."""
        uses = {row.event.originator_id: row.event for row in spent if isinstance(row.event, CouponSpent)}
        for row in locked:
            if not uses[row.event.originator_id].late:
                self._refused.pop(row.event.originator_id, None)
        lost = not self._refused.keys().isdisjoint(uses)
        if not lost and self._judged(spent, [*uses, *(stream for stream in self._spent if stream not in uses)]):
            self._refuse(spent)
            lost = True
        if not lost:
            self._spent.update((stream, use.discount_minor) for stream, use in uses.items())
            return
        for row in locked:
            self._report.lose_lock(row.event)
        for stream, use in uses.items():
            self._refused[stream] = use.currency
            self._report.lose_use(use)

    def _give_back(self, row: Recorded) -> None:
        stream = row.event.originator_id
        if stream in self._refused:
            self._report.lose_return(row.event, self._refused[stream])
        elif stream in self._spent:
            lines = getattr(row.event, "lines", ())
            self._spent[stream] -= sum(part["discount_minor"] for part in lines)
            if not lines or not self._spent[stream]:
                del self._spent[stream]

    def _judged(self, rows: Sequence[Recorded], streams: Sequence[str]) -> bool:
        """Whether these could not go together, because of the change."""
        first, report = rows[0].event, self._report
        if len(streams) == 1:
            return False
        if report.since is not None and first.occurred_at < report.since:
            return False
        if report.until is not None and first.occurred_at >= report.until:
            return False
        report.requests += 1
        if self._stand(streams, first.occurred_at, changed=True):
            return False
        if self._stand(streams, first.occurred_at, changed=False):
            return True
        report.not_judged += 1
        return False

    def _stand(self, streams: Sequence[str], now: datetime, *, changed: bool) -> bool:
        def terms(template_id: str, version: int) -> Terms:
            other = self._others.get((template_id, version)) if changed else None
            return other or self._source.terms(template_id, version)

        loaded = Loaded(self._report.merchant_id, now, {}, no_batch, terms)
        try:
            check_stacking(loaded, [self._coupons[stream] for stream in streams])
        except ExclusiveConflict:
            return False
        return True

    def _refuse(self, rows: Sequence[Recorded]) -> None:
        self._report.requests_refused += 1
        for row in rows:
            event = row.event
            assert isinstance(event, CouponLocked | CouponSpent)
            self._report.refuse(
                Refused(
                    row.position,
                    event.occurred_at,
                    event.originator_id.removeprefix("coupon-"),
                    event.holder_id,
                    event.order_id,
                    event.request_id,
                    ExclusiveConflict.code(),
                )
            )


def _ends_for_another(event: Event) -> bool:
    """Whether it ends a live lock for another of the same order."""
    return isinstance(event, CouponUnlocked) and event.reason == "locked_again"


def _orders_of_several(source: Reading, merchant_id: str) -> Iterator[_Order]:
    """Orders that locked more than one coupon: of the others no rule of stacking says anything."""
    with source.connection.cursor(name="what_if_orders", row_factory=tuple_row) as cursor:
        cursor.itersize = ORDERS
        cursor.execute(
            "select order_of_lock(state) as of_order, array_agg(distinct originator_id) from events"
            " where topic = 'coupon.locked' and starts_with(order_of_lock(state), %s)"
            " group by of_order having count(distinct originator_id) > 1 order by min(notification_id)",
            (f"{merchant_id}\n",),
        )
        for of_order, coupons in cursor:
            yield _Order(of_order.partition("\n")[2], coupons)


def _some(orders: Iterable[_Order]) -> Iterator[list[_Order]]:
    found: list[_Order] = []
    for order in orders:
        found.append(order)
        if len(found) == ORDERS:
            yield found
            found = []
    if found:
        yield found

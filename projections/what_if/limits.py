"""What a batch would have issued under other limits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from datetime import datetime
from itertools import groupby

from ledger import use_cases
from ledger.aggregate import coupons_begin
from ledger.audience import Facts
from ledger.batch import Batch
from ledger.commit import Unit
from ledger.database import Database
from ledger.errors import BatchNotFound, Refusal
from ledger.events import (
    BatchCreated,
    BatchQuantityChanged,
    CouponCredited,
    CouponIssued,
    CouponLocked,
    CouponReturned,
    CouponSpent,
    Event,
    Recorded,
)
from ledger.limits import share_refusal, stock_refusal
from ledger.request import Request
from ledger.work import Loaded
from projections.what_if.reading import Progress, Reading, reading
from projections.what_if.report import Refused, Report

NEVER_ASKED = "Whoever was refused in the past is not in the log: what they would have got instead cannot be told."
NEVER_AGAIN = "Whoever would have been refused might have come again later, or bought without the coupon."
LOOSER = (
    "{name} is looser than it was: refused requests are not in the log, so what it would have let through is unknown."
)
FACTS = tuple(each.name for each in fields(Facts))


def judge(
    database: Database,
    merchant_id: str,
    batch_id: str,
    changed: Mapping[str, int],
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    progress: Progress = lambda _done, _total: None,
) -> Report:
    """Decide each issue of the batch again under ``changed`` limits, as the commit's guards would count them.

    ``changed`` names fields of the plan: ``quantity``, ``per_user_limit``, ``per_day_limit``, ``per_user_day_limit``.
    They hold for what was issued in ``[since, until)`` of business time; what came before counts against them. What
    becomes of a coupon that would not be there is followed to the end of the log. Memory grows with the users of the
    batch and with the coupons refused. Raises ``BatchNotFound``.
    """
    stream = f"batch-{batch_id}"
    with reading(database) as source:
        planned = source.stream(stream)
        if not planned or planned[0].merchant_id != merchant_id:
            raise BatchNotFound(id=batch_id)
        report = Report(
            merchant_id=merchant_id,
            about=stream,
            changed=dict(changed),
            since=since,
            until=until,
            position=source.head,
            cannot_know=[NEVER_ASKED, NEVER_AGAIN, *_looser(planned, changed)],
        )
        other = _Other(source, Batch(stream), changed, report)
        rows = source.beginning(stream, f"coupon-{coupons_begin(batch_id)}", progress)
        for events in _requests(row for row in rows if _concerns(row.event, batch_id)):
            first = events[0].event
            if isinstance(first, CouponIssued):
                begun = (since is None or first.occurred_at >= since) and (until is None or first.occurred_at < until)
                other.issue(events, changes=begun)
            elif first.originator_id == stream:
                other.change(first)
            else:
                other.follow(first)
    return report


class _Other:
    """The batch as it would have been."""

    def __init__(self, source: Reading, batch: Batch, changed: Mapping[str, int], report: Report) -> None:
        self._source = source
        self._batch = batch
        self._changed = changed
        self._report = report
        self._issued: Counter[str] = Counter()
        self._taken: Counter[tuple[str, str]] = Counter()
        self._currency: dict[bytes, str] = {}
        """Of each coupon that would not be there, by a short form of its id; empty while it is not used."""

    def change(self, event: Event) -> None:
        """What became of the batch, but for what is to be another."""
        if isinstance(event, BatchCreated):
            event = replace(event, **self._changed)  # type: ignore[arg-type]
        elif isinstance(event, BatchQuantityChanged) and "quantity" in self._changed:
            event = replace(event, quantity=self._changed["quantity"])
        event.mutate(self._batch)

    def issue(self, events: Sequence[Recorded], *, changes: bool) -> None:
        """Decide one request again, all of its coupons or none."""
        issued = [each.event for each in events if isinstance(each.event, CouponIssued)]
        self._report.requests += changes
        try:
            unit = self._decide(issued)
        except Refusal:  # the change touches no rule but the guards, so today's rules say no without it too
            self._report.not_judged += changes
            self._issued[self._batch.key] += len(issued)
            self._taken.update((self._batch.key, event.user_id) for event in issued)
            return
        refusal = self._no_room(unit) if changes else None
        if refusal is None:
            self._issued.update(unit.stock)
            for key, (take, _) in unit.quota.items():
                self._taken[key] += take
            return
        self._report.requests_refused += 1
        for recorded, event in zip(events, issued, strict=True):
            self._currency[_short(event)] = ""
            self._report.refuse(
                Refused(
                    recorded.position,
                    event.occurred_at,
                    event.originator_id.removeprefix("coupon-"),
                    event.user_id,
                    None,
                    event.request_id,
                    refusal.code(),
                )
            )

    def follow(self, event: Event) -> None:
        """Count what would not have happened to a coupon that would not be there."""
        if not self._currency or _short(event) not in self._currency:
            return
        if isinstance(event, CouponLocked):
            self._report.lose_lock(event)
        elif isinstance(event, CouponSpent):
            self._currency[_short(event)] = event.currency
            self._report.lose_use(event)
        elif isinstance(event, CouponReturned | CouponCredited):
            self._report.lose_return(event, self._currency[_short(event)])

    def _decide(self, issued: Sequence[CouponIssued]) -> Unit:
        first = issued[0]
        said = {name: first.facts[name] for name in FACTS if name in first.facts}
        if "tags" in said:
            said["tags"] = tuple(said["tags"])
        work = use_cases.issue(
            Request(first.merchant_id, first.actor, first.request_id, at=first.occurred_at),
            self._batch.key,
            [event.user_id for event in issued],
            channel=first.channel,
            facts=Facts(**said),
            points_receipt=first.facts.get("points_receipt"),
        )
        loaded = Loaded(first.merchant_id, first.occurred_at, {}, lambda _: self._batch, self._source.terms)
        unit = work.decide(loaded)
        assert isinstance(unit, Unit)
        # A receipt of points is good for one coupon whatever the limits, so it need not be remembered.
        unit.quota = {key: share for key, share in unit.quota.items() if key[0] == self._batch.key}
        return unit

    def _no_room(self, unit: Unit) -> Refusal | None:
        for key, (take, most) in unit.quota.items():
            if self._taken[key] + take > most:
                return share_refusal(self._batch.key, key)
        for stock, take in unit.stock.items():
            left = self._batch.quantity if stock == self._batch.key else self._batch.budget_minor
            if left is not None and self._issued[stock] + take > left:
                return stock_refusal(self._batch.key, stock)
        return None


def _requests(rows: Iterable[Recorded]) -> Iterator[list[Recorded]]:
    """The coupons of one request together, which lie side by side in the log; every other event by itself."""

    def asked(row: Recorded) -> str | int:
        return row.event.request_id if isinstance(row.event, CouponIssued) else row.position

    for _, events in groupby(rows, asked):
        yield list(events)


def _concerns(event: Event, batch_id: str) -> bool:
    return getattr(event, "batch_id", batch_id) == batch_id


def _short(event: Event) -> bytes:
    key = event.originator_id.removeprefix("coupon-")
    try:
        return bytes.fromhex(key)
    except ValueError:
        return key.encode()


def _looser(planned: Sequence[Event], changed: Mapping[str, int]) -> list[str]:
    created = planned[0]
    told = []
    for name, value in changed.items():
        before = getattr(created, name)
        if name == "quantity":
            before = min([before, *(event.quantity for event in planned if isinstance(event, BatchQuantityChanged))])
        if before is not None and value > before:
            told.append(LOOSER.format(name=name))
    return told

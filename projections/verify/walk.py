"""The one pass over the log: stream by stream, each event once, in memory that does not grow with the log.

What concerns one stream is judged here. What several streams have together is told to the books (``snapshot.py``),
for the database to compare with the guards.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from psycopg.rows import tuple_row

from ledger.aggregate import coupon_id
from ledger.issuance.job import SOURCE
from projections.verify.batches import Batch
from projections.verify.coupons import STEPS, Coupon
from projections.verify.plans import Plans
from projections.verify.report import Broken, Findings
from projections.verify.rows import UNREADABLE, Payload, Reader
from projections.verify.snapshot import Books, Connection, Moment

PAGE = 20_000
CLOCK_SKEW = timedelta(minutes=1)
"""An event happens by the clock of a reading of the database, and is recorded by the clock at its commit: the same one,
and later, unless it was set back or another server took over."""
SPENT = ("coupon.used", "coupon.debited")
OF_COUPONS = ("I1", "I4", "I5", "I6", "I7", "I17", "custody")
"""Checks that look at each event of a coupon."""

Progress = Callable[[int, int], None]


class Walk:
    """The pass, and what it keeps: the stream in hand, and sums by batch, set of codes and job."""

    def __init__(self, moment: Moment, plans: Plans, reader: Reader, books: Books, found: Findings) -> None:
        self._moment = moment
        self._plans = plans
        self._reader = reader
        self._books = books
        self._found = found
        self._coupon = Coupon("")
        self._merchant = ""
        self._judging = True
        """Whether nothing was wrong with the stream in hand so far."""
        self.held: dict[str, tuple[str, datetime]] = {}
        """Coupons that are held now of templates that limit it: owner and end, by id."""

    def run(self, progress: Progress) -> None:
        """Read everything."""
        events = coupons = done = 0
        stream, expected, last = None, 0, 0
        for page in _pages(self._moment.connection):
            for name, version, topic, state, position, recorded_at in page:
                if name != stream:
                    self._finish(last)
                    stream, expected, last = name, 0, 0
                    coupons += self._begin(name)
                expected += 1
                if version != expected or position <= last:
                    self._misplaced(name, version, expected, position, last)
                    expected = version
                last = position
                self._event(name, topic, state, position, recorded_at)
            self._books.write()
            events += len(page)
            done += len(page)
            progress(done, self._moment.head)
        self._finish(last)
        self._books.close()
        for check in ("catalogue", "I8", "I16", "times"):
            self._found.looked_at[check] += events
        for check in (*OF_COUPONS, "I2"):
            self._found.looked_at[check] += coupons

    def _begin(self, stream: str) -> bool:
        self._judging, self._merchant = True, ""
        is_coupon = stream.startswith("coupon-")
        if is_coupon:
            self._coupon = Coupon(stream)
        return is_coupon

    def _event(self, stream: str, topic: str, state: bytes, position: int, recorded_at: datetime | None) -> None:
        payload = self._reader.payload(topic, state)
        if payload is None:
            self._found.add("catalogue", position, stream, "an event of the catalogue", self._reader.fault)
            self._judging = False
            return
        if not stream.startswith(self._reader.shapes[topic].prefix):
            self._found.add("catalogue", position, stream, f"a stream in which {topic} may be", stream)
            self._judging = False
            return
        try:
            issued = topic == "coupon.issued"
            merchant = self._owner(stream, payload, issued)
            if not merchant or not payload["merchant_id"]:
                found = f"{payload['merchant_id']!r} in a stream of {merchant!r}"
                self._found.add("I16", position, stream, "a merchant that is named", found)
            elif payload["merchant_id"] != merchant:
                self._found.add("I16", position, stream, f"merchant {merchant}", f"{payload['merchant_id']}")
            at = datetime.fromisoformat(payload["occurred_at"])
            self._check_time(stream, at, position, recorded_at)
            request_id = payload["request_id"]
            alone = 0
            if issued:
                alone = stream[7:] == coupon_id(payload["batch_id"], request_id, 0)
                self._count(stream, payload, at, merchant, position)
            elif topic == "coupon.expired":
                alone = 2
            elif topic in SPENT:
                self._books.owed.append((f" order {merchant}", payload["order_id"], position, None))
                self._books.redeemed.append((payload["redemption_id"], position))
            self._books.asked.append((merchant, request_id, position, int(alone)))
            if self._judging and topic.startswith("coupon."):
                self._judge(topic, payload, at, position)
        except UNREADABLE as error:
            self._found.add("catalogue", position, stream, f"{topic} whose fields can be read", repr(error))
            self._judging = False

    def _check_time(self, stream: str, occurred_at: datetime, position: int, recorded_at: datetime | None) -> None:
        if recorded_at is None:
            self._found.add("times", position, stream, "a time at which it was recorded", "none of the calendar")
        elif occurred_at > recorded_at and occurred_at > recorded_at + CLOCK_SKEW:
            expected = f"an event of {recorded_at.astimezone(UTC).isoformat()} or before, when it was recorded"
            self._found.add("times", position, stream, expected, f"of {occurred_at.isoformat()}")

    def _judge(self, topic: str, payload: Payload, at: datetime, position: int) -> None:
        coupon = self._coupon
        try:
            if topic == "coupon.issued":
                coupon.issued(payload, at, self._plans, position)
            else:
                coupon.check_next(topic, payload)
                STEPS[topic](coupon, payload, at)
        except Broken as broken:
            check, expected, found = broken.args
            self._found.add(check, position, coupon.stream, expected, found)
            self._judging = False

    def _owner(self, stream: str, payload: Payload, issued: bool) -> str:
        """Whose the stream is: its batch's, where it has one that is known, and otherwise its first event's."""
        if not self._merchant:
            batch = self._plans.batches.get(payload["batch_id"]) if issued else None
            self._merchant = payload["merchant_id"] if batch is None else batch.merchant_id
            if stream.startswith("batch-") and (known := self._plans.batches.get(stream[6:])):
                self._merchant = self._plans.template_merchants.get(known.template[0], self._merchant)
        return self._merchant

    def _count(self, stream: str, issued: Payload, at: datetime, merchant: str, position: int) -> None:
        """What an issue takes of stock, limits, receipts, codes and jobs."""
        batch = self._plans.batches.get(issued["batch_id"])
        facts = issued["facts"]
        if batch is not None:
            batch.issued += 1
            batch.quantity.take(position, 1)
            if batch.budget.since and batch.terms is not None:
                batch.budget.take(position, batch.terms.face_minor or 0)
            self._count_limits(batch, issued, at, position)
        if facts:
            if receipt := facts.get("points_receipt"):
                self._books.owed.append((f" points {merchant}", receipt, position, 1))
            if codes_id := facts.get("codes_id"):
                self._count_code(stream, issued, codes_id, position)
        if issued["request_id"].startswith(SOURCE):
            job_id, _, row = issued["request_id"][len(SOURCE) :].partition(" ")
            job = self._plans.jobs.get(job_id)
            if (
                job is not None
                and row.isdecimal()
                and (job.merchant_id, job.batch_id) == (merchant, issued["batch_id"])
            ):
                job.issued += 1

    def _count_limits(self, batch: Batch, issued: Payload, at: datetime, position: int) -> None:
        user_most, user_day_most, day_most, person_most = batch.limits
        owed, user_id = self._books.owed, issued["user_id"]
        if user_most is not None:
            owed.append((batch.id, user_id, position, user_most))
        if person_most is not None:
            owed.append((batch.id, f" person {issued['facts'].get('person')}", position, person_most))
        if day_most is not None or user_day_most is not None:
            day = at.astimezone(batch.day_zone).date().isoformat()
            if day_most is not None:
                owed.append((batch.id, f" day {day}", position, day_most))
            if user_day_most is not None:
                owed.append((batch.id, f" day {day} {user_id}", position, user_day_most))

    def _count_code(self, stream: str, issued: Payload, codes_id: str, position: int) -> None:
        codes = self._plans.codes.get(codes_id)
        if codes is None or codes.batch_id != issued["batch_id"]:
            self._found.add("codes", position, stream, "a set of codes of its batch", codes_id)
            return
        if position < codes.generated_at or (codes.revoked_at is not None and position > codes.revoked_at):
            self._found.add("codes", position, stream, f"a code while the set {codes_id} was good", f"at {position}")
        codes.exchanged += 1
        codes.last_exchanged_at = max(position, codes.last_exchanged_at or 0)
        if codes.kind != "generic":
            self._books.exchanged.append((stream, codes_id, codes.batch_id, position))

    def _finish(self, last: int) -> None:
        """Sum up the stream in hand, of which that is the last position."""
        coupon = self._coupon
        if not coupon.state or coupon.batch is None:
            return
        if coupon.grace is not None and self._judging:
            self._found.add("I7", last, coupon.stream, coupon.left_out(), "nothing after the credit")
        coupon.batch.states[coupon.state] += 1
        limited = coupon.state == "LOCKED" and coupon.terms.live_locks_per_user is not None
        if limited and coupon.lock_ends > self._moment.now:
            owner = f"{coupon.batch.merchant_id} {coupon.batch.template[0]} {coupon.holder}"
            self.held[coupon.stream.removeprefix("coupon-")] = (owner, coupon.lock_ends)
        self._coupon = Coupon("")

    def _misplaced(self, stream: str, version: int, expected: int, position: int, last: int) -> None:
        if version != expected:
            self._found.add("I8", position, stream, f"version {expected}", f"version {version}")
        else:
            self._found.add("I8", position, stream, f"a position after {last}", f"position {position}")
        self._judging = False


def walk(
    moment: Moment, plans: Plans, reader: Reader, books: Books, found: Findings, progress: Progress
) -> dict[str, tuple[str, datetime]]:
    """Read the log stream by stream, tell what is wrong, and answer what is held now (``Walk.held``)."""
    with _calm_collector():
        walked = Walk(moment, plans, reader, books, found)
        walked.run(progress)
    return walked.held


def _pages(connection: Connection) -> Iterator[list[tuple[Any, ...]]]:
    with connection.cursor(name="verify_log", row_factory=tuple_row) as cursor:
        cursor.execute(_READ, binary=True)
        while page := cursor.fetchmany(PAGE):
            yield page


@contextmanager
def _calm_collector() -> Iterator[None]:
    """Payloads are no cycles, and looking for some among them costs a tenth of the pass."""
    before = gc.get_threshold()
    gc.set_threshold(100_000, 50, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)


_READ = """
select originator_id, originator_version, topic, state, notification_id,
       case when recorded_at between '1970-01-01Z' and '9000-01-01Z' then recorded_at end
  from events order by originator_id, originator_version
"""

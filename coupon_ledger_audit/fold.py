"""The whole log folded anew, event by event: batches, their limits and totals, and every coupon's life."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable

from coupon_ledger_audit.batch_fold import COUNTERS, NOT_REVIEWED, STATES, Batch
from coupon_ledger_audit.broken import FORM, I1, I2, I3, I5, I7, I8, I9, I17, SECOND, Broken, expect, moment
from coupon_ledger_audit.coupon_fold import LEFT_OUT, Coupon
from coupon_ledger_audit.spending import Event
from coupon_ledger_audit.terms import Terms

__all__ = ["COUNTERS", "Fold"]

VERSIONS = {
    "batch.approved": 1,
    "batch.budget_changed": 1,
    "batch.created": 3,
    "batch.paused": 1,
    "batch.quantity_changed": 1,
    "batch.rejected": 1,
    "batch.resumed": 1,
    "batch.started": 1,
    "batch.stopped": 1,
    "batch.submitted": 1,
    "codes.exported": 1,
    "codes.generated": 1,
    "codes.revoked": 1,
    "coupon.credited": 1,
    "coupon.debited": 1,
    "coupon.expired": 1,
    "coupon.extended": 1,
    "coupon.issued": 2,
    "coupon.lock_extended": 1,
    "coupon.locked": 4,
    "coupon.returned": 1,
    "coupon.shared": 1,
    "coupon.transferred": 1,
    "coupon.unlocked": 1,
    "coupon.used": 2,
    "coupon.voided": 1,
    "job.finished": 1,
    "job.started": 1,
    "job.undo_started": 1,
    "job.undone": 1,
    "reminder.cancelled": 1,
    "reminder.requested": 1,
    "rule.created": 2,
    "rule.stopped": 1,
    "subject.erased": 1,
    "subject.noted": 1,
    "template.created": 3,
    "template.revised": 3,
}
"""Every topic that this audit knows, with the newest version of its payload."""
_STREAMS = {"rule": "rules"}
"""With which the names of a topic's streams begin, where that is not what the topic begins with."""
SKEW_SECONDS = 60
"""How much later than the database recorded it an event may say that it occurred: machines carry its clock on."""


class Fold:
    """Takes events by position and raises ``Broken`` at the first that breaks a rule.

    What is remembered grows with the number of coupons and of their uses, not of events. A coupon's batch and template
    must have come before it. ``whole`` says that every event of the log comes by, and not only those of some coupons.
    """

    def __init__(self, *, whole: bool) -> None:
        self.whole = whole
        self._lacking = "was not made before" if whole else "is not in the bundle"
        self.versions: dict[str, int] = {}
        self.coupons: dict[str, Coupon] = {}
        self.batches: dict[str, Batch] = {}
        self.templates: dict[tuple[str, int], Terms] = {}
        self.receipts: set[tuple[str, str]] = set()
        self.redemptions: set[str] = set()
        self.unknown_zones: set[str] = set()
        """Zones that this machine has no data of, so that limits by day could not be checked in them."""
        self._steps: dict[str, Callable[[str, int, str, Event], None]] = {
            "coupon": self._coupon,
            "batch": self._batch,
            "template": self._template,
        }

    def add(self, stream: str, version: int, topic: str, state: str, recorded_at_us: int | None = None) -> None:
        """Fold one event; ``recorded_at_us`` in microseconds since 1970, where it is known. Raises ``Broken``."""
        category, _, key = stream.partition("-")
        coupon = self.coupons.get(stream) if category == "coupon" else None
        last = coupon.version if coupon is not None else self.versions.get(stream, 0)
        if version != last + 1:
            raise Broken(I8, f"version {version} of {stream} follows version {last}")
        kind = topic.partition(".")[0]
        if topic not in VERSIONS:
            raise Broken(FORM, f"this audit does not know {topic}")
        if category != _STREAMS.get(kind, kind):
            raise Broken(FORM, f"{topic} in the stream {stream}")
        try:
            if step := self._steps.get(category):
                event = _payload(topic, state)
                if recorded_at_us is not None:
                    ahead = (moment(event["occurred_at"]) - recorded_at_us) / SECOND
                    expect(ahead <= SKEW_SECONDS, I9, f"{topic} was recorded {ahead:.0f} seconds before it occurred")
                if coupon is None:
                    step(key, version, topic, event)
                else:
                    self._coupon_step(coupon, topic, event)
                    coupon.version = version
        except (ArithmeticError, LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
            if isinstance(error, Broken):
                raise
            raise Broken(FORM, f"the payload of {topic} cannot be read: {error!r}") from error
        if category != "coupon":
            self.versions[stream] = version

    def balances(self) -> dict[str, dict[str, int]]:
        """The totals of every batch as of now, and its quantity."""
        return {key: {"quantity": batch.quantity} | batch.counts for key, batch in self.batches.items()}

    def _coupon(self, key: str, _: int, topic: str, event: Event) -> None:
        """The first event of a coupon."""
        expect(topic == "coupon.issued", FORM, f"a coupon begins with {topic}")
        batch_id, template = event["batch_id"], (f"template-{event['template_id']}", event["template_version"])
        batch = self.batches.get(batch_id)
        if batch is None:
            raise Broken(I2, f"a coupon of the batch {batch_id}, which {self._lacking}")
        planned = (batch.merchant_id, *batch.template)
        expect(
            (event["merchant_id"], *template) == planned,
            I2,
            "a coupon of another merchant or template than its batch's",
        )
        terms = self.templates.get(template)
        if terms is None:
            raise Broken(I17, f"a coupon of {template[0]} version {template[1]}, which {self._lacking}")
        batch.issue(event, terms, self.unknown_zones)
        receipt = event.get("facts", {}).get("points_receipt")
        if receipt is not None:
            owned = (event["merchant_id"], receipt)
            expect(owned not in self.receipts, I3, "a receipt of points is exchanged twice")
            self.receipts.add(owned)
        self.coupons[f"coupon-{key}"] = Coupon(event, batch_id, batch.merchant_id, terms)

    def _coupon_step(self, coupon: Coupon, topic: str, event: Event) -> None:
        before = coupon.state
        coupon.apply(topic, event)
        counts = self.batches[coupon.batch_id].counts
        if coupon.state != before:
            counts[before] -= 1
            counts[coupon.state] += 1
        if topic in ("coupon.used", "coupon.debited"):
            counts["discount_minor"] += event["discount_minor"]
            id = event["redemption_id"]
            expect(id not in self.redemptions, I5, f"the redemption {id} is there twice")
            self.redemptions.add(id)
        elif topic in ("coupon.returned", "coupon.credited"):
            counts["returned"] += 1
            counts["returned_minor"] += event["returned_minor" if topic == "coupon.returned" else "credited_minor"]

    def _batch(self, key: str, version: int, topic: str, event: Event) -> None:
        expect((version == 1) == (topic == "batch.created"), FORM, f"{topic} is version {version} of a batch")
        if version == 1:
            self.batches[key] = Batch(event)
            return
        batch = self.batches[key]
        terms = self.templates.get(batch.template)
        batch.apply(topic, event, terms.worth_minor if terms is not None else None)

    def _template(self, key: str, version: int, topic: str, event: Event) -> None:
        expect((version == 1) == (topic == "template.created"), FORM, f"{topic} is version {version} of a template")
        self.templates[f"template-{key}", version] = Terms(event["terms"])

    def conserve(self) -> None:
        """Raise ``Broken`` unless in every batch what was issued is what its states hold, counted coupon by coupon.

        Nor does a whole log end where the same request must write another event.
        """
        found: dict[str, Counter[str]] = {key: Counter() for key in self.batches}
        for stream, coupon in self.coupons.items():
            if self.whole:
                expect(coupon.grace is None, I7, f"{LEFT_OUT} ({stream})")
            if coupon.batch_id in found:
                found[coupon.batch_id][coupon.state] += 1
        for key, batch in self.batches.items():
            states = {state: batch.counts[state] for state in STATES}
            held = {state: found[key][state] for state in STATES}
            expect(not (self.whole and batch.raised), I2, f"{NOT_REVIEWED} (batch-{key})")
            expect(held == states, I1, f"the batch {key} holds {held} and counted {states}")
            expect(sum(states.values()) == batch.counts["issued"], I1, f"the batch {key} issued another number")


def _payload(topic: str, state: str) -> Event:
    event: Event = json.loads(state)
    version = event.get("class_version", 1)
    expect(version in range(1, VERSIONS[topic] + 1), FORM, f"version {version} of {topic} is not known")
    return event

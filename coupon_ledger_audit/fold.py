"""The whole log folded anew, event by event: batches, their limits and totals, and every coupon's life."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from coupon_ledger_audit.broken import FORM, I1, I2, I3, I8, I17, Broken, expect, whole, whole_if_given
from coupon_ledger_audit.coupon_fold import EXPIRED, LOCKED, UNUSED, USED, VOIDED, Coupon, Event
from coupon_ledger_audit.terms import Terms

STATES = (UNUSED, LOCKED, USED, EXPIRED, VOIDED)
COUNTERS = ("issued", *STATES, "returned", "discount_minor", "returned_minor")
"""What a batch's totals count: coupons by stored state, returns, and money in minor units."""
KNOWN_VERSIONS = {
    "batch.created": 3,
    "coupon.issued": 2,
    "coupon.locked": 4,
    "coupon.used": 2,
    "template.created": 3,
    "template.revised": 3,
}
"""Payload versions that this audit reads; every other topic has one."""


class Batch:
    """A batch's limits and totals."""

    def __init__(self, event: Event) -> None:
        self.merchant_id: str = event["merchant_id"]
        self.template = (f"template-{event['template_id']}", event["template_version"])
        self.quantity = whole(event, "quantity", I2)
        self.budget_minor = whole_if_given({"budget_minor": None} | event, "budget_minor", I17)
        self.per_user_limit = event["per_user_limit"]
        self.per_person_limit = event.get("per_person_limit")
        self.per_day_limit = event.get("per_day_limit")
        self.per_user_day_limit = event.get("per_user_day_limit")
        self.time_zone: str = event.get("time_zone", "UTC")
        self.taken: Counter[str | tuple[str, ...]] = Counter()
        """What was issued to each user, person and day that a limit is about."""
        self.counts = dict.fromkeys(COUNTERS, 0)


class Fold:
    """Takes events by position and raises ``Broken`` at the first that breaks a rule.

    What is remembered grows with the number of coupons, not of events. ``whole`` says that every event of the log
    comes by, so that a coupon's batch and template must have come before it.
    """

    def __init__(self, *, whole: bool) -> None:
        self.whole = whole
        self.versions: dict[str, int] = {}
        self.coupons: dict[str, Coupon] = {}
        self.batches: dict[str, Batch] = {}
        self.templates: dict[tuple[str, int], Terms] = {}
        self.receipts: set[tuple[str, str]] = set()
        self.unknown_zones: set[str] = set()
        """Zones that this machine has no data of, so that limits by day could not be checked in them."""
        self._steps: dict[str, Callable[[str, int, str, Event], None]] = {
            "coupon": self._coupon,
            "batch": self._batch,
            "template": self._template,
        }

    def add(self, stream: str, version: int, topic: str, state: str) -> None:
        """Fold one event. Raises ``Broken``."""
        category, _, key = stream.partition("-")
        coupon = self.coupons.get(stream) if category == "coupon" else None
        last = coupon.version if coupon is not None else self.versions.get(stream, 0)
        if version != last + 1:
            raise Broken(I8, f"version {version} of {stream} follows version {last}")
        kind = topic.partition(".")[0]
        if kind != category and (kind in self._steps or category in self._steps):
            raise Broken(FORM, f"{topic} in the stream {stream}")
        try:
            if coupon is not None:
                self._coupon_step(coupon, topic, _payload(topic, state))
                coupon.version = version
            elif step := self._steps.get(category):
                step(key, version, topic, _payload(topic, state))
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
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
        batch = self.batches.get(event["batch_id"])
        terms = self.templates.get((f"template-{event['template_id']}", event["template_version"]))
        if batch is None:
            expect(not self.whole, I2, f"a coupon of the batch {event['batch_id']}, which was never planned")
            coupon = Coupon(event, event["batch_id"], event["merchant_id"], terms)
        else:
            planned = (batch.merchant_id, *batch.template)
            named = (event["merchant_id"], f"template-{event['template_id']}", event["template_version"])
            expect(named == planned, I2, "a coupon of another merchant or template than its batch's")
            expect(terms is not None or not self.whole, I17, "a coupon of a template that was never defined")
            self._issue(batch, event, terms)
            coupon = Coupon(event, event["batch_id"], batch.merchant_id, terms)
        self.coupons[f"coupon-{key}"] = coupon

    def _issue(self, batch: Batch, event: Event, terms: Terms | None) -> None:
        counts = batch.counts
        counts["issued"] += 1
        counts[UNUSED] += 1
        expect(counts["issued"] <= batch.quantity, I2, f"coupon {counts['issued']} of a quantity of {batch.quantity}")
        worth = terms.worth_minor if terms is not None else None
        if batch.budget_minor is not None and worth is not None:
            taken = counts["issued"] * worth
            expect(taken <= batch.budget_minor, I17, f"coupons worth {taken} of a budget of {batch.budget_minor}")
        facts = event.get("facts", {})
        user_id = event["user_id"]
        _take(batch, batch.per_user_limit, user_id, "a user")
        if batch.per_person_limit is not None:
            _take(batch, batch.per_person_limit, ("person", facts["person"]), "a person")
        if batch.per_day_limit is not None or batch.per_user_day_limit is not None:
            try:
                day = str(datetime.fromisoformat(event["occurred_at"]).astimezone(ZoneInfo(batch.time_zone)).date())
            except ZoneInfoNotFoundError:
                self.unknown_zones.add(batch.time_zone)
            else:
                _take(batch, batch.per_day_limit, ("day", day), "a day")
                _take(batch, batch.per_user_day_limit, ("day", day, user_id), "a user's day")
        if "points_receipt" in facts:
            receipt = (event["merchant_id"], facts["points_receipt"])
            expect(receipt not in self.receipts, I3, "a receipt of points is exchanged twice")
            self.receipts.add(receipt)

    def _coupon_step(self, coupon: Coupon, topic: str, event: Event) -> None:
        before = coupon.state
        coupon.apply(topic, event)
        batch = self.batches.get(coupon.batch_id)
        if batch is None:
            return
        counts = batch.counts
        if coupon.state != before:
            counts[before] -= 1
            counts[coupon.state] += 1
        if topic in ("coupon.used", "coupon.debited"):
            counts["discount_minor"] += event["discount_minor"]
        elif topic in ("coupon.returned", "coupon.credited"):
            counts["returned"] += 1
            counts["returned_minor"] += event["returned_minor" if topic == "coupon.returned" else "credited_minor"]

    def _batch(self, key: str, version: int, topic: str, event: Event) -> None:
        expect((version == 1) == (topic == "batch.created"), FORM, f"{topic} is version {version} of a batch")
        if version == 1:
            self.batches[key] = Batch(event)
            return
        batch = self.batches[key]
        expect(event["merchant_id"] == batch.merchant_id, I2, "an event of another merchant than the batch's")
        if topic == "batch.quantity_changed":
            expect(event["quantity_before"] == batch.quantity, I2, "the quantity before was another")
            batch.quantity = whole(event, "quantity", I2)
            expect(batch.counts["issued"] <= batch.quantity, I2, "a quantity below what is issued")
        elif topic == "batch.budget_changed":
            expect(event["budget_before_minor"] == batch.budget_minor, I17, "the budget before was another")
            batch.budget_minor = whole(event, "budget_minor", I17)
            terms = self.templates.get(batch.template)
            worth = terms.worth_minor if terms is not None else None
            taken = batch.counts["issued"] * (worth or 0)
            expect(taken <= batch.budget_minor, I17, "a budget below what is issued")

    def _template(self, key: str, version: int, _: str, event: Event) -> None:
        self.templates[f"template-{key}", version] = Terms(event["terms"])

    def conserve(self) -> None:
        """Raise ``Broken`` unless in every batch what was issued is what its states hold, counted coupon by coupon."""
        found: dict[str, Counter[str]] = {key: Counter() for key in self.batches}
        for coupon in self.coupons.values():
            if coupon.batch_id in found:
                found[coupon.batch_id][coupon.state] += 1
        for key, batch in self.batches.items():
            states = {state: batch.counts[state] for state in STATES}
            held = {state: found[key][state] for state in STATES}
            expect(held == states, I1, f"the batch {key} holds {held} and counted {states}")
            expect(sum(states.values()) == batch.counts["issued"], I1, f"the batch {key} issued another number")


def _take(batch: Batch, most: int | None, owner: str | tuple[str, ...], named: str) -> None:
    if most is None:
        return
    batch.taken[owner] += 1
    expect(batch.taken[owner] <= most, I3, f"{named} gets {batch.taken[owner]} coupons of a batch that allows {most}")


def _payload(topic: str, state: str) -> Event:
    event: Event = json.loads(state)
    version = event.get("class_version", 1)
    expect(version in range(1, KNOWN_VERSIONS.get(topic, 1) + 1), FORM, f"version {version} of {topic} is not known")
    return event

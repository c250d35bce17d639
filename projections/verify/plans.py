"""What the log says of templates, batches, sets of codes and jobs: few events, by which those of coupons are judged."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from projections.verify.report import Findings
from projections.verify.rows import Payload, Reader
from projections.verify.snapshot import Connection, streamed

MONEY_OFF = ("amount_off", "cash_voucher")

# State before to state after, by topic; '' is before the first event.
_STEPS: dict[str, dict[str, str]] = {
    "batch.created": {"": "DRAFT"},
    "batch.submitted": {"DRAFT": "IN_REVIEW"},
    "batch.approved": {"IN_REVIEW": "APPROVED"},
    "batch.rejected": {"IN_REVIEW": "DRAFT", "APPROVED": "DRAFT", "PAUSED": "DRAFT"},
    "batch.started": {"DRAFT": "RUNNING", "APPROVED": "RUNNING"},
    "batch.paused": {"RUNNING": "PAUSED"},
    "batch.resumed": {"PAUSED": "RUNNING"},
    "batch.stopped": dict.fromkeys(("DRAFT", "IN_REVIEW", "APPROVED", "RUNNING", "PAUSED"), "STOPPED"),
    "batch.quantity_changed": {state: state for state in ("DRAFT", "APPROVED", "RUNNING", "PAUSED")},
    "batch.budget_changed": {state: state for state in ("DRAFT", "APPROVED", "RUNNING", "PAUSED")},
    "template.created": {"": "THERE"},
    "template.revised": {"THERE": "THERE"},
    "codes.generated": {"": "LIVE"},
    "codes.exported": {"LIVE": "LIVE", "REVOKED": "REVOKED"},
    "codes.revoked": {"LIVE": "REVOKED"},
    "job.started": {"": "RUNNING"},
    "job.finished": {"RUNNING": "FINISHED"},
    "job.undo_started": {"RUNNING": "UNDOING", "FINISHED": "UNDOING"},
    "job.undone": {"UNDOING": "UNDONE"},
}


class Terms(NamedTuple):
    """What of a template's version can be judged without a basket."""

    kind: str
    value_minor: int | None
    percent_permyriad: int | None
    max_discount_minor: int | None
    leaves_balance: bool
    currency: str
    merchant_share_permyriad: int
    live_locks_per_user: int | None
    return_rules: Mapping[str, str]

    @classmethod
    def of(cls, terms: Mapping[str, Any]) -> Terms:
        """From the payload of the template's event."""
        benefit = terms["benefit"]
        return cls(
            benefit["kind"],
            benefit["value_minor"],
            benefit["percent_permyriad"],
            benefit["max_discount_minor"],
            benefit["leaves_balance"],
            terms["currency"],
            terms["merchant_share_permyriad"],
            terms["live_locks_per_user"],
            terms["return_policy"],
        )

    @property
    def face_minor(self) -> int | None:
        """The most that one coupon can take off; ``None`` where the order alone bounds it."""
        known = [self.max_discount_minor, self.value_minor if self.kind in MONEY_OFF else None]
        return min((most for most in known if most is not None), default=None)

    def most_minor(self, order_total_minor: int | None) -> int | None:
        """The same on an order of that total."""
        known = [self.face_minor]
        if order_total_minor is not None and self.kind != "free_shipping":
            known.append(order_total_minor)
            if self.percent_permyriad is not None:
                known.append((order_total_minor * self.percent_permyriad + 9_999) // 10_000)
        return min((most for most in known if most is not None), default=None)


class Supply:
    """A most that changes now and then, and what was taken of it between the changes."""

    def __init__(self) -> None:
        self.since: list[int] = []
        self.mosts: list[int] = []
        self.taken: list[int] = []
        self.last = 0
        """Position of the last event that counts."""

    def set(self, position: int, most: int) -> None:
        """From this position on."""
        self.since.append(position)
        self.mosts.append(most)
        self.taken.append(0)
        self.last = max(self.last, position)

    def take(self, position: int, amount: int) -> None:
        """At this position, which may come in any order."""
        self.taken[max(0, bisect_right(self.since, position) - 1) if len(self.since) > 1 else 0] += amount
        self.last = max(self.last, position)

    @property
    def total(self) -> int:
        """All that was taken."""
        return sum(self.taken)

    def first_excess(self) -> tuple[int, int] | None:
        """(Most, position of the change after it or the log's end as 0) of the first time when too much was taken."""
        total = 0
        for index, (most, taken) in enumerate(zip(self.mosts, self.taken, strict=True)):
            total += taken
            if total > most:
                return most, self.since[index + 1] if index + 1 < len(self.since) else 0
        return None


class Batch:
    """A batch as its stream says."""

    __slots__ = (
        "budget", "claim_from", "claim_until", "day_zone", "id", "issued", "limits", "merchant_id", "quantity",
        "running", "states", "template", "terms",
    )  # fmt: skip

    def __init__(self, created: Payload, terms: Terms | None) -> None:
        self.id: str = created["originator_id"].removeprefix("batch-")
        self.merchant_id: str = created["merchant_id"]
        self.template: tuple[str, int] = (created["template_id"], created["template_version"])
        self.terms = terms
        self.quantity, self.budget = Supply(), Supply()
        self.limits: tuple[int | None, int | None, int | None, int | None] = (
            created["per_user_limit"],
            created["per_user_day_limit"],
            created["per_day_limit"],
            created["per_person_limit"],
        )
        self.day_zone: str = created["time_zone"]
        self.claim_from = _moment(created["claim_from"])
        self.claim_until = _moment(created["claim_until"])
        self.running: list[int] = []
        """Positions from which on it runs, does not run, runs again, and so on."""
        self.states: Counter[str] = Counter()
        """Its coupons, by the state that their own events say."""
        self.issued = 0

    def runs_at(self, position: int) -> bool:
        """Whether it issued at that position."""
        return bisect_right(self.running, position) % 2 == 1


class Codes:
    """A set of codes as its stream says."""

    __slots__ = (
        "batch_id",
        "count",
        "exchanged",
        "exported",
        "generated_at",
        "id",
        "kind",
        "last_exchanged_at",
        "merchant_id",
        "revoked_at",
    )

    def __init__(self, generated: Payload, position: int) -> None:
        self.id: str = generated["originator_id"].removeprefix("codes-")
        self.merchant_id: str = generated["merchant_id"]
        self.batch_id: str = generated["batch_id"]
        self.kind: str = generated["kind"]
        self.count: int = generated["count"]
        self.generated_at = position
        self.revoked_at: int | None = None
        self.exported = False
        self.exchanged = 0
        self.last_exchanged_at: int | None = None


class Job:
    """A job as its stream says, and what coupons say of it."""

    __slots__ = ("batch_id", "finished", "finished_at", "id", "issued", "merchant_id", "rows", "started_at", "state")

    def __init__(self, started: Payload, position: int) -> None:
        self.id: str = started["originator_id"].removeprefix("job-")
        self.merchant_id: str = started["merchant_id"]
        self.batch_id: str = started["batch_id"]
        self.rows: int = started["rows"]
        self.started_at = position
        self.state = "RUNNING"
        self.finished: tuple[int, int] | None = None
        """Issued and refused, as it says itself."""
        self.finished_at: int | None = None
        self.issued = 0


class Plans:
    """All of them."""

    def __init__(self) -> None:
        self.terms: dict[tuple[str, int], Terms] = {}
        self.template_merchants: dict[str, str] = {}
        self.batches: dict[str, Batch] = {}
        self.codes: dict[str, Codes] = {}
        self.jobs: dict[str, Job] = {}
        self._states: dict[str, str] = {}

    def read(self, connection: Connection, reader: Reader, found: Findings) -> None:
        """Take in their events, in the order of the log, and tell which of them are out of turn."""
        for stream, version, topic, state, position in streamed(connection, _READ):
            payload = reader.payload(topic, state)
            if payload is None:
                continue  # told where every row is looked at
            found.looked_at["plans"] += 1
            before = self._states.get(stream, "")
            after = _STEPS[topic].get(before)
            if after is None:
                found.add(
                    "plans", position, stream, f"{topic} from {_words(_STEPS[topic])}", f"from {before or 'none'}"
                )
                continue
            self._states[stream] = after
            payload["originator_id"] = stream
            try:
                getattr(self, f"_{topic.partition('.')[0]}")(topic, version, payload, position, before, after, found)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                found.add("catalogue", position, stream, f"{topic} whose fields can be read", repr(error))

    def _template(self, topic: str, version: int, payload: Payload, *_: Any) -> None:
        id = payload["originator_id"].removeprefix("template-")
        self.terms[id, version] = Terms.of(payload["terms"])
        if topic == "template.created":
            self.template_merchants[id] = payload["merchant_id"]

    def _batch(
        self, topic: str, _version: int, payload: Payload, position: int, before: str, after: str, found: Findings
    ) -> None:
        stream = payload["originator_id"]
        if topic == "batch.created":
            batch = Batch(payload, self.terms.get((payload["template_id"], payload["template_version"])))
            self.batches[batch.id] = batch
            batch.quantity.set(position, payload["quantity"])
            if payload["budget_minor"] is not None:
                batch.budget.set(position, payload["budget_minor"])
            owner = self.template_merchants.get(batch.template[0])
            if batch.terms is None:
                found.add("plans", position, stream, "terms of a template that is there", f"{batch.template}")
            elif owner != batch.merchant_id:
                found.add("I16", position, stream, f"a template of {batch.merchant_id}", f"of {owner}")
            return
        batch = self.batches[stream.removeprefix("batch-")]
        if (before == "RUNNING") != (after == "RUNNING"):
            batch.running.append(position)
        if topic == "batch.quantity_changed":
            self._change(batch.quantity, payload["quantity_before"], payload["quantity"], stream, position, found)
        elif topic == "batch.budget_changed":
            self._change(batch.budget, payload["budget_before_minor"], payload["budget_minor"], stream, position, found)

    @staticmethod
    def _change(supply: Supply, before: int, most: int, stream: str, position: int, found: Findings) -> None:
        known = supply.mosts[-1] if supply.mosts else None
        if known != before:
            found.add("plans", position, stream, f"a change from {known}", f"from {before}")
        supply.set(position, most)

    def _codes(self, topic: str, _version: int, payload: Payload, position: int, *_: Any) -> None:
        if topic == "codes.generated":
            made = Codes(payload, position)
            self.codes[made.id] = made
            return
        codes = self.codes[payload["originator_id"].removeprefix("codes-")]
        if topic == "codes.exported":
            codes.exported = True
        else:
            codes.revoked_at = position

    def _job(
        self, topic: str, _version: int, payload: Payload, position: int, _before: str, after: str, _: Findings
    ) -> None:
        if topic == "job.started":
            begun = Job(payload, position)
            self.jobs[begun.id] = begun
            return
        job = self.jobs[payload["originator_id"].removeprefix("job-")]
        job.state = after
        if topic == "job.finished":
            job.finished, job.finished_at = (payload["issued"], payload["refused"]), position


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _words(steps: Mapping[str, str]) -> str:
    return " or ".join(state or "none" for state in steps)


_READ = """
select originator_id, originator_version, topic, state, notification_id from events
 where topic like any (array['template.%', 'batch.%', 'codes.%', 'job.%'])
 order by notification_id
"""

"""What the log says of templates, batches, sets of codes and jobs: few events, by which those of coupons are judged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from projections.verify.batches import Batch
from projections.verify.report import Broken, Findings
from projections.verify.rows import UNREADABLE, Payload, Reader, whole
from projections.verify.snapshot import Connection, streamed
from projections.verify.terms import Terms

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
        self.count = whole(generated, "count")
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
        self.rows = whole(started, "rows")
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
            except Broken as broken:
                check, expected, is_found = broken.args
                found.add(check, position, stream, expected, is_found)
            except UNREADABLE as error:
                found.add("catalogue", position, stream, f"{topic} whose fields can be read", repr(error))
        for batch in self.batches.values():
            if batch.raised_at is not None:
                found.add("plans", batch.raised_at, f"batch-{batch.id}", "a review of what was raised", "none")

    def _template(self, topic: str, version: int, payload: Payload, *_: Any) -> None:
        id = payload["originator_id"].removeprefix("template-")
        self.terms[id, version] = Terms(payload["terms"])
        if topic == "template.created":
            self.template_merchants[id] = payload["merchant_id"]

    def _batch(
        self, topic: str, _version: int, payload: Payload, position: int, before: str, after: str, found: Findings
    ) -> None:
        stream = payload["originator_id"]
        if topic == "batch.created":
            terms = self.terms.get((payload["template_id"], payload["template_version"]))
            batch = Batch(payload, terms, position)
            self.batches[batch.id] = batch
            owner = self.template_merchants.get(batch.template[0])
            if batch.terms is None:
                found.add("plans", position, stream, "terms of a template that is there", f"{batch.template}")
            elif owner != batch.merchant_id:
                found.add("I16", position, stream, f"a template of {batch.merchant_id}", f"of {owner}")
        elif known := self.batches.get(stream.removeprefix("batch-")):
            if (before == "RUNNING") != (after == "RUNNING"):
                known.running.append(position)
            known.check_step(topic, payload, before)
            if topic in ("batch.quantity_changed", "batch.budget_changed"):
                known.check_change(topic[6:].partition("_")[0], payload, before, position)

    def _codes(self, topic: str, _version: int, payload: Payload, position: int, *_: Any) -> None:
        if topic == "codes.generated":
            made = Codes(payload, position)
            self.codes[made.id] = made
        elif codes := self.codes.get(payload["originator_id"].removeprefix("codes-")):
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
        elif job := self.jobs.get(payload["originator_id"].removeprefix("job-")):
            job.state = after
            if topic == "job.finished":
                job.finished, job.finished_at = (payload["issued"], payload["refused"]), position


def _words(steps: Mapping[str, str]) -> str:
    return " or ".join(state or "none" for state in steps)


_READ = """
select originator_id, originator_version, topic, state, notification_id from events
 where topic like any (array['template.%', 'batch.%', 'codes.%', 'job.%'])
 order by notification_id
"""

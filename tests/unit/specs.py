"""given(facts).when(command).then(facts or a refusal): one way to say what the ledger decides.

A story is data, so the same one is told in memory (``MemoryBackend``) and on PostgreSQL
(``tests/postgres/test_use_cases.py``). Texts in it may hold ``~``, which each telling replaces with a tag of its
own, so that many stories fit into one log. Times are given from ``T0``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import pytest

from ledger.batch import Batch
from ledger.benefit import Benefit
from ledger.errors import Refusal
from ledger.events import BatchCreated, BatchStarted, CouponIssued, CouponLocked, Event, TemplateCreated
from ledger.request import Request
from ledger.template import Template
from ledger.terms import Terms
from ledger.work import Loaded, Receipt, Work, fold

T0 = datetime(2026, 1, 1, tzinfo=UTC)
MERCHANT = "merchant-1"
TEMPLATE, BATCH, COUPON, USER = "t~", "b~", "c~", "user-1"
DAY = timedelta(days=1)
INSTANT = timedelta(microseconds=1)
SHARED = {"originator_id", "originator_version", "merchant_id", "actor", "request_id", "occurred_at"}
TERMS = Terms(benefit=Benefit(kind="amount_off", value_minor=500), currency="EUR")


def after(days: float = 0, *, seconds: float = 0, microseconds: int = 0) -> datetime:
    """A moment so long after ``T0``."""
    return T0 + timedelta(days=days, seconds=seconds, microseconds=microseconds)


@dataclass(frozen=True)
class Fact:
    """An event that happened before, or that is expected to happen: payload fields not named do not matter."""

    kind: type[Event]
    stream: str
    """Empty where the request makes up the id of a new stream."""
    payload: Mapping[str, Any] = field(default_factory=dict)
    at: datetime | None = None
    request_id: str = "given-~"

    def event(self, version: int) -> Event:
        """The stored form of a fact of the past; fields that a later version added may be left out."""
        payload = dict(self.payload)
        if not payload.keys() >= self.kind.field_names - SHARED:
            for old in range(1, self.kind.class_version):
                getattr(self.kind, f"upcast_v{old}_v{old + 1}")(payload)
            payload |= self.payload  # which may name some of them
        return self.kind(
            originator_id=self.stream,
            originator_version=version,
            merchant_id=MERCHANT,
            actor="test",
            request_id=self.request_id,
            occurred_at=self.at or T0,
            **payload,
        )


@dataclass(frozen=True)
class Command:
    """A use case with its arguments, asked for at a moment."""

    use_case: Callable[..., Work]
    arguments: Mapping[str, Any]
    at: datetime = T0
    merchant_id: str = MERCHANT
    request_id: str = "request-~"

    def work(self) -> Work:
        """What the ledger is asked to perform. Raises the refusal of a command that contradicts itself."""
        request = Request(self.merchant_id, "test", self.request_id, "body", self.at)
        return self.use_case(request, **self.arguments)


Outcome = tuple[Receipt, Sequence[Event]]


class Backend(Protocol):
    """Where a story is told."""

    tag: str

    def given(self, events: Sequence[Event]) -> None:
        """Let the events have happened."""

    def perform(self, command: Command) -> Outcome:
        """The answer and the new events. Raises the refusal."""


@dataclass(frozen=True)
class Story:
    """A name, what happened, what is asked, and what comes of it: facts, or the class of the refusal."""

    name: str
    given: Sequence[Fact]
    when: Command
    then: Sequence[Fact] | type[Refusal]
    answer: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    def tell(self, backend: Backend) -> None:
        """Play the story and compare."""
        story: Story = bind(self, backend.tag)
        backend.given(numbered(story.given))
        if isinstance(story.then, type):
            with pytest.raises(story.then) as caught:
                backend.perform(story.when)
            assert caught.type is story.then
            assert caught.value.facts.items() >= story.facts.items()
            return
        receipt, events = backend.perform(story.when)
        assert receipt.answer.items() >= story.answer.items(), receipt.answer
        assert [event.TOPIC for event in events] == [fact.kind.TOPIC for fact in story.then]
        for event, fact in zip(events, story.then, strict=True):
            assert fact.stream in (event.originator_id, "")
            assert (event.merchant_id, event.actor) == (story.when.merchant_id, "test")
            assert event.request_id == story.when.request_id
            assert event.occurred_at == (fact.at or story.when.at)
            actual = {name: getattr(event, name) for name in fact.payload}
            assert actual == fact.payload


class MemoryBackend:
    """No store: the use case decides on the given events alone, so what only guards know is not refused here."""

    tag = ""

    def __init__(self) -> None:
        self._streams: dict[str, list[Event]] = {}

    def given(self, events: Sequence[Event]) -> None:
        for event in events:
            self._streams.setdefault(event.originator_id, []).append(event)

    def perform(self, command: Command) -> Outcome:
        work = command.work()
        locked = [
            event.originator_id
            for events in self._streams.values()
            for event in events
            if isinstance(event, CouponLocked) and event.order_id == work.order_id
        ]
        streams = tuple(dict.fromkeys(locked))
        loaded = Loaded(command.merchant_id, command.at, self._streams, self._batch, self._terms, streams)
        decided = work.decide(loaded)
        if isinstance(decided, Receipt):
            return decided, ()
        return Receipt(decided.answer, 0), decided.events

    def _batch(self, batch_id: str) -> Batch:
        return fold(Batch(f"batch-{batch_id}"), self._streams.get(f"batch-{batch_id}", ()))

    def _terms(self, template_id: str, version: int) -> Terms:
        stream = f"template-{template_id}"
        return Terms.from_payload(fold(Template(stream), self._streams[stream][:version]).terms)


def numbered(facts: Sequence[Fact]) -> list[Event]:
    """The events of facts, with versions counted in each stream."""
    versions: dict[str, int] = {}
    events = []
    for fact in facts:
        versions[fact.stream] = versions.get(fact.stream, 0) + 1
        events.append(fact.event(versions[fact.stream]))
    return events


def bind(value: Any, tag: str) -> Any:
    """The value with every ``~`` in its texts replaced by the tag, and the orders named by it too.

    An order's coupons are judged together, so each telling has orders of its own.
    """
    if isinstance(value, str):
        return re.sub(r"\b(order-\d)\b", rf"\1{tag}", value.replace("~", tag))
    if isinstance(value, Mapping):
        return {key: bind(part, tag) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(bind(part, tag) for part in value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: bind(getattr(value, f.name), tag) for f in fields(value)})
    return value


# --- facts that most stories begin with -------------------------------------------------------------


def created_template(terms: Terms = TERMS, kind: type[Event] = TemplateCreated) -> Fact:
    """A template's first version, or a revision of it."""
    return Fact(kind, f"template-{TEMPLATE}", {"name": "Five off", "terms": terms.to_payload()})


def created_batch(**plan: Any) -> Fact:
    """A planned batch on the template's first version; fields as in ``BatchPlan``."""
    payload = {
        "template_id": TEMPLATE,
        "template_version": 1,
        "name": "Batch",
        "campaign": "",
        "quantity": 10,
        "per_user_limit": None,
        "claim_from": None,
        "claim_until": None,
        "valid_from": None,
        "valid_until": None,
        "valid_delay_seconds": 0,
        "valid_for_seconds": 10 * 86_400,
    }
    return Fact(BatchCreated, f"batch-{BATCH}", payload | plan)


def running_batch(**plan: Any) -> list[Fact]:
    """A template, and a batch on it that issues."""
    return [created_template(), created_batch(**plan), Fact(BatchStarted, f"batch-{BATCH}")]


def issued(
    *, valid_from: datetime = T0, valid_until: datetime | None = None, coupon: str = COUPON, **payload: Any
) -> Fact:
    """A coupon of the user, valid for ten days from ``T0`` unless told otherwise."""
    whole = {
        "batch_id": BATCH,
        "template_id": TEMPLATE,
        "template_version": 1,
        "user_id": USER,
        "channel": "issue",
        "valid_from": valid_from,
        "valid_until": valid_until or after(10),
    }
    return Fact(CouponIssued, f"coupon-{coupon}", whole | payload)

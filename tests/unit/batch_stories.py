"""Every transition and every refusal of a template and a batch, as stories for any backend."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from ledger import errors, events, use_cases
from ledger.batch import BatchPlan
from tests.unit.specs import (
    BATCH,
    INSTANT,
    MERCHANT,
    T0,
    TEMPLATE,
    TERMS,
    Command,
    Fact,
    Story,
    after,
    created_batch,
    created_template,
    running_batch,
)


def on_batch(kind: type[events.Event], **payload: Any) -> Fact:
    return Fact(kind, f"batch-{BATCH}", payload)


def ask(use_case: Any, at: datetime = T0, *, merchant_id: str = MERCHANT, **arguments: Any) -> Command:
    return Command(use_case, {"batch_id": BATCH, **arguments}, at, merchant_id)


def revise(**arguments: Any) -> Command:
    return Command(use_cases.revise_template, {"template_id": TEMPLATE, "name": "Six off", "terms": TERMS, **arguments})


STARTED = on_batch(events.BatchStarted)
RESUMED = on_batch(events.BatchResumed)
DRAFT = [created_template(), created_batch()]
RUNNING = [*DRAFT, STARTED]
PAUSED = [*RUNNING, on_batch(events.BatchPaused, reason="stock")]
STOPPED = [*RUNNING, on_batch(events.BatchStopped, reason="over")]
WINDOW = {"claim_from": after(1), "claim_until": after(2)}
WINDOWED = running_batch(**WINDOW)
ENDED = running_batch(claim_until=T0)

START = ask(use_cases.start_batch)
PAUSE = ask(use_cases.pause_batch, reason="stock")
RESUME = ask(use_cases.resume_batch)
STOP = ask(use_cases.stop_batch, reason="over")
PLAN = BatchPlan(name="Batch", quantity=10, valid_for_seconds=60)

TEMPLATE_STORIES = [
    Story("it is created", [], Command(use_cases.create_template, {"name": "Five off", "terms": TERMS}),
          [Fact(events.TemplateCreated, "", {"name": "Five off", "terms": TERMS.to_payload()})], {"version": 1}),
    Story("it is created without a name", [], Command(use_cases.create_template, {"name": "", "terms": TERMS}),
          errors.InvalidField),
    Story("it is revised", [created_template()], revise(),
          [Fact(events.TemplateRevised, f"template-{TEMPLATE}", {"name": "Six off", "terms": TERMS.to_payload()})],
          {"template_id": TEMPLATE, "version": 2}),
    Story("it is revised at the expected version", [created_template()], revise(expected_version=1),
          [Fact(events.TemplateRevised, f"template-{TEMPLATE}")]),
    Story("somebody revised it meanwhile", [created_template()] * 2, revise(expected_version=1),
          errors.VersionConflict, facts={"expected": 1, "version": 2}),
    Story("it needs a name", [created_template()], revise(name=""), errors.InvalidField),
    Story("a name is one line", [created_template()], revise(name="a\nb"), errors.InvalidField),
    Story("a name has a bound", [created_template()], revise(name="n" * 201), errors.InvalidField),
    Story("it is not there", [], revise(), errors.TemplateNotFound),
    Story("it is another merchant's", [created_template()],
          Command(use_cases.revise_template, revise().arguments, merchant_id="merchant-2"), errors.TemplateNotFound),
]  # fmt: skip


def plan_on(plan: BatchPlan = PLAN, **arguments: Any) -> Command:
    return Command(use_cases.create_batch, {"plan": plan, "template_id": TEMPLATE, **arguments})


PLANNED = {
    "template_id": TEMPLATE,
    "name": "Batch",
    "campaign": "",
    "quantity": 10,
    "per_user_limit": 1,
    "valid_for_seconds": 60,
    "valid_until": None,
}


def planned(template_version: int) -> Fact:
    return Fact(events.BatchCreated, "", PLANNED | {"template_version": template_version})


REVISED = [created_template(), created_template(kind=events.TemplateRevised)]
PLAN_STORIES = [
    Story("on the newest version of the template", REVISED, plan_on(), [planned(2)], {"state": "DRAFT", "version": 1}),
    Story("on an older version", REVISED, plan_on(template_version=1), [planned(1)]),
    Story("on another merchant's template", REVISED,
          Command(use_cases.create_batch, plan_on().arguments, merchant_id="merchant-2"), errors.TemplateNotFound),
    Story("no such template", [], plan_on(), errors.TemplateNotFound),
    Story("no such version", [created_template()], plan_on(template_version=2), errors.InvalidField),
    Story("versions count from 1", [created_template()], plan_on(template_version=0), errors.InvalidField),
]  # fmt: skip

STEP_STORIES = [
    Story("a draft starts", DRAFT, START, [STARTED], {"state": "RUNNING", "version": 2, "quantity": 10}),
    Story("a running batch starts", RUNNING, START, errors.BatchStateConflict, facts={"state": "RUNNING"}),
    Story("a paused batch starts", PAUSED, START, errors.BatchStateConflict),
    Story("a stopped batch starts", STOPPED, START, errors.BatchStateConflict),
    Story("an ended batch starts", ENDED, START, errors.BatchStateConflict, facts={"state": "ENDED"}),
    Story("an unknown batch starts", [], START, errors.BatchNotFound),
    Story("a draft pauses", DRAFT, PAUSE, errors.BatchStateConflict),
    Story("a running batch pauses", RUNNING, PAUSE, [on_batch(events.BatchPaused, reason="stock")],
          {"state": "PAUSED"}),
    Story("a paused batch pauses", PAUSED, PAUSE, errors.BatchStateConflict),
    Story("a stopped batch pauses", STOPPED, PAUSE, errors.BatchStateConflict),
    Story("an ended batch pauses", ENDED, PAUSE, errors.BatchStateConflict),
    Story("a pause needs a reason", RUNNING, ask(use_cases.pause_batch, reason=""), errors.InvalidField),
    Story("a draft resumes", DRAFT, RESUME, errors.BatchStateConflict),
    Story("a running batch resumes", RUNNING, RESUME, errors.BatchStateConflict),
    Story("a paused batch resumes", PAUSED, RESUME, [RESUMED], {"state": "RUNNING"}),
    Story("a stopped batch resumes", STOPPED, RESUME, errors.BatchStateConflict),
    Story("a batch that ended while paused resumes", [*ENDED, on_batch(events.BatchPaused, reason="stock")], RESUME,
          errors.BatchStateConflict, facts={"state": "ENDED"}),
    Story("a draft stops", DRAFT, STOP, [on_batch(events.BatchStopped, reason="over")], {"state": "STOPPED"}),
    Story("a running batch stops", RUNNING, STOP, [on_batch(events.BatchStopped)]),
    Story("a paused batch stops", PAUSED, STOP, [on_batch(events.BatchStopped)]),
    Story("an ended batch stops", ENDED, STOP, [on_batch(events.BatchStopped)], {"state": "STOPPED"}),
    Story("a stopped batch stops", STOPPED, STOP, errors.BatchStateConflict),
    Story("a stop needs a reason", RUNNING, ask(use_cases.stop_batch, reason="r" * 201), errors.InvalidField),
    Story("a step at the expected version", RUNNING, ask(use_cases.pause_batch, reason="r", expected_version=2),
          [on_batch(events.BatchPaused)]),
    Story("a step at another version", RUNNING, ask(use_cases.pause_batch, reason="r", expected_version=1),
          errors.VersionConflict),
    Story("another merchant's step", RUNNING, ask(use_cases.pause_batch, merchant_id="merchant-2", reason="r"),
          errors.BatchNotFound),
]  # fmt: skip


def change(expected: int, target: Any) -> Command:
    return ask(use_cases.change_quantity, expected=expected, target=target)


def changed(before: int, quantity: int) -> Fact:
    return on_batch(events.BatchQuantityChanged, quantity_before=before, quantity=quantity)


QUANTITY_STORIES = [
    Story("it grows", RUNNING, change(10, 20), [changed(10, 20)], {"quantity": 20}),
    Story("it shrinks", RUNNING, change(10, 1), [changed(10, 1)], {"quantity": 1}),
    Story("in a draft", DRAFT, change(10, 20), [changed(10, 20)]),
    Story("while paused", PAUSED, change(10, 20), [changed(10, 20)]),
    Story("after the stop", STOPPED, change(10, 20), errors.BatchStateConflict),
    Story("after the end", ENDED, change(10, 20), errors.BatchStateConflict),
    Story("from another quantity", RUNNING, change(9, 20), errors.QuantityConflict,
          facts={"expected": 9, "quantity": 10}),
    Story("after another change", [*RUNNING, changed(10, 20)], change(10, 30), errors.QuantityConflict),
    Story("twice", [*RUNNING, changed(10, 20)], change(20, 30), [changed(20, 30)]),
    Story("to the most", RUNNING, change(10, 1_000_000_000), [changed(10, 1_000_000_000)]),
    Story("above the most", RUNNING, change(10, 1_000_000_001), errors.InvalidQuantity),
    Story("to none", RUNNING, change(10, 0), errors.InvalidQuantity),
    Story("to no whole number", RUNNING, change(10, 1.5), errors.InvalidQuantity),
    Story("of an unknown batch", [], change(10, 20), errors.BatchNotFound),
]  # fmt: skip


def claim(at: datetime = T0, **arguments: Any) -> Command:
    return ask(use_cases.claim, at, **{"user_id": "user-1"} | arguments)


FIXED = {"valid_from": after(5), "valid_until": after(6), "valid_for_seconds": None}
BOTH = {"valid_from": after(5), "valid_until": after(7), "valid_for_seconds": 86_400}

# What a claim at a moment gives: the coupon's validity, or a refusal.
CLAIMS: list[tuple[str, list[Fact], datetime, Any]] = [
    ("relative validity", running_batch(), after(1), (after(1), after(11))),
    ("a delay before it", running_batch(valid_delay_seconds=60), T0, (after(seconds=60), after(10, seconds=60))),
    ("fixed validity, pending", running_batch(**FIXED), T0, (after(5), after(6))),
    ("fixed validity, begun", running_batch(**FIXED), after(5.5), (after(5), after(6))),
    ("the last instant of fixed validity", running_batch(**FIXED), after(6) - INSTANT, (after(5), after(6))),
    ("the end of fixed validity", running_batch(**FIXED), after(6), errors.BatchNotOpen),
    ("an end alone", running_batch(valid_for_seconds=None, valid_until=after(6)), after(1), (after(1), after(6))),
    ("relative within fixed: before it", running_batch(**BOTH), T0, (after(5), after(6))),
    ("relative within fixed: inside it", running_batch(**BOTH), after(5.5), (after(5.5), after(6.5))),
    ("relative within fixed: cut at its end", running_batch(**BOTH), after(6.5), (after(6.5), after(7))),
    ("relative within fixed: over", running_batch(**BOTH), after(7), errors.BatchNotOpen),
    ("a delay past the fixed end", running_batch(**BOTH | {"valid_delay_seconds": 7 * 86_400}), T0,
     errors.BatchNotOpen),
    ("an instant before the claim window", WINDOWED, after(1) - INSTANT, errors.BatchNotOpen),
    ("the window's first instant", WINDOWED, after(1), (after(1), after(11))),
    ("the window's last instant", WINDOWED, after(2) - INSTANT, (after(2) - INSTANT, after(12) - INSTANT)),
    ("the window's end", WINDOWED, after(2), errors.BatchNotOpen),
    ("a draft", DRAFT, T0, errors.BatchNotOpen),
    ("paused", PAUSED, T0, errors.BatchNotOpen),
    ("resumed", [*PAUSED, RESUMED], T0, (T0, after(10))),
    ("stopped", STOPPED, T0, errors.BatchNotOpen),
    ("unknown", [], T0, errors.BatchNotFound),
]  # fmt: skip


def claim_story(name: str, given: list[Fact], at: datetime, then: Any) -> Story:
    if isinstance(then, type):
        return Story(name, given, claim(at), then)
    begin, end = then
    payload = {
        "batch_id": BATCH,
        "template_id": TEMPLATE,
        "template_version": 1,
        "user_id": "user-1",
        "channel": "claim",
        "valid_from": begin,
        "valid_until": end,
    }
    return Story(name, given, claim(at), [Fact(events.CouponIssued, "", payload)])


CLAIM_STORIES = [
    *(claim_story(*row) for row in CLAIMS),
    Story("another merchant's batch", RUNNING, claim(merchant_id="merchant-2"), errors.BatchNotFound),
    Story("a user id of two lines", RUNNING, claim(user_id="a\nb"), errors.InvalidField),
    Story("a batch on a revision pins it", [created_template(), created_template(kind=events.TemplateRevised),
          created_batch(template_version=2), STARTED], claim(),
          [Fact(events.CouponIssued, "", {"template_version": 2})]),
    Story("a revision after the batch leaves its coupons", [*RUNNING, created_template(kind=events.TemplateRevised)],
          claim(), [Fact(events.CouponIssued, "", {"template_version": 1})]),
]  # fmt: skip


def issue(*user_ids: str, **arguments: Any) -> Command:
    return ask(use_cases.issue, user_ids=list(user_ids), **arguments)


def given_to(user_id: str, channel: str = "issue") -> Fact:
    return Fact(events.CouponIssued, "", {"user_id": user_id, "channel": channel})


ISSUE_STORIES = [
    Story("one each, in the order asked", RUNNING, issue("b", "a", "b"), [given_to(id) for id in ("b", "a", "b")]),
    Story("through a channel of the caller", RUNNING, issue("a", channel="sms"), [given_to("a", "sms")]),
    Story("to nobody", RUNNING, issue(), errors.InvalidQuantity),
    Story("to more than a thousand", RUNNING, issue(*["a"] * 1_001), errors.InvalidQuantity),
    Story("one user id of two lines", RUNNING, issue("a", "b\x00"), errors.InvalidField),
    Story("of a paused batch", PAUSED, issue("a"), errors.BatchNotOpen),
    Story("by message", RUNNING, ask(use_cases.issue_by_message, user_id="a", channel="kafka"),
          [given_to("a", "kafka")]),
    Story("by message, of a paused batch", PAUSED, ask(use_cases.issue_by_message, user_id="a", channel="kafka"),
          errors.BatchNotOpen),
]  # fmt: skip

BATCH_STORIES = {
    "template": TEMPLATE_STORIES,
    "plan": PLAN_STORIES,
    "step": STEP_STORIES,
    "quantity": QUANTITY_STORIES,
    "claim": CLAIM_STORIES,
    "issue": ISSUE_STORIES,
}

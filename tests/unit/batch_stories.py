"""Every transition and every refusal of a template and a batch, as stories for any backend."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from ledger import errors, events, use_cases
from ledger.audience import Audience, Facts
from ledger.batch import BatchPlan
from ledger.benefit import Benefit
from tests.unit.specs import (
    BATCH,
    DAY,
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


@dataclass(frozen=True)
class By(Fact):
    """A fact of somebody else than the one who asks in the stories."""

    def event(self, version: int) -> events.Event:
        return replace(super().event(version), actor="somebody else")


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

SUBMITTED, APPROVED, REJECTED = (
    Fact(kind, f"batch-{BATCH}", payload)
    for kind, payload in (
        (events.BatchSubmitted, {}),
        (events.BatchApproved, {}),
        (events.BatchRejected, {"reason": "too much"}),
    )
)
SUBMITTED_BY_ANOTHER = By(events.BatchSubmitted, f"batch-{BATCH}")
PLANNED_HERE = created_batch(needs_approval=True, budget_minor=1_000)
PLANNED_BY_ANOTHER = By(PLANNED_HERE.kind, PLANNED_HERE.stream, PLANNED_HERE.payload)
TO_APPROVE = [created_template(), PLANNED_HERE]
OF_ANOTHER = [created_template(), PLANNED_BY_ANOTHER]
SUBMIT = ask(use_cases.submit_batch)
APPROVE = ask(use_cases.approve_batch)
REJECT = ask(use_cases.reject_batch, reason="too much")

REVERSED = replace(TERMS, min_spend_minor=100)
REVERSED_FINDING = {
    "code": "discount_above_threshold",
    "severity": "refuse",
    "field": "min_spend_minor",
    "message": "an order of the minimum spend, 100, is free: 500 come off",
}

TEMPLATE_STORIES = [
    Story("it is created", [], Command(use_cases.create_template, {"name": "Five off", "terms": TERMS}),
          [Fact(events.TemplateCreated, "", {"name": "Five off", "terms": TERMS.to_payload()})], {"version": 1}),
    Story("it is created without a name", [], Command(use_cases.create_template, {"name": "", "terms": TERMS}),
          errors.InvalidField),
    Story("threshold and amount are exchanged", [],
          Command(use_cases.create_template, {"name": "Five off", "terms": REVERSED}), errors.RiskyTerms),
    Story("threshold and amount are exchanged, knowingly", [],
          Command(use_cases.create_template, {"name": "Five off", "terms": REVERSED, "accept_risk": True}),
          [Fact(events.TemplateCreated, "")], {"version": 1, "warnings": [REVERSED_FINDING]}),
    Story("it is revised to risky terms", [created_template()], revise(terms=REVERSED), errors.RiskyTerms,
          facts={"findings": [REVERSED_FINDING]}),
    Story("it is revised to risky terms, knowingly", [created_template()], revise(terms=REVERSED, accept_risk=True),
          [Fact(events.TemplateRevised, f"template-{TEMPLATE}")], {"warnings": [REVERSED_FINDING]}),
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
    Story("it is described, in lines", [created_template()], revise(description="For tea.\n\nNot for mugs."),
          [Fact(events.TemplateRevised, f"template-{TEMPLATE}", {"description": "For tea.\n\nNot for mugs."})]),
    Story("it is created without a description", [],
          Command(use_cases.create_template, {"name": "Five off", "terms": TERMS}),
          [Fact(events.TemplateCreated, "", {"description": ""})]),
    Story("a description is printable", [created_template()], revise(description="a\tb"), errors.InvalidField),
    Story("a description has a bound", [created_template()], revise(description="d" * 2_001), errors.InvalidField),
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


LIMITED: dict[str, Any] = {
    "per_day_limit": 3,
    "per_user_day_limit": 2,
    "per_person_limit": 1,
    "budget_minor": 5_000,
    "audience": Audience(tiers=("gold",)),
    "time_zone": "Asia/Shanghai",
    "ends_at_day_close": True,
    "needs_approval": True,
}
STATED = replace(TERMS, benefit=Benefit(kind="order_stated"))
CAPPED = replace(TERMS, benefit=Benefit(kind="percent_off", percent_permyriad=1_000, max_discount_minor=100))
PAST = replace(PLAN, claim_until=T0)
REVISED = [created_template(), created_template(kind=events.TemplateRevised)]
PLAN_STORIES = [
    Story("on the newest version of the template", REVISED, plan_on(), [planned(2)], {"state": "DRAFT", "version": 1}),
    Story("on an older version", REVISED, plan_on(template_version=1), [planned(1)]),
    Story("on another merchant's template", REVISED,
          Command(use_cases.create_batch, plan_on().arguments, merchant_id="merchant-2"), errors.TemplateNotFound),
    Story("no such template", [], plan_on(), errors.TemplateNotFound),
    Story("with every limit", [created_template()], plan_on(replace(PLAN, **LIMITED)),
          [Fact(events.BatchCreated, "", {**LIMITED, "audience": {"tiers": ["gold"]}})],
          {"budget_minor": 5_000, "warnings": []}),
    Story("with a budget on a benefit of unknown worth", [created_template(STATED)],
          plan_on(replace(PLAN, budget_minor=5_000)), errors.InvalidField, facts={"field": "budget_minor"}),
    Story("with a budget on a benefit whose worth is capped", [created_template(CAPPED)],
          plan_on(replace(PLAN, budget_minor=5_000)), [Fact(events.BatchCreated, "", {"budget_minor": 5_000})]),
    Story("with a window of the past", [created_template()], plan_on(PAST), errors.RiskyTerms),
    Story("with a window of the past, knowingly", [created_template()], plan_on(PAST, accept_risk=True),
          [Fact(events.BatchCreated, "", {"claim_until": T0})]),
    Story("on terms that are risky", [created_template(REVERSED)], plan_on(), errors.RiskyTerms),
    Story("no such version", [created_template()], plan_on(template_version=2), errors.InvalidField),
    Story("versions count from 1", [created_template()], plan_on(template_version=0), errors.InvalidField),
]  # fmt: skip

STEP_STORIES = [
    Story("a draft starts", DRAFT, START, [STARTED], {"state": "RUNNING", "version": 2, "quantity": 10}),
    Story("a draft that needs approval starts", TO_APPROVE, START, errors.BatchStateConflict,
          facts={"state": "DRAFT"}),
    Story("a batch in review starts", [*TO_APPROVE, SUBMITTED], START, errors.BatchStateConflict,
          facts={"state": "IN_REVIEW"}),
    Story("an approved batch starts", [*TO_APPROVE, SUBMITTED, APPROVED], START, [STARTED], {"state": "RUNNING"}),
    Story("an approved batch that did not need it starts", [*DRAFT, SUBMITTED, APPROVED], START, [STARTED]),
    Story("a draft that did not need approval, in review, starts", [*DRAFT, SUBMITTED], START,
          errors.BatchStateConflict),
    Story("a rejected batch starts", [*TO_APPROVE, SUBMITTED, REJECTED], START, errors.BatchStateConflict),
    Story("a batch in review stops", [*TO_APPROVE, SUBMITTED], STOP, [on_batch(events.BatchStopped)]),
    Story("an approved batch stops", [*TO_APPROVE, SUBMITTED, APPROVED], STOP, [on_batch(events.BatchStopped)]),
    Story("an approved batch pauses", [*TO_APPROVE, SUBMITTED, APPROVED], PAUSE, errors.BatchStateConflict),
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


REVIEW_STORIES = [
    Story("a draft is submitted", TO_APPROVE, SUBMIT, [SUBMITTED], {"state": "IN_REVIEW", "version": 2}),
    Story("a draft that needs no approval is submitted", DRAFT, SUBMIT, [SUBMITTED]),
    Story("it is submitted twice", [*TO_APPROVE, SUBMITTED], SUBMIT, errors.BatchStateConflict),
    Story("a running batch is submitted", RUNNING, SUBMIT, errors.BatchStateConflict),
    Story("an unknown batch is submitted", [], SUBMIT, errors.BatchNotFound),
    Story("a second person approves", [*OF_ANOTHER, SUBMITTED_BY_ANOTHER], APPROVE, [APPROVED],
          {"state": "APPROVED", "version": 3}),
    Story("who submitted it approves", [*OF_ANOTHER, SUBMITTED], APPROVE, errors.SelfApproval),
    Story("who planned it approves what another submitted", [*TO_APPROVE, SUBMITTED_BY_ANOTHER], APPROVE,
          errors.SelfApproval),
    Story("who submitted it again after another's rejection approves",
          [*OF_ANOTHER, SUBMITTED_BY_ANOTHER, REJECTED, SUBMITTED], APPROVE, errors.SelfApproval),
    Story("who submitted it first approves what another submitted again",
          [*OF_ANOTHER, SUBMITTED, REJECTED, SUBMITTED_BY_ANOTHER], APPROVE, [APPROVED]),
    Story("a draft is approved", TO_APPROVE, APPROVE, errors.BatchStateConflict),
    Story("it is approved twice", [*OF_ANOTHER, SUBMITTED_BY_ANOTHER, APPROVED], APPROVE, errors.BatchStateConflict),
    Story("it is approved at a version that another saw", [*OF_ANOTHER, SUBMITTED_BY_ANOTHER],
          ask(use_cases.approve_batch, expected_version=1), errors.VersionConflict),
    Story("it is sent back", [*TO_APPROVE, SUBMITTED_BY_ANOTHER], REJECT, [REJECTED], {"state": "DRAFT"}),
    Story("it is withdrawn", [*TO_APPROVE, SUBMITTED], REJECT, [REJECTED], {"state": "DRAFT"}),
    Story("a draft is sent back", TO_APPROVE, REJECT, errors.BatchStateConflict),
    Story("an approved batch is sent back", [*TO_APPROVE, SUBMITTED, APPROVED], REJECT, errors.BatchStateConflict),
    Story("a rejection needs a reason", [*TO_APPROVE, SUBMITTED], ask(use_cases.reject_batch, reason=""),
          errors.InvalidField),
    Story("a rejected batch is submitted again", [*TO_APPROVE, SUBMITTED, REJECTED], SUBMIT, [SUBMITTED]),
    Story("an approved batch issues nothing yet", [*TO_APPROVE, SUBMITTED, APPROVED],
          ask(use_cases.claim, user_id="a"), errors.BatchNotOpen, facts={"state": "APPROVED"}),
]  # fmt: skip


def budget(expected: Any, target: Any, at: datetime = T0) -> Command:
    return ask(use_cases.change_budget, at, expected_minor=expected, target_minor=target)


def budgeted(before: int, after_it: int) -> Fact:
    return on_batch(events.BatchBudgetChanged, budget_before_minor=before, budget_minor=after_it)


WITH_BUDGET = running_batch(budget_minor=1_000)
REVIEWED = [*OF_ANOTHER, SUBMITTED_BY_ANOTHER, APPROVED]
PAUSING = on_batch(events.BatchPaused, reason="stock")
REVIEWED_PAUSED = [*REVIEWED, STARTED, PAUSING]


def sent_back(what: str) -> Fact:
    return on_batch(events.BatchRejected, reason=f"the {what} was raised")


BUDGET_STORIES = [
    Story("it is raised once approved", REVIEWED, budget(1_000, 1_001), [budgeted(1_000, 1_001), sent_back("budget")],
          {"state": "DRAFT", "budget_minor": 1_001, "version": 5}),
    Story("it is raised while running", [*REVIEWED, STARTED], budget(1_000, 1_001), errors.BatchStateConflict,
          facts={"state": "RUNNING"}),
    Story("it is raised while paused", REVIEWED_PAUSED, budget(1_000, 1_001),
          [budgeted(1_000, 1_001), sent_back("budget")], {"state": "DRAFT"}),
    Story("it is lowered once approved", REVIEWED, budget(1_000, 999), [budgeted(1_000, 999)], {"state": "APPROVED"}),
    Story("it is lowered while running", [*REVIEWED, STARTED], budget(1_000, 999), [budgeted(1_000, 999)],
          {"state": "RUNNING"}),
    Story("it is raised again to what was approved", [*REVIEWED, budgeted(1_000, 999)], budget(999, 1_000),
          [budgeted(999, 1_000), sent_back("budget")]),
    Story("it is raised in the draft", TO_APPROVE, budget(1_000, 2_000), [budgeted(1_000, 2_000)]),
    Story("it grows", WITH_BUDGET, budget(1_000, 2_000), [budgeted(1_000, 2_000)], {"budget_minor": 2_000}),
    Story("it shrinks", WITH_BUDGET, budget(1_000, 1), [budgeted(1_000, 1)], {"budget_minor": 1}),
    Story("in a draft", WITH_BUDGET[:2], budget(1_000, 2_000), [budgeted(1_000, 2_000)]),
    Story("in review", [*WITH_BUDGET[:2], SUBMITTED], budget(1_000, 2_000), errors.BatchStateConflict),
    Story("after the stop", [*WITH_BUDGET, on_batch(events.BatchStopped, reason="over")], budget(1_000, 2_000),
          errors.BatchStateConflict),
    Story("from another budget", WITH_BUDGET, budget(999, 2_000), errors.BudgetConflict,
          facts={"expected_minor": 999, "budget_minor": 1_000}),
    Story("after another change", [*WITH_BUDGET, budgeted(1_000, 2_000)], budget(1_000, 3_000), errors.BudgetConflict),
    Story("twice", [*WITH_BUDGET, budgeted(1_000, 2_000)], budget(2_000, 3_000), [budgeted(2_000, 3_000)]),
    Story("of a batch without one", RUNNING, budget(1_000, 2_000), errors.BudgetConflict, facts={"budget_minor": None}),
    Story("to none", WITH_BUDGET, budget(1_000, 0), errors.InvalidField),
    Story("to the most", WITH_BUDGET, budget(1_000, 10**15), [budgeted(1_000, 10**15)]),
    Story("above the most", WITH_BUDGET, budget(1_000, 10**15 + 1), errors.InvalidField),
    Story("to no whole number", WITH_BUDGET, budget(1_000, 1.5), errors.InvalidField),
    Story("of an unknown batch", [], budget(1_000, 2_000), errors.BatchNotFound),
]  # fmt: skip

QUANTITY_STORIES = [
    Story("in review", [*DRAFT, SUBMITTED], change(10, 20), errors.BatchStateConflict),
    Story("once approved", [*DRAFT, SUBMITTED, APPROVED], change(10, 20), [changed(10, 20)]),
    Story("it is raised once approved", REVIEWED, change(10, 11), [changed(10, 11), sent_back("quantity")],
          {"state": "DRAFT", "quantity": 11, "version": 5}),
    Story("who planned and submitted it raises it once approved", [*TO_APPROVE, SUBMITTED, APPROVED], change(10, 11),
          [changed(10, 11), sent_back("quantity")]),
    Story("it is raised once approved, and started", [*REVIEWED, changed(10, 11), sent_back("quantity")], START,
          errors.BatchStateConflict, facts={"state": "DRAFT"}),
    Story("who raised it submits it and approves", [*REVIEWED, changed(10, 11), sent_back("quantity"), SUBMITTED],
          APPROVE, errors.SelfApproval),
    Story("who planned it approves what another raised and submitted",
          [*TO_APPROVE, SUBMITTED, APPROVED, changed(10, 11), sent_back("quantity"), SUBMITTED_BY_ANOTHER], APPROVE,
          errors.SelfApproval),
    Story("it is raised while running", [*REVIEWED, STARTED], change(10, 11), errors.BatchStateConflict,
          facts={"state": "RUNNING"}),
    Story("it is raised while paused", REVIEWED_PAUSED, change(10, 11), [changed(10, 11), sent_back("quantity")],
          {"state": "DRAFT"}),
    Story("it is raised while paused, and resumed", [*REVIEWED_PAUSED, changed(10, 11), sent_back("quantity")], RESUME,
          errors.BatchStateConflict, facts={"state": "DRAFT"}),
    Story("it is raised while paused, reviewed, and started again",
          [*REVIEWED_PAUSED, changed(10, 11), sent_back("quantity"), SUBMITTED, APPROVED], START, [STARTED],
          {"state": "RUNNING", "quantity": 11}),
    Story("it is lowered while running", [*REVIEWED, STARTED], change(10, 9), [changed(10, 9)], {"state": "RUNNING"}),
    Story("it is set to what it is", REVIEWED, change(10, 10), [changed(10, 10)], {"state": "APPROVED"}),
    Story("it is raised in the draft after it was sent back", [*TO_APPROVE, SUBMITTED, REJECTED], change(10, 20),
          [changed(10, 20)], {"state": "DRAFT"}),
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

CLOSING = {"ends_at_day_close": True, "time_zone": "Asia/Shanghai"}
CLOSE_THERE = datetime(2026, 1, 11, 16, tzinfo=UTC)
"""The close of January 11 in Shanghai, where ten days after ``T0`` it is eight in the morning."""

# What a claim at a moment gives: the coupon's validity, or a refusal.
CLAIMS: list[tuple[str, list[Fact], datetime, Any]] = [
    ("relative validity", running_batch(), after(1), (after(1), after(11))),
    ("a delay before it", running_batch(valid_delay_seconds=60), T0, (after(seconds=60), after(10, seconds=60))),
    ("fixed validity, pending", running_batch(**FIXED), T0, (after(5), after(6))),
    ("fixed validity, begun", running_batch(**FIXED), after(5.5), (after(5), after(6))),
    ("fixed validity with a delay, planned before that was refused",
     running_batch(**FIXED, valid_delay_seconds=2 * 86_400), T0, (after(5), after(6))),
    ("the last instant of fixed validity", running_batch(**FIXED), after(6) - INSTANT, (after(5), after(6))),
    ("the end of fixed validity", running_batch(**FIXED), after(6), errors.BatchNotOpen),
    ("an end alone", running_batch(valid_for_seconds=None, valid_until=after(6)), after(1), (after(1), after(6))),
    ("relative within fixed: before it", running_batch(**BOTH), T0, (after(5), after(6))),
    ("relative within fixed: inside it", running_batch(**BOTH), after(5.5), (after(5.5), after(6.5))),
    ("relative within fixed: cut at its end", running_batch(**BOTH), after(6.5), (after(6.5), after(7))),
    ("relative within fixed: over", running_batch(**BOTH), after(7), errors.BatchNotOpen),
    ("a delay past the fixed end", running_batch(**BOTH | {"valid_delay_seconds": 7 * 86_400}), T0,
     errors.BatchNotOpen),
    ("relative validity to the close of the day", running_batch(**CLOSING), T0, (T0, CLOSE_THERE)),
    ("the last instant that closes with that day", running_batch(**CLOSING), after(seconds=16 * 3_600),
     (after(seconds=16 * 3_600), CLOSE_THERE)),
    ("the first instant that closes a day later", running_batch(**CLOSING), after(seconds=16 * 3_600, microseconds=1),
     (after(seconds=16 * 3_600, microseconds=1), CLOSE_THERE + DAY)),
    ("a fixed end to the close of its day", running_batch(**CLOSING, valid_until=after(3), valid_for_seconds=None), T0,
     (T0, datetime(2026, 1, 4, 16, tzinfo=UTC))),
    ("after a fixed end, before the close of its day",
     running_batch(**CLOSING, valid_until=after(3), valid_for_seconds=None), after(3.5),
     (after(3.5), datetime(2026, 1, 4, 16, tzinfo=UTC))),
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


def for_audience(**audience: Any) -> list[Fact]:
    return running_batch(audience=Audience(**audience).to_payload())


def known(**facts: Any) -> Command:
    return claim(facts=Facts(**facts))


def decided_on(**facts: Any) -> list[Fact]:
    return [Fact(events.CouponIssued, "", {"facts": facts})]


POINTS = replace(TERMS, points_price=300)
FOR_POINTS = [created_template(POINTS), *RUNNING[1:]]
AUDIENCE_STORIES = [
    Story("everybody; what nobody asked for is not kept", RUNNING,
          known(person="p", newcomer=True, tier="gold", points=1, tags=("vip",)), decided_on()),
    Story("a named user", for_audience(users=("user-1", "user-2")), claim(), decided_on()),
    Story("a user who is not named", for_audience(users=("user-2",)), claim(), errors.NotInAudience,
          facts={"condition": "users"}),
    Story("a newcomer", for_audience(newcomers=True), known(newcomer=True, tier="gold"), decided_on(newcomer=True)),
    Story("no newcomer", for_audience(newcomers=True), known(newcomer=False), errors.NotInAudience),
    Story("who may be a newcomer", for_audience(newcomers=True), claim(), errors.FactRequired,
          facts={"fact": "newcomer"}),
    Story("a member of the tier", for_audience(tiers=("gold", "silver")), known(tier="silver"),
          decided_on(tier="silver")),
    Story("a member of another tier", for_audience(tiers=("gold",)), known(tier="iron"), errors.NotInAudience),
    Story("a member of an unknown tier", for_audience(tiers=("gold",)), claim(), errors.FactRequired),
    Story("enough points", for_audience(min_points=3_000), known(points=3_000), decided_on(points=3_000)),
    Story("a point too few", for_audience(min_points=3_000), known(points=2_999), errors.NotInAudience),
    Story("points unknown", for_audience(min_points=1), claim(), errors.FactRequired, facts={"fact": "points"}),
    Story("one of the tags", for_audience(tags=("vip", "press")), known(tags=("a", "vip")),
          decided_on(tags=["a", "vip"])),
    Story("no tag of them", for_audience(tags=("vip",)), known(tags=()), errors.NotInAudience),
    Story("every condition counts", for_audience(tiers=("gold",), tags=("vip",)), known(tier="gold", tags=("a",)),
          errors.NotInAudience, facts={"condition": "tags"}),
    Story("every named user of an issue counts", for_audience(users=("a",)),
          ask(use_cases.issue, user_ids=["a", "b"]), errors.NotInAudience),
    Story("a person where the batch counts persons", running_batch(per_person_limit=1), known(person="p", tier="gold"),
          decided_on(person="p")),
    Story("nobody knows the person", running_batch(per_person_limit=1), claim(), errors.FactRequired,
          facts={"fact": "person"}),
    Story("a person's key with space around it", RUNNING, known(person=" p"), errors.InvalidField),
    Story("facts with two users", RUNNING, ask(use_cases.issue, user_ids=["a", "b"], facts=Facts(newcomer=True)),
          errors.InvalidField, facts={"field": "facts"}),
    Story("facts with one user", for_audience(newcomers=True),
          ask(use_cases.issue, user_ids=["a"], facts=Facts(newcomer=True)), decided_on(newcomer=True)),
    Story("facts by message", for_audience(newcomers=True),
          ask(use_cases.issue_by_message, user_id="a", channel="c", facts=Facts(newcomer=True)),
          decided_on(newcomer=True)),
    Story("for points", FOR_POINTS, claim(points_receipt="receipt-~"), decided_on(points_receipt="receipt-~")),
    Story("for points without a receipt", FOR_POINTS, claim(), errors.FactRequired,
          facts={"field": "points_receipt"}),
    Story("for points, two coupons and one receipt", FOR_POINTS,
          ask(use_cases.issue, user_ids=["a", "b"], points_receipt="r"), errors.InvalidField),
    Story("for points, two coupons and no receipt", FOR_POINTS, ask(use_cases.issue, user_ids=["a", "b"]),
          errors.FactRequired),
    Story("a receipt of two lines", FOR_POINTS, claim(points_receipt="a\nb"), errors.InvalidField),
    Story("a receipt where none is asked for", RUNNING, claim(points_receipt="r"), errors.InvalidField,
          facts={"field": "points_receipt"}),
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
    "review": REVIEW_STORIES,
    "quantity": QUANTITY_STORIES,
    "budget": BUDGET_STORIES,
    "audience": AUDIENCE_STORIES,
    "claim": CLAIM_STORIES,
    "issue": ISSUE_STORIES,
}

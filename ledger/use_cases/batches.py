"""Use cases of batches: planned, reviewed, started, paused, resumed, stopped, and made larger or smaller."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

from ledger.aggregate import derived_id
from ledger.batch import Batch, BatchPlan
from ledger.commit import Unit
from ledger.errors import InvalidField
from ledger.limits import budget_key
from ledger.linter import checked, lint
from ledger.request import Request
from ledger.terms import Terms
from ledger.use_cases.checks import check_reason, check_version, unit_of
from ledger.work import Loaded, Receipt, Work


def create_batch(
    request: Request,
    plan: BatchPlan,
    *,
    template_id: str,
    template_version: int | None = None,
    accept_risk: bool = False,
) -> Work:
    """Plan a batch on a template's version (the newest when none is named). Answers the batch, in DRAFT.

    ``warnings`` are those of the linter on the plan and the terms together. Refused with ``RiskyTerms`` when it finds
    what nobody can mean, unless the caller accepts the risk.
    """
    batch_id = derived_id("batch", request.merchant_id, request.request_id)

    def decide(loaded: Loaded) -> Unit:
        template = loaded.template(template_id)
        version = template.version if template_version is None else template_version
        if not 1 <= version <= template.version:
            raise InvalidField("the template has no such version", field="template_version")
        terms = loaded.terms(template_id, version)
        if plan.budget_minor is not None and terms.benefit.worth_minor is None:
            raise InvalidField(
                "a budget needs a benefit whose worth is known, such as by max_discount_minor", field="budget_minor"
            )
        warnings = checked(lint(terms, plan, loaded.now), accept_risk)
        batch = Batch(f"batch-{batch_id}")
        batch.create(request, loaded.now, plan, template_id, version)
        unit = unit_of(request, _batch_answer(batch, loaded.now) | {"warnings": warnings}, batch)
        unit.supply[batch_id] = batch.quantity
        if plan.budget_minor is not None:
            unit.supply[budget_key(batch_id)] = plan.budget_minor
        unit.reads[template.id] = template.version
        return unit

    return Work(request, (f"template-{template_id}",), decide)


def submit_batch(request: Request, batch_id: str, *, expected_version: int | None = None) -> Work:
    """DRAFT to IN_REVIEW: a second person is to look at the plan."""
    return _batch_step(request, batch_id, expected_version, lambda batch, now: batch.submit(request, now))


def approve_batch(request: Request, batch_id: str, *, expected_version: int | None = None) -> Work:
    """IN_REVIEW to APPROVED, by another actor than who submitted it."""
    return _batch_step(request, batch_id, expected_version, lambda batch, now: batch.approve(request, now))


def reject_batch(request: Request, batch_id: str, *, reason: str, expected_version: int | None = None) -> Work:
    """IN_REVIEW back to DRAFT."""
    check_reason(reason)
    return _batch_step(request, batch_id, expected_version, lambda batch, now: batch.reject(request, now, reason))


def start_batch(request: Request, batch_id: str, *, expected_version: int | None = None) -> Work:
    """DRAFT or APPROVED to RUNNING: coupons may be issued."""
    return _batch_step(request, batch_id, expected_version, lambda batch, now: batch.start(request, now))


def pause_batch(request: Request, batch_id: str, *, reason: str, expected_version: int | None = None) -> Work:
    """RUNNING to PAUSED: nothing is issued for a while."""
    check_reason(reason)
    return _batch_step(request, batch_id, expected_version, lambda batch, now: batch.pause(request, now, reason))


def resume_batch(request: Request, batch_id: str, *, expected_version: int | None = None) -> Work:
    """PAUSED to RUNNING."""
    return _batch_step(request, batch_id, expected_version, lambda batch, now: batch.resume(request, now))


def stop_batch(request: Request, batch_id: str, *, reason: str, expected_version: int | None = None) -> Work:
    """To STOPPED: nothing more is ever issued; issued coupons stay valid."""
    check_reason(reason)
    return _batch_step(request, batch_id, expected_version, lambda batch, now: batch.stop(request, now, reason))


def change_quantity(
    request: Request, batch_id: str, *, expected: int, target: int, expected_version: int | None = None
) -> Work:
    """Set the quantity if it is still the expected one and no more than the target is issued."""

    def step(batch: Batch, now: datetime) -> None:
        batch.change_quantity(request, now, expected=expected, target=target)

    return _supplying(_batch_step(request, batch_id, expected_version, step), batch_id, target)


def change_budget(
    request: Request, batch_id: str, *, expected_minor: int, target_minor: int, expected_version: int | None = None
) -> Work:
    """Set the budget if it is still the expected one and coupons worth no more than the target are issued."""

    def step(batch: Batch, now: datetime) -> None:
        batch.change_budget(request, now, expected_minor=expected_minor, target_minor=target_minor)

    return _supplying(_batch_step(request, batch_id, expected_version, step), budget_key(batch_id), target_minor)


def check_costs_no_points(terms: Terms) -> None:
    """Raise ``InvalidField`` where a coupon costs points: a typed code or a rule brings no receipt, and issues none."""
    if terms.points_price is not None:
        detail = f"a coupon of the batch costs {terms.points_price} points, so that no code or rule can issue it"
        raise InvalidField(detail, field="batch_id")


def _supplying(work: Work, key: str, target: int) -> Work:
    """The same work, which also sets what the guard under this key may give."""

    def decide(loaded: Loaded) -> Unit | Receipt:
        unit = work.decide(loaded)
        if isinstance(unit, Unit):
            unit.supply[key] = target
        return unit

    return replace(work, decide=decide)


def _batch_step(
    request: Request, batch_id: str, expected_version: int | None, step: Callable[[Batch, datetime], None]
) -> Work:
    def decide(loaded: Loaded) -> Unit:
        batch = loaded.batch(batch_id)
        check_version(batch, expected_version)
        step(batch, loaded.now)
        return unit_of(request, _batch_answer(batch, loaded.now), batch)

    return Work(request, (f"batch-{batch_id}",), decide)


def _batch_answer(batch: Batch, now: datetime) -> dict[str, Any]:
    return {
        "batch_id": batch.key,
        "state": batch.state_at(now),
        "quantity": batch.quantity,
        "budget_minor": batch.budget_minor,
        "version": batch.version,
    }

"""Use cases of batches: planned, started, paused, resumed, stopped, and made larger or smaller."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from ledger.aggregate import derived_id
from ledger.batch import Batch, BatchPlan
from ledger.commit import Unit
from ledger.errors import InvalidField
from ledger.request import Request
from ledger.use_cases.checks import check_reason, check_version, unit_of
from ledger.work import Loaded, Receipt, Work


def create_batch(request: Request, plan: BatchPlan, *, template_id: str, template_version: int | None = None) -> Work:
    """Plan a batch on a template's version (the newest when none is named). Answers the batch, in DRAFT."""
    batch_id = derived_id("batch", request.merchant_id, request.request_id)

    def decide(loaded: Loaded) -> Unit:
        template = loaded.template(template_id)
        version = template.version if template_version is None else template_version
        if not 1 <= version <= template.version:
            raise InvalidField("the template has no such version", field="template_version")
        batch = Batch(f"batch-{batch_id}")
        batch.create(request, loaded.now, plan, template_id, version)
        unit = unit_of(request, _batch_answer(batch, loaded.now), batch)
        unit.supply[batch_id] = batch.quantity
        unit.reads[template.id] = template.version
        return unit

    return Work(request, (f"template-{template_id}",), decide)


def start_batch(request: Request, batch_id: str, *, expected_version: int | None = None) -> Work:
    """DRAFT to RUNNING: coupons may be issued."""
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

    work = _batch_step(request, batch_id, expected_version, step)

    def decide(loaded: Loaded) -> Unit | Receipt:
        unit = work.decide(loaded)
        if isinstance(unit, Unit):
            unit.supply[batch_id] = target
        return unit

    return Work(request, work.streams, decide)


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
        "version": batch.version,
    }

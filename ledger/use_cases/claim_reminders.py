"""Use cases of reminders that users ask for: to be told when a batch's claims open."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from ledger.aggregate import Aggregate, derived_id, text_of
from ledger.commit import Unit
from ledger.errors import BatchStateConflict
from ledger.events import ReminderCancelled, ReminderRequested
from ledger.request import Request
from ledger.use_cases.checks import check_id, unit_of
from ledger.work import Loaded, Work, fold


class ClaimReminder(Aggregate):
    """Whether one user wants to be told that one batch's claims are open."""

    category = "reminder"
    wanted = False


def claim_reminder_stream(merchant_id: str, batch_id: str, user_id: str) -> str:
    """The stream of one user's wish."""
    return f"reminder-{derived_id('claim reminder', merchant_id, batch_id, user_id)}"


def request_claim_reminder(request: Request, batch_id: str, user_id: str) -> Work:
    """Tell the user when claims open; asking again changes nothing. Answers the wish.

    Refused with ``BatchStateConflict`` where claims are open already, or never will be.
    """
    check_id("user_id", user_id)
    stream = claim_reminder_stream(request.merchant_id, batch_id, user_id)

    def decide(loaded: Loaded) -> Unit:
        batch = loaded.batch(batch_id)
        state, claim_from = batch.state_at(loaded.now), batch.created.claim_from
        if state in ("STOPPED", "ENDED"):
            raise BatchStateConflict(f"the batch is {state}", batch_id=batch_id, state=state)
        if claim_from is None or claim_from <= loaded.now:
            raise BatchStateConflict("no opening of claims lies ahead", batch_id=batch_id, state=state)
        reminder = _reminder(loaded, stream)
        if not reminder.wanted:
            reminder.trigger(
                ReminderRequested, request, loaded.now, batch_id=batch_id, user_id=user_id, claim_from=claim_from
            )
        unit = unit_of(request, _answer(batch_id, user_id, claim_from), reminder)
        unit.reads[batch.id] = batch.version
        return unit

    return Work(request, (f"batch-{batch_id}", stream), decide)


def cancel_claim_reminder(request: Request, batch_id: str, user_id: str) -> Work:
    """Tell the user nothing; where nobody asked, that is so already. Answers the batch and the user."""
    check_id("user_id", user_id)
    stream = claim_reminder_stream(request.merchant_id, batch_id, user_id)

    def decide(loaded: Loaded) -> Unit:
        batch = loaded.batch(batch_id)
        reminder = _reminder(loaded, stream)
        if reminder.wanted:
            reminder.trigger(ReminderCancelled, request, loaded.now, batch_id=batch_id, user_id=user_id)
        return unit_of(request, _answer(batch_id, user_id, batch.created.claim_from), reminder)

    return Work(request, (f"batch-{batch_id}", stream), decide)


def _reminder(loaded: Loaded, stream: str) -> ClaimReminder:
    return fold(ClaimReminder(stream), loaded.streams.get(stream, ()))


def _answer(batch_id: str, user_id: str, claim_from: datetime | None) -> dict[str, Any]:
    return {"batch_id": batch_id, "user_id": user_id, "claim_from": text_of(claim_from)}

"""Reminders that users ask for: to be told when a batch's claims open."""

from __future__ import annotations

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel

from api import contract
from api.access import operation_name
from api.answers import Time
from api.exchange import command, perform
from api.wire import BatchPath, Body, Id
from ledger import errors, use_cases

claim_reminders = APIBlueprint(
    "claim_reminders",
    __name__,
    url_prefix="/v1",
    abp_tags=[Tag(name="reminders", description="What users ask to be told.")],
    operation_id_callback=operation_name,
)


class ClaimReminderBody(Body):
    """Who is to be told."""

    user_id: Id


class ClaimReminder(BaseModel):
    """Of which opening the user is told, or no longer."""

    batch_id: str
    user_id: str
    claim_from: Time | None


@claim_reminders.post(
    "/batches/<batch_id>/claim-reminders",
    responses=contract.write(200, ClaimReminder, errors.BatchNotFound, errors.BatchStateConflict),
)
def request_claim_reminder(path: BatchPath, body: ClaimReminderBody) -> Response:
    """Tell a user when claims of the batch open, which must lie ahead; asking again changes nothing."""
    return perform(use_cases.request_claim_reminder(command(), path.batch_id, body.user_id))


@claim_reminders.post(
    "/batches/<batch_id>/claim-reminders/cancel",
    responses=contract.write(200, ClaimReminder, errors.BatchNotFound),
)
def cancel_claim_reminder(path: BatchPath, body: ClaimReminderBody) -> Response:
    """Tell the user nothing after all; where nobody asked, that is so already."""
    return perform(use_cases.cancel_claim_reminder(command(), path.batch_id, body.user_id))

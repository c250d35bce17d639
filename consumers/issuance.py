"""What an issuance message asks of the ledger."""

from __future__ import annotations

from consumers.asked import Asked
from consumers.messages import Message
from consumers.payloads import IssueRequested, facts_of
from ledger import use_cases
from ledger.request import Request

KINDS = (IssueRequested,)


def asked(message: Message, request: Request) -> Asked:
    """Issue one coupon. Raises ``InvalidInput`` where the ledger's own rules for a field are stricter."""
    payload = message.payload
    assert isinstance(payload, IssueRequested)
    work = use_cases.issue_by_message(
        request,
        payload.batch_id,
        payload.user_id,
        channel=payload.channel,
        facts=facts_of(payload.facts),
        points_receipt=payload.points_receipt,
    )
    return Asked(request, work)

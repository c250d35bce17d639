"""What an issuance message asks of the ledger."""

from __future__ import annotations

from consumers.messages import Message
from consumers.payloads import IssueRequested
from ledger import use_cases
from ledger.request import Request
from ledger.work import Work

KINDS = (IssueRequested,)


def work_of(message: Message, request: Request) -> Work:
    """Issue one coupon. Raises ``InvalidInput`` where the ledger's own rules for a field are stricter."""
    payload = message.payload
    assert isinstance(payload, IssueRequested)
    return use_cases.issue_by_message(request, payload.batch_id, payload.user_id, channel=payload.channel)

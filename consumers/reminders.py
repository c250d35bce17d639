"""What a reminder that is due asks of the ledger: to tell its user, if what it is about still holds."""

from __future__ import annotations

from consumers.asked import Asked
from consumers.messages import Message
from consumers.payloads import ReminderDue
from ledger.request import Request
from ledger.telling.reminding import Due
from ledger.use_cases import check_id

KINDS = (ReminderDue,)


def asked(message: Message, request: Request) -> Asked:
    """Tell the user. Raises ``InvalidInput`` where the ledger's own rules for a field are stricter."""
    payload = message.payload
    assert isinstance(payload, ReminderDue)
    check_id("user_id", payload.user_id)
    due = Due(
        merchant_id=payload.merchant_id,
        user_id=payload.user_id,
        batch_id=payload.batch_id,
        day=payload.notify_day,
        type=payload.reminder,
        ends_at=payload.ends_at,
        coupon_ids=tuple(payload.coupon_ids),
    )
    return Asked(request, reminder=due)

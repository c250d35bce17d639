"""The catalogue: every fact that the ledger can record.

A class is an event, a topic and a version for ever: rename the class freely, never the topic. A changed payload
means ``class_version + 1``, one ``upcast_vN_vM`` and a new stored sample under ``tests/contract/events``. The
topic table is an allow-list, so a row with any other topic in the store is refused, not imported.

Payloads are flat: text, whole numbers, UTC times, and lists or mappings of those where the fact is a list.
Money is integer minor units of ``currency``; shares are permyriad (1/10,000).
"""

from __future__ import annotations

from ledger.events.base import EVENTS, Event, Recorded, complete
from ledger.events.batches import (
    BatchApproved,
    BatchBudgetChanged,
    BatchCreated,
    BatchPaused,
    BatchQuantityChanged,
    BatchRejected,
    BatchResumed,
    BatchStarted,
    BatchStopped,
    BatchSubmitted,
)
from ledger.events.codes import CodesExported, CodesGenerated, CodesRevoked
from ledger.events.coupons import (
    CouponCredited,
    CouponDebited,
    CouponEvent,
    CouponExpired,
    CouponExtended,
    CouponIssued,
    CouponLocked,
    CouponLockExtended,
    CouponReturned,
    CouponShared,
    CouponSpent,
    CouponTransferred,
    CouponUnlocked,
    CouponUsed,
    CouponVoided,
)
from ledger.events.jobs import JobFinished, JobStarted, JobUndone, JobUndoStarted
from ledger.events.reminders import ReminderCancelled, ReminderRequested
from ledger.events.rules import RuleCreated, RuleStopped
from ledger.events.subjects import SubjectErased, SubjectNoted
from ledger.events.templates import TemplateCreated, TemplateRevised

__all__ = [
    "EVENTS",
    "BatchApproved",
    "BatchBudgetChanged",
    "BatchCreated",
    "BatchPaused",
    "BatchQuantityChanged",
    "BatchRejected",
    "BatchResumed",
    "BatchStarted",
    "BatchStopped",
    "BatchSubmitted",
    "CodesExported",
    "CodesGenerated",
    "CodesRevoked",
    "CouponCredited",
    "CouponDebited",
    "CouponEvent",
    "CouponExpired",
    "CouponExtended",
    "CouponIssued",
    "CouponLockExtended",
    "CouponLocked",
    "CouponReturned",
    "CouponShared",
    "CouponSpent",
    "CouponTransferred",
    "CouponUnlocked",
    "CouponUsed",
    "CouponVoided",
    "Event",
    "JobFinished",
    "JobStarted",
    "JobUndoStarted",
    "JobUndone",
    "Recorded",
    "ReminderCancelled",
    "ReminderRequested",
    "RuleCreated",
    "RuleStopped",
    "SubjectErased",
    "SubjectNoted",
    "TemplateCreated",
    "TemplateRevised",
]

complete()

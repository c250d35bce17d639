"""The use cases: what each loads, and how it decides. Each returns ``Work`` for ``Ledger.do`` or ``Ledger.do_all``."""

from __future__ import annotations

from ledger.use_cases.batches import change_quantity, create_batch, pause_batch, resume_batch, start_batch, stop_batch
from ledger.use_cases.checks import ID_LIMIT, ORDER_COUPON_LIMIT, REASON_LIMIT, check_id
from ledger.use_cases.coupons import expire, expired_unit, void
from ledger.use_cases.issuing import ISSUE_LIMIT, claim, issue, issue_by_message
from ledger.use_cases.orders import confirm, lock, return_coupons, unlock
from ledger.use_cases.templates import create_template, revise_template

__all__ = [
    "ID_LIMIT",
    "ISSUE_LIMIT",
    "ORDER_COUPON_LIMIT",
    "REASON_LIMIT",
    "change_quantity",
    "check_id",
    "claim",
    "confirm",
    "create_batch",
    "create_template",
    "expire",
    "expired_unit",
    "issue",
    "issue_by_message",
    "lock",
    "pause_batch",
    "resume_batch",
    "return_coupons",
    "revise_template",
    "start_batch",
    "stop_batch",
    "unlock",
    "void",
]

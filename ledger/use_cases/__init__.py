"""The use cases: what each loads, and how it decides. Each returns ``Work`` for ``Ledger.do`` or ``Ledger.do_all``."""

from __future__ import annotations

from ledger.use_cases.batches import (
    approve_batch,
    change_budget,
    change_quantity,
    create_batch,
    pause_batch,
    reject_batch,
    resume_batch,
    start_batch,
    stop_batch,
    submit_batch,
)
from ledger.use_cases.checks import ID_LIMIT, ORDER_COUPON_LIMIT, REASON_LIMIT, check_id
from ledger.use_cases.claim_reminders import (
    ClaimReminder,
    cancel_claim_reminder,
    claim_reminder_stream,
    request_claim_reminder,
)
from ledger.use_cases.codes import codes_answer, confirm_code_export, redeem_code, revoke_codes
from ledger.use_cases.coupons import expire, expired_unit, extend, share, transfer, void, void_all
from ledger.use_cases.issuing import ISSUE_LIMIT, claim, issue, issue_by_message
from ledger.use_cases.jobs import end_undo, finish_job, job_answer, start_job, undo_job
from ledger.use_cases.order_coupons import order_coupons
from ledger.use_cases.orders import confirm, lock, redeem, unlock
from ledger.use_cases.quotes import QUOTE_COUPON_LIMIT, quote
from ledger.use_cases.returns import return_coupons
from ledger.use_cases.rules import create_rule, issue_by_rules, rule_answer, rules_stream, stop_rule
from ledger.use_cases.templates import create_template, revise_template

__all__ = [
    "ID_LIMIT",
    "ISSUE_LIMIT",
    "ORDER_COUPON_LIMIT",
    "QUOTE_COUPON_LIMIT",
    "REASON_LIMIT",
    "ClaimReminder",
    "approve_batch",
    "cancel_claim_reminder",
    "change_budget",
    "change_quantity",
    "check_id",
    "claim",
    "claim_reminder_stream",
    "codes_answer",
    "confirm",
    "confirm_code_export",
    "create_batch",
    "create_rule",
    "create_template",
    "end_undo",
    "expire",
    "expired_unit",
    "extend",
    "finish_job",
    "issue",
    "issue_by_message",
    "issue_by_rules",
    "job_answer",
    "lock",
    "order_coupons",
    "pause_batch",
    "quote",
    "redeem",
    "redeem_code",
    "reject_batch",
    "request_claim_reminder",
    "resume_batch",
    "return_coupons",
    "revise_template",
    "revoke_codes",
    "rule_answer",
    "rules_stream",
    "share",
    "start_batch",
    "start_job",
    "stop_batch",
    "stop_rule",
    "submit_batch",
    "transfer",
    "undo_job",
    "unlock",
    "void",
    "void_all",
]

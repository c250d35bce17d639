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
from ledger.use_cases.codes import codes_answer, confirm_code_export, redeem_code, revoke_codes
from ledger.use_cases.coupons import expire, expired_unit, extend, share, transfer, void, void_all
from ledger.use_cases.issuing import ISSUE_LIMIT, claim, issue, issue_by_message
from ledger.use_cases.orders import confirm, lock, redeem, return_coupons, unlock
from ledger.use_cases.quotes import QUOTE_COUPON_LIMIT, quote
from ledger.use_cases.rules import create_rule, issue_by_rules, rule_answer, rules_stream, stop_rule
from ledger.use_cases.templates import create_template, revise_template

__all__ = [
    "ID_LIMIT",
    "ISSUE_LIMIT",
    "ORDER_COUPON_LIMIT",
    "QUOTE_COUPON_LIMIT",
    "REASON_LIMIT",
    "approve_batch",
    "change_budget",
    "change_quantity",
    "check_id",
    "claim",
    "codes_answer",
    "confirm",
    "confirm_code_export",
    "create_batch",
    "create_rule",
    "create_template",
    "expire",
    "expired_unit",
    "extend",
    "issue",
    "issue_by_message",
    "issue_by_rules",
    "lock",
    "pause_batch",
    "quote",
    "redeem",
    "redeem_code",
    "reject_batch",
    "resume_batch",
    "return_coupons",
    "revise_template",
    "revoke_codes",
    "rule_answer",
    "rules_stream",
    "share",
    "start_batch",
    "stop_batch",
    "stop_rule",
    "submit_batch",
    "transfer",
    "unlock",
    "void",
    "void_all",
]

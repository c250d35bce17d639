"""Who may do what: one table, role by operation. What is not in it is denied."""

from __future__ import annotations

from flask import current_app, g

from api.keys import Caller, Keyring, Role
from api.problems import ForbiddenScope, Unauthenticated

ALLOWED: dict[str, frozenset[Role]] = {
    "create_template": frozenset({"operator"}),
    "revise_template": frozenset({"operator"}),
    "list_templates": frozenset({"operator", "auditor", "analyst"}),
    "get_template": frozenset({"operator", "orders", "shopper-app", "auditor", "analyst"}),
    "create_batch": frozenset({"operator"}),
    "submit_batch": frozenset({"operator"}),
    "approve_batch": frozenset({"operator"}),
    "reject_batch": frozenset({"operator"}),
    "start_batch": frozenset({"operator"}),
    "pause_batch": frozenset({"operator"}),
    "resume_batch": frozenset({"operator"}),
    "stop_batch": frozenset({"operator"}),
    "change_batch_quantity": frozenset({"operator"}),
    "change_batch_budget": frozenset({"operator"}),
    "list_batches": frozenset({"operator", "auditor", "analyst"}),
    "get_batch": frozenset({"operator", "orders", "shopper-app", "auditor", "analyst"}),
    "list_batches_csv": frozenset({"operator", "auditor", "analyst"}),
    "get_batch_balance": frozenset({"operator", "auditor", "analyst"}),
    "get_batch_balance_csv": frozenset({"operator", "auditor", "analyst"}),
    "get_daily_statistics": frozenset({"operator", "auditor", "analyst"}),
    "get_daily_statistics_csv": frozenset({"operator", "auditor", "analyst"}),
    "get_funnel": frozenset({"operator", "auditor", "analyst"}),
    "get_funnel_csv": frozenset({"operator", "auditor", "analyst"}),
    "get_liability": frozenset({"operator", "auditor", "analyst"}),
    "get_liability_csv": frozenset({"operator", "auditor", "analyst"}),
    "void_batch_coupons": frozenset({"operator"}),
    "issue_coupons": frozenset({"operator"}),
    "claim_coupon": frozenset({"operator", "shopper-app"}),
    "request_claim_reminder": frozenset({"operator", "shopper-app"}),
    "cancel_claim_reminder": frozenset({"operator", "shopper-app"}),
    "lock_coupons": frozenset({"orders"}),
    "confirm_coupons": frozenset({"orders"}),
    "unlock_coupons": frozenset({"orders"}),
    "return_coupons": frozenset({"orders"}),
    "list_order_coupons": frozenset({"operator", "orders", "auditor"}),
    "quote_order": frozenset({"orders", "till", "shopper-app"}),
    "get_coupon": frozenset({"operator", "orders", "shopper-app", "auditor"}),
    "list_coupon_events": frozenset({"operator", "auditor"}),
    "void_coupon": frozenset({"operator"}),
    "extend_coupon": frozenset({"operator"}),
    "transfer_coupon": frozenset({"operator", "shopper-app"}),
    "share_coupon": frozenset({"operator", "shopper-app"}),
    "list_user_coupons": frozenset({"operator", "orders", "shopper-app", "auditor"}),
    "get_user_coupon_summary": frozenset({"operator", "orders", "shopper-app", "auditor"}),
    "create_rule": frozenset({"operator"}),
    "list_rules": frozenset({"operator", "auditor", "analyst"}),
    "stop_rule": frozenset({"operator"}),
    "create_issuance_job": frozenset({"operator"}),
    "list_issuance_jobs": frozenset({"operator", "auditor", "analyst"}),
    "get_issuance_job": frozenset({"operator", "auditor", "analyst"}),
    "get_issuance_job_progress": frozenset({"operator", "auditor", "analyst"}),
    "get_issuance_job_failures": frozenset({"operator", "auditor"}),
    "undo_issuance_job": frozenset({"operator"}),
    "get_coupon_timeline": frozenset({"operator", "auditor"}),
    "get_coupon_timeline_csv": frozenset({"operator", "auditor"}),
    "get_order_timeline": frozenset({"operator", "auditor"}),
    "get_order_timeline_csv": frozenset({"operator", "auditor"}),
    "get_user_timeline": frozenset({"operator", "auditor"}),
    "get_user_timeline_csv": frozenset({"operator", "auditor"}),
    "get_batch_timeline": frozenset({"operator", "auditor"}),
    "get_batch_timeline_csv": frozenset({"operator", "auditor"}),
    "get_coupon_state": frozenset({"operator", "auditor"}),
    "get_order_state": frozenset({"operator", "auditor"}),
    "get_user_state": frozenset({"operator", "auditor"}),
    "get_batch_state": frozenset({"operator", "auditor"}),
    "get_coupon_difference": frozenset({"operator", "auditor"}),
    "get_order_difference": frozenset({"operator", "auditor"}),
    "get_user_difference": frozenset({"operator", "auditor"}),
    "get_batch_difference": frozenset({"operator", "auditor"}),
    "explain_refusal": frozenset({"operator", "auditor"}),
    "get_checkpoint": frozenset({"operator", "auditor"}),
    "get_checkpoint_note": frozenset({"operator", "auditor"}),
    "get_coupon_proof": frozenset({"operator", "auditor"}),
    "get_coupon_proof_bundle": frozenset({"operator", "auditor"}),
    "list_events": frozenset({"operator", "auditor", "analyst"}),
    "generate_codes": frozenset({"operator"}),
    "import_codes": frozenset({"operator"}),
    "get_codes": frozenset({"operator", "auditor"}),
    "get_codes_export": frozenset({"operator"}),
    "confirm_code_export": frozenset({"operator"}),
    "revoke_codes": frozenset({"operator"}),
    "redeem_code": frozenset({"operator", "shopper-app"}),
    "get_till_code": frozenset({"shopper-app"}),
    "get_coupon_qr_svg": frozenset({"shopper-app"}),
    "get_coupon_qr_png": frozenset({"shopper-app"}),
    "redeem_in_store": frozenset({"orders", "till"}),
    "send_message": frozenset({"operator"}),
    "list_messages": frozenset({"operator", "auditor"}),
    "withdraw_message": frozenset({"operator"}),
    "list_user_messages": frozenset({"operator", "shopper-app"}),
    "read_user_messages": frozenset({"shopper-app"}),
    "put_contact": frozenset({"operator", "shopper-app"}),
    "delete_contact": frozenset({"operator", "shopper-app"}),
    "create_user_note": frozenset({"operator"}),
    "list_user_notes": frozenset({"operator", "auditor"}),
    "delete_personal_data": frozenset({"operator"}),
    "create_channel": frozenset({"operator"}),
    "list_channels": frozenset({"operator", "auditor"}),
    "rotate_channel_secret": frozenset({"operator"}),
    "test_channel": frozenset({"operator"}),
    "enable_channel": frozenset({"operator"}),
    "delete_channel": frozenset({"operator"}),
    "list_failed_deliveries": frozenset({"operator", "auditor"}),
    "retry_deliveries": frozenset({"operator"}),
}
"""Operation id to the roles that may call it."""

ASKING = frozenset({"quote_order", "explain_refusal", "read_user_messages"})
"""Operations that have a body and need no key, because a repeat changes nothing."""

UPLOADING = frozenset({"create_issuance_job"})
"""Operations whose body is a file, which is read as it comes."""

PUBLIC = frozenset(
    {"get_livez", "get_readyz", "get_metrics", "openapi_document", "docs_page", "docs_asset", "problem_page"}
)
"""What needs no key: probes and figures for monitoring, and the description of this interface."""


def operation_id(endpoint: str | None) -> str | None:
    """The operation that a request to this endpoint is for; ``None`` when it matches no route."""
    return endpoint.rpartition(".")[2] if endpoint else None


def authorize(operation: str, authorization: str) -> None:
    """Find out by the header who calls. Raises ``Unauthenticated``, or ``ForbiddenScope`` when its role may not."""
    scheme, _, token = authorization.partition(" ")
    keyring: Keyring = current_app.extensions["keyring"]
    found = keyring.verify(token.strip()) if scheme.lower() == "bearer" else None
    if found is None:
        raise Unauthenticated
    if found.role not in ALLOWED.get(operation, frozenset()):
        raise ForbiddenScope(role=found.role, operation=operation)
    g.caller = found


def caller() -> Caller:
    """Who calls."""
    found: Caller = g.caller
    return found


def operation_name(*, name: str, path: str, method: str) -> str:  # noqa: ARG001
    """The operation id of a route: the name of its function."""
    return name

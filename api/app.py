"""The WSGI application: routes, and the order in which a request is admitted."""

from __future__ import annotations

import re
import uuid
from pathlib import Path

from flask import Response, current_app, g
from flask_openapi3.models.info import Info
from flask_openapi3.openapi import OpenAPI
from werkzeug.datastructures import MIMEAccept
from werkzeug.exceptions import HTTPException

from api import access, answers, problems
from api.audit_history import audit_history
from api.audit_seal import audit_seal
from api.batch_reads import batch_reads
from api.batches import batches
from api.channels import channels
from api.claim_reminders import claim_reminders
from api.codes import codes
from api.coupons import coupons
from api.docs import docs
from api.exchange import idempotency_key
from api.explanations import explanations
from api.feed import feed
from api.health import health
from api.issuance_jobs import Streams, jobs
from api.json_body import StrictRequest, present
from api.keys import Keyring
from api.messages import messages
from api.metrics import metrics
from api.orders import orders
from api.personal_data import personal_data
from api.quotes import quotes
from api.redemptions import redemptions
from api.rules import rules
from api.statistics import statistics
from api.templates import templates
from api.throttle import Throttle, tell
from api.timelines import timelines
from api.users import users
from api.wire import CallersIdConverter
from ledger.application import Ledger
from ledger.codes import CodeKeys
from ledger.errors import InvalidField, LedgerError
from ledger.personal_keys import PersonalKeys

URI_LIMIT_BYTES = 4_096
BODY_LIMIT_BYTES = 65_536
LONG_BODY_LIMIT_BYTES = 1_048_576
"""For operations whose body lists many ids: a thousand users of 128 characters, the products of a template."""
LONG_BODIES = frozenset(
    {
        "create_template",
        "revise_template",
        "create_batch",
        "issue_coupons",
        "quote_order",
        "explain_refusal",
        "lock_coupons",
        "confirm_coupons",
        "redeem_in_store",
        "import_codes",
        "send_message",
    }
)
FILES = {
    "get_codes_export": "text/csv",
    "list_batches_csv": "text/csv",
    "get_batch_balance_csv": "text/csv",
    "get_daily_statistics_csv": "text/csv",
    "get_funnel_csv": "text/csv",
    "get_liability_csv": "text/csv",
    "get_coupon_qr_svg": "image/svg+xml",
    "get_coupon_qr_png": "image/png",
    "get_issuance_job_progress": "text/event-stream",
    "get_issuance_job_failures": "text/csv",
    "get_checkpoint_note": "text/plain",
    "get_coupon_proof_bundle": "application/zip",
    "get_coupon_timeline_csv": "text/csv",
    "get_order_timeline_csv": "text/csv",
    "get_user_timeline_csv": "text/csv",
    "get_batch_timeline_csv": "text/csv",
}
"""Operations that answer something else than JSON."""
NO_KEYS = CodeKeys()
NO_PERSONAL_KEYS = PersonalKeys()

DESCRIPTION = """Every change in a coupon's life is a recorded event; each answer is computed from the events.

Writes carry an `Idempotency-Key`: the same request has one effect and one answer, however often it is sent. Answers to
writes carry `Ledger-Position`; reads of read models take it as `at_least`. Refusals are problems (RFC 9457); programs
decide on `code`. Money is whole minor units, shares are permyriad, times are RFC 3339 with a zone. Objects of another
merchant look like objects that do not exist."""


def create_app(
    ledger: Ledger,
    code_keys: CodeKeys = NO_KEYS,
    throttle: Throttle | None = None,
    streams: int = 8,
    seal_folder: Path | None = None,
    personal_keys: PersonalKeys = NO_PERSONAL_KEYS,
) -> OpenAPI:
    """The application that serves one ledger, without limits where no throttle is given.

    At most ``streams`` callers watch the progress of something at once. Proofs are made from the tiles in
    ``seal_folder``. It connects to nothing before it is asked.
    """
    app = OpenAPI(
        "api",
        info=Info(title="Coupon Ledger", version="1", description=DESCRIPTION),
        security_schemes={"bearer": {"type": "http", "scheme": "bearer", "description": "`<key id>.<secret>`"}},
        doc_ui=False,
        static_folder=None,
        validation_error_status=500,  # declared as a problem everywhere, so that the library adds no shape of its own
        validation_error_model=answers.Problem,
        validation_error_callback=problems.refuse_fields,
        operation_id_callback=access.operation_name,
    )
    app.request_class = StrictRequest
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    app.url_map.merge_slashes = False
    app.url_map.converters["callers_id"] = CallersIdConverter
    app.extensions["ledger"] = ledger
    app.extensions["code_keys"] = code_keys
    app.extensions["streams"] = Streams(streams)
    app.extensions["keyring"] = Keyring(ledger.store)
    app.extensions["throttle"] = throttle or Throttle()
    app.extensions["seal_folder"] = seal_folder
    app.extensions["personal_keys"] = personal_keys
    app.before_request(_admit)
    app.after_request(_finish)
    app.register_error_handler(LedgerError, problems.on_ledger_error)
    app.register_error_handler(HTTPException, problems.on_http_exception)
    app.register_error_handler(Exception, problems.on_exception)
    for blueprint in (
        templates,
        batches,
        batch_reads,
        claim_reminders,
        rules,
        codes,
        jobs,
        orders,
        quotes,
        redemptions,
        coupons,
        users,
        personal_data,
        statistics,
        messages,
        channels,
        timelines,
        audit_history,
        explanations,
        audit_seal,
        feed,
        health,
    ):
        app.register_api(blueprint)
    app.register_blueprint(docs)
    app.register_blueprint(metrics)
    return app


def _admit() -> None:
    """Refuse what needs no look at the ledger, the cheapest first; who may not ask learns nothing else."""
    asked = present()
    id = asked.headers.get("X-Request-Id", "")
    g.http_request_id = id if re.fullmatch(r"[A-Za-z0-9._:-]{1,128}", id) else uuid.uuid4().hex
    if len(asked.environ.get("RAW_URI") or asked.full_path) > URI_LIMIT_BYTES:
        raise problems.UriTooLong
    operation = access.operation_id(asked.endpoint)
    asked.body_limit_bytes = LONG_BODY_LIMIT_BYTES if operation in LONG_BODIES else BODY_LIMIT_BYTES
    if operation is None or operation in access.PUBLIC:
        return
    access.authorize(operation, asked.headers.get("Authorization", ""))
    throttle: Throttle = current_app.extensions["throttle"]
    throttle.admit_key(operation, access.caller())
    accepts = asked.headers.get("Accept")
    if accepts not in (None, "*/*", "application/json") and not _acceptable(operation, asked.accept_mimetypes):
        raise problems.NotAcceptable
    if asked.query_string:
        if repeated := [name for name, values in asked.args.lists() if len(values) > 1]:
            raise InvalidField(errors=[_refused(name, "is given twice") for name in repeated])
        if asked.method not in ("GET", "HEAD") and asked.args:
            raise InvalidField(errors=[_refused(name, "is not known") for name in asked.args])
    if asked.method in ("POST", "PUT"):
        if asked.method == "POST" and operation not in access.ASKING:
            g.idempotency_key = idempotency_key(asked.headers.get("Idempotency-Key"))
        if operation in access.UPLOADING:
            return
        asked.get_json()
        throttle.admit_client(operation, access.caller(), asked)


def _acceptable(operation: str, accepts: MIMEAccept) -> bool:
    kind = FILES.get(operation, "application/json")
    return not accepts or bool(accepts.best_match([kind, problems.MEDIA_TYPE]))


def _refused(name: str, detail: str) -> dict[str, str]:
    return {"parameter": name, "code": InvalidField.code(), "detail": detail}


def _finish(response: Response) -> Response:
    added = {"X-Request-Id": g.get("http_request_id", ""), "X-Content-Type-Options": "nosniff"}
    if present().path.startswith("/v1/"):
        added["Cache-Control"] = "no-store"
    response.headers.extend(added)
    tell(response.headers)
    return response

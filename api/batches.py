"""Batches: their steps, and issuing and claiming their coupons."""

from __future__ import annotations

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from api import answers, contract
from api.access import caller, operation_name
from api.bodies import BatchBody, ClaimBody, Empty, IssueBody, QuantityBody, ReasonBody
from api.exchange import answer, caught_up, command, expected_version, ledger, owned_history, perform
from api.wire import AtLeastQuery, BatchPath, NoQuery
from ledger import errors, use_cases
from ledger.aggregate import text_of
from ledger.batch import Batch
from ledger.work import fold
from projections import queries

batches = APIBlueprint(
    "batches",
    __name__,
    url_prefix="/v1",
    abp_tags=[Tag(name="batches", description="One issue of coupons: its quantity, limits and windows.")],
    operation_id_callback=operation_name,
)

STEP = contract.write(200, answers.BatchStep, errors.BatchNotFound, errors.BatchStateConflict, errors.VersionConflict)
COUNTERS = (
    "quantity", "issued", "pending", "unused", "locked", "used", "expired", "voided", "returned", "discount_minor",
    "returned_minor",
)  # fmt: skip
ISSUE_REFUSALS = (errors.BatchNotFound, errors.BatchNotOpen, errors.SoldOut, errors.UserLimitReached)


@batches.post(
    "/batches",
    responses=contract.write(
        201, answers.BatchStep, errors.TemplateNotFound, errors.InvalidQuantity, errors.InvalidPeriod
    ),
)
def create_batch(body: BatchBody) -> Response:
    """Plan a batch, in DRAFT."""
    work = use_cases.create_batch(
        command(), body.to_plan(), template_id=body.template_id, template_version=body.template_version
    )
    return perform(work, status=201, location="batches/{batch_id}")


@batches.get("/batches/<batch_id>", responses=contract.read(answers.Batch, errors.BatchNotFound))
def get_batch(path: BatchPath, query: NoQuery) -> Response:  # noqa: ARG001
    """Read a batch as it is now."""
    history = owned_history("batch", path.batch_id, errors.BatchNotFound)
    batch = fold(Batch(f"batch-{path.batch_id}"), [recorded.event for recorded in history])
    plan = batch.created
    found = {
        "batch_id": batch.key,
        "state": batch.state_at(ledger().store.now()),
        "quantity": batch.quantity,
        "version": batch.version,
        "template_id": plan.template_id,
        "template_version": plan.template_version,
        "name": plan.name,
        "campaign": plan.campaign,
        "per_user_limit": plan.per_user_limit,
        "claim_from": text_of(plan.claim_from),
        "claim_until": text_of(plan.claim_until),
        "valid_from": text_of(plan.valid_from),
        "valid_until": text_of(plan.valid_until),
        "valid_delay_seconds": plan.valid_delay_seconds,
        "valid_for_seconds": plan.valid_for_seconds,
    }
    return answer(found, version=batch.version)


@batches.get(
    "/batches/<batch_id>/balance",
    responses=contract.read(answers.Balance, errors.BatchNotFound, errors.NotCaughtUp),
)
def get_batch_balance(path: BatchPath, query: AtLeastQuery) -> Response:
    """Read where a batch's coupons are, at this moment."""
    history = owned_history("batch", path.batch_id, errors.BatchNotFound)
    store = ledger().store
    # The log knows the batch, so a read model that does not is behind, and waiting for its creation is right.
    position = caught_up(max(query.at_least, history[0].position), "batch_balance", "coupon_status")
    now = store.now()
    with store.connection() as connection:
        row = queries.balance(connection, caller().merchant_id, path.batch_id, now)
    counters = {name: getattr(row, name) for name in COUNTERS}
    found = {"batch_id": row.batch_id, "state": row.state, **counters, "position": position, "as_of": text_of(now)}
    return answer(found)


@batches.post("/batches/<batch_id>/start", responses=STEP)
def start_batch(path: BatchPath, body: Empty) -> Response:  # noqa: ARG001
    """DRAFT to RUNNING: coupons may be issued."""
    return perform(use_cases.start_batch(command(), path.batch_id, expected_version=expected_version()))


@batches.post("/batches/<batch_id>/pause", responses=STEP)
def pause_batch(path: BatchPath, body: ReasonBody) -> Response:
    """RUNNING to PAUSED: nothing is issued for a while."""
    work = use_cases.pause_batch(command(), path.batch_id, reason=body.reason, expected_version=expected_version())
    return perform(work)


@batches.post("/batches/<batch_id>/resume", responses=STEP)
def resume_batch(path: BatchPath, body: Empty) -> Response:  # noqa: ARG001
    """PAUSED to RUNNING."""
    return perform(use_cases.resume_batch(command(), path.batch_id, expected_version=expected_version()))


@batches.post("/batches/<batch_id>/stop", responses=STEP)
def stop_batch(path: BatchPath, body: ReasonBody) -> Response:
    """To STOPPED: nothing more is ever issued; issued coupons stay valid."""
    work = use_cases.stop_batch(command(), path.batch_id, reason=body.reason, expected_version=expected_version())
    return perform(work)


@batches.post(
    "/batches/<batch_id>/quantity",
    responses=contract.write(
        200,
        answers.BatchStep,
        errors.BatchNotFound,
        errors.BatchStateConflict,
        errors.QuantityConflict,
        errors.InvalidQuantity,
        errors.VersionConflict,
    ),
)
def change_batch_quantity(path: BatchPath, body: QuantityBody) -> Response:
    """Set the quantity, if it is still the expected one and no more than the target is issued."""
    return perform(
        use_cases.change_quantity(
            command(),
            path.batch_id,
            expected=body.expected,
            target=body.target,
            expected_version=expected_version(),
        )
    )


@batches.post(
    "/batches/<batch_id>/coupons",
    responses=contract.write(201, answers.IssuedCoupons, *ISSUE_REFUSALS),
)
def issue_coupons(path: BatchPath, body: IssueBody) -> Response:
    """Issue coupons to users, all or none."""
    return perform(use_cases.issue(command(), path.batch_id, body.user_ids, channel=body.channel), status=201)


@batches.post(
    "/batches/<batch_id>/claims",
    responses=contract.write(201, answers.IssuedCoupon, *ISSUE_REFUSALS),
)
def claim_coupon(path: BatchPath, body: ClaimBody) -> Response:
    """Issue one coupon to the user who asks for it."""
    work = use_cases.claim(command(), path.batch_id, body.user_id, channel=body.channel)
    return perform(work, status=201, location="coupons/{coupon_id}")

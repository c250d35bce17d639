"""Batches: their steps, and issuing and claiming their coupons."""

from __future__ import annotations

from dataclasses import replace

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from api import answers, contract, coupon_answers, cursors, problems
from api.access import caller, operation_name
from api.batch_bodies import BatchBody, BudgetBody, ClaimBody, IssueBody, QuantityBody, VoidsBody
from api.bodies import Empty, ReasonBody
from api.exchange import answer, answer_receipt, caught_up, command, expected_version, ledger, owned_history, perform
from api.wire import AtLeastQuery, BatchPath, NoQuery
from ledger import errors, use_cases
from ledger.aggregate import text_of
from ledger.batch import Batch
from ledger.undoing import void_issued
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
    "returned_minor", "budget_minor",
)  # fmt: skip
PLAN = (
    "template_id", "template_version", "name", "campaign", "per_user_limit", "valid_delay_seconds", "valid_for_seconds",
    "time_zone", "ends_at_day_close", "per_day_limit", "per_user_day_limit", "per_person_limit", "needs_approval",
)  # fmt: skip
WINDOWS = ("claim_from", "claim_until", "valid_from", "valid_until")
ISSUE_REFUSALS = (
    errors.BatchNotFound,
    errors.BatchNotOpen,
    errors.NotInAudience,
    errors.FactRequired,
    errors.UserLimitReached,
    errors.PersonLimitReached,
    errors.UserDayLimitReached,
    errors.DayLimitReached,
    errors.PointsReceiptUsed,
    errors.SoldOut,
    errors.BudgetSpent,
)


@batches.post(
    "/batches",
    responses=contract.write(
        201,
        answers.PlannedBatch,
        errors.TemplateNotFound,
        errors.InvalidQuantity,
        errors.InvalidPeriod,
        errors.RiskyTerms,
    ),
)
def create_batch(body: BatchBody) -> Response:
    """Plan a batch, in DRAFT."""
    work = use_cases.create_batch(
        command(),
        body.to_plan(),
        template_id=body.template_id,
        template_version=body.template_version,
        accept_risk=body.accept_risk,
    )
    return perform(work, status=201, location="batches/{batch_id}")


@batches.get("/batches/<batch_id>", responses=contract.read(answers.Batch, errors.BatchNotFound))
def get_batch(path: BatchPath, query: NoQuery) -> Response:  # noqa: ARG001
    """Read a batch as it is now."""
    history = owned_history("batch", path.batch_id, errors.BatchNotFound)
    batch = fold(Batch(f"batch-{path.batch_id}"), [recorded.event for recorded in history])
    plan, audience = batch.created, batch.audience
    found = {
        "batch_id": batch.key,
        "state": batch.state_at(ledger().store.now()),
        "quantity": batch.quantity,
        "budget_minor": batch.budget_minor,
        "version": batch.version,
        **{name: getattr(plan, name) for name in PLAN},
        **{name: text_of(getattr(plan, name)) for name in WINDOWS},
        # The list itself is long, and whoever may see a batch need not learn whom it is for.
        "audience": {**vars(audience), "users": len(audience.users)},
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


@batches.post("/batches/<batch_id>/submit", responses=STEP)
def submit_batch(path: BatchPath, body: Empty) -> Response:  # noqa: ARG001
    """DRAFT to IN_REVIEW: a second person is to look at the plan."""
    return perform(use_cases.submit_batch(command(), path.batch_id, expected_version=expected_version()))


@batches.post(
    "/batches/<batch_id>/approve",
    responses=contract.write(
        200,
        answers.BatchStep,
        errors.BatchNotFound,
        errors.BatchStateConflict,
        errors.SelfApproval,
        errors.VersionConflict,
    ),
)
def approve_batch(path: BatchPath, body: Empty) -> Response:  # noqa: ARG001
    """IN_REVIEW to APPROVED, with another key than the one that submitted it."""
    return perform(use_cases.approve_batch(command(), path.batch_id, expected_version=expected_version()))


@batches.post("/batches/<batch_id>/reject", responses=STEP)
def reject_batch(path: BatchPath, body: ReasonBody) -> Response:
    """IN_REVIEW back to DRAFT."""
    work = use_cases.reject_batch(command(), path.batch_id, reason=body.reason, expected_version=expected_version())
    return perform(work)


@batches.post("/batches/<batch_id>/start", responses=STEP)
def start_batch(path: BatchPath, body: Empty) -> Response:  # noqa: ARG001
    """DRAFT or APPROVED to RUNNING: coupons may be issued. A batch that needs approval must have it."""
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
        errors.SelfApproval,
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
    "/batches/<batch_id>/budget",
    responses=contract.write(
        200,
        answers.BatchStep,
        errors.BatchNotFound,
        errors.BatchStateConflict,
        errors.BudgetConflict,
        errors.SelfApproval,
        errors.VersionConflict,
    ),
)
def change_batch_budget(path: BatchPath, body: BudgetBody) -> Response:
    """Set the budget, if it is still the expected one and coupons worth no more than the target are issued."""
    return perform(
        use_cases.change_budget(
            command(),
            path.batch_id,
            expected_minor=body.expected_minor,
            target_minor=body.target_minor,
            expected_version=expected_version(),
        )
    )


@batches.post(
    "/batches/<batch_id>/coupons",
    responses=contract.write(201, coupon_answers.IssuedCoupons, *ISSUE_REFUSALS),
)
def issue_coupons(path: BatchPath, body: IssueBody) -> Response:
    """Issue coupons to users, all or none."""
    work = use_cases.issue(
        command(),
        path.batch_id,
        body.user_ids,
        channel=body.channel,
        facts=body.facts.to_facts(),
        points_receipt=body.points_receipt,
    )
    return perform(work, status=201)


@batches.post(
    "/batches/<batch_id>/claims",
    responses=contract.write(201, coupon_answers.IssuedCoupon, *ISSUE_REFUSALS),
)
def claim_coupon(path: BatchPath, body: ClaimBody) -> Response:
    """Issue one coupon to the user who asks for it."""
    work = use_cases.claim(
        command(),
        path.batch_id,
        body.user_id,
        channel=body.channel,
        facts=body.facts.to_facts(),
        points_receipt=body.points_receipt,
    )
    return perform(work, status=201, location="coupons/{coupon_id}")


@batches.post(
    "/batches/<batch_id>/voids",
    responses=contract.write(200, coupon_answers.Voids, errors.BatchNotFound, problems.BadCursor),
)
def void_batch_coupons(path: BatchPath, body: VoidsBody) -> Response:
    """Withdraw the next coupons of a batch that are not used, at most 100 a call; live locks end with them.

    They come in the order of their ids, each under its own Idempotency-Key; a page may hold none and not be the last.
    What could not be withdrawn is named with the reason. Pause or stop the batch first: what is issued meanwhile may
    be missed.
    """
    issued = body.to_issued()
    name = f"batch-{path.batch_id} voids {issued.by!r} {issued.by_prefix!r}"
    after = cursors.unseal(name, body.cursor)[0] if body.cursor else None
    receipt = void_issued(ledger(), command(), path.batch_id, reason=body.reason, issued=issued, after=after)
    found = dict(receipt.answer)
    following = found.pop("next")
    found["next_cursor"] = None if following is None else cursors.seal(name, [following])
    return answer_receipt(replace(receipt, answer=found))

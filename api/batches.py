"""Batches: which there are, their steps, and issuing and claiming their coupons. Reading one: ``batch_reads.py``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from typing import Any

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import Field

from api import answers, contract, coupon_answers, cursors, problems
from api.access import caller, operation_name
from api.batch_bodies import BatchBody, BudgetBody, ClaimBody, IssueBody, QuantityBody, VoidsBody
from api.csv_text import csv_answer
from api.exchange import answer, answer_receipt, caught_up, command, expected_version, ledger, perform
from api.wire import PAGE_DEFAULT, AtLeastQuery, BatchPath, Cursor, Empty, Limit, ReasonBody
from ledger import errors, use_cases
from ledger.aggregate import text_of
from ledger.undoing import void_issued
from projections import listings

batches = APIBlueprint(
    "batches",
    __name__,
    url_prefix="/v1",
    abp_tags=[Tag(name="batches", description="One issue of coupons: its quantity, limits and windows.")],
    operation_id_callback=operation_name,
)

STEP = contract.write(200, answers.BatchStep, errors.BatchNotFound, errors.BatchStateConflict, errors.VersionConflict)
LISTED_MOMENTS = ("claim_from", "claim_until", "created_at")
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


class BatchesCsvQuery(AtLeastQuery):
    """Which batches, and how new."""

    state: answers.BatchState | None = Field(None, description="Only batches in this state.")


class BatchesQuery(BatchesCsvQuery):
    """The same, and which page of them."""

    cursor: Cursor | None = None
    limit: Limit = PAGE_DEFAULT


@batches.get("/batches", responses=contract.read(answers.Batches, problems.BadCursor, errors.NotCaughtUp))
def list_batches(query: BatchesQuery) -> Response:
    """Read which batches there are, in the order of their ids."""
    name = f"batches {query.state}"
    after = cursors.unseal(name, query.cursor)[0] if query.cursor else ""
    read, position = _listed(query)
    found = read(after, query.limit + 1)
    page = found[: query.limit]
    more = cursors.seal(name, [page[-1].batch_id]) if len(found) > len(page) else None
    return answer({"batches": [_shown(row) for row in page], "next_cursor": more, "position": position})


@batches.get("/batches.csv", responses=contract.figures_csv(errors.NotCaughtUp))
def list_batches_csv(query: BatchesCsvQuery) -> Response:
    """Read the same as CSV, every batch."""
    read, position = _listed(query)

    def rows() -> Iterator[list[object]]:
        after = ""
        while page := read(after, listings.LIST_LIMIT):
            yield from (list(_shown(row).values()) for row in page)
            after = page[-1].batch_id

    return csv_answer("batches", position, list(answers.ListedBatch.model_fields), rows())


def _listed(query: BatchesCsvQuery) -> tuple[Callable[[str, int], list[listings.BatchRow]], int]:
    """How to read the batches that are asked for, and the position that they show at least."""
    position = caught_up(query.at_least, "batch_balance")
    store, merchant_id = ledger().store, caller().merchant_id
    states = [query.state] if query.state else None

    def read(after: str, limit: int) -> list[listings.BatchRow]:
        now = store.now()
        with store.connection() as connection:
            return listings.batches(connection, merchant_id, now, states=states, after=after, limit=limit)

    return read, position


def _shown(row: listings.BatchRow) -> dict[str, Any]:
    """In the order in which the answer names its members."""
    moments = {moment: text_of(getattr(row, moment)) for moment in LISTED_MOMENTS}
    found = asdict(row) | moments
    return {name: found[name] for name in answers.ListedBatch.model_fields}


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
    """IN_REVIEW to APPROVED, with another key than those that planned and submitted it."""
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
        errors.InvalidQuantity,
        errors.VersionConflict,
    ),
)
def change_batch_quantity(path: BatchPath, body: QuantityBody) -> Response:
    """Set the quantity, if it is still the expected one and no more than the target is issued.

    A batch that needs approval and is raised after it goes back to DRAFT; while it is RUNNING, pause it first.
    """
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
        errors.VersionConflict,
    ),
)
def change_batch_budget(path: BatchPath, body: BudgetBody) -> Response:
    """Set the budget, if it is still the expected one and coupons worth no more than the target are issued.

    A batch that needs approval and is raised after it goes back to DRAFT; while it is RUNNING, pause it first.
    """
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
    name = f"batch-{path.batch_id} voids {issued.by!r} {issued.by_prefix!r} {issued.codes_id!r}"
    after = cursors.unseal(name, body.cursor)[0] if body.cursor else None
    receipt = void_issued(ledger(), command(), path.batch_id, reason=body.reason, issued=issued, after=after)
    found = dict(receipt.answer)
    following = found.pop("next")
    found["next_cursor"] = None if following is None else cursors.seal(name, [following])
    return answer_receipt(replace(receipt, answer=found))

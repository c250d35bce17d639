"""One batch, read: as it is, and where its coupons are."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from api import answers, contract
from api.access import caller, operation_name
from api.csv_text import csv_answer
from api.exchange import Connection, answer, ledger, owned_history, read_together
from api.wire import AtLeastQuery, BatchPath, NoQuery
from ledger import errors
from ledger.aggregate import text_of
from ledger.alerts import Alerts
from ledger.batch import Batch
from ledger.limits import budget_key
from ledger.stock import taken
from ledger.work import fold
from projections import queries
from projections.queries import BalanceRow

batch_reads = APIBlueprint(
    "batch_reads",
    __name__,
    url_prefix="/v1",
    abp_tags=[Tag(name="batches", description="One issue of coupons: its quantity, limits and windows.")],
    operation_id_callback=operation_name,
)

COUNTERS = (
    "quantity", "issued", "pending", "unused", "locked", "used", "expired", "voided", "returned", "discount_minor",
    "returned_minor", "merchant_funded_minor", "platform_funded_minor", "currency", "at_stake_minor", "orders",
    "orders_told", "paid_minor", "budget_minor",
)  # fmt: skip
PLAN = (
    "template_id", "template_version", "name", "campaign", "per_user_limit", "valid_delay_seconds", "valid_for_seconds",
    "time_zone", "ends_at_day_close", "per_day_limit", "per_user_day_limit", "per_person_limit", "needs_approval",
)  # fmt: skip
WINDOWS = ("claim_from", "claim_until", "valid_from", "valid_until")


@batch_reads.get("/batches/<batch_id>", responses=contract.read(answers.Batch, errors.BatchNotFound))
def get_batch(path: BatchPath, query: NoQuery) -> Response:  # noqa: ARG001
    """Read a batch as it is now."""
    history = owned_history("batch", path.batch_id, errors.BatchNotFound)
    batch = fold(Batch(f"batch-{path.batch_id}"), [recorded.event for recorded in history])
    plan, audience = batch.created, batch.audience
    with ledger().store.connection() as connection:
        budget_taken_minor = taken(connection, budget_key(batch.key))
    found = {
        "batch_id": batch.key,
        "state": batch.state_at(ledger().store.now()),
        "quantity": batch.quantity,
        "budget_minor": batch.budget_minor,
        "budget_taken_minor": budget_taken_minor,
        "version": batch.version,
        **{name: getattr(plan, name) for name in PLAN},
        **{name: text_of(getattr(plan, name)) for name in WINDOWS},
        # The list itself is long, and whoever may see a batch need not learn whom it is for.
        "audience": {**vars(audience), "users": len(audience.users)},
        "alerts": vars(Alerts.from_payload(plan.alerts)),
    }
    return answer(found, version=batch.version)


@batch_reads.get(
    "/batches/<batch_id>/balance",
    responses=contract.read(answers.Balance, errors.BatchNotFound, errors.NotCaughtUp),
)
def get_batch_balance(path: BatchPath, query: AtLeastQuery) -> Response:
    """Read where a batch's coupons are, at this moment."""
    return answer(_balance(path, query))


@batch_reads.get(
    "/batches/<batch_id>/balance.csv",
    responses=contract.figures_csv(errors.BatchNotFound, errors.NotCaughtUp),
)
def get_batch_balance_csv(path: BatchPath, query: AtLeastQuery) -> Response:
    """Read the same as CSV: one row."""
    found = _balance(path, query)
    return csv_answer(f"balance-{path.batch_id}", found["position"], list(found), [list(found.values())])


def _balance(path: BatchPath, query: AtLeastQuery) -> dict[str, Any]:
    history = owned_history("batch", path.batch_id, errors.BatchNotFound)
    store = ledger().store

    def read(connection: Connection) -> tuple[BalanceRow, int | None, datetime]:
        now = store.now(connection)
        row = queries.balance(connection, caller().merchant_id, path.batch_id, now)
        return row, taken(connection, budget_key(path.batch_id)), now

    # The log knows the batch, so a read model that does not is behind, and waiting for its creation is right.
    at_least = max(query.at_least, history[0].position)
    found, position = read_together(store, at_least, ("batch_balance", "coupon_status"), read)
    row, budget_taken_minor, now = found
    return {
        "batch_id": row.batch_id,
        "state": row.state,
        "remaining": row.quantity - row.issued,
        **{name: getattr(row, name) for name in COUNTERS},
        "budget_taken_minor": budget_taken_minor,
        "position": position,
        "as_of": text_of(now),
    }

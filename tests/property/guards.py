"""The guards' rows computed again from the log alone: what they count is what the events say happened."""

from __future__ import annotations

from collections import Counter
from zoneinfo import ZoneInfo

from ledger.database import Database
from ledger.events import BatchBudgetChanged, BatchCreated, BatchQuantityChanged, CouponIssued, CouponSpent
from ledger.store import Store


def assert_guards_are_the_logs(store: Store, worth_minor: int) -> None:
    """Compare every row of stock and quotas; all coupons are worth the same, and no other limit was set."""
    batches: dict[str, BatchCreated] = {}
    supply: dict[str, int] = {}
    taken: Counter[str] = Counter()
    quotas: Counter[tuple[str, str]] = Counter()
    with store.connection() as connection:
        for _, _, event in store.read(connection, 0, 10_000_000):
            batch_id = event.originator_id.removeprefix("batch-")
            if isinstance(event, BatchCreated):
                batches[batch_id] = event
                supply[batch_id] = event.quantity
                if event.budget_minor is not None:
                    supply[f" budget {batch_id}"] = event.budget_minor
            elif isinstance(event, BatchQuantityChanged):
                supply[batch_id] = event.quantity
            elif isinstance(event, BatchBudgetChanged):
                supply[f" budget {batch_id}"] = event.budget_minor
            elif isinstance(event, CouponIssued):
                taken[event.batch_id] += 1
                if f" budget {event.batch_id}" in supply:
                    taken[f" budget {event.batch_id}"] += worth_minor
                quotas.update(_quotas(batches[event.batch_id], event))
            elif isinstance(event, CouponSpent):
                quotas[f" order {event.merchant_id}", event.order_id] += 1
    stock = {key: (quantity, taken[key]) for key, quantity in supply.items()}
    assert _stock(store.database) == stock
    assert _quota(store.database) == quotas


def _quotas(batch: BatchCreated, event: CouponIssued) -> list[tuple[str, str]]:
    day = event.occurred_at.astimezone(ZoneInfo(batch.time_zone)).date()
    owners = {
        event.user_id: batch.per_user_limit,
        f" day {day}": batch.per_day_limit,
        f" day {day} {event.user_id}": batch.per_user_day_limit,
        f" person {event.facts.get('person')}": batch.per_person_limit,
    }
    quotas = [(event.batch_id, owner) for owner, most in owners.items() if most is not None]
    receipt = event.facts.get("points_receipt")
    return quotas if receipt is None else [*quotas, (f" points {event.merchant_id}", receipt)]


def _stock(database: Database) -> dict[str, tuple[int, int]]:
    with database.connect() as connection:
        rows = connection.execute("select batch_id, quantity, issued from batch_stock").fetchall()
    return {batch_id: (quantity, issued) for batch_id, quantity, issued in rows}


def _quota(database: Database) -> dict[tuple[str, str], int]:
    with database.connect() as connection:
        rows = connection.execute("select batch_id, user_id, issued from user_quota").fetchall()
    return {(batch_id, owner): issued for batch_id, owner, issued in rows}

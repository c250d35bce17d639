"""Questions to the read models. Each is one statement of ``queries.sql``, answered as typed rows.

Every question names the merchant, so one merchant never reads another's. ``now`` is the caller's instant, in the
service the database clock's. Any connection of the ledger's roles will do.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources
from typing import Any, LiteralString, NamedTuple, TypeVar, cast

import psycopg
from psycopg.rows import class_row

from ledger.errors import BatchNotFound, CouponNotFound, InvalidField

WALLET_LIMIT = 200
"""Coupons on one page of a wallet."""
PAGE_LIMIT = 5_000
"""Rows on one page for another program: sweeper, reconciliation."""
STATES = ("PENDING", "UNUSED", "LOCKED", "USED", "EXPIRED", "VOIDED")
START: tuple[datetime, str] = (datetime.min.replace(tzinfo=UTC), "")
"""The cursor before the first row of any page."""

Connection = psycopg.Connection[Any]
RowT = TypeVar("RowT")


def named_statements(file: str) -> dict[str, LiteralString]:
    """The statements of a file of this package, by the names that stand before them."""
    text = resources.files("projections").joinpath(file).read_text("utf-8")
    parts = re.split(r"^-- name: (\w+)$", text, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], cast("list[LiteralString]", parts[1::2]), strict=True))


STATEMENTS = named_statements("queries.sql")


@dataclass(frozen=True, slots=True, kw_only=True)
class CouponRow:
    """One coupon as the read model has it."""

    coupon_id: str
    merchant_id: str
    batch_id: str
    template_id: str
    template_version: int
    user_id: str
    state: str
    """At the asked instant."""
    stored_state: str
    """As the log's last event left it; UNUSED covers PENDING and an expiry that is not written down."""
    valid_from: datetime
    valid_until: datetime
    order_id: str | None
    """The order that holds, held last or used it."""
    holder_id: str | None
    """The friend who holds, held last or used it; ``None`` where its owner does."""
    lock_id: str | None
    lock_ends_at: datetime | None
    redemption_id: str | None
    discount_minor: int
    balance_minor: int | None
    """Left on a voucher that was spent in part, not counting the present use; ``None`` before it was."""
    issued_at: datetime
    version: int
    """The stream's."""
    position: int
    """Of its last event in the log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WalletRow:
    """One coupon that a user may use, with its state at the asked instant."""

    coupon_id: str
    batch_id: str
    template_id: str
    template_version: int
    state: str
    valid_from: datetime
    valid_until: datetime
    order_id: str | None
    holder_id: str | None
    """The friend of its owner who holds, held last or used it; ``None`` where its owner does."""
    lock_ends_at: datetime | None
    discount_minor: int
    balance_minor: int | None
    """As in ``CouponRow``."""
    issued_at: datetime
    version: int
    shared_by: str | None
    """Its owner, who shares it with the user; ``None`` where it is the user's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WalletPage:
    """One page of a wallet, by expiry."""

    coupons: list[WalletRow]
    next: tuple[datetime, str] | None
    """The cursor of the page after it; ``None`` at the end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BalanceRow:
    """What became of a batch's coupons: ``issued = pending + unused + locked + used + expired + voided``."""

    batch_id: str
    merchant_id: str
    template_id: str
    template_version: int
    campaign: str
    name: str
    state: str
    claim_from: datetime | None
    claim_until: datetime | None
    created_at: datetime
    quantity: int
    budget_minor: int | None
    """What the issued coupons may be worth together; ``None`` without a budget."""
    issued: int
    pending: int
    unused: int
    locked: int
    used: int
    expired: int
    voided: int
    returned: int
    """Returns in whole or in part, whether or not the coupon came back, and credits of vouchers."""
    discount_minor: int
    """Of all uses, and of what was spent of vouchers."""
    returned_minor: int
    """Given back by returns, and put on vouchers again."""
    merchant_funded_minor: int
    platform_funded_minor: int
    """The two are the discount."""
    currency: str
    worth_minor: int | None
    """The most that one coupon can take off; ``None`` where the basket alone bounds it."""
    at_stake_minor: int
    """What the unused and locked coupons are worth; 0 where that is unknown."""
    orders: int
    """That used coupons of the batch."""
    orders_told: int
    """Of these, the ones of which it was told what was paid, with their first coupon."""
    paid_minor: int
    """For these."""
    position: int
    """Of the last event that moved the batch."""


class DueCoupon(NamedTuple):
    """A coupon whose expiry is to be written down; ``version`` guards ``use_cases.expired_unit``."""

    valid_until: datetime
    coupon_id: str
    version: int
    merchant_id: str
    batch_id: str
    user_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedLock:
    """A coupon whose lock ran out: to be unlocked, or expired where ``valid_until`` is over too."""

    lock_ends_at: datetime
    coupon_id: str
    version: int
    merchant_id: str
    order_id: str
    lock_id: str
    valid_until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectionStatus:
    """Where a projection stands."""

    name: str
    version: int
    state: str
    """RUNNING or FAULTED."""
    position: int
    lag_events: int
    lag_seconds: float
    """Age of the first event that it has not folded; 0 at the head."""
    skips: int
    """Events that an operator let this version pass over."""
    fault: str | None
    """What was wrong with the event after ``position``."""
    updated_at: datetime


def coupon(connection: Connection, merchant_id: str, coupon_id: str, now: datetime) -> CouponRow:
    """One coupon. Raises ``CouponNotFound``, for another merchant's too."""
    found = rows(connection, CouponRow, "coupon", merchant_id=merchant_id, coupon_id=coupon_id, now=now)
    if not found:
        raise CouponNotFound(id=coupon_id)
    return found[0]


def wallet(
    connection: Connection,
    merchant_id: str,
    user_id: str,
    now: datetime,
    *,
    states: Collection[str] = STATES,
    batch_id: str | None = None,
    ends_before: datetime | None = None,
    after: tuple[datetime, str] = START,
    limit: int = WALLET_LIMIT,
) -> WalletPage:
    """A page of the coupons that a user may use and that are in one of the states at ``now``: those that the user owns,
    and those that friends share. By (valid_until, coupon_id): what expires first comes first. Of one batch alone, and
    of those that end before a moment, where these are named.

    Pages neither repeat nor miss a coupon that stays what it is; one whose state or end of validity changes between
    two pages may move. Raises ``InvalidField``.
    """
    check_limit(limit, WALLET_LIMIT)
    if not set(states) <= set(STATES):
        raise InvalidField(f"states are among {', '.join(STATES)}", field="states")
    found = rows(
        connection,
        WalletRow,
        "wallet",
        merchant_id=merchant_id,
        user_id=user_id,
        now=now,
        states=list(states),
        of_batch_id=batch_id,
        ends_before=ends_before,
        after_valid_until=after[0],
        after_coupon_id=after[1],
        limit=limit + 1,
    )
    page = found[:limit]
    more = len(found) > limit
    return WalletPage(coupons=page, next=(page[-1].valid_until, page[-1].coupon_id) if more else None)


def balance(connection: Connection, merchant_id: str, batch_id: str, now: datetime) -> BalanceRow:
    """A batch's coupons by their states at ``now``; the sum is exact. Raises ``BatchNotFound``.

    Needs a snapshot in which coupon status and batch balance are at one position.
    """
    found = rows(connection, BalanceRow, "balance", merchant_id=merchant_id, batch_id=batch_id, now=now)
    if not found:
        raise BatchNotFound(id=batch_id)
    return found[0]


def balances(connection: Connection, merchant_id: str, *, after: str = "", limit: int = PAGE_LIMIT) -> list[BalanceRow]:
    """A merchant's batches by id, with states as stored: the clock is not asked, so ``pending`` is 0."""
    check_limit(limit, PAGE_LIMIT)
    return rows(connection, BalanceRow, "balances", merchant_id=merchant_id, after=after, limit=limit)


def due(
    connection: Connection, now: datetime, *, after: tuple[datetime, str] = START, limit: int = PAGE_LIMIT
) -> list[DueCoupon]:
    """Coupons stored as UNUSED whose validity is over, of all merchants, by (valid_until, coupon_id)."""
    check_limit(limit, PAGE_LIMIT)
    return rows(
        connection, DueCoupon, "due", now=now, after_valid_until=after[0], after_coupon_id=after[1], limit=limit
    )


def ended_locks(
    connection: Connection, now: datetime, *, after: tuple[datetime, str] = START, limit: int = PAGE_LIMIT
) -> list[EndedLock]:
    """Coupons stored as LOCKED whose lock is over, of all merchants, by (lock_ends_at, coupon_id)."""
    check_limit(limit, PAGE_LIMIT)
    return rows(
        connection,
        EndedLock,
        "ended_locks",
        now=now,
        after_lock_ends_at=after[0],
        after_coupon_id=after[1],
        limit=limit,
    )


def status(connection: Connection) -> list[ProjectionStatus]:
    """Where every projection stands."""
    return rows(connection, ProjectionStatus, "status")


def rows(connection: Connection, kind: type[RowT], name: str, **parameters: Any) -> list[RowT]:
    """What a statement of ``queries.sql`` finds."""
    return connection.cursor(row_factory=class_row(kind)).execute(STATEMENTS[name], parameters).fetchall()


def check_limit(limit: int, most: int) -> None:
    """Raise ``InvalidField`` unless a page of so many rows may be asked for."""
    if not 1 <= limit <= most:
        raise InvalidField(f"limit is from 1 to {most}", field="limit")

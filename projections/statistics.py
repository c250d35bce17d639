"""Figures for people who look at how offers do: days, funnels, liability. Each is one statement of ``statistics.sql``.

Every question names the merchant, so one merchant never reads another's.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, TypeVar

import psycopg
from psycopg.rows import class_row

from ledger.errors import InvalidField, InvalidPeriod
from projections.queries import check_limit, named_statements

PAGE_LIMIT = 1_001
"""Rows that one call reads: those of a page, and one more that says whether another follows."""
RANGE_LIMIT_DAYS = 366
"""Days that one question may span: a leap year."""
STATEMENTS = named_statements("statistics.sql")
FIRST_DAY = date(1970, 1, 1)

Connection = psycopg.Connection[Any]
RowT = TypeVar("RowT")
Place = tuple[date, str, str]
"""Where a page of days ended: day, batch and channel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DailyRow:
    """What became of a batch's coupons on one day of its time zone, by the channel in which they were issued.

    Counts and amounts may be summed over any rows, but for the batch's quantity; see
    ``projections/models/daily_statistics.py`` for each.
    """

    day: date
    batch_id: str
    channel: str
    currency: str
    quantity: int | None
    """Coupons that the batch may issue at most; ``None`` where the read model of batches is behind."""
    issued: int
    locked: int
    unlocked: int
    used: int
    debited: int
    first_uses: int
    """Coupons that were used for the first time, in whole or in part, whenever they were issued."""
    online: int
    in_store: int
    returned: int
    restored: int
    expired: int
    voided: int
    discount_minor: int
    merchant_funded_minor: int
    platform_funded_minor: int
    discount_told_minor: int
    returned_minor: int
    orders: int
    orders_told: int
    paid_minor: int
    new_customers: int
    new_customer_orders: int

    @property
    def place(self) -> Place:
        """The cursor of what follows."""
        return self.day, self.batch_id, self.channel

    @property
    def rates(self) -> dict[str, int | None]:
        """Its rates by name; see ``_rates``."""
        return _rates(self, self.first_uses)


@dataclass(frozen=True, slots=True, kw_only=True)
class FunnelRow:
    """How far a batch's coupons came, each counted once at every step that it ever reached, and what that brought."""

    batch_id: str
    campaign: str
    name: str
    quantity: int
    issued: int
    locked: int
    used: int
    returned: int
    used_again: int
    seconds_to_use_total: int
    """From issue to first use, summed over the coupons ever used."""
    currency: str
    discount_minor: int
    discount_told_minor: int
    """Of it, that of uses with which it was told what was paid."""
    returned_minor: int
    orders: int
    orders_told: int
    """Of the orders, those told with their first coupon what was paid."""
    paid_minor: int
    """For these, as told then."""
    new_customers: int
    """Users whose first use at the merchant was one of this batch."""
    new_customer_orders: int
    """Of the orders, those whose first coupon of the batch was such a first use."""

    @property
    def place(self) -> str:
        """The cursor of what follows."""
        return self.batch_id

    @property
    def rates(self) -> dict[str, int | None]:
        """Its rates by name; see ``_rates``."""
        return _rates(self, self.used) | {"lock_rate_permyriad": _permyriad(self.locked, self.issued)}


def _rates(row: DailyRow | FunnelRow, coupons_used: int) -> dict[str, int | None]:
    """Each rate is one quotient of sums, in permyriad, rounded down, and ``None`` where there is nothing to divide by.

    The view ``daily_statistics`` of ``analytics.sql`` has the same, and a test holds them together.
    """
    return {
        "claim_rate_permyriad": _permyriad(row.issued, row.quantity),
        "use_rate_permyriad": _permyriad(coupons_used, row.issued),
        "return_on_spend_permyriad": _permyriad(row.paid_minor, row.discount_told_minor),
        "new_customer_order_share_permyriad": _permyriad(row.new_customer_orders, row.orders),
    }


def _permyriad(part: int, whole: int | None) -> int | None:
    return part * 10_000 // whole if whole else None


@dataclass(frozen=True, slots=True, kw_only=True)
class LiabilityRow:
    """The accounts of a funder in a currency; ``issued = outstanding + redeemed + unspent + breakage + withdrawn``."""

    funder: str
    currency: str
    valued: bool
    """Whether the face value of these coupons is known; without, they are issued in the books by their use."""
    issued_minor: int
    outstanding_minor: int
    redeemed_minor: int
    unspent_minor: int
    breakage_minor: int
    withdrawn_minor: int
    coupons_issued: int
    coupons_outstanding: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldRow:
    """The coupons of a wallet that are in one state and of one currency."""

    state: str
    currency: str | None
    """``None`` where the read model of batches is behind."""
    coupons: int
    worth_minor: int
    """The most that they can take off; of a voucher, what is left on it."""
    not_valued: int
    """Of the coupons, those of which only a basket can tell."""
    first_ends_at: datetime
    """When the first of them ends."""


def check_range(first: date, until: date) -> None:
    """Raise ``InvalidPeriod`` unless the half-open range has 1 to ``RANGE_LIMIT_DAYS`` days."""
    if not timedelta(0) < until - first <= timedelta(days=RANGE_LIMIT_DAYS):
        raise InvalidPeriod(f"until is 1 to {RANGE_LIMIT_DAYS} days after from", field="until")


def daily(
    connection: Connection,
    merchant_id: str,
    first: date,
    until: date,
    *,
    batch_id: str | None = None,
    after: Place | None = None,
    limit: int = PAGE_LIMIT,
) -> list[DailyRow]:
    """Rows of the days from ``first`` to before ``until``, by day, batch and channel.

    Raises ``InvalidPeriod`` or ``InvalidField``.
    """
    check_range(first, until)
    check_limit(limit, PAGE_LIMIT)
    after_day, after_batch_id, after_channel = after or (FIRST_DAY, "", "")
    return _rows(
        connection,
        DailyRow,
        "daily" if batch_id is None else "daily_of_batch",
        merchant_id=merchant_id,
        batch_id=batch_id,
        first=first,
        until=until,
        after_day=after_day,
        after_batch_id=after_batch_id,
        after_channel=after_channel,
        limit=limit,
    )


def funnel(
    connection: Connection, merchant_id: str, *, campaign: str | None = None, after: str = "", limit: int = PAGE_LIMIT
) -> list[FunnelRow]:
    """A merchant's batches after an id, those of a campaign where one is named. Raises ``InvalidField``."""
    check_limit(limit, PAGE_LIMIT)
    return _rows(connection, FunnelRow, "funnel", merchant_id=merchant_id, campaign=campaign, after=after, limit=limit)


def liability(
    connection: Connection, merchant_id: str, at: date | None = None, *, batch_id: str | None = None
) -> list[LiabilityRow]:
    """The accounts at the end of the month that the day is in; without a day, of all that is posted.

    Months are those of each batch's time zone, so there is no one day that is today of all of them. Coupons that two
    funders share count on the rows of both. Raises ``InvalidField``.
    """
    if at is not None and at < FIRST_DAY:
        raise InvalidField("the day is not before 1970", field="at")
    return _rows(connection, LiabilityRow, "liability", merchant_id=merchant_id, batch_id=batch_id, at=at)


def wallet_summary(connection: Connection, merchant_id: str, user_id: str, now: datetime) -> list[HeldRow]:
    """What a user may use, the user's own and what friends share, by state at ``now`` and currency."""
    return _rows(connection, HeldRow, "wallet_summary", merchant_id=merchant_id, user_id=user_id, now=now)


def _rows(connection: Connection, kind: type[RowT], name: str, **parameters: Any) -> list[RowT]:
    return connection.cursor(row_factory=class_row(kind)).execute(STATEMENTS[name], parameters).fetchall()

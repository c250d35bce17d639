"""Liability: what the coupons of each batch may still cost those who fund them, as double entry by month."""

from __future__ import annotations

from collections.abc import Mapping
from typing import LiteralString

from psycopg import sql

from ledger.events import (
    CouponCredited,
    CouponDebited,
    CouponExpired,
    CouponIssued,
    CouponReturned,
    CouponUsed,
    CouponVoided,
)
from projections.chunk import Chunk
from projections.models.books import books_of
from projections.models.bulk import add_rows
from projections.models.past import terms_of
from projections.projection import Connection, Projection


class Liability(Projection):
    """One row for each batch, funder and month of the batch's time zone: what was posted to six accounts.

    The face value of a coupon is the most that it can ever take off (``Benefit.worth_minor``), as a budget counts it,
    and each funder bears the share that the terms say. What happens to a coupon moves it between accounts:

    - issued: debit ``issued``, credit ``outstanding`` with the face value.
    - used, or a part of a voucher spent: debit ``outstanding``, credit ``redeemed`` with the discount and ``unspent``
      with what the use left of the face value.
    - returned: the same backwards; of a part, or where the coupon stays used, ``redeemed`` to ``unspent``. A coupon
      that is whole again though the policy kept a part of its use redeemed was granted that part anew: ``issued``.
    - expired: ``outstanding`` to ``breakage``; also what is put back on a voucher after it has expired.
    - voided: ``outstanding`` to ``withdrawn``.

    Coupons whose face value is unknown (a gift, a percentage without a cap) are ``not valued``: for the books they are
    issued by their use, with what it takes off, and outstanding ones are counted, not priced. The columns
    ``coupons_*`` count on both funders' rows where two fund a coupon. The balance of an account at the end of a month
    is the sum of credits less debits up to it. The months are those of ``occurred_at``, so what is imported late
    changes months that are over.
    """

    name = "liability"
    version = 1
    folds = (
        CouponIssued,
        CouponUsed,
        CouponDebited,
        CouponReturned,
        CouponCredited,
        CouponExpired,
        CouponVoided,
    )
    ddl = """
        create table {table} (
            merchant_id              text    not null,  -- whose batch it is
            batch_id                 text    not null,  -- of the coupons
            funder                   text    not null check (funder in ('merchant', 'platform')),  -- who bears it
            month                    date    not null check (extract(day from month) = 1),  -- its first day
            currency                 text    not null,  -- of the amounts
            valued                   boolean not null,  -- whether the face value of a coupon is known
            issued_debit_minor       bigint  not null,  -- face value of coupons issued, and granted anew by returns
            issued_credit_minor      bigint  not null,  -- of coupons not valued, what returns took back
            outstanding_debit_minor  bigint  not null,  -- face value that is no longer outstanding
            outstanding_credit_minor bigint  not null,  -- face value that became outstanding
            redeemed_debit_minor     bigint  not null,  -- discounts that returns took back
            redeemed_credit_minor    bigint  not null,  -- discounts
            unspent_debit_minor      bigint  not null,  -- what returns made outstanding again of the unspent
            unspent_credit_minor     bigint  not null,  -- face value of used coupons that was not taken off
            breakage_debit_minor     bigint  not null,  -- always 0: what has expired never comes back
            breakage_credit_minor    bigint  not null,  -- face value that expired
            withdrawn_debit_minor    bigint  not null,  -- always 0, likewise
            withdrawn_credit_minor   bigint  not null,  -- face value that was voided
            coupons_issued           bigint  not null,  -- of which the funder bears a part
            coupons_used             bigint  not null,  -- uses that ended the coupon
            coupons_restored         bigint  not null,  -- made unused again by a return or credit
            coupons_expired          bigint  not null,  -- at the end of their validity
            coupons_voided           bigint  not null,  -- by the merchant
            position                 bigint  not null,  -- of the last event that moved this row
            primary key (batch_id, funder, month),
            constraint no_amount_is_negative check (
                least(issued_debit_minor, issued_credit_minor, outstanding_debit_minor, outstanding_credit_minor,
                      redeemed_debit_minor, redeemed_credit_minor, unspent_debit_minor, unspent_credit_minor,
                      breakage_debit_minor, breakage_credit_minor, withdrawn_debit_minor, withdrawn_credit_minor) >= 0
            ),
            constraint debits_equal_credits check (
                issued_debit_minor + outstanding_debit_minor + redeemed_debit_minor + unspent_debit_minor
                    + breakage_debit_minor + withdrawn_debit_minor
                = issued_credit_minor + outstanding_credit_minor + redeemed_credit_minor + unspent_credit_minor
                    + breakage_credit_minor + withdrawn_credit_minor
            )
        ) with (fillfactor = 50);
        create index on {table} (merchant_id, month);
    """

    def apply(self, chunk: Chunk, connection: Connection, table: sql.Identifier) -> None:
        """Post what the chunk posts."""
        terms = terms_of(chunk, connection)
        rows: dict[tuple[str, ...], Mapping[str, int]] = {}
        for (batch_id, funder, month), page in books_of(chunk, connection).items():
            of = terms[batch_id]
            valued = "true" if of.worth_minor is not None else "false"
            rows[batch_id, funder, f"{month}-01", of.merchant_id, of.currency, valued] = page
        add_rows(connection, table, _KEY, _KEPT, _ADDED, rows)


_KEY: dict[LiteralString, LiteralString] = {"batch_id": "text", "funder": "text", "month": "date"}
_KEPT: dict[LiteralString, LiteralString] = {"merchant_id": "text", "currency": "text", "valued": "boolean"}
_ADDED: tuple[LiteralString, ...] = (
    "issued_debit_minor", "issued_credit_minor", "outstanding_debit_minor", "outstanding_credit_minor",
    "redeemed_debit_minor", "redeemed_credit_minor", "unspent_debit_minor", "unspent_credit_minor",
    "breakage_debit_minor", "breakage_credit_minor", "withdrawn_debit_minor", "withdrawn_credit_minor",
    "coupons_issued", "coupons_used", "coupons_restored", "coupons_expired", "coupons_voided",
)  # fmt: skip

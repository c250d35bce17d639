"""The ledger's end figures against the data set's own.

The ledger speaks twice, from the batch balance (a read model) and from the log itself, each coupon's state being that
of its last event; the data set's counts come from ``counts.py``. Imports pandas: import this late.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import psycopg
from psycopg.rows import tuple_row

from consumers.dead_letters import PAGE_LIMIT, DeadLetter, list_letters
from consumers.messages import decode
from consumers.payloads import OrderCreated, OrderPaid
from coupon_ledger.demo.counts import count_offers
from coupon_ledger.demo.dataset import OfferKey
from coupon_ledger.demo.replay import SOURCE, BatchIds
from ledger.application import Ledger
from ledger.errors import CouponUsed


class Figure(NamedTuple):
    """One row of the summary: what the ledger says, and what the data set says."""

    name: str
    ledger: int
    data_set: int
    differences: tuple[str, ...] = ()
    """Where exactly they differ: sentences that name a batch or a campaign."""

    @property
    def ok(self) -> bool:
        """Whether both say the same, everywhere."""
        return self.ledger == self.data_set and not self.differences


@dataclass(frozen=True, slots=True)
class Balance:
    """What became of one batch's coupons."""

    issued: int = 0
    unused: int = 0
    locked: int = 0
    used: int = 0
    expired: int = 0
    voided: int = 0
    discount_minor: int = 0

    @property
    def conserved(self) -> bool:
        """``issued = unused + locked + used + expired + voided``."""
        return self.issued == self.unused + self.locked + self.used + self.expired + self.voided


_FIELDS = tuple(field.name for field in fields(Balance))
_NOTHING = Balance()


@dataclass(frozen=True, slots=True)
class Refused:
    """Orders of the demo that the ledger refused."""

    orders: Mapping[OfferKey, int]
    """Refused because the coupon was already used, counted once an order."""
    others: tuple[str, ...]
    """Messages that are dead for any other reason."""


def reconcile(ledger: Ledger, batch_ids: BatchIds, campaign_ids: Collection[int] | None = None) -> list[Figure]:
    """Compare everything. The year is right when every figure is ``ok``.

    ``batch_ids`` is the replay's answer for the same campaigns. Raises a ``LedgerError`` or ``psycopg.Error``.
    """
    with ledger.store.connection() as connection, connection.transaction():
        # These queries read the whole log, which is no longer a request's time.
        connection.execute("set local statement_timeout = '5min'; set local transaction_timeout = 0")
        connection.execute("set local work_mem = '64MB'")
        balances = read_balances(connection, batch_ids)
        log = read_log(connection, batch_ids)
        refused = read_refused(connection, batch_ids)
    return compare(expected_of(campaign_ids), batch_ids, balances, log, refused)


def expected_of(campaign_ids: Collection[int] | None) -> dict[OfferKey, tuple[Balance, int]]:
    """What each offer's balance must be in the end, and how many orders were refused, by the data set alone."""
    return {
        (campaign_id, upc): (
            Balance(issued=issued, used=used, expired=issued - used, discount_minor=discount),
            refused,
        )
        for (campaign_id, upc), issued, used, refused, discount in count_offers(campaign_ids)[
            ["issued", "used", "refused", "discount_minor"]
        ].itertuples(name=None)
    }


def compare(
    expected: Mapping[OfferKey, tuple[Balance, int]],
    batch_ids: BatchIds,
    balances: Mapping[OfferKey, Balance],
    log: Mapping[OfferKey, Balance],
    refused: Refused,
) -> list[Figure]:
    """The figures of the summary."""
    wanted = {offer: balance for offer, (balance, _) in expected.items()}
    repeats = {offer: count for offer, (_, count) in expected.items()}

    def where(offer: OfferKey) -> str:
        return f"batch {batch_ids.get(offer, 'missing')} (campaign {offer[0]}, coupon {offer[1]})"

    def total(name: str, field: str) -> Figure:
        theirs = sum(getattr(balance, field) for balance in wanted.values())
        ours = sum(getattr(balance, field) for balance in balances.values())
        unlike = _unlike(wanted, balances, (field,), "data set")
        return Figure(name, ours, theirs, _told(unlike, where))

    def batches(name: str, bad: Mapping[OfferKey, str]) -> Figure:
        return Figure(name, len(wanted) - len(bad), len(wanted), _told(bad, where))

    def campaigns(name: str, ours: Mapping[OfferKey, int], theirs: Mapping[OfferKey, int]) -> Figure:
        ledger, data_set = _by_campaign(wanted, ours), _by_campaign(wanted, theirs)
        bad = [id for id in sorted(data_set) if ledger[id] != data_set[id]]
        told = tuple(f"campaign {id}: {ledger[id]}, the data set has {data_set[id]}" for id in bad)
        return Figure(name, len(data_set) - len(bad), len(data_set), told)

    return [
        total("coupons issued", "issued"),
        total("coupons used", "used"),
        Figure(
            "orders refused, coupon already used",
            sum(refused.orders.values()),
            sum(repeats.values()),
            _told(
                {
                    offer: f"{refused.orders.get(offer, 0)} orders refused, the data set has {count}"
                    for offer, count in repeats.items()
                    if refused.orders.get(offer, 0) != count
                },
                where,
            ),
        ),
        total("coupons expired", "expired"),
        total("discount given, US cents", "discount_minor"),
        campaigns(
            "campaigns with the data set's redemptions",
            {offer: balance.used for offer, balance in log.items()},
            {offer: balance.used for offer, balance in wanted.items()},
        ),
        campaigns("campaigns with the data set's repeats", refused.orders, repeats),
        batches("batches true to the conservation law", _unconserved(wanted, balances)),
        batches("batches true to it by the log alone", _unconserved(wanted, log)),
        batches("batches whose balance is that of the log", _unlike(log, balances, _FIELDS, "log")),
        Figure("messages dead for another reason", len(refused.others), 0, refused.others),
    ]


def _unlike(
    wanted: Mapping[OfferKey, Balance], balances: Mapping[OfferKey, Balance], names: Collection[str], whose: str
) -> dict[OfferKey, str]:
    """The offers whose balance differs from the wanted one, each with how."""
    found = {}
    for offer in sorted(wanted.keys() | balances.keys()):
        left, right = balances.get(offer, _NOTHING), wanted.get(offer, _NOTHING)
        different = [name for name in names if getattr(left, name) != getattr(right, name)]
        if different:
            found[offer] = ", ".join(
                f"{name} {getattr(left, name)}, the {whose} has {getattr(right, name)}" for name in different
            )
    return found


def _unconserved(wanted: Collection[OfferKey], balances: Mapping[OfferKey, Balance]) -> dict[OfferKey, str]:
    """The offers without a balance, or with one that does not add up."""
    return {
        offer: str(balances.get(offer, "no balance"))
        for offer in sorted(wanted)
        if offer not in balances or not balances[offer].conserved
    }


def _told(found: Mapping[OfferKey, str], where: Callable[[OfferKey], str]) -> tuple[str, ...]:
    return tuple(f"{where(offer)}: {what}" for offer, what in found.items())


def _by_campaign(offers: Collection[OfferKey], counts: Mapping[OfferKey, int]) -> Counter[int]:
    sums = Counter({campaign_id: 0 for campaign_id, _ in offers})
    for (campaign_id, _), count in counts.items():
        sums[campaign_id] += count
    return sums


# --- what the ledger says --------------------------------------------------------------------------------------


def read_balances(connection: psycopg.Connection[Any], batch_ids: BatchIds) -> dict[OfferKey, Balance]:
    """The batch balance of each offer's batch, from the read model."""
    return _balances(
        connection,
        "select batch_id, issued, unused, locked, used, expired, voided, discount_minor - returned_minor"
        "  from batch_balance where batch_id = any(%s)",
        batch_ids,
    )


def read_log(connection: psycopg.Connection[Any], batch_ids: BatchIds) -> dict[OfferKey, Balance]:
    """The same, counted from the events and from nothing else."""
    return _balances(connection, _LOG, batch_ids)


def _balances(connection: psycopg.Connection[Any], query: Any, batch_ids: BatchIds) -> dict[OfferKey, Balance]:
    offers = {batch_id: offer for offer, batch_id in batch_ids.items()}
    rows = connection.cursor(row_factory=tuple_row).execute(query, (list(offers),))
    return {offers[batch_id]: Balance(*map(int, numbers)) for batch_id, *numbers in rows}


# A coupon's state is that of its last event. Counted from the first, which is the order of the key's index: so a log
# of millions of events is neither sorted nor spilled.
_LOG = """
with coupon as (
    select originator_id,
           count(*) filter (where topic = 'coupon.issued') as issued,
           min(state ->> 'batch_id') filter (where topic = 'coupon.issued') as batch_id,
           (array_agg(case when topic = 'coupon.returned' and not (state ->> 'restored')::boolean then 'coupon.used'
                           when topic in ('coupon.issued', 'coupon.unlocked', 'coupon.returned') then 'unused'
                           else topic end order by originator_version))[count(*)] as last,
           coalesce(sum((state ->> 'discount_minor')::bigint) filter (where topic = 'coupon.used'), 0)
           - coalesce(sum((state ->> 'returned_minor')::bigint) filter (where topic = 'coupon.returned'), 0) as discount
      from (select originator_id, originator_version, topic, convert_from(state, 'utf8')::json as state from events
             where topic like 'coupon.%%') as e
     group by originator_id
)
select batch_id, sum(issued), count(*) filter (where last = 'unused'), count(*) filter (where last = 'coupon.locked'),
       count(*) filter (where last = 'coupon.used'), count(*) filter (where last = 'coupon.expired'),
       count(*) filter (where last = 'coupon.voided'), sum(discount)
  from coupon where batch_id in (select unnest(%s::text[])) group by batch_id
"""


def read_refused(connection: psycopg.Connection[Any], batch_ids: BatchIds) -> Refused:
    """The replay's dead letters. Another replay into the same ledger repeats them, so orders are counted."""
    offers = {batch_id: offer for offer, batch_id in batch_ids.items()}
    refused: set[tuple[str, str]] = set()
    others = []
    for letter in _letters(connection):
        if dict(letter.headers).get("ce_source") != SOURCE.encode():
            continue
        if letter.reason == CouponUsed.code():
            refused |= {(order_id, coupon) for order_id, coupon in _order_and_coupons(letter)}
        elif letter.settled_at is None:
            others.append(f"dead letter {letter.id} ({letter.topic}): {letter.reason}, {letter.detail}")
    rows = connection.cursor(row_factory=tuple_row).execute(
        "select originator_id, convert_from(state, 'utf8')::json ->> 'batch_id' from events"
        " where originator_id = any(%s) and originator_version = 1",
        ([f"coupon-{coupon}" for _, coupon in refused],),
    )
    batches: dict[str, str] = dict(rows.fetchall())
    found = ((order_id, offers.get(batches.get(f"coupon-{coupon}", ""))) for order_id, coupon in refused)
    return Refused(Counter(offer for _, offer in set(found) if offer is not None), tuple(others))


def _letters(connection: psycopg.Connection[Any]) -> Iterator[DeadLetter]:
    after = 0
    while page := list_letters(connection, open_only=False, after=after, limit=PAGE_LIMIT):
        yield from page
        after = page[-1].id


def _order_and_coupons(letter: DeadLetter) -> list[tuple[str, str]]:
    match decode(letter).payload:
        case OrderCreated() as order:
            return [(order.order_id, coupon) for coupon in order.coupon_ids]
        case OrderPaid() as order:
            return [(order.order_id, redemption.coupon_id) for redemption in order.redemptions]
    return []

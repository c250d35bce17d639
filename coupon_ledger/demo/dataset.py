"""The data set as a coupon programme: campaigns, their offers, and the orders that used them.

The mapping, from the data set's tables to the ledger's words:

- a campaign is the label over its batches;
- each (campaign, coupon UPC) pair is an **offer**: one template, whose scope is the coupon's product list, and one
  batch on it, which gives each household of the campaign one coupon. Discounts are ``order_stated``, because the
  data set gives no coupon a face value;
- the batch is open, and its coupons are valid, from the campaign's first to its last day, whole days of the shops;
- each redemption is one order (``orders.py``).

Times: the data set's basket times are UTC while its dates are days of the shops, which lie in US Eastern time. Read
so, every one of the 2,102 redemptions has a basket of its household on its day; with UTC days 233 have none.

Everything stays in arrays of numbers until it is used, so that the demo's process is small.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np

from coupon_ledger.demo.tables import Numbers, read_numbers, read_texts
from ledger.batch import BatchPlan
from ledger.benefit import Benefit
from ledger.errors import InvalidInput
from ledger.scope import Scope
from ledger.terms import Terms

OfferKey = tuple[int, int]
"""Campaign id and coupon UPC."""

SHOP_TIME = ZoneInfo("America/New_York")
CURRENCY = "USD"
EPOCH = date(1970, 1, 1)
DAY_NS = 86_400 * 10**9


class UnknownCampaign(InvalidInput):
    """The data set has no such campaign."""


@dataclass(frozen=True, slots=True)
class Campaign:
    """One campaign and the households that it was sent to."""

    id: int
    kind: str
    """``Type A``, ``Type B`` or ``Type C``, as the grocer calls its kinds of campaign."""
    starts_at: datetime
    ends_at: datetime
    """Exclusive: midnight after the last day."""
    households: Numbers

    @property
    def label(self) -> str:
        """The campaign as batches carry it."""
        return f"campaign-{self.id}"


@dataclass(frozen=True, slots=True)
class Offer:
    """One coupon of one campaign: a template and a batch."""

    campaign: Campaign
    coupon_upc: int
    products: Numbers
    """The distinct products of its scope, in rising order."""

    @property
    def key(self) -> OfferKey:
        """What a redemption names."""
        return self.campaign.id, self.coupon_upc

    @property
    def name(self) -> str:
        """The same for the template and the batch."""
        return f"Coupon {self.coupon_upc} of campaign {self.campaign.id} ({self.campaign.kind})"

    def terms(self) -> Terms:
        """The template's terms."""
        return Terms(
            benefit=Benefit(kind="order_stated"),
            currency=CURRENCY,
            scope=Scope(products=tuple(map(str, self.products.tolist()))),
        )

    def plan(self) -> BatchPlan:
        """The batch: one coupon for each household of the campaign."""
        return BatchPlan(
            name=self.name,
            campaign=self.campaign.label,
            quantity=len(self.campaign.households),
            per_user_limit=1,
            claim_from=self.campaign.starts_at,
            claim_until=self.campaign.ends_at,
            valid_from=self.campaign.starts_at,
            valid_until=self.campaign.ends_at,
        )


@dataclass(frozen=True, slots=True)
class Redemptions:
    """The data set's redemptions of the chosen campaigns, in order of days: four columns of one length."""

    households: Numbers
    coupon_upcs: Numbers
    campaign_ids: Numbers
    days: Numbers
    """Days of the shops since 1970-01-01."""


def load_offers(campaign_ids: Collection[int] | None = None) -> list[Offer]:
    """The offers of these campaigns (all, when none are named), by the campaign's start and the coupon's UPC.

    Raises ``UnknownCampaign``.
    """
    campaigns = _load_campaigns(campaign_ids)
    rows = np.unique(np.stack(read_numbers("coupons", "campaign_id", "coupon_upc", "product_id"), axis=1), axis=0)
    starts = np.flatnonzero(np.any(np.diff(rows[:, :2], axis=0, prepend=-1), axis=1))
    offers = []
    for first, group in zip(starts, np.split(rows, starts[1:]), strict=True):
        campaign = campaigns.get(int(rows[first, 0]))
        if campaign is not None:
            offers.append(Offer(campaign, int(rows[first, 1]), group[:, 2].copy()))
    return sorted(offers, key=lambda offer: (offer.campaign.starts_at, *offer.key))


def load_redemptions(campaign_ids: Collection[int] | None = None) -> Redemptions:
    """The redemptions of these campaigns (all, when none are named), repeats included."""
    times, campaigns, upcs, households = read_numbers(
        "coupon_redemptions", "redemption_date", "campaign_id", "coupon_upc", "household_id"
    )
    days = times // DAY_NS
    chosen = np.isin(campaigns, list(campaign_ids)) if campaign_ids is not None else np.full(len(days), True)
    order = np.lexsort((households, upcs, campaigns, days))
    order = order[chosen[order]]
    return Redemptions(households[order], upcs[order], campaigns[order], days[order])


def _load_campaigns(campaign_ids: Collection[int] | None) -> dict[int, Campaign]:
    target_campaigns, households = read_numbers("campaigns", "campaign_id", "household_id")
    ids, first_times, last_times = read_numbers("campaign_descriptions", "campaign_id", "start_date", "end_date")
    kinds = read_texts("campaign_descriptions", "campaign_type")
    unknown = sorted(set(campaign_ids or ()) - set(ids.tolist()))
    if unknown:
        names = ", ".join(map(str, unknown))
        raise UnknownCampaign(f"the data set has no campaign {names}: its campaigns are {ids.min()} to {ids.max()}")
    rows = zip(ids.tolist(), kinds, (first_times // DAY_NS).tolist(), (last_times // DAY_NS).tolist(), strict=True)
    return {
        id: Campaign(id, kind, midnight(first), midnight(last + 1), np.unique(households[target_campaigns == id]))
        for id, kind, first, last in rows
        if campaign_ids is None or id in campaign_ids
    }


def midnight(day: int) -> datetime:
    """The UTC time at which a day of the shops, counted from 1970-01-01, begins."""
    begins = datetime.combine(EPOCH + timedelta(days=day), datetime.min.time(), SHOP_TIME)
    return begins.astimezone(UTC)

"""The data set's own figures, counted with pandas from its files and not from what the replay made of them.

Import this late: pandas alone takes 70 MB.
"""

from __future__ import annotations

from collections.abc import Collection

import pandas as pd

from coupon_ledger.demo.tables import data_file, slices

OFFER = ["campaign_id", "coupon_upc"]


def count_offers(campaign_ids: Collection[int] | None = None) -> pd.DataFrame:
    """One row for each (campaign, coupon UPC): coupons ``issued``, ``used`` and ``refused`` (repeats of an earlier
    redemption), and the ``discount_minor`` of the used ones in cents."""
    coupons = pd.read_parquet(data_file("coupons")).drop_duplicates()
    targets = pd.read_parquet(data_file("campaigns")).drop_duplicates()
    redemptions = pd.read_parquet(data_file("coupon_redemptions")).sort_values("redemption_date", kind="stable")
    if campaign_ids is not None:
        coupons, targets, redemptions = (
            table[table["campaign_id"].isin(list(campaign_ids))] for table in (coupons, targets, redemptions)
        )
    redemptions = redemptions.reset_index(drop=True)
    repeated = redemptions.duplicated(["household_id", *OFFER])
    households = targets.groupby("campaign_id").size()
    offers = coupons.groupby(OFFER).size().to_frame("products")
    offers["issued"] = households.reindex(offers.index.get_level_values("campaign_id")).to_numpy()
    offers["used"] = redemptions[~repeated].groupby(OFFER).size()
    offers["refused"] = redemptions[repeated].groupby(OFFER).size()
    redemptions["discount_minor"] = _discounts(redemptions, coupons)
    offers["discount_minor"] = redemptions[~repeated].groupby(OFFER)["discount_minor"].sum()
    return offers.drop(columns="products").fillna(0).astype("int64")


def _discounts(redemptions: pd.DataFrame, coupons: pd.DataFrame) -> pd.Series[int]:
    """Cents of coupon discount of each redemption, by the rules that ``orders.py`` states."""
    lines = _discounted_lines(redemptions["household_id"].unique().tolist())
    scopes = coupons.groupby(OFFER).size().rename("products").reset_index()
    found = (
        redemptions.reset_index(names="redemption")
        .merge(scopes, on=OFFER)
        .merge(lines, left_on=["household_id", "redemption_date"], right_on=["household_id", "day"])
        .merge(coupons, on=[*OFFER, "product_id"])
        .sort_values(["products", *OFFER])
        .drop_duplicates(["basket_id", "product_id"])
    )
    of_basket = found.groupby(["redemption", "basket_id"])["discount_minor"].sum()
    return of_basket.groupby("redemption").max().reindex(redemptions.index, fill_value=0)


def _discounted_lines(households: list[int]) -> pd.DataFrame:
    names = [
        "household_id", "basket_id", "product_id", "coupon_disc", "coupon_match_disc", "transaction_timestamp"
    ]  # fmt: skip
    parts = []
    for columns in slices("transactions", *names):
        rows = pd.DataFrame(dict(zip(names, columns, strict=True)), copy=False)
        rows["discount_minor"] = rows["coupon_disc"] + rows["coupon_match_disc"]
        parts.append(rows[(rows["discount_minor"] > 0) & rows["household_id"].isin(households)])
    lines = pd.concat(parts)
    times = pd.to_datetime(lines["transaction_timestamp"], utc=True).dt.tz_convert("America/New_York")
    lines["day"] = times.dt.tz_localize(None).dt.normalize()
    return lines[["household_id", "day", "basket_id", "product_id", "discount_minor"]]

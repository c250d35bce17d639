"""The grocer's year as pandas sees it, from the data set's own files: what each household spent with which coupon."""

from __future__ import annotations

import pandas as pd

from coupon_ledger.demo.tables import data_file

OFFER = ["campaign_id", "coupon_upc"]
SHOP_TIME = "America/New_York"
PAID_AFTER = pd.Timedelta(minutes=1)


def offers() -> pd.DataFrame:
    """One row for each campaign's coupon: ``products`` of its list, and ``quantity``, the campaign's households."""
    products = _table("coupons").drop_duplicates().groupby(OFFER).size().rename("products").reset_index()
    households = _table("campaigns").drop_duplicates().groupby("campaign_id").size().rename("quantity").reset_index()
    return products.merge(households, on="campaign_id")


def uses() -> pd.DataFrame:
    """One row for each coupon that a household redeemed, with its order: amounts in cents, by the demo's rules.

    A redemption is one order on the basket of that household and day whose lines in the coupon's list carry the largest
    coupon discount, where each line's discount counts for the coupon with the shortest list; then on one that has a
    product of the list, on the largest, on the earliest.
    """
    redemptions = _table("coupon_redemptions").sort_values("redemption_date", kind="stable").reset_index(drop=True)
    redemptions = redemptions.rename(columns={"redemption_date": "day"}).rename_axis("redemption").reset_index()
    lines = _lines_of(redemptions)
    baskets = lines.groupby(["household_id", "day", "basket_id"]).agg(
        total_minor=("amount_minor", "sum"), bought_at=("transaction_timestamp", "min")
    )
    scopes = _table("coupons").drop_duplicates()
    in_scope = redemptions.merge(lines, on=["household_id", "day"]).merge(scopes, on=[*OFFER, "product_id"])
    in_scope = in_scope.merge(offers(), on=OFFER).sort_values(["products", *OFFER])
    discounted = in_scope[in_scope["discount_minor"] > 0].drop_duplicates(["basket_id", "product_id"])
    place = ["redemption", "basket_id"]
    chosen = (
        redemptions.merge(baskets.reset_index(), on=["household_id", "day"])
        .merge(discounted.groupby(place)["discount_minor"].sum().reset_index(), on=place, how="left")
        .merge(in_scope[place].drop_duplicates().assign(has_product=True), on=place, how="left")
        .fillna({"discount_minor": 0, "has_product": False})
        .sort_values(
            ["discount_minor", "has_product", "total_minor", "bought_at", "basket_id"],
            ascending=[False, False, False, True, True],
        )
        .drop_duplicates("redemption")
        .sort_values("redemption")
        .drop_duplicates(["household_id", *OFFER])  # a coupon is used once; later redemptions of it were refused
    )
    return chosen.assign(
        discount_minor=chosen["discount_minor"].astype("int64"),
        paid_minor=(chosen["total_minor"] - chosen["discount_minor"]).astype("int64"),
        paid_at=chosen["bought_at"].dt.tz_localize("UTC") + PAID_AFTER,
    )[["household_id", *OFFER, "discount_minor", "paid_minor", "paid_at"]]


def _lines_of(redemptions: pd.DataFrame) -> pd.DataFrame:
    """Every basket line of these households on these days of the shops."""
    lines = _table("transactions")
    lines = lines[lines["household_id"].isin(redemptions["household_id"])]
    times = lines["transaction_timestamp"].dt.tz_localize("UTC").dt.tz_convert(SHOP_TIME)
    lines = lines.assign(
        day=times.dt.tz_localize(None).dt.normalize().astype("datetime64[ns]"),
        amount_minor=_cents(lines["sales_value"]) + _cents(lines["coupon_match_disc"]),
        discount_minor=_cents(lines["coupon_disc"]) + _cents(lines["coupon_match_disc"]),
    )
    visits = redemptions[["household_id", "day"]].drop_duplicates()
    return lines.merge(visits, on=["household_id", "day"])


def _cents(dollars: pd.Series) -> pd.Series:
    return (dollars * 100).round().astype("int64")


def _table(name: str) -> pd.DataFrame:
    return pd.read_parquet(data_file(name))

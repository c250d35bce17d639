"""Redemptions as orders: real basket lines, real discounts, each counted once."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from zoneinfo import ZoneInfo

import pytest

from coupon_ledger.demo.counts import count_offers
from coupon_ledger.demo.dataset import EPOCH, Offer, OfferKey, load_offers, load_redemptions
from coupon_ledger.demo.orders import Order, build_orders

SHOP = ZoneInfo("America/New_York")


@pytest.fixture(scope="module")
def offers() -> dict[OfferKey, Offer]:
    return {offer.key: offer for offer in load_offers()}


@pytest.fixture(scope="module")
def orders(offers: dict[OfferKey, Offer]) -> list[Order]:
    return build_orders(list(offers.values()), load_redemptions())


def test_each_redemption_is_an_order_with_lines(orders: list[Order]) -> None:
    assert len(orders) == len({order.order_id for order in orders}) == 2_102
    assert all(order.lines for order in orders)


def test_an_order_lies_on_the_day_of_its_redemption_in_the_shops(orders: list[Order]) -> None:
    redemptions = load_redemptions()
    of_data_set = Counter(
        zip(
            redemptions.households.tolist(),
            redemptions.campaign_ids.tolist(),
            redemptions.coupon_upcs.tolist(),
            redemptions.days.tolist(),
            strict=True,
        )
    )
    of_orders = Counter(
        (order.household, *order.offer, (order.created_at.astimezone(SHOP).date() - EPOCH).days) for order in orders
    )
    assert of_orders == of_data_set


def test_an_order_lies_in_the_window_of_its_coupon(orders: list[Order], offers: dict[OfferKey, Offer]) -> None:
    for order in orders:
        campaign = offers[order.offer].campaign
        assert campaign.starts_at <= order.created_at < campaign.ends_at
        assert order.household in campaign.households


def test_times_are_in_order_and_payment_follows(orders: list[Order]) -> None:
    assert [order.created_at for order in orders] == sorted(order.created_at for order in orders)
    assert all(order.paid_at - order.created_at == timedelta(minutes=1) for order in orders)


def test_the_discount_is_that_of_lines_in_scope_and_below_the_total(
    orders: list[Order], offers: dict[OfferKey, Offer]
) -> None:
    for order in orders:
        products = offers[order.offer].products
        assert all(line in order.lines and line.product_id in products for line in order.discounted)
        assert all(line.coupon_discount_minor > 0 for line in order.discounted)
        assert order.discount_minor == sum(line.coupon_discount_minor for line in order.discounted)
        assert 0 <= order.discount_minor <= order.total_minor == sum(line.amount_minor for line in order.lines)


def test_no_line_is_discounted_twice(orders: list[Order]) -> None:
    discounted = Counter(line.line_id for order in orders for line in order.discounted)
    assert len(discounted) > 1_000
    assert set(discounted.values()) == {1}


def test_the_same_data_give_the_same_orders(orders: list[Order], offers: dict[OfferKey, Offer]) -> None:
    again = build_orders(list(reversed(offers.values())), load_redemptions())
    assert again == orders


def test_a_part_of_the_year_gives_orders_of_that_part() -> None:
    orders = build_orders(load_offers([5]), load_redemptions([5]))
    assert len(orders) == len(load_redemptions([5]).days)
    assert {order.offer[0] for order in orders} == {5}


def test_orders_agree_with_the_counts_of_the_raw_files(orders: list[Order], offers: dict[OfferKey, Offer]) -> None:
    """The mapping and the pandas counts take different ways to the same figures, offer by offer."""
    used: Counter[OfferKey] = Counter()
    refused: Counter[OfferKey] = Counter()
    discount: Counter[OfferKey] = Counter()
    seen = set()
    for order in orders:
        if (order.offer, order.household) in seen:
            refused[order.offer] += 1
            continue
        seen.add((order.offer, order.household))
        used[order.offer] += 1
        discount[order.offer] += order.discount_minor
    counts = count_offers()
    assert (used.total(), refused.total(), discount.total()) == (2_075, 27, 130_944)
    assert counts[["issued", "used", "refused"]].sum().tolist() == [800_199, 2_075, 27]
    for key, offer in offers.items():
        issued = len(offer.campaign.households)
        figures = counts.loc[key, ["issued", "used", "refused", "discount_minor"]].tolist()
        assert figures == [issued, used[key], refused[key], discount[key]]


def test_counts_of_a_part() -> None:
    counts = count_offers([8, 13])
    assert counts[["issued", "used", "refused"]].sum().tolist() == [447_823, 988, 13]
    assert set(counts.index.get_level_values("campaign_id")) == {8, 13}

"""The data set as a coupon programme: the real files, mapped."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from coupon_ledger.demo.dataset import Offer, UnknownCampaign, load_offers, load_redemptions
from ledger.terms import Terms


@pytest.fixture(scope="module")
def offers() -> list[Offer]:
    return load_offers()


def test_the_whole_year(offers: list[Offer]) -> None:
    assert len(offers) == len({offer.key for offer in offers}) == 1_197
    assert len({offer.campaign.id for offer in offers}) == 27
    assert sum(offer.plan().quantity for offer in offers) == 800_199
    assert len(load_redemptions().days) == 2_102


def test_offers_come_in_order_of_time(offers: list[Offer]) -> None:
    starts = [offer.campaign.starts_at for offer in offers]
    assert starts == sorted(starts)
    assert [offer.key for offer in load_offers()] == [offer.key for offer in offers]


def test_chosen_campaigns_are_those_of_the_whole_year(offers: list[Offer]) -> None:
    chosen = load_offers([13, 8])
    assert [offer.key for offer in chosen] == [offer.key for offer in offers if offer.campaign.id in (8, 13)]
    assert sum(len(offer.campaign.households) for offer in chosen) == 447_823
    assert set(load_redemptions([13, 8]).campaign_ids.tolist()) == {8, 13}
    assert len(load_redemptions([13, 8]).days) == 988 + 13


def test_an_unknown_campaign_is_named() -> None:
    with pytest.raises(UnknownCampaign, match="no campaign 28, 99: its campaigns are 1 to 27"):
        load_offers([8, 99, 28])


def test_a_batch_is_open_on_the_whole_days_of_its_campaign_in_the_shops(offers: list[Offer]) -> None:
    windows = {offer.campaign.id: offer.plan() for offer in offers}
    summer, winter = windows[8], windows[24]
    assert summer.claim_from == summer.valid_from == datetime(2017, 5, 8, 4, tzinfo=UTC)
    assert summer.claim_until == summer.valid_until == datetime(2017, 6, 26, 4, tzinfo=UTC)
    assert winter.valid_from == datetime(2016, 11, 14, 5, tzinfo=UTC)
    assert winter.valid_until == datetime(2017, 1, 17, 5, tzinfo=UTC)
    assert windows[26].valid_until - windows[26].valid_from == timedelta(days=54)


def test_terms_list_each_product_once(offers: list[Offer]) -> None:
    largest = max(offers, key=lambda offer: len(offer.products))
    terms = largest.terms()
    assert len(terms.scope.products) == len(set(terms.scope.products)) == 14_477
    assert (terms.benefit.kind, terms.currency) == ("order_stated", "USD")
    assert Terms.from_payload(terms.to_payload()) == terms


def test_one_coupon_for_each_household(offers: list[Offer]) -> None:
    for offer in offers:
        households = offer.campaign.households.tolist()
        assert len(households) == len(set(households)) == offer.plan().quantity
        assert offer.plan().per_user_limit == 1


def test_mapping_leaves_pandas_alone() -> None:
    code = (
        "import sys; from coupon_ledger.demo import dataset, orders, replay;"
        "orders.build_orders(dataset.load_offers([5]), dataset.load_redemptions([5]));"
        "sys.exit('pandas' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0

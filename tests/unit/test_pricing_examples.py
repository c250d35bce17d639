"""Worked examples of other systems' public documentation, as far as their kinds are ours.

Each test names the page that it is from. Two rules differ there, and the last tests say so.
"""

from __future__ import annotations

import pytest

from ledger import errors
from ledger.pricing import price
from ledger.scope import Scope
from tests.unit.pricing_basket import NOW, basket, coupon


def only(*products):
    return {"scope": Scope(products=products)}


def of_line(found, line_id):
    """What all coupons take off a line."""
    return sum(
        part["discount_minor"] for each in found.chosen for part in each.allocation if part["line_id"] == line_id
    )


# --- https://help.shopify.com/en/manual/discounts/combining-discounts/examples ----------------------------
# also at https://docs.shopify.com/docs/apps/selling-strategies/discounts/discount-function-examples
# Pants (line 1) cost 100 USD, shirts 50, boots 200; shipping 20.

PANTS_SHIRTS_BOOTS = basket(10_000, 5_000, 20_000, shipping_minor=2_000)


def test_shopify_two_product_discounts_and_free_shipping():
    pants = coupon(value_minor=2_000, terms=only("p1"))
    shirts = coupon(value_minor=1_000, terms=only("p2"))
    free = coupon("free_shipping", terms={"min_spend_minor": 10_000})
    found = price([pants, shirts, free], PANTS_SHIRTS_BOOTS, NOW)
    assert (of_line(found, "1"), of_line(found, "2"), of_line(found, "3")) == (2_000, 1_000, 0)
    assert (found.total_minor + found.shipping_minor, found.payable_minor) == (37_000, 32_000)


def test_shopify_a_product_discount_before_a_percentage_of_the_order():
    pants = coupon(value_minor=2_000, terms=only("p1"))
    order = coupon("percent_off", percent_permyriad=1_000)
    found = price([pants, order], PANTS_SHIRTS_BOOTS, NOW)
    assert found.total_minor - found.discount_minor == 29_700
    assert found.payable_minor == 31_700


# --- https://help.salesforce.com/s/articleView?id=cc.b2c_promotion_proration_logic.htm --------------------
# SKU1 (line 1) costs 60.00, SKU2 50.00, SKU3 40.00; "15% off orders over $100".


def over_100(**terms):
    return coupon("percent_off", percent_permyriad=1_500, terms={"min_spend_minor": 10_001, **terms})


def test_salesforce_order_discount_by_line():
    found = price([over_100()], basket(6_000, 5_000), NOW)
    assert (of_line(found, "1"), of_line(found, "2"), found.payable_minor) == (900, 750, 9_350)


def test_salesforce_order_discount_after_a_product_discount():
    ten_off = coupon(value_minor=1_000, terms=only("p1"))
    found = price([ten_off, over_100()], basket(6_000, 5_000), NOW)
    assert [[part["discount_minor"] for part in each.allocation] for each in found.chosen] == [[1_000], [750, 750]]
    assert (found.total_minor - 1_000, found.payable_minor) == (10_000, 8_500)


def test_salesforce_excluded_product():
    found = price([over_100(scope=Scope(excluded_products=("p3",)))], basket(6_000, 5_000, 4_000), NOW)
    assert [of_line(found, line_id) for line_id in "123"] == [900, 750, 0]
    assert found.payable_minor == 13_350


# --- https://docs.developers.optimizely.com/commerce-connect/v15.0.0-commerce-connect/docs/prioritize-discounts
# The product's original cost is $100.


def test_optimizely_two_percentages():
    first = coupon("percent_off", percent_permyriad=2_000, terms={"priority": 2})
    second = coupon("percent_off", percent_permyriad=3_000, terms={"priority": 1})
    found = price([second, first], basket(10_000), NOW)
    assert ([each.discount_minor for each in found.chosen], found.payable_minor) == ([2_000, 2_400], 5_600)


def test_optimizely_two_amounts():
    first = coupon(value_minor=2_000, terms={"priority": 2})
    second = coupon(value_minor=3_000, terms={"priority": 1})
    assert price([second, first], basket(10_000), NOW).payable_minor == 5_000


# --- https://docs.flexprice.io/docs/invoices/calculation and .../billing-calculation-order -----------------


def test_flexprice_line_coupon_then_order_coupon():
    quarter = coupon("percent_off", percent_permyriad=2_500, terms={**only("p1"), "priority": 1})
    ten = coupon(value_minor=1_000)
    found = price([ten, quarter], basket(8_000, 2_000), NOW)
    assert ([each.discount_minor for each in found.chosen], found.payable_minor) == ([2_000, 1_000], 7_000)


def test_flexprice_two_tenths_are_nineteen_percent():
    tenths = [coupon("percent_off", percent_permyriad=1_000) for _ in range(2)]
    assert price(tenths, basket(10_000), NOW).discount_minor == 1_900


def test_flexprice_never_below_zero():
    assert price([coupon(value_minor=9_000), coupon(value_minor=9_000)], basket(10_000), NOW).payable_minor == 0


# --- https://help.vtex.com/en/docs/tutorials/how-does-promotion-proration-work ----------------------------
# The page gives prices, amount and rule as text, and the resulting parts as a picture that was not read.


def test_vtex_amount_in_proportion_to_the_prices():
    found = price([coupon(value_minor=15_600)], basket(19_000, 19_000, 25_000, 15_000), NOW)
    assert [of_line(found, line_id) for line_id in "1234"] == [3_800, 3_800, 5_000, 3_000]
    assert found.payable_minor == 78_000 - 15_600


# --- https://github.com/arraypress/discount-calculator ----------------------------------------------------


def test_arraypress_a_fifth_by_line():
    found = price([coupon("percent_off", percent_permyriad=2_000)], basket(7_000, 3_000), NOW)
    assert (of_line(found, "1"), of_line(found, "2")) == (1_400, 600)


# --- where we differ on purpose ---------------------------------------------------------------------------


def test_unlike_shopify_a_second_percentage_is_of_what_the_first_left():
    """There both are of the original subtotal: 350 USD less 10% and 15% is 262.50."""
    both = [coupon("percent_off", percent_permyriad=percent) for percent in (1_000, 1_500)]
    assert price(both, PANTS_SHIRTS_BOOTS, NOW).discount_minor == 8_225


def test_unlike_salesforce_a_minimum_spend_is_of_prices_before_coupons():
    """There the second example's subtotal is exactly 100.00 after $10 off SKU1; here 15% need 100.01 before it."""
    ten_off = coupon(value_minor=1_000, terms=only("p1"))
    assert price([ten_off, over_100()], basket(6_000, 4_001), NOW).discount_minor == 1_000 + 1_350
    with pytest.raises(errors.BelowMinSpend):
        price([ten_off, over_100()], basket(6_000, 4_000), NOW)

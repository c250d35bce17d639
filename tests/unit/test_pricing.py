"""What coupons take off a basket, and why one does not apply."""

from __future__ import annotations

import random
from datetime import timedelta
from functools import partial

import pytest

from ledger import combination, errors
from ledger.basket import Line
from ledger.discount import spread
from ledger.pricing import price, quote
from ledger.scope import Scope, UseHours
from tests.unit.pricing_basket import NOW, basket, coupon


def off(found):
    """What each chosen coupon takes off each line."""
    return [{part["line_id"]: part["discount_minor"] for part in each.allocation} for each in found.chosen]


# --- kinds ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "benefit", "prices", "taken"),
    [
        ("amount_off", {"value_minor": 500}, (1_000, 1_000), {"1": 250, "2": 250}),
        ("amount_off", {"value_minor": 100}, (100, 100, 100), {"1": 34, "2": 33, "3": 33}),
        ("amount_off", {"value_minor": 5_000}, (1_000, 200), {"1": 1_000, "2": 200}),
        ("percent_off", {"percent_permyriad": 1_000}, (999,), {"1": 99}),
        ("percent_off", {"percent_permyriad": 1_000}, (333, 333, 334), {"1": 33, "2": 33, "3": 34}),
        ("percent_off", {"percent_permyriad": 5_000, "max_discount_minor": 300}, (1_000, 2_000), {"1": 100, "2": 200}),
        ("fixed_price", {"value_minor": 600}, (500, 1_000, 900), {"2": 400}),
        ("fixed_price", {"value_minor": 600, "units": 2}, (500, 1_000, 900), {"2": 400, "3": 300}),
        ("gift", {"products": ("p1", "p2")}, (500, 1_000, 9_000), {"2": 1_000}),
        ("trial", {"products": ("p1",), "max_discount_minor": 300}, (500, 1_000), {"1": 300}),
        ("exchange", {"products": ("p1",), "value_minor": 100}, (500, 1_000), {"1": 400}),
        ("cash_voucher", {"value_minor": 700}, (500, 500), {"1": 350, "2": 350}),
    ],
)
def test_each_kind_takes_its_own_off(kind, benefit, prices, taken):
    (each,) = price([coupon(kind, **benefit)], basket(*prices), NOW).chosen
    assert {part["line_id"]: part["discount_minor"] for part in each.allocation} == taken
    assert each.discount_minor == sum(taken.values())


def test_shipping_has_its_own_part():
    found = price([coupon("free_shipping", max_discount_minor=400)], basket(1_000, shipping_minor=490), NOW)
    assert (found.discount_minor, found.shipping_discount_minor, found.payable_minor) == (400, 400, 1_090)
    assert off(found) == [{}]


def test_a_cash_voucher_is_worth_its_balance():
    found = price([coupon("cash_voucher", value_minor=700, offered={"balance_minor": 120})], basket(1_000), NOW)
    assert found.discount_minor == 120


def test_what_the_order_system_states_is_usable_and_never_in_the_best_combination():
    stated = coupon("order_stated", id="stated")
    found = quote([stated, coupon(value_minor=10)], basket(1_000), NOW)
    assert [(each.outcome, each.discount_minor) for each in found.results] == [("used", 10), ("unvalued", None)]
    named = price([stated], basket(1_000), NOW)
    assert (named.chosen[0].discount_minor, named.discount_minor) == (None, 0)


def test_a_unit_of_a_line_that_was_cut_costs_its_share_rounded_down():
    line = Line(line_id="1", product_id="tea", quantity=3, unit_price_minor=400, discounted_minor=200)
    assert off(price([coupon("gift", products=("tea",))], basket(line), NOW)) == [{"1": 333}]
    assert off(price([coupon("gift", products=("tea",), units=3)], basket(line), NOW)) == [{"1": 1_000}]


@pytest.mark.parametrize("kind", ["gift", "trial", "exchange"])
@pytest.mark.parametrize(
    "scope",
    [
        {"shops": ("east",)},
        {"excluded_shops": ("west",)},
        {"excluded_products": ("cup",)},
        {"excluded_categories": ("ware",)},
    ],
)
def test_nothing_is_given_of_another_shop_or_of_what_is_excluded(kind, scope):
    tea = Line(line_id="1", product_id="tea", unit_price_minor=1_000, shop_id="east")
    cup = Line(line_id="2", product_id="cup", unit_price_minor=900, shop_id="west", categories=("ware",))
    addition = {"value_minor": 100} if kind == "exchange" else {}
    gives = coupon(kind, products=("cup",), terms={"scope": Scope(**scope)}, **addition)
    with pytest.raises(errors.OutOfScope) as refused:
        price([gives], basket(tea, cup), NOW)
    assert refused.value.facts["field"] == "products"
    own = Line(line_id="3", product_id="mug", unit_price_minor=80, shop_id="east")
    either = coupon(kind, products=("cup", "mug"), terms={"scope": Scope(**scope)}, **addition)
    if kind == "exchange":
        with pytest.raises(errors.NotApplicable):
            price([either], basket(tea, cup, own), NOW)
    else:
        assert off(price([either], basket(tea, cup, own), NOW)) == [{"3": 80}]


def test_an_exchange_dearer_than_its_product_counts_the_product_alone_against_the_minimum_spend():
    dear = coupon("exchange", products=("p2",), value_minor=500, terms={"min_spend_minor": 900})
    with pytest.raises(errors.NotApplicable):
        price([dear], basket(1_000, 300), NOW)
    with pytest.raises(errors.BelowMinSpend) as refused:
        price([dear], basket(800, 300), NOW)
    assert refused.value.facts["eligible_minor"] == 800


def test_two_gifts_of_one_product_give_two_units_and_no_third():
    line = Line(line_id="1", product_id="tea", quantity=2, unit_price_minor=400)
    gifts = [coupon("gift", products=("tea",)) for _ in range(3)]
    found = quote(gifts, basket(line), NOW)
    assert off(found) == [{"1": 400}, {"1": 400}]
    assert [each.outcome for each in found.results] == ["used", "used", "not_needed"]
    with pytest.raises(errors.NotApplicable) as refused:
        price(gifts, basket(line), NOW)
    assert refused.value.facts == {"coupon_id": gifts[2].coupon_id}


def test_a_second_fixed_price_does_not_go_below_the_price():
    both = [coupon("fixed_price", value_minor=90), coupon("fixed_price", value_minor=90, units=2)]
    assert price(both, basket(100, 95), NOW).payable_minor == 180


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("fixed_price", {"value_minor": 2_000}),
        ("free_shipping", {}),
        ("percent_off", {"percent_permyriad": 1}),
        ("amount_off", {"value_minor": 5, "terms": {"order_cap_permyriad": 1}}),
    ],
)
def test_a_coupon_that_takes_nothing_off_does_not_apply(kind, fields):
    vain = coupon(kind, id="v", **fields)
    with pytest.raises(errors.NotApplicable) as refused:
        price([vain, coupon(value_minor=100)], basket(500, 1_000), NOW)
    assert refused.value.facts == {"coupon_id": "v"}
    (result,) = quote([vain], basket(500, 1_000), NOW).results
    assert (result.outcome, type(result.refusal), result.discount_minor) == ("refused", errors.NotApplicable, None)


def test_a_digest_is_of_what_was_priced():
    """What the order system values has no price here, so naming it or not changes nothing."""
    five, stated = coupon(value_minor=500), coupon("order_stated")
    quoted = quote([five, stated], basket(1_000), NOW)
    assert price([five, stated], basket(1_000), NOW).digest == quoted.digest
    assert price([five], basket(1_000), NOW).digest == quoted.digest
    assert price([stated], basket(1_000), NOW).digest == quote([], basket(1_000), NOW).digest != quoted.digest


# --- order ------------------------------------------------------------------------------------------------


def test_coupons_come_off_by_priority_then_kind_then_id():
    ten = {"percent_permyriad": 1_000}
    amount, percent = coupon(id="b", value_minor=100), coupon("percent_off", id="a", **ten)
    assert [each.discount_minor for each in price([percent, amount], basket(1_000), NOW).chosen] == [100, 90]
    first = coupon("percent_off", id="z", terms={"priority": 1}, **ten)
    assert [each.discount_minor for each in price([first, amount], basket(1_000), NOW).chosen] == [100, 100]
    twins = [coupon(id="b", value_minor=700), coupon(id="a", value_minor=700)]
    assert [(each.coupon_id, each.discount_minor) for each in price(twins, basket(1_000), NOW).chosen] == [
        ("a", 700),
        ("b", 300),
    ]


def test_the_least_order_cap_cuts_the_last():
    capped = coupon(id="a", value_minor=300, terms={"order_cap_permyriad": 5_000})
    more = coupon(id="b", value_minor=300, terms={"order_cap_permyriad": 9_000})
    ships = coupon("free_shipping")
    found = price([capped, more, ships], basket(999, shipping_minor=490), NOW)
    assert [each.discount_minor for each in found.chosen] == [300, 199, 490]


def test_minimum_spend_does_not_depend_on_other_coupons():
    half = coupon("percent_off", percent_permyriad=5_000, terms={"priority": 1})
    dear = coupon(value_minor=100, terms={"min_spend_minor": 1_000})
    assert price([half, dear], basket(1_000), NOW).discount_minor == 600


def test_a_gift_does_not_help_to_reach_its_own_minimum_spend():
    gift = coupon("gift", products=("p1",), terms={"min_spend_minor": 1_000})
    with pytest.raises(errors.BelowMinSpend) as refusal:
        price([gift], basket(500, 999), NOW)
    assert refusal.value.facts["eligible_minor"] == 999
    assert price([gift], basket(500, 1_000), NOW).discount_minor == 500


# --- refusals ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "refusal", "facts"),
    [
        ({"offered": {"state": "VOIDED"}}, errors.CouponVoid, {}),
        ({"offered": {"state": "USED"}}, errors.CouponUsed, {}),
        ({"offered": {"state": "EXPIRED"}}, errors.CouponExpired, {"valid_until": "2026-06-10T12:00:00Z"}),
        (
            {"offered": {"state": "LOCKED", "lock_ends_at": NOW}},
            errors.CouponLocked,
            {"lock_ends_at": "2026-06-01T12:00:00Z"},
        ),
        ({"days": 0}, errors.CouponExpired, {"valid_until": "2026-06-01T12:00:00Z"}),
        ({"terms": {"use_hours": (UseHours(weekdays=(2,)),)}}, errors.OutOfHours, {}),
        ({"terms": {"scope": Scope(order_types=("group_purchase",))}}, errors.OutOfScope, {"field": "order_type"}),
        ({"terms": {"scope": Scope(user_types=("student",))}}, errors.OutOfScope, {"field": "user_types"}),
        ({"terms": {"scope": Scope(products=("p9",))}}, errors.OutOfScope, {"field": "lines"}),
        (
            {"terms": {"min_spend_minor": 1_500, "scope": Scope(excluded_products=("p2",))}},
            errors.BelowMinSpend,
            {"min_spend_minor": 1_500, "eligible_minor": 1_000, "missing_minor": 500},
        ),
    ],
)
def test_each_refusal_has_its_facts(fields, refusal, facts):
    asked = coupon(id="c", value_minor=100, **fields)
    with pytest.raises(refusal) as raised:
        price([asked], basket(1_000, 1_000), NOW)
    assert raised.value.facts == {"coupon_id": "c", **facts}
    (result,) = quote([asked], basket(1_000, 1_000), NOW).results
    assert (result.outcome, type(result.refusal), result.discount_minor) == ("refused", refusal, None)


def test_a_coupon_is_not_usable_before_it_is_valid():
    with pytest.raises(errors.CouponNotStarted):
        price([coupon(value_minor=100)], basket(1_000), NOW - timedelta(days=2))


def test_what_the_order_holds_outlasts_its_validity():
    held = coupon(value_minor=100, offered={"state": "LOCKED", "held": True})
    assert price([held], basket(1_000), NOW + timedelta(days=30)).discount_minor == 100


def test_checks_come_in_the_fields_order():
    wrong = {"scope": Scope(products=("p9",)), "min_spend_minor": 9_999}
    late = coupon(value_minor=1, days=0, terms=wrong)
    with pytest.raises(errors.CouponExpired):
        price([late], basket(1_000), NOW)
    with pytest.raises(errors.OutOfScope):
        price([coupon(value_minor=1, terms=wrong)], basket(1_000), NOW)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"mode": "exclusive"}, {}),
        ({}, {"mode": "exclusive"}),
        ({"mode": "group", "terms": {"stacking_group": "g"}}, {"mode": "group", "terms": {"stacking_group": "g"}}),
    ],
)
def test_what_does_not_stand_together_is_refused_together(first, second):
    pair = [coupon(id="a", value_minor=1, **first), coupon(id="b", value_minor=1, **second)]
    with pytest.raises(errors.ExclusiveConflict) as refusal:
        price(pair, basket(1_000), NOW)
    assert {refusal.value.facts["coupon_id"], refusal.value.facts["with_coupon_id"]} == {"a", "b"}
    assert len(quote(pair, basket(1_000), NOW).chosen) == 1


def test_a_coupon_named_twice_is_refused():
    twice = coupon(value_minor=1)
    with pytest.raises(errors.InvalidField):
        quote([twice, twice], basket(1_000), NOW)


# --- the best combination -----------------------------------------------------------------------------------


def test_one_of_each_group_joins_the_stackable_ones():
    group = {"mode": "group", "terms": {"stacking_group": "g"}}
    other = {"mode": "group", "terms": {"stacking_group": "h"}}
    found = quote(
        [
            coupon(id="a", value_minor=100, **group),
            coupon(id="b", value_minor=150, **group),
            coupon(id="c", value_minor=50, **other),
            coupon(id="d", value_minor=10),
            coupon(id="e", value_minor=305, mode="exclusive"),
        ],
        basket(1_000),
        NOW,
    )
    assert (found.discount_minor, [each.coupon_id for each in found.chosen]) == (305, ["e"])
    found = quote([coupon(id="e", value_minor=205, mode="exclusive"), *_offers(group, other)], basket(1_000), NOW)
    assert [(each.coupon_id, each.outcome, each.with_coupon_id) for each in found.results] == [
        ("a", "excluded", "b"),
        ("b", "used", None),
        ("c", "used", None),
        ("d", "used", None),
        ("e", "excluded", "b"),
    ]


def _offers(group, other):
    return [
        coupon(id="a", value_minor=100, **group),
        coupon(id="b", value_minor=150, **group),
        coupon(id="c", value_minor=50, **other),
        coupon(id="d", value_minor=10),
    ]


def test_a_coupon_whose_order_cap_costs_more_than_it_gives_stays_out():
    capping = coupon(id="a", value_minor=500, terms={"order_cap_permyriad": 1_000})
    found = quote([capping, coupon(id="b", value_minor=150)], basket(1_000), NOW)
    assert [each.coupon_id for each in found.chosen] == ["b"]
    assert quote([capping], basket(1_000), NOW).discount_minor == 100


def test_under_an_order_cap_shipping_may_be_worth_more_than_what_the_cap_cuts():
    """Of the group, the amount takes more by itself; but beside the capping coupon no more of it counts."""
    group = {"mode": "group", "terms": {"stacking_group": "g"}}
    capping = coupon(id="a", value_minor=200, terms={"order_cap_permyriad": 2_000})
    either = [coupon(id="b", value_minor=600, **group), coupon("free_shipping", id="c", **group)]
    found = quote([capping, *either], basket(1_000, shipping_minor=490), NOW)
    assert (found.discount_minor, [each.coupon_id for each in found.chosen]) == (690, ["a", "c"])


def test_the_room_under_an_order_cap_is_what_other_lines_leave_of_it():
    """The cup's group fills most of the cap, so of the tea's group little would count, and shipping counts whole."""
    tea, cup = {"scope": Scope(products=("p1",))}, {"scope": Scope(products=("p2",)), "stacking_group": "h"}
    wallet = [
        coupon(id="a", value_minor=100, terms={"order_cap_permyriad": 3_000, **tea}),
        coupon(id="b", value_minor=700, mode="group", terms={"stacking_group": "g", **tea}),
        coupon("free_shipping", id="c", mode="group", terms={"stacking_group": "g"}),
        coupon("percent_off", percent_permyriad=5_000, id="d", mode="group", terms=cup),
        coupon(id="e", value_minor=400, mode="group", terms=cup),
    ]
    found = quote(wallet, basket(1_000, 1_000, shipping_minor=690), NOW)
    assert (found.discount_minor, [each.coupon_id for each in found.chosen]) == (1_290, ["a", "d", "c"])


def test_a_percentage_of_all_lines_fills_the_order_cap_once():
    group = {"mode": "group", "terms": {"stacking_group": "g"}}
    wallet = [
        coupon("gift", products=("p2",), id="a", **group),
        coupon("free_shipping", id="b", **group),
        coupon("percent_off", percent_permyriad=1_053, id="c", terms={"order_cap_permyriad": 2_000}),
    ]
    found = quote(wallet, basket(9_000, 1_000, shipping_minor=690), NOW)
    assert (found.discount_minor, [each.coupon_id for each in found.chosen]) == (1_948, ["c", "a"])


def test_one_unit_that_was_given_is_not_charged_again_by_an_exchange():
    """The gift leaves nothing of the pot; where an exchange joined it at its price, it would seem to cost."""
    group = {"mode": "group", "terms": {"stacking_group": "g"}}
    wallet = [
        coupon("gift", products=("p1",), id="a", terms={"priority": 1}),
        coupon("exchange", products=("p1",), value_minor=900, id="b", **group),
        coupon(value_minor=5, id="c", mode="group", terms={"stacking_group": "g", "scope": Scope(products=("p2",))}),
        coupon("exchange", products=("p1", "p2"), units=2, value_minor=100, id="d", **group),
    ]
    found = quote(wallet, basket(1_000, 110), NOW)
    assert (found.discount_minor, [each.coupon_id for each in found.chosen]) == (1_010, ["a", "d"])


@pytest.mark.parametrize("caps", [(2_000, 6_000, 9_000), (9_000, 6_000, 2_000)])
def test_of_several_order_caps_the_one_counts_that_leaves_the_most(caps):
    """Under 20 % all three take 200, under 60 % two of them 600, and under 90 % one of them 550."""
    wallet = [
        coupon(id=f"{number}", value_minor=550, terms={"order_cap_permyriad": cap}) for number, cap in enumerate(caps)
    ]
    found = quote(wallet, basket(1_000), NOW)
    assert (found.discount_minor, len(found.chosen)) == (600, 2)


def test_of_equal_members_of_a_group_the_one_that_ends_first_is_used():
    group = {"mode": "group", "terms": {"stacking_group": "g"}}
    later = coupon("percent_off", percent_permyriad=1_000, id="a", **group)
    sooner = coupon(value_minor=100, id="b", days=2, **group)
    assert [each.coupon_id for each in quote([later, sooner], basket(1_000), NOW).chosen] == ["b"]


def test_of_equals_the_one_that_ends_first_is_used():
    twins = [coupon(id="a", value_minor=1_000, days=9), coupon(id="b", value_minor=1_000, days=2)]
    found = quote(twins, basket(1_000), NOW)
    assert [(each.coupon_id, each.outcome) for each in found.results] == [("a", "not_needed"), ("b", "used")]
    alone = [coupon(id="a", value_minor=10, mode="exclusive"), coupon(id="b", value_minor=10, days=2, mode="exclusive")]
    assert [each.coupon_id for each in quote(alone, basket(1_000), NOW).chosen] == ["b"]


def test_one_coupon_that_is_enough_spares_the_small_ones():
    small = [coupon(value_minor=100) for _ in range(5)]
    found = quote([*small, coupon(id="z", value_minor=600)], basket(600), NOW)
    assert [each.coupon_id for each in found.chosen] == ["z"]


def test_an_amount_that_rounds_to_nothing_is_not_spent():
    found = quote([coupon("percent_off", percent_permyriad=100)], basket(99), NOW)
    assert (found.chosen, found.results[0].outcome) == ((), "refused")


def test_where_the_search_is_cut_short_no_coupon_is_spent_for_nothing(monkeypatch):
    """What adds nothing may be left in then, and a lock refuses what takes nothing off."""
    monkeypatch.setattr(combination, "Budget", partial(combination.Budget, 0))
    twins = [coupon(id="a", value_minor=1_000), coupon(id="b", value_minor=1_000)]
    found = quote(twins, basket(1_000), NOW)
    assert (found.exact, [each.coupon_id for each in found.chosen]) == (False, ["a"])
    assert price([twins[0]], basket(1_000), NOW).digest == found.digest


def test_without_coupons_everything_is_paid():
    found = quote([], basket(1_000, shipping_minor=490), NOW)
    assert (found.payable_minor, found.chosen, found.results, found.exact) == (1_490, (), (), True)


def test_the_digest_covers_the_basket_and_the_terms_version():
    one = [coupon(id="a", value_minor=100)]
    first = price(one, basket(1_000), NOW).digest
    assert price(one, basket(1_000), NOW).digest == first == quote(one, basket(1_000), NOW).digest
    assert price(one, basket(1_001), NOW).digest != first
    assert price([coupon(id="a", value_minor=101)], basket(1_000), NOW).digest != first
    assert price(one, basket(1_000, order_type="group_purchase"), NOW).digest != first


# --- parts ------------------------------------------------------------------------------------------------


def test_parts_go_to_the_largest_remainders():
    assert spread(10, [1, 1, 1]) == [4, 3, 3]
    assert spread(5, [30, 20, 51]) == [1, 1, 3]
    assert spread(0, [1, 2]) == [0, 0]
    assert spread(7, []) == []
    assert spread(7, [0, 0]) == [0, 0]


# --- as many as a wallet has ------------------------------------------------------------------------------------


def wallet(shape, seed):
    """Forty coupons and a hundred lines of twelve categories; what each coupon is, is by chance."""
    chance = random.Random(seed)
    groups, categories, priorities = shape
    goods = basket(
        *[
            Line(
                line_id=str(number),
                product_id=f"p{number % 20}",
                quantity=chance.randint(1, 4),
                unit_price_minor=chance.randint(50, 5_000),
                categories=(f"c{chance.randrange(12)}",),
            )
            for number in range(100)
        ],
        shipping_minor=490,
    )
    coupons = []
    for number in range(40):
        listed = tuple(f"c{each}" for each in chance.sample(range(12), chance.randint(1, categories)))
        terms = {"scope": Scope() if chance.random() < 0.5 else Scope(categories=listed)}
        if priorities:
            terms["priority"] = chance.randrange(3)
        if groups:
            terms["stacking_group"] = f"g{number % groups}"
        kind = {"kind": "amount_off", "value_minor": chance.choice([500, 1_000, 2_000, 5_000])}
        if chance.random() < 0.5:
            most = chance.choice([None, 2_000, 5_000, 10_000])
            kind = {"kind": "percent_off", "percent_permyriad": chance.choice([500, 1_000, 1_500, 3_000])}
            kind["max_discount_minor"] = most
        mode = "group" if groups else "stackable"
        coupons.append(coupon(**kind, id=f"c{number:02}", days=number % 9 + 1, mode=mode, terms=terms))
    return coupons, goods


@pytest.mark.parametrize(
    "shape",
    [
        (0, 3, True),
        (1, 3, True),
        (5, 1, False),
        (5, 3, True),
        (8, 1, True),
        (10, 1, False),
        (13, 1, False),
        (20, 1, False),
    ],
    ids=str,
)
def test_forty_coupons_on_a_hundred_lines_are_searched_whole(shape):
    for seed in range(3):
        assert quote(*wallet(shape, seed), NOW).exact


def test_the_largest_question_is_answered_and_says_that_it_was_cut():
    lines = [Line(line_id=str(n), product_id=f"p{n}", unit_price_minor=1_000 + n) for n in range(1_000)]
    chance = random.Random(1)
    coupons = []
    for number in range(200):
        scope = Scope(products=tuple(f"p{each}" for each in chance.sample(range(1_000), 300)))
        terms = {"scope": scope, "priority": number % 3, "stacking_group": f"g{number % 40}"}
        part = 500 + 7 * number
        coupons.append(coupon("percent_off", percent_permyriad=part, mode="group", terms=terms, id=f"c{number:03}"))
    found = quote(coupons, basket(*lines), NOW)
    assert not found.exact
    assert len(found.chosen) == 40
    assert (
        found.discount_minor
        == price(
            [each for each in coupons if each.coupon_id in {c.coupon_id for c in found.chosen}], basket(*lines), NOW
        ).discount_minor
    )


def test_of_many_that_take_everything_only_as_many_are_spent_as_are_needed():
    found = quote([coupon(value_minor=2_000) for _ in range(60)], basket(*[1_000] * 50), NOW)
    assert (found.discount_minor, len(found.chosen), found.exact) == (50_000, 25, True)

"""Pricing against an oracle that is written a second time, plainly, and tries every combination there is."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import timedelta
from fractions import Fraction
from itertools import combinations, product
from math import floor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import sweep
from ledger.basket import Basket, Line
from ledger.benefit import Benefit
from ledger.discount import WHOLE, Goods
from ledger.pricing import KIND_ORDER, Offered, price, quote
from ledger.scope import Scope
from ledger.search import Search
from ledger.terms import Terms
from tests.property.wallets import NOW, amounts, baskets, caps, wallets

# --- the oracle ---------------------------------------------------------------------------------------


@dataclass
class Taken:
    lines: list[Fraction]
    shipping: Fraction = Fraction(0)

    @property
    def total(self):
        return sum(self.lines, Fraction(0)) + self.shipping


def by_remainder(amount, weights):
    """Largest remainder, as a textbook has it."""
    exact = [amount * weight / sum(weights) if sum(weights) else Fraction(0) for weight in weights]
    parts = [Fraction(floor(part)) for part in exact]
    for index in sorted(range(len(parts)), key=lambda index: (parts[index] - exact[index], index)):
        if sum(parts) < amount:
            parts[index] += 1
    return parts


def excludes(scope, line):
    return (
        (bool(scope.shops) and line.shop_id not in scope.shops)
        or line.shop_id in scope.excluded_shops
        or line.product_id in scope.excluded_products
        or bool(set(scope.excluded_categories) & set(line.categories))
    )


def covers(scope, line):
    listed = line.product_id in scope.products or bool(set(scope.categories) & set(line.categories))
    return (listed or not (scope.products or scope.categories)) and not excludes(scope, line)


def unit_takes(coupon, basket):
    benefit = coupon.terms.benefit
    price = 0 if benefit.kind in ("gift", "trial") else benefit.value_minor
    wanted = benefit.units or 1
    ranked = sorted(
        range(len(basket.lines)),
        key=lambda index: (Fraction(-basket.lines[index].amount_minor, basket.lines[index].quantity), index),
    )
    for index in ranked:
        line = basket.lines[index]
        scope = coupon.terms.scope
        given = line.product_id in benefit.products and not excludes(scope, line)
        allowed = given if benefit.products else covers(scope, line)
        units = min(wanted, line.quantity) if allowed else 0
        wanted -= units
        if units:
            yield index, max(0, line.amount_minor * units // line.quantity - units * price), units * price


def by_rules(coupons, basket, whole=True):
    """What these take off together; in fractions of a minor unit unless ``whole``."""
    left = [Fraction(line.amount_minor) for line in basket.lines]
    shipping = Fraction(basket.shipping_minor)
    permyriads = [coupon.terms.order_cap_permyriad or 10_000 for coupon in coupons]
    room = Fraction(basket.total_minor * min(permyriads, default=10_000) // 10_000)
    found = []
    order = sorted(
        coupons, key=lambda each: (-each.terms.priority, KIND_ORDER[each.terms.benefit.kind], each.coupon_id)
    )
    for coupon in order:
        benefit = coupon.terms.benefit
        most = benefit.max_discount_minor or 10**12
        taken = Taken([Fraction(0)] * len(left))
        covered = [index for index, line in enumerate(basket.lines) if covers(coupon.terms.scope, line)]
        weights = [left[index] for index in covered]
        if benefit.kind == "free_shipping":
            taken.shipping = min(shipping, most)
        elif benefit.kind in ("fixed_price", "gift", "trial", "exchange"):
            for index, take, leaves in unit_takes(coupon, basket):
                part = max(
                    Fraction(0), min(take, left[index] - leaves, most - sum(taken.lines), room - sum(taken.lines))
                )
                taken.lines[index] += part
        elif benefit.kind != "order_stated":
            if benefit.kind == "percent_off":
                wanted = sum(weights, Fraction(0)) * benefit.percent_permyriad / 10_000
            else:
                wanted = Fraction(benefit.value_minor)
            wanted = min(wanted, sum(weights, Fraction(0)), most, room)
            if whole:
                parts = by_remainder(Fraction(floor(wanted)), weights)
            else:
                parts = [wanted * weight / sum(weights) if wanted else Fraction(0) for weight in weights]
            for index, part in zip(covered, parts, strict=True):
                taken.lines[index] += part
        left = [before - part for before, part in zip(left, taken.lines, strict=True)]
        shipping -= taken.shipping
        room -= sum(taken.lines)
        found.append((coupon, taken))
    return found


def total(coupons, basket, whole=True):
    return sum((taken.total for _, taken in by_rules(coupons, basket, whole)), Fraction(0))


def may_stand(coupons):
    if any(coupon.terms.stacking_mode == "exclusive" for coupon in coupons):
        return len(coupons) == 1
    groups = [coupon.terms.stacking_group for coupon in coupons if coupon.terms.stacking_group]
    return len(set(groups)) == len(groups)


def every_combination(coupons):
    for size in range(len(coupons) + 1):
        yield from (list(chosen) for chosen in combinations(coupons, size) if may_stand(chosen))


PORTIONS = {"MANY": 30, "FEW": 10}
"""A search of a few choices, as one of many thousands: in portions, with bounds."""
CLIMBED = {**PORTIONS, "SMALL": 1}
"""And with a good choice to begin with."""

# --- what must hold --------------------------------------------------------------------------------------


def applying(found, wallet):
    refused = {result.coupon_id for result in found.results if result.outcome == "refused"}
    return [coupon for coupon in wallet if coupon.coupon_id not in refused]


@settings(deadline=None, max_examples=300)
@given(wallets(), baskets())
def test_nothing_takes_off_more_than_the_best_combination(wallet, basket):
    found = quote(wallet, basket, NOW)
    assert found.exact
    usable = applying(found, wallet)
    chosen = [coupon for coupon in usable if coupon.coupon_id in {each.coupon_id for each in found.chosen}]
    assert may_stand(chosen)
    assert found.discount_minor == total(chosen, basket)
    best = max(total(each, basket) for each in every_combination(usable))
    # Rounding of each coupon to whole minor units may favour a set that is no better before it.
    assert best - len(usable) <= found.discount_minor <= best


@settings(deadline=None, max_examples=300)
@given(wallets(), baskets(), st.sampled_from([{}, PORTIONS, CLIMBED]))
def test_before_rounding_the_search_finds_the_maximum(wallet, basket, sizes):
    wallet = [coupon for coupon in wallet if coupon.terms.stacking_mode != "exclusive"]
    found, usable = searched(wallet, basket, sizes)
    best = max(total(each, basket, whole=False) for each in every_combination(usable))
    assert abs(found - best) < Fraction(1, 1_000)


def searched(wallet, basket, sizes):
    """What the search finds to take off, in fractions, and the coupons that it searched."""
    from ledger.pricing import _judged

    goods = Goods(basket)
    candidates, _ = _judged(wallet, goods, NOW)
    candidates = [each for each in candidates if each.kind != "order_stated"]
    search, found = Search(goods.amounts), Fraction(0)
    with pytest.MonkeyPatch.context() as patch:
        for name, size in sizes.items():
            patch.setattr(sweep, name, size)
        for cap in {each.coupon.terms.order_cap_permyriad or WHOLE for each in candidates}:
            members = [each for each in candidates if (each.coupon.terms.order_cap_permyriad or WHOLE) >= cap]
            chosen = search.best_of(members, basket.total_minor * cap // WHOLE)
            found = max(found, total([each.coupon for each in chosen], basket, whole=False))
    return found, [each.coupon for each in candidates]


without_fractions = wallets(
    benefits=st.one_of(
        st.builds(Benefit, kind=st.just("amount_off"), value_minor=amounts, max_discount_minor=caps),
        st.builds(Benefit, kind=st.just("cash_voucher"), value_minor=amounts),
        st.builds(Benefit, kind=st.just("free_shipping")),
    ),
    scopes=st.just(Scope()),
)


@settings(deadline=None, max_examples=200)
@given(without_fractions, baskets())
def test_amounts_off_the_whole_order_have_no_fractions_so_not_one_minor_unit_is_missed(wallet, basket):
    found = quote(wallet, basket, NOW)
    assert found.discount_minor == max(total(each, basket) for each in every_combination(applying(found, wallet)))


@settings(deadline=None, max_examples=200)
@given(wallets(), baskets())
def test_every_coupon_of_the_best_combination_is_needed(wallet, basket):
    found = quote(wallet, basket, NOW)
    chosen = [coupon for coupon in wallet if coupon.coupon_id in {each.coupon_id for each in found.chosen}]
    for coupon in chosen:
        assert total([other for other in chosen if other is not coupon], basket) < found.discount_minor


@settings(deadline=None, max_examples=200)
@given(wallets(), baskets())
def test_parts_sum_to_the_whole_and_no_line_goes_below_zero(wallet, basket):
    found = quote(wallet, basket, NOW)
    left = {line.line_id: line.amount_minor for line in basket.lines}
    for each in found.chosen:
        assert all(part["discount_minor"] > 0 for part in each.allocation)
        assert (
            sum(part["discount_minor"] for part in each.allocation) + each.shipping_discount_minor
            == each.discount_minor
        )
        for part in each.allocation:
            left[part["line_id"]] -= part["discount_minor"]
    assert min(left.values()) >= 0
    assert found.payable_minor == sum(left.values()) + basket.shipping_minor - found.shipping_discount_minor >= 0
    assert found.discount_minor == sum(each.discount_minor or 0 for each in found.chosen)


@settings(deadline=None, max_examples=100)
@given(wallets(), baskets(), st.randoms(use_true_random=False))
def test_the_order_of_the_coupons_changes_nothing(wallet, basket, random):
    mixed = random.sample(wallet, len(wallet))
    first, second = quote(wallet, basket, NOW), quote(mixed, basket, NOW)
    assert (first.digest, first.chosen) == (second.digest, second.chosen)
    assert [(each.coupon_id, each.outcome) for each in first.results] == [
        (each.coupon_id, each.outcome) for each in second.results
    ]


@settings(deadline=None, max_examples=100)
@given(wallets(), baskets())
def test_naming_the_best_combination_gives_the_same_quote(wallet, basket):
    found = quote(wallet, basket, NOW)
    named = [coupon for coupon in wallet if coupon.coupon_id in {each.coupon_id for each in found.chosen}]
    again = price(named, basket, NOW)
    assert (again.digest, again.chosen) == (found.digest, found.chosen)


# --- many small groups ----------------------------------------------------------------------------------

SHAPES = {
    "amounts and capped percents": {},
    "every kind and order caps": {"items": 0.2, "caps": 0.1},
    "single units": {"items": 0.8},
    "enough to pay for all": {"worth": 8, "items": 0.1, "caps": 0.05},
    "lists of products": {"worth": 8, "by_product": True},
}
"""Coupons of overlapping scopes with priorities, where each group's choice changes what every other is worth."""


def grouped(groups, of, lines, seed, items=0.0, caps=0.0, worth=1, by_product=False):
    """So many groups of so many coupons each, and a basket."""
    chance = random.Random(f"{groups} {of} {seed}")
    kinds = max(2, lines if by_product else min(12, lines))
    goods = Basket(
        lines=tuple(
            Line(
                line_id=str(number),
                product_id=f"product-{number % 20}",
                quantity=chance.randint(1, 4),
                unit_price_minor=chance.randint(50, 5_000),
                categories=(f"category-{number % kinds}",),
            )
            for number in range(lines)
        ),
        currency="EUR",
        shipping_minor=490,
    )
    share = goods.total_minor * worth // groups // 4
    wallet = []
    for number in range(groups * of):
        listed = tuple(f"category-{each}" for each in chance.sample(range(kinds), chance.randint(1, -(-kinds // 2))))
        percent = {"percent_permyriad": min(9_000, chance.randint(300, 1_500) * worth)}
        given = {"products": tuple(f"product-{each}" for each in chance.sample(range(20), 4)), "units": 2}
        kind = chance.choices(
            [
                {"kind": "amount_off", "value_minor": chance.randint(share // 4 + 1, 2 * share + 1)},
                {"kind": "percent_off", **percent},
                {"kind": "percent_off", **percent, "max_discount_minor": chance.randint(share // 2 + 1, 2 * share + 1)},
                {"kind": "fixed_price", "value_minor": 300, "units": chance.randint(1, 9)},
                {"kind": "gift", **given},
                {"kind": "exchange", "value_minor": 100, **given},
                {"kind": "free_shipping"},
            ],
            [1 - items, (1 - items) / 2, (1 - items) / 2, items / 2, items, items / 2, items / 4],
        )[0]
        terms = Terms(
            benefit=Benefit(**kind),
            currency="EUR",
            scope=Scope(categories=listed),
            stacking_mode="group",
            stacking_group=f"group-{number % groups}",
            priority=chance.randrange(4),
            order_cap_permyriad=chance.choice([3_000, 6_000, 8_000]) if chance.random() < caps else None,
        )
        wallet.append(
            Offered(
                coupon_id=f"coupon-{number:02}",
                template_id="template",
                template_version=1,
                terms=terms,
                valid_from=NOW - timedelta(days=1),
                valid_until=NOW + timedelta(days=chance.randint(1, 9)),
            )
        )
    return wallet, goods


def one_of_each_group(coupons):
    groups = {}
    for coupon in coupons:
        groups.setdefault(coupon.terms.stacking_group, [None]).append(coupon)
    for chosen in product(*groups.values()):
        yield [coupon for coupon in chosen if coupon is not None]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("groups", "of"), [(5, 2), (4, 3), (3, 4)])
def test_few_groups_of_overlapping_coupons_have_no_better_combination(groups, of, shape):
    for seed in range(12):
        wallet, goods = grouped(groups, of, 6, seed, **SHAPES[shape])
        found, usable = searched(wallet, goods, (PORTIONS, CLIMBED, {})[seed % 3])
        best = max(total(each, goods, whole=False) for each in one_of_each_group(usable))
        assert abs(found - best) < Fraction(1, 1_000)
        quoted = quote(wallet, goods, NOW)
        assert quoted.exact
        assert abs(quoted.discount_minor - best) <= len(wallet)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("groups", "of"), [(20, 2), (13, 3), (10, 4), (8, 5)])
def test_forty_coupons_in_many_small_groups_on_a_hundred_lines_are_searched_whole(groups, of, shape):
    for seed in range(5):
        assert quote(*grouped(groups, of, 100, seed, **SHAPES[shape]), NOW).exact

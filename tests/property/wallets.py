"""Random baskets, and wallets of coupons with random terms."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st

from ledger.basket import Basket, Line
from ledger.benefit import Benefit
from ledger.pricing import Offered
from ledger.scope import Scope
from ledger.terms import Terms

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
PRODUCTS = ("tea", "cup", "pot", "jam")
CATEGORIES = ("food", "ware")

lines = st.builds(
    lambda product, quantity, price, cut, category, shop: (
        product,
        quantity,
        price,
        min(cut, quantity * price),
        category,
        shop,
    ),
    st.sampled_from(PRODUCTS),
    st.integers(1, 4),
    st.integers(0, 400),
    st.integers(0, 60),
    st.sampled_from(CATEGORIES),
    st.sampled_from(["east", "west", None]),
)


@st.composite
def baskets(draw, largest=6):
    found = [
        Line(
            line_id=str(number),
            product_id=product,
            quantity=quantity,
            unit_price_minor=price,
            discounted_minor=cut,
            categories=(category,),
            shop_id=shop,
        )
        for number, (product, quantity, price, cut, category, shop) in enumerate(
            draw(st.lists(lines, min_size=1, max_size=largest))
        )
    ]
    return Basket(
        lines=tuple(found),
        currency="EUR",
        shipping_minor=draw(st.sampled_from([0, 1, 490])),
        channel=draw(st.sampled_from(["online", "in_store"])),
    )


amounts = st.integers(1, 700)
caps = st.none() | st.integers(1, 300)
products = st.lists(st.sampled_from(PRODUCTS), min_size=1, max_size=2, unique=True).map(tuple)
units = st.none() | st.integers(1, 5)
benefits = st.one_of(
    st.builds(Benefit, kind=st.just("amount_off"), value_minor=amounts, max_discount_minor=caps),
    st.builds(Benefit, kind=st.just("percent_off"), percent_permyriad=st.integers(1, 10_000), max_discount_minor=caps),
    st.builds(
        Benefit, kind=st.just("fixed_price"), value_minor=st.integers(1, 300), units=units, max_discount_minor=caps
    ),
    st.builds(
        Benefit, kind=st.sampled_from(["gift", "trial"]), products=products, units=units, max_discount_minor=caps
    ),
    st.builds(Benefit, kind=st.just("exchange"), value_minor=st.integers(1, 200), products=products, units=units),
    st.builds(Benefit, kind=st.just("cash_voucher"), value_minor=amounts, leaves_balance=st.booleans()),
    st.builds(Benefit, kind=st.just("free_shipping"), max_discount_minor=caps),
    st.builds(Benefit, kind=st.just("order_stated")),
)
scopes = st.sampled_from(
    [
        Scope(),
        Scope(products=("tea",)),
        Scope(categories=("food",)),
        Scope(categories=("ware",), excluded_products=("cup",)),
        Scope(excluded_products=("jam",)),
        Scope(shops=("east",)),
        Scope(channels=("in_store",)),
        Scope(products=("tea", "pot"), excluded_shops=("east",)),
    ]
)
stacking = st.sampled_from([("exclusive", None), ("stackable", None), ("group", "a"), ("group", "b")])


@st.composite
def wallets(draw, largest=7, benefits=benefits, scopes=scopes, cap=True):
    found = []
    for number in range(draw(st.integers(1, largest))):
        mode, group = draw(stacking)
        found.append(
            Offered(
                coupon_id=f"coupon-{number}",
                template_id="template",
                template_version=1,
                terms=Terms(
                    benefit=draw(benefits),
                    currency="EUR",
                    min_spend_minor=draw(st.sampled_from([0, 0, 0, 300])),
                    scope=draw(scopes),
                    stacking_mode=mode,
                    stacking_group=group,
                    priority=draw(st.integers(0, 2)),
                    order_cap_permyriad=draw(st.sampled_from([None, None, None, 2_000, 6_000])) if cap else None,
                ),
                valid_from=NOW - timedelta(days=1),
                valid_until=NOW + timedelta(days=draw(st.integers(1, 9))),
            )
        )
    return found

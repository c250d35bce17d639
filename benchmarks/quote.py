"""Case quote: the best combination of 30 coupons on baskets of 40 lines, in CPU time of the pure function.

The rival is what shops do instead: take the coupon that helps most, then the next, until none helps. It is exact when
it finds as much on every basket.
"""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

from benchmarks.options import Options
from benchmarks.results import Row
from ledger.basket import Basket, Line
from ledger.benefit import Benefit, BenefitKind
from ledger.errors import Refusal
from ledger.pricing import Offered, price, quote
from ledger.scope import Scope
from ledger.terms import StackingMode, Terms

COUPONS = 30
LINES = 40
BASKETS = 200
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
KINDS: dict[BenefitKind, int] = {
    "amount_off": 40,
    "percent_off": 30,
    "cash_voucher": 8,
    "fixed_price": 6,
    "gift": 6,
    "free_shipping": 6,
    "exchange": 4,
}
"""Shares of the kinds in a wallet."""
MODES: dict[StackingMode, int] = {"stackable": 45, "group": 40, "exclusive": 15}

Asked = tuple[list[Offered], Basket]


def measure(options: Options) -> Iterator[Row]:
    """The ledger's quote and the greedy one, on the same baskets; times are of the CPU."""
    chance = random.Random(5)  # noqa: S311
    asked = [(_wallet(chance), _basket(chance)) for _ in range(BASKETS)]
    # As in a server, what lives long is not looked at again by each collection.
    gc.collect()
    gc.freeze()
    try:
        quotes = [quote(coupons, basket, NOW) for coupons, basket in asked]
        times = _times(lambda coupons, basket: quote(coupons, basket, NOW), asked, options.seconds)
        yield _row("ledger", times, exact=all(each.exact for each in quotes))
        missed = [
            _greedy(coupons, basket) < best.discount_minor
            for (coupons, basket), best in zip(asked, quotes, strict=True)
        ]
        options.tell(f"greedy misses the best combination of {sum(missed)} of {BASKETS} baskets")
        yield _row("greedy", _times(_greedy, asked, options.seconds), exact=not any(missed))
    finally:
        gc.unfreeze()


def _times(answer: Callable[[list[Offered], Basket], object], asked: Sequence[Asked], seconds: float) -> list[float]:
    """CPU seconds of each answer: every basket once, then again until so many seconds are used."""
    times: list[float] = []
    used = 0.0
    while used < seconds or len(times) < len(asked):
        coupons, basket = asked[len(times) % len(asked)]
        begun = time.thread_time()
        answer(coupons, basket)
        times.append(time.thread_time() - begun)
        used += times[-1]
    return sorted(times)


def _row(contender: str, times: Sequence[float], *, exact: bool) -> Row:
    return Row(
        case="quote",
        contender=contender,
        callers=1,
        processes=1,
        rate_per_s=round(len(times) / sum(times), 1),
        p50_ms=round(times[len(times) // 2] * 1_000, 3),
        p99_ms=round(times[len(times) * 99 // 100] * 1_000, 3),
        cpu_s_per_1000=round(sum(times) / len(times) * 1_000, 4),
        exact=exact,
    )


def _greedy(coupons: Sequence[Offered], basket: Basket) -> int:
    """The discount of taking the coupon that helps most, then the next, until none helps."""
    chosen: list[Offered] = []
    most = 0
    while True:
        best: Offered | None = None
        for coupon in coupons:
            if coupon not in chosen:
                try:
                    total = price([*chosen, coupon], basket, NOW).discount_minor
                except Refusal:
                    continue
                if total > most:
                    most, best = total, coupon
        if best is None:
            return most
        chosen.append(best)


def _basket(chance: random.Random) -> Basket:
    lines = tuple(
        Line(
            line_id=str(number),
            product_id=f"product-{chance.randrange(200)}",
            quantity=chance.choice([1, 1, 1, 2, 3]),
            unit_price_minor=chance.randrange(99, 10_000),
            categories=(f"category-{chance.randrange(12)}",),
            shop_id=f"shop-{chance.randrange(4)}",
        )
        for number in range(LINES)
    )
    return Basket(lines=lines, currency="EUR", shipping_minor=490)


def _wallet(chance: random.Random) -> list[Offered]:
    return [
        Offered(
            coupon_id=f"coupon-{number:02}",
            template_id=f"template-{number:02}",
            template_version=1,
            terms=_terms(chance),
            valid_from=NOW - timedelta(days=1),
            valid_until=NOW + timedelta(days=chance.randrange(1, 60)),
        )
        for number in range(COUPONS)
    ]


def _terms(chance: random.Random) -> Terms:
    mode = chance.choices(list(MODES), list(MODES.values()))[0]
    return Terms(
        benefit=_benefit(chance),
        currency="EUR",
        scope=chance.choice(
            [
                Scope(),
                Scope(categories=tuple(f"category-{chance.randrange(12)}" for _ in range(3))),
                Scope(shops=(f"shop-{chance.randrange(4)}",)),
                Scope(products=tuple(f"product-{chance.randrange(200)}" for _ in range(40))),
            ]
        ),
        min_spend_minor=chance.choice([0, 0, 2_000, 5_000]),
        stacking_mode=mode,
        stacking_group=f"group-{chance.randrange(4)}" if mode == "group" else None,
        priority=chance.choice([0, 0, 0, 1, 2]),
        order_cap_permyriad=chance.choices([None, 5_000, 3_000], [90, 5, 5])[0],
    )


def _benefit(chance: random.Random) -> Benefit:
    kind = chance.choices(list(KINDS), list(KINDS.values()))[0]
    products = tuple(f"product-{chance.randrange(200)}" for _ in range(20))
    if kind in ("amount_off", "cash_voucher"):
        return Benefit(kind=kind, value_minor=chance.choice([200, 500, 1_000, 2_000]))
    if kind == "percent_off":
        most = chance.choice([None, 1_000, 3_000])
        return Benefit(kind=kind, percent_permyriad=chance.choice([500, 1_000, 1_500, 2_000]), max_discount_minor=most)
    if kind == "fixed_price":
        return Benefit(kind=kind, value_minor=chance.randrange(100, 2_000), units=chance.choice([1, 2]))
    if kind == "gift":
        return Benefit(kind=kind, products=products)
    return Benefit(kind=kind, value_minor=100, products=products) if kind == "exchange" else Benefit(kind=kind)

"""The combination of coupons that takes the most off a basket.

- An exclusive coupon is compared alone.
- Under each order cap, the coupons whose own cap is not lower are considered; a lower cap's turn comes by itself.
- Which of these join is searched for in fractions of a minor unit (``search.py``).

Afterwards coupons without which the total in whole minor units stays the same are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ledger.discount import WHOLE, Parts, Usable
from ledger.search import FINE_BITS, NOISE, Search, preference

NEEDED_LIMIT = 300_000
"""Lines that are priced again, coupon by coupon, to find out which coupons are needed; beyond it some stay in."""
MANY = 8


@dataclass(frozen=True, slots=True)
class Combination:
    """Coupons in the order in which they come off, and what each takes off which line."""

    chosen: tuple[Usable, ...]
    parts: tuple[Parts, ...]
    total_minor: int

    @property
    def preference(self) -> tuple[object, ...]:
        """The least is the best: most off, fewest coupons, those that end first, ids."""
        ends = sorted(each.coupon.valid_until for each in self.chosen)
        return -self.total_minor, len(self.chosen), ends, [each.coupon.coupon_id for each in self.chosen]


def come_off(chosen: Sequence[Usable], amounts: Sequence[int], known: Sequence[Parts] = ()) -> Combination:
    """What these take off, one after the other in the given order, within the least of their order caps.

    ``known`` is what the first of them take, where that is worked out already.
    """
    left = list(amounts)
    room = cap_of(chosen, amounts)
    off: list[Parts] = []
    total = 0
    for place, each in enumerate(chosen):
        if place < len(known):
            parts = known[place]
        else:
            parts = each.take(left, room) if room or each.kind == "free_shipping" else []
        taken = 0
        for line, part in parts:
            left[line] -= part
            taken += part
        total += taken
        if each.kind != "free_shipping":
            room -= taken
        off.append(parts)
    return Combination(tuple(chosen), tuple(off), total)


def cap_of(chosen: Sequence[Usable], amounts: Sequence[int]) -> int:
    """The most that these together take off lines: the least of their caps, rounded down."""
    total = sum(amounts[:-1])
    caps = [each.coupon.terms.order_cap_permyriad for each in chosen]
    return total * min((cap for cap in caps if cap is not None), default=WHOLE) // WHOLE


def best(candidates: Sequence[Usable], amounts: Sequence[int]) -> tuple[Combination, bool]:
    """The best combination of these, given in the order in which they come off; and whether the search was whole."""
    joining = [each for each in candidates if not each.exclusive and each.kind != "order_stated" and each.alone_minor]
    own_caps = {each.coupon.terms.order_cap_permyriad or WHOLE for each in joining}
    search = Search(amounts)
    whole, most = sum(amounts[:-1]), -1
    found = [come_off([], amounts)]
    for cap in sorted(own_caps, reverse=True):
        room = (whole * cap // WHOLE) << FINE_BITS
        if room + (amounts[-1] << FINE_BITS) <= most or not search.exact:
            break
        members = [each for each in joining if (each.coupon.terms.order_cap_permyriad or WHOLE) >= cap]
        chosen, lines, shipping = search.best_of(members)
        if min(lines, room) + shipping > most + NOISE:
            most = min(lines, room) + shipping
            found.append(come_off(chosen, amounts))
    alone = min((each for each in candidates if each.exclusive), key=_alone_preference, default=None)
    if alone is not None:
        found.append(come_off([alone], amounts))
    total = max(combination.total_minor for combination in found)
    budget = Budget()
    finalists = [_needed(each, amounts, budget) for each in found if each.total_minor == total]
    return min(finalists, key=lambda combination: combination.preference), search.exact and budget.left > 0


def _alone_preference(each: Usable) -> tuple[object, ...]:
    return -each.alone_minor, *preference(each)


@dataclass(slots=True)
class Budget:
    """Lines that may yet be priced to find out what is needed."""

    left: int = NEEDED_LIMIT


def _needed(whole: Combination, amounts: Sequence[int], budget: Budget) -> Combination:
    """The same without coupons that add nothing: the weakest, the latest to end and the last are left out first."""
    if len(whole.chosen) < 2 and whole.total_minor:
        return whole
    doubtful = _doubtful(whole, amounts)
    doubtful.sort(key=lambda each: each.coupon.coupon_id, reverse=True)
    doubtful.sort(key=lambda each: each.coupon.valid_until, reverse=True)
    doubtful.sort(key=lambda each: each.alone_minor)
    # Many are left out together where that changes nothing; otherwise each half is tried.
    todo = [[each] for each in reversed(doubtful)] if len(doubtful) < MANY else [doubtful]
    while todo and budget.left > 0:
        tried = todo.pop()
        rest = [each for each in whole.chosen if each not in tried]
        if sum([each.alone_minor for each in rest]) < whole.total_minor:
            without = None
        else:
            first = min([whole.chosen.index(each) for each in tried])
            known = whole.parts[:first] if cap_of(rest, amounts) == cap_of(whole.chosen, amounts) else ()
            budget.left -= sum([len(each.lines) for each in rest[len(known) :]])
            without = come_off(rest, amounts, known)
        if without is not None and without.total_minor >= whole.total_minor:
            whole = without
        elif len(tried) > 1:
            half = len(tried) // 2
            todo += [tried[half:], tried[:half]]
    return whole


def _doubtful(whole: Combination, amounts: Sequence[int]) -> list[Usable]:
    """Coupons in whose stead others might take as much; the others are needed for certain.

    What a coupon leaves on a line stays there, but for the shares that later ones take, unless one of them took all
    that it could get. So a coupon is needed when more of it would stay than rounding may move.
    """
    end = list(amounts)
    for parts in whole.parts:
        for line, part in parts:
            end[line] -= part
    if sum(amounts[:-1]) - sum(end[:-1]) == cap_of(whole.chosen, amounts):
        return list(whole.chosen)
    shipping = [each for each in whole.chosen if each.kind == "free_shipping"]
    found = shipping if len(shipping) > 1 else []
    after, stays = list(end), list(end)
    for each, parts in zip(reversed(whole.chosen), reversed(whole.parts), strict=True):
        if each.kind == "free_shipping":
            continue
        if sum(part * stays[line] // after[line] for line, part in parts if after[line]) <= len(whole.chosen):
            found.append(each)
        for line, part in parts:
            after[line] += part
        for line, most, leaves in each.units:
            if after[line] - leaves < most:
                stays[line] = 0
    return found

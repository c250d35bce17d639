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
from ledger.search import UNBOUNDED, Search
from ledger.sweep import preference

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
    def lines_minor(self) -> int:
        """What they take off lines."""
        shipping = [parts for each, parts in zip(self.chosen, self.parts, strict=True) if each.kind == "free_shipping"]
        return self.total_minor - sum([part for parts in shipping for _, part in parts])

    @property
    def preference(self) -> tuple[object, ...]:
        """The least is the best: most off, fewest coupons, those that end first, ids."""
        ends = sorted(each.coupon.valid_until for each in self.chosen)
        return -self.total_minor, len(self.chosen), ends, [each.coupon.coupon_id for each in self.chosen]


def come_off(
    chosen: Sequence[Usable], amounts: Sequence[int], known: Sequence[Parts] = (), room: int | None = None
) -> Combination:
    """What these take off, one after the other in the given order, within the least of their order caps.

    ``known`` is what the first of them take, where that is worked out already; ``room`` stands for the order caps.
    """
    left = list(amounts)
    room = cap_of(chosen, amounts) if room is None else room
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
    return sum(amounts[:-1]) * min(map(_cap, chosen), default=WHOLE) // WHOLE


def _cap(each: Usable) -> int:
    return each.coupon.terms.order_cap_permyriad or WHOLE


def best(candidates: Sequence[Usable], amounts: Sequence[int]) -> tuple[Combination, bool]:
    """The best combination of these, given in the order in which they come off; and whether the search was whole."""
    joining = [each for each in candidates if not each.exclusive and each.kind != "order_stated" and each.alone_minor]
    contested = any(each.kind == "free_shipping" and each.group is not None for each in joining)
    search = Search(amounts)
    found = [come_off([], amounts)]
    for cap in sorted(set(map(_cap, joining))):
        if not search.exact:
            break
        members = [each for each in joining if _cap(each) >= cap]
        room = sum(amounts[:-1]) * cap // WHOLE
        ceiling = room + min(amounts[-1], sum([each.most for each in members if each.kind == "free_shipping"]))
        combination = come_off([each for each in found[-1].chosen if _cap(each) >= cap], amounts)
        if combination.total_minor < ceiling:
            combination = come_off(search.best_of(members, UNBOUNDED if contested else room), amounts)
        if combination.lines_minor + len(members) <= room:
            # Where this cap cuts nothing, the fewer coupons that a higher one leaves do not take more.
            found.append(combination)
            break
        if contested and combination.total_minor < ceiling:
            combination = come_off(search.best_of(members, room), amounts)
        found.append(combination)
    alone = min((each for each in candidates if each.exclusive), key=_alone_preference, default=None)
    if alone is not None:
        found.append(come_off([alone], amounts))
    total = max(combination.total_minor for combination in found)
    budget = Budget()
    finalists = [_taking(_needed(each, amounts, budget), amounts) for each in found if each.total_minor == total]
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
    losses, spare = _losses(whole, amounts)
    doubtful = [each for each in whole.chosen if losses[each] <= spare]
    doubtful.sort(key=lambda each: each.coupon.coupon_id, reverse=True)
    doubtful.sort(key=lambda each: each.coupon.valid_until, reverse=True)
    doubtful.sort(key=lambda each: each.alone_minor)
    # Many are left out together where that changes nothing; otherwise each half is tried.
    todo = [[each] for each in reversed(doubtful)] if len(doubtful) < MANY else [doubtful]
    while todo and budget.left > 0:
        tried = todo.pop()
        loss = sum([losses[each] for each in tried])
        rest = [each for each in whole.chosen if each not in tried]
        if loss > spare or sum([each.alone_minor for each in rest]) < whole.total_minor:
            without = None
        else:
            first = min([whole.chosen.index(each) for each in tried])
            known = whole.parts[:first] if cap_of(rest, amounts) == cap_of(whole.chosen, amounts) else ()
            budget.left -= sum([len(each.lines) for each in rest[len(known) :]])
            without = come_off(rest, amounts, known)
        if without is not None and without.total_minor >= whole.total_minor:
            whole = without
            spare -= loss
        elif len(tried) > 1:
            half = len(tried) // 2
            todo += [tried[half:], tried[:half]]
    return whole


def _taking(whole: Combination, amounts: Sequence[int]) -> Combination:
    """The same without coupons that take nothing, which stay in where the budget is spent: a lock refuses them."""
    some = [each for each, parts in zip(whole.chosen, whole.parts, strict=True) if any(part for _, part in parts)]
    return whole if len(some) == len(whole.chosen) else _taking(come_off(some, amounts), amounts)


def _losses(whole: Combination, amounts: Sequence[int]) -> tuple[dict[Usable, int], int]:
    """What goes at least with each of the coupons, and how much may go before the total can be less.

    What a coupon leaves on a line stays there, but for the shares that later ones take, unless one of them took all
    that it could get; and losses of several add up. As much may go as rounding may move, and as an order cap cuts off
    all of them together.
    """
    spare = len(whole.chosen)
    losses: dict[Usable, int] = {}
    room = cap_of(whole.chosen, amounts)
    if whole.lines_minor == room:
        whole = come_off(whole.chosen, amounts, room=sum(amounts))
        spare += whole.lines_minor - room
    after = list(amounts)
    for parts in whole.parts:
        for line, part in parts:
            after[line] -= part
    stays = list(after)
    shipping = sum([each.kind == "free_shipping" for each in whole.chosen])
    for each, parts in zip(reversed(whole.chosen), reversed(whole.parts), strict=True):
        if each.kind == "free_shipping":
            losses[each] = sum([part for _, part in parts]) if shipping == 1 else 0
            continue
        losses[each] = sum([part * stays[line] // after[line] for line, part in parts if after[line]])
        for line, part in parts:
            after[line] += part
        for line, most, leaves in each.units:
            if after[line] - leaves < most:
                stays[line] = 0
    return losses, spare

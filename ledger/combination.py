"""The combination of coupons that takes the most off a basket.

The search counts in fractions of a minor unit. There, a coupon that joins others never lowers the total: each coupon
maps what is left of the lines to less, and leaves more where more was left, line by line. So every coupon that may
stand with all others is in, and only groups, exclusive coupons and order caps are a search:

- An exclusive coupon is compared alone.
- Under each order cap, the coupons whose own cap is not lower are considered; a lower cap's turn comes by itself.
- Of each group one is chosen, by branch and bound. The bound adds to what the chosen ones take the most that any
  member of each open group could take from what the chosen ones leave it: others only leave it less.

Afterwards coupons without which the total in whole minor units stays the same are left out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from ledger.discount import ITEM_KINDS, WHOLE, Parts, Usable

NODE_LIMIT = 2_000
"""Partial combinations that one search looks at; beyond it answers the best one found so far."""
FINE_BITS = 30
"""The search counts in 2^-30 of a minor unit."""
NOISE = 1 << 18
"""Gains below this, a four-thousandth of a minor unit, are none: it is what rounding of the fine count may move."""
RATIO_BITS = 60


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


def come_off(chosen: Sequence[Usable], amounts: Sequence[int]) -> Combination:
    """What these take off, one after the other in the given order, within the least of their order caps."""
    left = list(amounts)
    room = cap_of(chosen, amounts)
    off: list[Parts] = []
    total = 0
    for each in chosen:
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
    found = [come_off([], amounts)]
    found += [come_off([each], amounts) for each in candidates if each.exclusive]
    joining = [each for each in candidates if not each.exclusive and each.kind != "order_stated"]
    own_caps = {each.coupon.terms.order_cap_permyriad or WHOLE for each in joining}
    search = Search(amounts)
    for cap in sorted(own_caps, reverse=True):
        members = [each for each in joining if (each.coupon.terms.order_cap_permyriad or WHOLE) >= cap]
        if (chosen := search.under(cap, members)) is not None:
            found.append(_needed(chosen, amounts))
    return min(found, key=lambda combination: combination.preference), search.nodes < NODE_LIMIT


def _needed(chosen: Sequence[Usable], amounts: Sequence[int]) -> Combination:
    """The same without coupons that add nothing: the weakest, the latest to end and the last are left out first."""
    # One that takes nothing now may yet take the place of another, which ends later.
    whole = come_off([each for each in chosen if each.alone_minor], amounts)
    doubtful = _doubtful(whole, amounts)
    doubtful.sort(key=lambda each: each.coupon.coupon_id, reverse=True)
    doubtful.sort(key=lambda each: each.coupon.valid_until, reverse=True)
    doubtful.sort(key=lambda each: each.alone_minor)
    for each in doubtful:
        without = come_off([other for other in whole.chosen if other is not each], amounts)
        if without.total_minor >= whole.total_minor:
            whole = without
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


class Search:
    """Branch and bound over the groups, with one budget of nodes for all order caps."""

    def __init__(self, amounts: Sequence[int]) -> None:
        self.amounts = [amount << FINE_BITS for amount in amounts]
        self.nodes = 0
        self.best = 0

    def under(self, cap: int, members: Sequence[Usable]) -> list[Usable] | None:
        """The best choice under an order cap; ``None`` where it is not better than the best one so far."""
        self.room = (sum(self.amounts[:-1]) * cap // WHOLE >> FINE_BITS) << FINE_BITS
        self.members = members
        self.found: list[Usable] | None = None
        groups: dict[str, list[Usable]] = defaultdict(list)
        for each in members:
            if each.group is not None:
                groups[each.group].append(each)
        self._branch({id(each) for each in members if each.group is None}, list(groups.values()))
        return self.found

    def _branch(self, picked: set[int], groups: list[list[Usable]]) -> None:
        """Look at one more member of the group that promises most, then at the others as far as they can be better."""
        if self.nodes >= NODE_LIMIT:
            return
        lines, shipping, could = self._value(picked, groups)
        if not groups:
            return
        most = [max(could[id(each)] for each in group) for group in groups]
        place = max(range(len(groups)), key=most.__getitem__)
        rest = groups[:place] + groups[place + 1 :]
        others = sum(most) - most[place]
        for each in sorted(groups[place], key=lambda each: self._preference(each, could)):
            more = others + could[id(each)]
            if min(lines + more, self.room + self.amounts[-1]) + shipping <= self.best + NOISE:
                return
            self._branch(picked | {id(each)}, rest)

    @staticmethod
    def _preference(each: Usable, could: dict[int, int]) -> tuple[object, ...]:
        return -could[id(each)], each.coupon.valid_until, each.coupon.coupon_id

    def _value(self, picked: set[int], groups: list[list[Usable]]) -> tuple[int, int, dict[int, int]]:
        """What the picked ones take off lines and shipping, and the most that each member of a group could add."""
        self.nodes += 1
        left = list(self.amounts)
        everything = len(left) - 1
        shipping = lines = 0
        could = {id(each): 0 for group in groups for each in group}
        for each in self.members:
            if id(each) in picked:
                taken = _take(each, left)
                if each.kind == "free_shipping":
                    shipping += taken
                    continue
                lines += taken
                if each.permyriad < WHOLE and len(each.lines) == everything and taken < each.most << FINE_BITS:
                    # It takes its share less of whatever one more coupon takes before it.
                    could = {key: most - most * each.permyriad // WHOLE for key, most in could.items()}
            elif id(each) in could:
                could[id(each)] = _could_take(each, left)
        reached = min(lines, self.room) + shipping
        if reached > self.best + NOISE:
            self.best = reached
            self.found = [each for each in self.members if id(each) in picked]
        return lines, shipping, could


def _could_take(each: Usable, left: Sequence[int]) -> int:
    """The most that it takes from what is left, in fine units."""
    most = each.most << FINE_BITS
    if each.kind == "free_shipping":
        return min(left[-1], most)
    if each.kind in ITEM_KINDS:
        return min(
            most,
            sum(max(0, min(off << FINE_BITS, left[line] - (leaves << FINE_BITS))) for line, off, leaves in each.units),
        )
    return min(most, sum([left[line] for line in each.lines]) * each.permyriad // WHOLE)


def _take(each: Usable, left: list[int]) -> int:
    """Take it off in fine units.

    Each line is rounded by itself, up to what stays: that keeps the order of two baskets line by line, which a
    rounding over the lines together would not.
    """
    most = each.most << FINE_BITS
    if each.kind == "free_shipping":
        taken = min(left[-1], most)
        left[-1] -= taken
        return taken
    if each.kind in ITEM_KINDS:
        room = most
        for line, off, leaves in each.units:
            part = max(0, min(off << FINE_BITS, left[line] - (leaves << FINE_BITS), room))
            left[line] -= part
            room -= part
        return most - room
    total = sum([left[line] for line in each.lines])
    if not total:
        return 0
    stays, of = WHOLE - each.permyriad, WHOLE
    if most * WHOLE < total * each.permyriad:
        stays, of = total - most, total
    ratio = -((-stays << RATIO_BITS) // of)
    after = 0
    for line in each.lines:
        left[line] = kept = -(-left[line] * ratio >> RATIO_BITS)
        after += kept
    return total - after

"""The search for the best choice of one coupon of each group, in fractions of a minor unit.

There, each coupon maps what is left of the lines to less, and leaves more where more was left, line by line. So one
that joins others never lowers the total, and of each group one is chosen, by branch and bound:

- Lines that the same coupons are for keep their proportions, so they are one lot.
- Groups whose lots nothing but percentages joins do not touch each other, so they are searched one after the other.
- Of a group, a coupon is left aside where another takes at least as much of each lot whatever is left.
- The bound adds to what the chosen ones take the most that any member of each open group could add, less what later
  percentages would lose by it; or it is what all members of all open groups take together, where that is less.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from ledger.discount import ITEM_KINDS, WHOLE, Usable

WORK_LIMIT = 400_000
"""Steps, each one coupon on one lot, that one search takes; beyond them answers the best one found so far."""
FINE_BITS = 30
"""The search counts in 2^-30 of a minor unit."""
NOISE = 1 << 18
"""Gains below this, a four-thousandth of a minor unit, are none: it is what rounding of the fine count may move."""
RATIO_BITS = 60


@dataclass(slots=True, eq=False)
class Piece:
    """A coupon on the lots of a search."""

    usable: Usable
    lots: list[int]
    mask: int
    """The lots as bits."""
    most: int
    stays: int
    """Permyriad that it leaves of its lots."""
    free: bool
    """Whether no bound on its whole discount can bite: then it takes its part of each lot by itself."""
    units: list[tuple[int, int, int]] = field(default_factory=list)
    """Lot, what it takes off, and what it leaves at least."""

    def take(self, left: list[int]) -> None:
        """Take it off; each lot is rounded by itself, up to what stays, which keeps the order of two baskets."""
        if self.units:
            room = self.most
            for lot, off, leaves in self.units:
                part = min(off, left[lot] - leaves, room)
                if part > 0:
                    left[lot] -= part
                    room -= part
            return
        if self.free:
            stays = self.stays
            for lot in self.lots:
                left[lot] = -(-left[lot] * stays // WHOLE)
            return
        total = sum([left[lot] for lot in self.lots])
        if total:
            ratio = self.ratio(total)
            for lot in self.lots:
                left[lot] = -(-left[lot] * ratio >> RATIO_BITS)

    def ratio(self, total: int) -> int:
        """What stays of lots of which so much is left."""
        stays, of = self.stays, WHOLE
        if self.most * WHOLE < total * (WHOLE - stays):
            stays, of = total - self.most, total
        return -((-stays << RATIO_BITS) // of)

    def could(self, left: Sequence[int], weights: Sequence[int]) -> int:
        """The most that it takes off what is left, where ``weights`` of a lot's part count."""
        if self.units:
            parts = [(lot, min(off, left[lot] - leaves)) for lot, off, leaves in self.units]
            return min(
                sum([part * weights[lot] for lot, part in parts if part > 0]) // WHOLE + 1,
                self.most,
            )
        total = sum([left[lot] for lot in self.lots])
        if not total:
            return 0
        worth = sum([left[lot] * weights[lot] for lot in self.lots])
        if self.most * WHOLE < total * (WHOLE - self.stays):
            return worth * self.most // total // WHOLE + 1
        return worth * (WHOLE - self.stays) // (WHOLE * WHOLE) + 1

    def beats(self, other: Piece, between: Sequence[Piece]) -> bool:
        """Whether it takes at least as much of each lot as another of its group, with those whose turn is between."""
        if self.units or other.units or self.stays > other.stays or self.most < other.most:
            return False
        if other.mask & ~self.mask or (self.mask != other.mask and not self.free):
            return False
        touching = [piece for piece in between if piece.mask & self.mask and piece.usable.group != self.usable.group]
        if touching and not (self.free and all(piece.free and not piece.units for piece in touching)):
            return False
        mine, its = self.usable, other.usable
        return mine.alone_minor > its.alone_minor or (
            mine.alone_minor == its.alone_minor and preference(mine) < preference(its)
        )


def preference(each: Usable) -> tuple[object, ...]:
    """Of coupons that take as much, the one that ends first, then the first by id."""
    return each.coupon.valid_until, each.coupon.coupon_id


class Search:
    """Branch and bound over the groups, with one budget of work for all order caps."""

    def __init__(self, amounts: Sequence[int]) -> None:
        self.amounts = amounts
        self.work = 0

    @property
    def exact(self) -> bool:
        """Whether the search was whole."""
        return self.work < WORK_LIMIT

    def best_of(self, members: Sequence[Usable]) -> tuple[list[Usable], int, int]:
        """The best choice of members, in the order in which they come off, and what it takes off lines and shipping."""
        left, pieces = self._lots(members)
        groups: dict[str, list[Piece]] = defaultdict(list)
        for piece in pieces:
            if (group := piece.usable.group) is not None:
                groups[group].append(piece)
        order = {id(piece): place for place, piece in enumerate(pieces)}
        kept = [_unbeaten(group, pieces, order) for group in groups.values()]
        alone = [piece for piece in pieces if piece.usable.group is None]
        picked = {id(piece) for piece in alone}
        picked.update(id(group[0]) for group in kept if len(group) == 1)
        fixed = [piece for piece in pieces if id(piece) in picked]
        for mask, part in _parts([group for group in kept if len(group) > 1], fixed):
            ours = {id(piece) for group in part for piece in group}
            near = [piece for piece in pieces if piece.mask & mask and (id(piece) in picked or id(piece) in ours)]
            picked |= Branching(self, left, near, part).found
        chosen = [piece for piece in pieces if id(piece) in picked]
        after = list(left)
        for piece in chosen:
            piece.take(after)
        return [piece.usable for piece in chosen], sum(left[:-1]) - sum(after[:-1]), left[-1] - after[-1]

    def _lots(self, members: Sequence[Usable]) -> tuple[list[int], list[Piece]]:
        """What is on each lot, the shipping cost as the last, and the members on them."""
        last = len(self.amounts) - 1
        signs: list[int] = [0] * last
        seen = {id(each.lines): each.lines for each in members if each.kind not in ITEM_KINDS}
        for place, lines in enumerate(seen.values()):
            for line in lines:
                signs[line] |= 1 << place
        for each in members:
            for line, _, _ in each.units:
                signs[line] = -1 - line
        lot_of: dict[int, int] = {}
        where = [lot_of.setdefault(sign, len(lot_of)) for sign in signs]
        left = [0] * (len(lot_of) + 1)
        for line, lot in enumerate(where):
            left[lot] += self.amounts[line] << FINE_BITS
        left[-1] = self.amounts[last] << FINE_BITS
        lots_of = {key: sorted({where[line] for line in lines}) for key, lines in seen.items()}
        return left, [_piece(each, left, where, lots_of) for each in members]


def _piece(each: Usable, left: Sequence[int], where: Sequence[int], lots_of: dict[int, list[int]]) -> Piece:
    most = each.most << FINE_BITS
    units = [(where[line], off << FINE_BITS, leaves << FINE_BITS) for line, off, leaves in each.units]
    if each.kind == "free_shipping":
        lots = [len(left) - 1]
    else:
        lots = [lot for lot, _, _ in units] if units else lots_of[id(each.lines)]
    mask = 0
    for lot in lots:
        mask |= 1 << lot
    could = sum([off for _, off, _ in units]) if units else sum([left[lot] for lot in lots]) * each.permyriad // WHOLE
    return Piece(each, lots, mask, most, WHOLE - each.permyriad, most >= could, units)


def _unbeaten(group: list[Piece], pieces: Sequence[Piece], order: dict[int, int]) -> list[Piece]:
    kept = list(group)
    for piece in group:
        for other in kept:
            first, last = sorted((order[id(piece)], order[id(other)]))
            if piece is not other and other.beats(piece, pieces[first + 1 : last]):
                kept.remove(piece)
                break
    return kept


def _parts(groups: Sequence[list[Piece]], fixed: Sequence[Piece]) -> list[tuple[int, list[list[Piece]]]]:
    """The groups, in parts that do not touch each other's lots, with the lots of each part."""
    parts: list[tuple[int, list[list[Piece]]]] = []
    joins: list[tuple[int, list[list[Piece]]]] = []
    for group in groups:
        mask = 0
        for piece in group:
            mask |= piece.mask
        joins.append((mask, [group]))
    joins += [(piece.mask, []) for piece in fixed if not piece.free]
    for mask, members in joins:
        near = [part for part in parts if part[0] & mask]
        joined = mask
        apart = [part for part in parts if not part[0] & mask]
        for other, others in near:
            joined |= other
            members.extend(others)
        parts = [*apart, (joined, members)]
    return [part for part in parts if part[1]]


class Branching:
    """The choice of one of each of some groups, beside what is picked already."""

    def __init__(self, search: Search, left: Sequence[int], pieces: Sequence[Piece], groups: list[list[Piece]]) -> None:
        self.choices = {id(piece) for group in groups for piece in group}
        first = next(place for place, piece in enumerate(pieces) if id(piece) in self.choices)
        self.left = list(left)
        for piece in pieces[:first]:
            piece.take(self.left)
        self.search = search
        self.pieces = pieces = pieces[first:]
        self.steps = 2 * sum([len(piece.lots) + 1 for piece in pieces])
        self.whole = sum(self.left)
        self.best = -1
        self.found: set[int] = set()
        self._branch({id(piece) for piece in pieces} - self.choices, groups)

    def _branch(self, picked: set[int], groups: list[list[Piece]]) -> None:
        """Look at one more member of the group that promises most, then at the others as far as they can be better."""
        if self.found and not self.search.exact:
            return
        self.search.work += self.steps
        taken, could = self._value(picked, groups)
        if not groups:
            if taken > self.best + NOISE:
                self.best = taken
                self.found = picked & self.choices
            return
        most = [max([could[id(piece)] for piece in group]) for group in groups]
        if self.found and (
            taken + sum(most) <= self.best + NOISE or self._together(picked, groups) <= self.best + NOISE
        ):
            return
        place = max(range(len(groups)), key=most.__getitem__)
        rest = groups[:place] + groups[place + 1 :]
        others = taken + sum(most) - most[place]
        for piece in sorted(groups[place], key=lambda piece: (-could[id(piece)], preference(piece.usable))):
            if self.found and others + could[id(piece)] <= self.best + NOISE:
                return
            self._branch(picked | {id(piece)}, rest)

    def _value(self, picked: Collection[int], groups: list[list[Piece]]) -> tuple[int, dict[int, int]]:
        """What the picked ones take, and the most that each member of a group could add."""
        could = {id(piece): 0 for group in groups for piece in group}
        weights = [WHOLE] * len(self.left)
        weighed: dict[int, list[int]] = {}
        if could:
            for piece in reversed(self.pieces):
                if id(piece) in picked or (id(piece) in could and not piece.free):
                    weights = _before(piece, weights)
                weighed[id(piece)] = weights
        left = list(self.left)
        for piece in self.pieces:
            if id(piece) in picked:
                piece.take(left)
            elif id(piece) in could:
                could[id(piece)] = piece.could(left, weighed[id(piece)])
        return self.whole - sum(left), could

    def _together(self, picked: Collection[int], groups: list[list[Piece]]) -> int:
        """What the picked ones and all members of all these groups take together."""
        every = {id(piece) for group in groups for piece in group}
        left = list(self.left)
        for piece in self.pieces:
            if id(piece) in picked or id(piece) in every:
                piece.take(left)
        return self.whole - sum(left)


def _before(piece: Piece, weights: list[int]) -> list[int]:
    """How much of what one more coupon takes off a lot just before this one stays taken."""
    if piece.units:
        if piece.free:
            return weights
    elif piece.free:
        weights = list(weights)
        for lot in piece.lots:
            weights[lot] = -(-weights[lot] * piece.stays // WHOLE)
        return weights
    # It takes from one of its lots what it no longer finds on another.
    most = max([weights[lot] for lot in piece.lots])
    weights = list(weights)
    for lot in piece.lots:
        weights[lot] = most
    return weights

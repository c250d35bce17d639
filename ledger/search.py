"""The search for the best choice of one coupon of each group, in fractions of a minor unit.

There, each coupon maps what is left of the lines to less, and leaves more where more was left, line by line. So one
that joins others never lowers the total, and of each group exactly one is chosen. All choices are swept through side by
side, in the order in which coupons come off: a column is what one choice leaves of the lots (``sweep.py``). Before it:

- Lines that the same coupons are for keep their proportions, so they are one lot.
- Groups whose lots nothing but percentages joins do not touch each other, so they are searched one after the other.
- Of a group, a coupon is left aside where another takes at least as much of each lot whatever is left.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from ledger.discount import ITEM_KINDS, WHOLE, Usable
from ledger.sweep import WORK_LIMIT, Columns, Piece, Sweep, preference

UNBOUNDED = math.inf
LOT_WORK = 8
"""Steps of a sweep that it takes as long as to put one coupon on one line."""


class Search:
    """The searches for one basket, with one budget of work for all of them."""

    def __init__(self, amounts: Sequence[int]) -> None:
        self.amounts = amounts
        self.work = 0

    @property
    def exact(self) -> bool:
        """Whether the search was whole."""
        return self.work < WORK_LIMIT

    def best_of(self, members: Sequence[Usable], room: float = UNBOUNDED) -> list[Usable]:
        """Of these, given in the order in which they come off, those that take the most together.

        What they take off lines counts up to ``room``.
        """
        self.work += LOT_WORK * len(members) * len(self.amounts)
        left, pieces = self._lots(members)
        groups: dict[str, list[Piece]] = defaultdict(list)
        for piece in pieces:
            if (group := piece.usable.group) is not None:
                groups[group].append(piece)
        kept = [_unbeaten(group, pieces) for group in groups.values()]
        chosen = {piece for piece in pieces if piece.usable.group is None}
        chosen.update(group[0] for group in kept if len(group) == 1)
        shipping = 1 << len(left) - 1
        parts = _parts([group for group in kept if len(group) > 1], [piece for piece in pieces if piece in chosen])
        # Lines and shipping cost compete in one part at most; what the others take off lines is known when it comes.
        for mask, part in sorted(parts, key=lambda part: part[0] & shipping):
            own = {piece for group in part for piece in group}
            near = [piece for piece in pieces if piece.mask & mask and (piece in chosen or piece in own)]
            inside = [amount if mask >> lot & 1 else 0 for lot, amount in enumerate(left)]
            free = room
            if mask & shipping and room != UNBOUNDED:
                after = _together(left, [piece for piece in pieces if piece in chosen])
                outside = sum([left[lot] - after[lot] for lot, amount in enumerate(inside) if not amount])
                free = max(room - outside, 0)
            sweep = Sweep(inside, near, part, free, self.work)
            chosen |= sweep.chosen
            self.work = sweep.work
        return [piece.usable for piece in pieces if piece in chosen]

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
            left[lot] += self.amounts[line]
        left[-1] = self.amounts[last]
        lots_of = {key: sorted({where[line] for line in lines}) for key, lines in seen.items()}
        return left, [_piece(each, left, where, lots_of) for each in members]


def _together(left: Sequence[int], pieces: Sequence[Piece]) -> list[float]:
    """What all these leave of the lots."""
    after: Columns = np.array(left, dtype=float)[:, None]
    for piece in pieces:
        piece.take(after)
    return list(after[:, 0])


def _piece(each: Usable, left: Sequence[int], where: Sequence[int], lots_of: dict[int, list[int]]) -> Piece:
    units = [(where[line], off, leaves) for line, off, leaves in each.units]
    if each.kind == "free_shipping":
        lots = [len(left) - 1]
    else:
        lots = [lot for lot, _, _ in units] if units else lots_of[id(each.lines)]
    mask = 0
    for lot in lots:
        mask |= 1 << lot
    could = sum([off for _, off, _ in units]) if units else sum([left[lot] for lot in lots]) * each.permyriad / WHOLE
    return Piece(each, lots, mask, each.most, each.permyriad / WHOLE, each.most >= could, units)


def _beats(mine: Piece, other: Piece, between: Sequence[Piece]) -> bool:
    """Whether it takes at least as much of each lot as another of its group, with those whose turn is between."""
    if mine.units or other.units or mine.share < other.share or mine.most < other.most:
        return False
    if other.mask & ~mine.mask or (mine.mask != other.mask and not mine.free):
        return False
    touching = [piece for piece in between if piece.mask & mine.mask and piece.usable.group != mine.usable.group]
    if touching and not (mine.free and all(piece.free and not piece.units for piece in touching)):
        return False
    more = mine.usable.alone_minor - other.usable.alone_minor
    return more > 0 or (more == 0 and preference(mine.usable) < preference(other.usable))


def _unbeaten(group: list[Piece], pieces: Sequence[Piece]) -> list[Piece]:
    kept = list(group)
    for piece in group:
        for other in kept:
            if piece is not other and piece.mask & other.mask == piece.mask:
                first, last = sorted((pieces.index(piece), pieces.index(other)))
                if _beats(other, piece, pieces[first + 1 : last]):
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

"""All choices of one coupon of each group, swept through side by side in the order in which coupons come off.

Each column is a choice: what it leaves of the lots so far. At a member of a group that has no coupon yet a column
splits in two, with it and without it; at the group's last member it takes that one, for joining never lowers the
total. Where columns become many, those that cannot become better than the best choice found so far are dropped, and
the others go on in portions, the most promising first, so that memory stays bounded. What a choice could take is

- what all members of all its open groups take together, or
- the most that any member of each open group could add, less what later percentages lose by it, where that is less.

Forty coupons have at most 2.1 million choices, so the end is near even where nothing can be dropped.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ledger.discount import Usable

WORK_LIMIT = 600_000_000
"""Steps, each one coupon on one lot of one choice, that the searches for a quote take; then the best so far answers."""
CALL_WORK = 2_000
"""Steps that a coupon on many choices takes as long as, however few they are."""
MANY = 100_000
"""Numbers in a portion that is looked at again: which of its choices can still be the best?"""
FEW = MANY // 8
SMALL = 4_096
"""Choices that are swept through without looking for a good one first."""
LEAST_MINOR = 1e-9
NOISE = 2.0**-40
"""Gains below this part of the basket are none: it is a hundred times what floating point rounds away."""

Columns = NDArray[np.float64]
Choices = NDArray[np.uint8]
"""For each group and choice the number of the member that is in it, from 1; 0 where that is open."""


def preference(each: Usable) -> tuple[object, ...]:
    """Of coupons that take as much, the one that ends first, then the first by id."""
    return each.coupon.valid_until, each.coupon.coupon_id


@dataclass(slots=True, eq=False)
class Piece:
    """A coupon on the lots of a search."""

    usable: Usable
    lots: list[int]
    mask: int
    """The lots as bits."""
    most: int
    share: float
    """The part that it takes off what is left of its lots, where that is not above ``most``."""
    free: bool
    """Whether no bound on its whole discount can bite: then it takes its part of each lot by itself."""
    units: list[tuple[int, int, int]]
    """Lot, what it takes off, and what it leaves at least."""
    at: slice | list[int] = field(init=False)
    """The lots; a slice where it can be, which spares a copy."""

    def __post_init__(self) -> None:
        first, last = self.lots[0], self.lots[-1]
        self.at = slice(first, last + 1) if last - first + 1 == len(self.lots) and not self.units else self.lots

    def take(self, left: Columns, where: NDArray[np.bool_] | None = None) -> None:
        """Take it off each column, or off those where it is in the choice."""
        if self.units:
            for lot, part in self._parts(left):
                left[lot] -= part if where is None else part * where
        else:
            rate = self._rate(left)
            left[self.at] *= 1 - (rate if where is None else rate * where)

    def could(self, left: Columns, weights: Columns) -> Columns:
        """The most that it takes off each column, where ``weights`` of a lot's part count."""
        worth = np.zeros(left.shape[1])
        if self.units:
            for lot, part in self._parts(left):
                worth += part * weights[lot]
            return np.minimum(worth, float(self.most))
        worth += np.add.reduce(left[self.at] * weights[self.at, None], 0)
        return worth * self._rate(left)

    def _rate(self, left: Columns) -> Columns | float:
        if self.free:
            return self.share
        total = np.add.reduce(left[self.at], 0)
        rate: Columns = np.minimum(self.share, self.most / np.maximum(total, LEAST_MINOR))
        return rate

    def _parts(self, left: Columns) -> Iterator[tuple[int, Columns]]:
        room = np.full(left.shape[1], float(self.most))
        for lot, off, leaves in self.units:
            part = np.maximum(np.minimum(np.minimum(left[lot] - leaves, off), room), 0)
            yield lot, part
            room -= part


class Sweep:
    """The best choice of one of each of some groups, beside pieces that are in every choice."""

    def __init__(
        self, amounts: Sequence[int], pieces: Sequence[Piece], groups: Sequence[list[Piece]], room: float, work: int
    ) -> None:
        """Sweep through the pieces, given in turn. What they take off lines counts up to ``room``."""
        self.pieces = pieces
        self.groups = [sorted(group, key=lambda piece: preference(piece.usable)) for group in groups]
        self.room = room
        self.work = work
        self.lines, self.shipping = sum(amounts[:-1]), amounts[-1]
        self.noise = (self.lines + self.shipping) * NOISE
        self.number: dict[Piece, tuple[int, int]] = {}
        for place, group in enumerate(self.groups):
            self.number |= {piece: (place, number) for number, piece in enumerate(group, 1)}
        last = {self.number[piece][0]: piece for piece in pieces if piece in self.number}
        self.last = set(last.values())
        self.portion = len(amounts) + len(groups)
        self.weights: dict[int, list[Columns]] = {}
        self.most = -1.0
        self.found: Choices | None = None
        start: Columns = np.array(amounts, dtype=float)[:, None]
        if math.prod([len(group) for group in groups]) > SMALL:
            self._climb(start)
        self._sweep(0, start, np.zeros((len(groups), 1), dtype=np.uint8))

    @property
    def chosen(self) -> set[Piece]:
        """The members that are in the best choice found."""
        assert self.found is not None
        return {group[number - 1] for group, number in zip(self.groups, self.found, strict=True)}

    @property
    def _ended(self) -> bool:
        return self.work > WORK_LIMIT and self.found is not None

    def _values(self, left: Columns) -> Columns:
        taken: Columns = np.minimum(self.lines - np.add.reduce(left[:-1], 0), self.room)
        taken += self.shipping - left[-1]
        return taken

    def _judge(self, left: Columns, choices: Choices) -> bool:
        """Keep the best, if it is better than what was found; of equals the first group's member that ends first."""
        values = self._values(left)
        most = float(values.max())
        if most <= self.most + self.noise:
            return False
        self.most = most
        equals = choices[:, values >= most - self.noise]
        self.found = equals[:, np.lexsort(equals[::-1])[0]]
        return True

    def _climb(self, start: Columns) -> None:
        """A good choice to begin with: exchange the member that adds most by it, until none adds."""
        sizes = [len(group) for group in self.groups]
        alone = [[-piece.usable.alone_minor for piece in group] for group in self.groups]
        found = np.array([1 + each.index(min(each)) for each in alone], dtype=np.uint8)
        places = np.repeat(np.arange(len(sizes)), sizes)
        numbers = np.concatenate([np.arange(1, size + 1) for size in sizes])
        better = True
        while better and not self._ended:
            choices = np.repeat(found[:, None], len(places), 1)
            choices[places, np.arange(len(places))] = numbers
            left = np.repeat(start, len(places), 1)
            for piece in self.pieces:
                self._count(piece, left)
                place, number = self.number.get(piece, (None, 0))
                piece.take(left, None if place is None else choices[place] == number)
            better = self._judge(left, choices)
            assert self.found is not None
            found = self.found

    def _sweep(self, turn: int, left: Columns, choices: Choices) -> None:
        for place in range(turn, len(self.pieces)):
            piece = self.pieces[place]
            self._count(piece, left)
            if piece not in self.number:
                piece.take(left)
                continue
            group, number = self.number[piece]
            is_open = choices[group] == 0
            if piece in self.last:
                piece.take(left, is_open)
                choices[group, is_open] = number
                continue
            more, chosen = left[:, is_open], choices[:, is_open]
            piece.take(more)
            chosen[group] = number
            left, choices = np.concatenate((left, more), 1), np.concatenate((choices, chosen), 1)
            self.work += left.size
            if left.shape[1] * self.portion > MANY:
                self._portions(place + 1, left, choices)
                return
        self._judge(left, choices)

    def _portions(self, turn: int, left: Columns, choices: Choices) -> None:
        bounds = self._bounds(turn, left, choices)
        order = np.argsort(-bounds, kind="stable")
        columns = max(1, FEW // self.portion)
        for first in range(0, len(order), columns):
            some = order[first : first + columns]
            some = some[bounds[some] > self.most + self.noise]
            if not len(some) or self._ended:
                return
            self._sweep(turn, left[:, some], choices[:, some])

    def _bounds(self, turn: int, left: Columns, choices: Choices) -> Columns:
        """What each choice could take in the end."""
        is_open = choices == 0
        fixed, together = left.copy(), left.copy()
        most = np.zeros(choices.shape)
        for piece, weights in zip(self.pieces[turn:], self._weights(turn), strict=True):
            self._count(piece, left)
            self._count(piece, left)
            if piece not in self.number:
                piece.take(fixed)
                piece.take(together)
            else:
                group, _ = self.number[piece]
                np.maximum(most[group], piece.could(fixed, weights), out=most[group])
                piece.take(together, is_open[group])
        apart: Columns = self.lines + self.shipping - np.add.reduce(fixed, 0) + np.add.reduce(most, 0, where=is_open)
        return np.minimum(apart, self._values(together))

    def _weights(self, turn: int) -> list[Columns]:
        """How much of what one more coupon takes off a lot, each in its turn, stays taken."""
        if turn in self.weights:
            return self.weights[turn]
        weights = np.ones(self.portion - len(self.groups))
        found = []
        for piece in reversed(self.pieces[turn:]):
            found.append(weights)
            if piece.free and (piece.units or piece in self.number):
                continue
            weights = weights.copy()
            # Unless it is a part of each lot, it takes from one of its lots what it no longer finds on another.
            weights[piece.at] = weights[piece.at] * (1 - piece.share) if piece.free else weights[piece.at].max()
        self.weights[turn] = found[::-1]
        return self.weights[turn]

    def _count(self, piece: Piece, left: Columns) -> None:
        self.work += CALL_WORK + len(piece.lots) * left.shape[1]

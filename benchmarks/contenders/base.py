"""What every contender offers."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

QUANTITY = 1_000_000_000
"""Of the hot batch, where it costs nothing: no measurement ends sold out."""
CLAIMS_A_SECOND = 10_000
"""Free coupons made before the clock starts for each second of it, where a contender uses them up."""
PAIRS_A_SECOND = 8_000
"""The same for coupons to lock and confirm."""
ORDER_TOTAL_MINOR = 5_000
DISCOUNT_MINOR = 500


@dataclass(frozen=True, slots=True)
class Place:
    """Where a contender keeps its coupons."""

    address: str
    """URL of PostgreSQL, or path of Redis's socket."""
    schema: str
    pool_size: int = 0
    """Connections of each process, for a contender whose ``pool_sizes`` say that it matters."""
    batch_id: str = ""
    """The hot batch, which ``prepare`` makes, where its id is not always the same."""


class Coupon(NamedTuple):
    """An issued coupon that its owner may use."""

    id: str
    user_id: str


class Contender(ABC):
    """One way to keep coupons.

    One object in the main process makes the place ready and looks at the outcome. One in each process serves all its
    callers, as a service would.
    """

    name: ClassVar[str]
    on_postgres: ClassVar[bool] = True
    confirms: ClassVar[bool] = True
    """Whether it locks and confirms too."""
    pool_sizes: ClassVar[tuple[int, ...]] = ()
    """Sizes of its pool to try; the best one counts."""

    def __init__(self, place: Place, callers: int) -> None:
        self.place, self.callers = place, callers

    @abstractmethod
    def prepare(self, claims: int, coupons: int) -> None:
        """Make tables, a hot batch for that many claims, and that many coupons; ``place`` says the rest."""

    @abstractmethod
    def claim(self, user_id: str) -> None:
        """One coupon for a user who has none yet, durable when this returns."""

    @abstractmethod
    def claimed(self) -> tuple[int, ...]:
        """How many claims it holds now, by each way that it counts them; all must be equal."""

    def coupons(self, count: int) -> list[Coupon]:
        """Coupons to lock, at random from all."""
        raise NotImplementedError

    def lock_confirm(self, coupon: Coupon, order_id: str) -> None:
        """Hold the coupon for the order, then use it: two commits, each durable before the next step."""
        raise NotImplementedError

    def confirmed(self) -> tuple[int, ...]:
        """How many coupons are used now, by each way that it counts them; all must be equal."""
        raise NotImplementedError

    @abstractmethod
    def close(self) -> None:
        """Let go of connections."""


def random_user() -> str:
    """A user who has no coupon yet, as good as surely, as in a flash sale with one coupon for each."""
    return f"user-{random.randrange(10**15)}"  # noqa: S311  # no secret

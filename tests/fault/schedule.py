"""What a seed expands to: how much is sent, how it is mixed up, and what breaks when."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

CONSUMERS = ("issuance-1", "issuance-2", "orders-1", "orders-2", "members-1", "reminders-1")
OTHERS = ("publisher", "projector", "sweeper", "scanner", "jobs", "deliverer", "alerts", "api")
STORIES = ("used", "cancelled", "refunded", "timed_out", "held")
"""What becomes of an order."""
WHIMS = ("refuse", "hang up", "slow")


@dataclass(frozen=True)
class Fault:
    """Something breaks so long after the load began."""

    after_seconds: float
    kind: str
    """``kill`` (-9) a process, ``freeze`` it, ``join`` a consumer for a while, ``backend`` (kill -9 of one of
    PostgreSQL's), ``sessions`` (all of them ended), ``broker`` (kill -9, then a start)."""
    process: str = ""
    draw: float = 0.0
    """Of a ``backend``, which: so far along their list."""

    def __str__(self) -> str:
        return f"{self.after_seconds:.2f}s {self.kind}{f' {self.process}' if self.process else ''}"


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """One run of load and faults. The seed gives the same again; interleaving is the machine's."""

    seed: int
    users: int
    quantity: int
    """Of the batch that everybody wants a coupon of: often too little."""
    per_user_limit: int
    asks: int
    """Messages of each user."""
    stories: tuple[str, ...]
    """One an order."""
    early: float
    """The part of the orders whose messages come in the wrong order."""
    members: int
    job_rows: int
    claims: int
    """Over HTTP, by clients that ask again with the same key until they hear an answer."""
    load_seconds: float
    faults: tuple[Fault, ...]
    crossings: int
    """How often the stock of a batch falls below its threshold."""
    poison: int
    """Messages of each topic that nobody can read."""
    whims: tuple[tuple[int, str], ...]
    """Of the merchant's web server: which of the requests it refuses, hangs up on, or is slow with."""

    @property
    def issued(self) -> int:
        """Coupons that are to be had of the batch that everybody wants."""
        return min(self.quantity, self.users * min(self.asks, self.per_user_limit))

    @classmethod
    def of(cls, seed: int) -> Schedule:
        """The schedule of a seed."""
        chance = Random(seed)
        users = chance.randint(20, 150)
        load_seconds = chance.uniform(1.0, 3.0)
        return cls(
            seed=seed,
            users=users,
            quantity=chance.choice([users // 3, users, 10 * users]),
            per_user_limit=chance.choice([1, 1, 2]),
            asks=chance.choice([1, 2, 3]),
            stories=tuple(chance.choice(STORIES) for _ in range(chance.randint(5, 40))),
            early=chance.choice([0.0, 0.2, 0.5]),
            members=chance.randint(3, 30),
            job_rows=chance.choice([0, 50, 400]),
            claims=chance.randint(5, 60),
            load_seconds=load_seconds,
            faults=tuple(
                sorted(
                    (_fault(chance, load_seconds) for _ in range(chance.randint(1, 5))), key=lambda f: f.after_seconds
                )
            ),
            crossings=chance.randint(2, 8),
            poison=chance.randint(1, 3),
            whims=tuple((number, chance.choice(WHIMS)) for number in sorted(chance.sample(range(30), 3))),
        )

    def __str__(self) -> str:
        return " ".join(
            f"{name}={value}"
            for name, value in {
                **vars(self),
                "stories": ",".join(self.stories),
                "whims": ",".join(f"{number} {whim}" for number, whim in self.whims),
                "faults": f"[{'; '.join(map(str, self.faults))}]",
                "load_seconds": f"{self.load_seconds:.2f}",
            }.items()
        )


def _fault(chance: Random, load_seconds: float) -> Fault:
    after = chance.uniform(0, load_seconds + 0.5)
    kind = chance.choices(
        ["kill consumer", "kill other", "freeze", "join", "backend", "sessions", "broker"], [8, 8, 2, 2, 4, 2, 1]
    )[0]
    if kind == "kill consumer":
        return Fault(after, "kill", chance.choice(CONSUMERS))
    if kind == "kill other":
        return Fault(after, "kill", chance.choice(OTHERS))
    if kind in ("freeze", "join"):
        return Fault(after, kind, chance.choice(CONSUMERS))
    if kind == "backend":
        return Fault(after, kind, draw=chance.random())
    return Fault(after, kind)

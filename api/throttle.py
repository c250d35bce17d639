"""The throttle: token buckets in front of claims and code redemptions, and wide ones of keys in front of the rest.

A bucket holds ``burst`` tokens and gains ``rate`` a second; a request takes one, or is refused and takes none. Buckets
live in each API process, so a limit of the whole server is shared out among its processes; they are forgotten with the
process, and protect the service only: what a user may have at most is the ledger's to decide.
"""

from __future__ import annotations

import ipaddress
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from flask import g
from werkzeug.datastructures import Headers

from api.json_body import StrictRequest
from api.keys import Caller
from api.problems import RateLimited
from ledger.use_cases import ID_LIMIT

THROTTLED = frozenset({"claim_coupon", "redeem_code"})
"""Operations that bots come for. Their key has a limit of its own, and so have their user and the client's address."""
BUCKETS_LIMIT = 100_000
"""Buckets of one kind in one process, the last used ones: about 30 MB at most. One that is full again is none."""


@dataclass(frozen=True, slots=True)
class Limit:
    """How fast, and how many at once after a rest."""

    rate: float
    """Requests a second."""
    burst: int

    @classmethod
    def parse(cls, text: str) -> Limit | None:
        """``<rate>:<burst>``, such as ``5:20``; none where the rate is 0. Raises ``ValueError``."""
        rate, _, burst = text.partition(":")
        if float(rate) == 0:
            return None
        limit = cls(float(rate), int(burst))
        if not 0 < limit.rate < math.inf or limit.burst < 1:
            raise ValueError(f"not a limit: {text}")
        return limit

    def share(self, processes: int) -> Limit:
        """What one of so many processes lends."""
        return Limit(self.rate / processes, max(1, self.burst // processes))


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a server; none where nothing is said."""

    user: Limit | None = None
    """Claims and code redemptions of one user of a merchant."""
    address: Limit | None = None
    """The same from one client address, for one merchant."""
    claims_key: Limit | None = None
    """The same by one key."""
    key: Limit | None = None
    """All other requests by one key."""
    trusts_proxy: bool = False
    """Whether the last hop of ``X-Forwarded-For`` was written by a proxy of ours, and is the client's address."""


class Left(NamedTuple):
    """What is left in one bucket."""

    policy: str
    """The bucket's kind, as ``RateLimit-Policy`` has it."""
    kind: str
    tokens: int
    seconds: int
    """Until the bucket is full again; where it refused, until the next token."""


class Buckets:
    """The buckets of one kind. A bucket is kept as the time when it will be full again."""

    def __init__(self, kind: str, limit: Limit, most: int = BUCKETS_LIMIT) -> None:
        self.kind = kind
        self.policy = f'"{kind}";q={limit.burst};w={math.ceil(limit.burst / limit.rate)}'
        self._limit = limit
        self._seconds_of_a_token = 1 / limit.rate
        self._seconds_but_one = (limit.burst - 1) / limit.rate
        self._most = most
        self._full_at: OrderedDict[Hashable, float] = OrderedDict()

    def wait(self, whose: Hashable, now: float) -> float:
        """Seconds until there is a token; none or fewer where there is one."""
        return self._full_at.get(whose, now) - now - self._seconds_but_one

    def take(self, whose: Hashable, now: float) -> Left:
        """Take a token that is there."""
        full_at = max(self._full_at.get(whose, now), now) + self._seconds_of_a_token
        self._full_at[whose] = full_at
        self._full_at.move_to_end(whose)
        if len(self._full_at) > self._most:
            self._full_at.popitem(last=False)
        seconds = full_at - now
        tokens = int(self._limit.burst - seconds * self._limit.rate + 1e-6)
        return Left(self.policy, self.kind, tokens, math.ceil(seconds - 1e-6))

    def __len__(self) -> int:
        return len(self._full_at)


class Throttle:
    """The buckets of one API process. Threads may share it: a look takes microseconds under one lock."""

    def __init__(
        self,
        limits: Limits = Limits(),
        *,
        processes: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        def buckets(kind: str, limit: Limit | None) -> Buckets | None:
            return Buckets(kind, limit.share(processes)) if limit is not None else None

        self._user = buckets("user", limits.user)
        self._address = buckets("address", limits.address)
        self._claims_key = buckets("key", limits.claims_key)
        self._key = buckets("key", limits.key)
        self._trusts_proxy = limits.trusts_proxy
        self._clock = clock
        self._lock = threading.Lock()

    def admit_key(self, operation: str, caller: Caller) -> None:
        """Take a token of the caller's key; of a throttled operation only see that there is one, to be taken later.

        Raises ``RateLimited``.
        """
        throttled = operation in THROTTLED
        buckets = self._claims_key if throttled else self._key
        if buckets is not None:
            self._take([(buckets, caller.key_id)], only_look=throttled)

    def admit_client(self, operation: str, caller: Caller, asked: StrictRequest) -> None:
        """Take a token each of the key, the user and the address that a throttled operation is for, all or none.

        So one user who comes too often takes nothing from the others, who come by the same key.
        The body was read, but not yet judged: what is no user id is refused later, for what it is. Raises
        ``RateLimited``.
        """
        if operation not in THROTTLED:
            return
        body = asked.get_json()
        taken: list[tuple[Buckets, Hashable]] = []
        if self._claims_key is not None:
            taken.append((self._claims_key, caller.key_id))
        if self._user is not None and (user_id := _word(body.get("user_id"))):
            taken.append((self._user, (caller.merchant_id, user_id)))
        if self._address is not None and (address := self._address_of(asked, _word(body.get("client_address")))):
            taken.append((self._address, (caller.merchant_id, address)))
        if taken:
            g.rate_limits = self._take(taken)

    def _take(self, wanted: Sequence[tuple[Buckets, Hashable]], *, only_look: bool = False) -> list[Left]:
        with self._lock:
            now = self._clock()
            waits = [buckets.wait(whose, now) for buckets, whose in wanted]
            longest = max(waits)
            if longest <= 0:
                return [] if only_look else [buckets.take(whose, now) for buckets, whose in wanted]
        buckets = wanted[waits.index(longest)][0]
        seconds = max(1, math.ceil(longest))
        g.rate_limits = [Left(buckets.policy, buckets.kind, 0, seconds)]
        raise RateLimited(policy=buckets.kind, retry_after_seconds=seconds)

    def _address_of(self, asked: StrictRequest, told: str) -> str:
        forwarded = asked.headers.get("X-Forwarded-For", "") if self._trusts_proxy else ""
        address = told or forwarded.rpartition(",")[2].strip() or asked.remote_addr or ""
        if ":" in address:
            # Whoever has one address of IPv6 has all that begin with the same 64 bits.
            try:
                return str(ipaddress.IPv6Network((address, 64), strict=False))
            except ValueError:
                return address[:ID_LIMIT]
        return address[:ID_LIMIT]


def _word(value: object) -> str:
    return value if isinstance(value, str) and len(value) <= ID_LIMIT else ""


def tell(headers: Headers) -> None:
    """Say what is left to the caller in hand, as draft-ietf-httpapi-ratelimit-headers has it (10, September 2025)."""
    if limits := g.get("rate_limits"):
        headers["RateLimit-Policy"] = ", ".join(left.policy for left in limits)
        headers["RateLimit"] = ", ".join(f'"{left.kind}";r={left.tokens};t={left.seconds}' for left in limits)

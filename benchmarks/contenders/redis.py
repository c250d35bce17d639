"""A counter and a set of members in Redis, changed by one Lua script.

What it acknowledges is in Redis's append-only file at best, not in the ledger: somebody must still carry each claim
over, exactly once, and a failover to a replica loses those that were not yet copied. So its rate is that of another,
smaller promise, and the results mark it.

It does not lock and confirm: the record of a paid order's discount is money, which nobody keeps in Redis alone.
"""

from __future__ import annotations

import redis

from benchmarks.contenders.base import QUANTITY, Contender, Place

SCRIPT = """
if redis.call('sismember', KEYS[2], ARGV[1]) == 1 then return -1 end
if tonumber(redis.call('get', KEYS[1])) <= 0 then return -2 end
redis.call('sadd', KEYS[2], ARGV[1])
return redis.call('decr', KEYS[1])
"""


class RedisAlways(Contender):
    """``appendfsync always``: flushed before the answer, once for all commands of a turn of its loop."""

    name = "redis_always"
    appendfsync = "always"
    on_postgres = False
    confirms = False

    def __init__(self, place: Place, callers: int) -> None:
        super().__init__(place, callers)
        pool = redis.BlockingConnectionPool(  # type: ignore[no-untyped-call]
            connection_class=redis.UnixDomainSocketConnection,
            path=place.address,
            max_connections=callers,
            timeout=60,
        )
        self._client = redis.Redis(connection_pool=pool)
        self._script = self._client.register_script(SCRIPT)

    def prepare(self, claims: int, coupons: int) -> None:  # noqa: ARG002  # the stock is a number
        self._client.set("remaining", QUANTITY)

    def claim(self, user_id: str) -> None:
        if self._script(keys=["remaining", "members"], args=[user_id]) < 0:
            raise RuntimeError("sold out, or a member already")

    def claimed(self) -> tuple[int, ...]:
        return QUANTITY - int(self._client.get("remaining") or 0), self._client.scard("members")

    def close(self) -> None:
        self._client.close()


class RedisEverySecond(RedisAlways):
    """``appendfsync everysec``: a crash of the machine loses about the last second of what was acknowledged."""

    name = "redis_everysec"
    appendfsync = "everysec"

"""Which coupons a user ever had or might use, and what became of them.

Whose coupons are now, the wallets say; whose they became since, and who gave one away or was let use one, the log
itself (migrations/0024). Whoever held a coupon as a friend was let use it first.
"""

from __future__ import annotations

from typing import Any

import orjson
from psycopg.rows import tuple_row

from ledger.errors import NotCaughtUp
from ledger.events import Recorded
from ledger.history.reading import page_of, select
from ledger.store import Store
from projections import checkpoints, queries
from projections.catalogue import VERSIONS
from projections.queries import Connection

BEHIND_LIMIT = 10_000
"""Events by which the wallets may be behind: so many are looked through for one answer, in some tens of milliseconds.
"""


def user_streams(
    connection: Connection, merchant_id: str, user_id: str, position: int, *, after: str = "", limit: int | None = None
) -> list[str]:
    """The coupons, as streams, that the user owned, or that were ever shared with the user, by id.

    None is missing that was the user's by this position, however far the wallets are; there may be newer ones.
    ``after`` is a stream. Raises ``NotCaughtUp`` where the wallets are too far behind the position, or not there.
    """
    asked = _asked(connection, merchant_id, user_id, position) | {"after": after, "limit": limit}
    return [row[0] for row in connection.cursor(row_factory=tuple_row).execute(USER_STREAMS, asked)]


def user_page(
    store: Store, connection: Connection, merchant_id: str, user_id: str, after: int, limit: int
) -> list[Recorded]:
    """The next events, in the order of the log, of every such coupon: also of before and after it was the user's.

    A page skips nothing that the log held when it was read. Raises ``NotCaughtUp`` as ``user_streams`` does.
    """
    head = checkpoints.head(connection)
    asked = _asked(connection, merchant_id, user_id, head) | {"after": after, "limit": limit}
    # What was recorded since the coupons were looked for may be of one more: it waits for the next page.
    return [recorded for recorded in select(store, connection, USER_PAGE, asked) if recorded.position <= head]


def _asked(connection: Connection, merchant_id: str, user_id: str, position: int) -> dict[str, Any]:
    """Parameters of the statements below, for all that the log holds up to the position."""
    for model in queries.status(connection):
        near = model.position >= position - BEHIND_LIMIT
        if near and (model.name, model.version) == ("wallet", VERSIONS["wallet"]):
            unfolded = _unfolded(connection, merchant_id, user_id, model.position, position)
            user = {"merchant_id": merchant_id, "user_id": user_id, "user": f"{merchant_id}\n{user_id}"}
            return {**user, "unfolded": unfolded}
    raise NotCaughtUp(position=position)


def _unfolded(connection: Connection, merchant_id: str, user_id: str, folded: int, position: int) -> list[str]:
    """The coupons, as streams, that came to the user by events which the wallets have yet to fold or passed over.

    One that cannot be read came to nobody. The database cannot tell which those are without failing at some of them.
    """
    cursor = connection.cursor(row_factory=tuple_row, binary=True)
    return [
        stream
        for stream, state in cursor.execute(UNFOLDED, {"folded": folded, "position": position})
        if _came_to(state) == (merchant_id, user_id)
    ]


def _came_to(state: bytes) -> tuple[Any, Any]:
    """The merchant, and the user who got the coupon."""
    try:
        payload = orjson.loads(state)
    except orjson.JSONDecodeError:
        return None, None
    if not isinstance(payload, dict):
        return None, None
    return payload.get("merchant_id"), payload.get("to_user_id", payload.get("user_id"))


# Who got a coupon as a gift is told by the wallets and by these events alone: the index of the log has who gave it.
UNFOLDED = """
select originator_id, state
  from events
 where notification_id > %(folded)s and notification_id <= %(position)s
   and topic in ('coupon.issued', 'coupon.transferred')
 union all
select e.originator_id, e.state
  from projection_skips k
  join events e on e.notification_id = k.position
 where k.name = 'wallet' and e.topic in ('coupon.issued', 'coupon.transferred')
"""

# The wallets' position was read before them, so they hold all up to there, and are never set back.
_STREAMS_OF_USER = """
    select 'coupon-' || coupon_id as stream
      from wallet
     where merchant_id = %(merchant_id)s and user_id = %(user_id)s
     union
    select originator_id
      from events
     where topic in ('coupon.transferred', 'coupon.shared') and users_passed(topic, state) @> array[%(user)s]
     union
    select unnest(%(unfolded)s::text[])
"""

USER_STREAMS = f"""
select stream
  from ({_STREAMS_OF_USER}) s
 where stream > %(after)s
 order by stream
 limit %(limit)s
"""  # noqa: S608  # constants

USER_PAGE = page_of(_STREAMS_OF_USER)

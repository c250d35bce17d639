"""Which coupons a user ever had or might use, and what became of them.

Whose coupons are now, the wallets say; who gave one away, or was let use one, the log itself (migrations/0024). Whoever
held a coupon as a friend was let use it first.
"""

from __future__ import annotations

from psycopg.rows import tuple_row

from ledger.errors import NotCaughtUp
from ledger.events import Recorded
from ledger.history.reading import page_of, select
from ledger.store import Store
from projections import queries
from projections.catalogue import VERSIONS
from projections.queries import Connection


def user_streams(
    connection: Connection, merchant_id: str, user_id: str, *, after: str = "", limit: int | None = None
) -> list[str]:
    """The coupons, as streams, that the user owns or owned, or that were ever shared with the user, by id.

    Those that the user owns are as the read model ``wallet`` has them; ``after`` is a stream.
    """
    asked = {**_user(merchant_id, user_id), "after": after, "limit": limit}
    return [row[0] for row in connection.cursor(row_factory=tuple_row).execute(USER_STREAMS, asked)]


def user_streams_at(connection: Connection, merchant_id: str, user_id: str, position: int) -> list[str]:
    """The same once the wallets show this position. Raises ``NotCaughtUp`` where they do not; it does not wait."""
    read = {(model.name, model.version): model.position for model in queries.status(connection)}
    if read.get(("wallet", VERSIONS["wallet"]), -1) < position:
        raise NotCaughtUp(position=position)
    return user_streams(connection, merchant_id, user_id)


def user_page(
    store: Store, connection: Connection, merchant_id: str, user_id: str, after: int, limit: int
) -> list[Recorded]:
    """The next events, in the order of the log, of every such coupon: also of before and after it was the user's."""
    return select(store, connection, USER_PAGE, {**_user(merchant_id, user_id), "after": after, "limit": limit})


def _user(merchant_id: str, user_id: str) -> dict[str, str]:
    return {"merchant_id": merchant_id, "user_id": user_id, "user": f"{merchant_id}\n{user_id}"}


_STREAMS_OF_USER = """
    select 'coupon-' || coupon_id as stream
      from wallet
     where merchant_id = %(merchant_id)s and user_id = %(user_id)s
     union
    select originator_id
      from events
     where topic in ('coupon.transferred', 'coupon.shared') and users_passed(topic, state) @> array[%(user)s]
"""

USER_STREAMS = f"""
select stream
  from ({_STREAMS_OF_USER}) s
 where stream > %(after)s
 order by stream
 limit %(limit)s
"""  # noqa: S608  # constants

USER_PAGE = page_of(_STREAMS_OF_USER)

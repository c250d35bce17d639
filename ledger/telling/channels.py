"""Channels: where a merchant is told of events, alerts and reminders; and the addresses of users who are told.

Addresses and secrets are kept beside the log, which forgets nothing: they can be erased.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple, get_args

import psycopg
from psycopg.rows import kwargs_row, tuple_row

from ledger.aggregate import derived_id, text_of
from ledger.application import Ledger
from ledger.beside import once
from ledger.errors import InvalidField, NotFound, Refusal
from ledger.events import EVENTS
from ledger.request import Request
from ledger.telling import deliveries
from ledger.telling.deliveries import Delivery, DeliveryNotFound, enqueue
from ledger.telling.targets import check_address, check_url
from ledger.work import Receipt

Kind = Literal["webhook", "email"]
KINDS: tuple[Kind, ...] = get_args(Kind)
NOTICES = ("alert", "reminder")
"""What else than events a channel may want."""
CHANNEL_LIMIT = 20
"""Channels that a merchant may have at once."""
OLD_SECRET_SECONDS = 86_400
"""How long webhooks are signed with the secret of before too, when there is a new one."""
PING = "ping"

Connection = psycopg.Connection[Any]


class ChannelNotFound(NotFound):
    """No such channel."""


class ChannelLimitReached(Refusal):
    """The merchant has as many channels as one may have."""


class SecretRotating(Refusal):
    """The channel signs with two secrets as it is; the older one must have ended before there is a third."""


class Channel(NamedTuple):
    """A place to tell a merchant things."""

    channel_id: str
    merchant_id: str
    owner: str
    """The actor who registered it, as events name actors: ``key:<key id>``."""
    kind: Kind
    target: str | None
    """The URL, or the e-mail address; ``None`` where e-mails go to the user's own contact address."""
    wants: tuple[str, ...]
    """Topics of events, and words of ``NOTICES``."""
    disabled_at: datetime | None
    """When its receiver was gone (HTTP 410, or three days of failure); what is due waits until somebody enables it."""
    name: str
    created_at: datetime
    after_position: int
    """Of events, it is told of those after this position."""
    old_secret_until: datetime | None
    """Until when webhooks are signed with the secret of before too."""


_COLUMNS = """channel_id, merchant_id, owner, kind, target, wants, disabled_at, name, created_at, after_position,
old_secret_until"""


def wanting(connection: Connection, merchant_id: str, what: str, *, owner: str | None = None) -> list[Channel]:
    """The merchant's channels that want an event's topic, or an alert or reminder; of one owner, or of all.

    Disabled ones too: what they are told waits for them.
    """
    cursor = connection.cursor(row_factory=kwargs_row(_channel))
    return cursor.execute(
        f"select {_COLUMNS} from channels where merchant_id = %(merchant_id)s"  # noqa: S608  # a constant
        " and deleted_at is null and %(what)s = any(wants)"
        " and (%(owner)s::text is null or owner = %(owner)s) order by channel_id",
        {"merchant_id": merchant_id, "what": what, "owner": owner},
        prepare=True,
    ).fetchall()


def webhooks(connection: Connection, merchant_ids: Collection[str]) -> list[Channel]:
    """The channels of these merchants that take webhooks, disabled ones too."""
    cursor = connection.cursor(row_factory=kwargs_row(_channel))
    return cursor.execute(
        f"select {_COLUMNS} from channels where merchant_id = any(%s) and kind = 'webhook'"  # noqa: S608
        " and deleted_at is null order by channel_id",
        (list(merchant_ids),),
        prepare=True,
    ).fetchall()


def of_merchant(connection: Connection, merchant_id: str | None) -> list[Channel]:
    """The channels of one merchant, or of all, disabled ones too."""
    cursor = connection.cursor(row_factory=kwargs_row(_channel))
    return cursor.execute(
        f"select {_COLUMNS} from channels where deleted_at is null"  # noqa: S608
        " and (%(merchant_id)s::text is null or merchant_id = %(merchant_id)s) order by merchant_id, channel_id",
        {"merchant_id": merchant_id},
        prepare=False,
    ).fetchall()


# --- what operators do ------------------------------------------------------------------------------


def register(
    ledger: Ledger, request: Request, *, name: str, kind: Kind, target: str | None, wants: Sequence[str]
) -> Receipt:
    """Tell the merchant of these things from now on. A webhook's secret is ``secret_of`` this request.

    Raises ``InvalidField``, ``ChannelLimitReached``.
    """
    check_plan(kind, target, wants)
    channel_id = derived_id("channel", request.merchant_id, request.request_id)
    answer = {"channel_id": channel_id, "name": name, "kind": kind, "target": target, "wants": list(wants)}
    secret = _new_secret() if kind == "webhook" else None

    def write(connection: Connection, position: int) -> None:
        # Writers of the log take turns, so nobody registers another one meanwhile.
        if len(of_merchant(connection, request.merchant_id)) >= CHANNEL_LIMIT:
            raise ChannelLimitReached(limit=CHANNEL_LIMIT)
        connection.execute(
            "insert into channels (channel_id, merchant_id, owner, name, kind, target, wants, after_position,"
            " secret, secret_request) values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            (
                *(channel_id, request.merchant_id, request.actor, name, kind, target, list(wants), position),
                *(secret, request.request_id if secret else None),
            ),
        )

    return once(ledger, request, answer, write)


def check_plan(kind: Kind, target: str | None, wants: Sequence[str]) -> None:
    """Raise ``InvalidField`` unless a channel of this kind can want these things and send them there."""
    topics = set(EVENTS) if kind == "webhook" else set()
    if not wants or len(set(wants)) < len(wants):
        raise InvalidField("a channel wants at least one thing, and each once", field="wants")
    if unknown := [what for what in wants if what not in topics and what not in NOTICES]:
        raise InvalidField(f"no channel of this kind can want {unknown[0]}", field="wants")
    if kind == "webhook":
        check_url("target", target)
    elif target is not None:
        check_address("target", target)
    elif set(wants) != {"reminder"}:
        raise InvalidField("only a reminder has a user to be written to; all else needs an address", field="target")


def secret_of(connection: Connection, channel_id: str, request: Request) -> str | None:
    """The channel's secret, for the request that made it and its repeats only, until there is a newer one."""
    cursor = connection.cursor(row_factory=tuple_row)
    row = cursor.execute(
        "select secret from channels where channel_id = %s and merchant_id = %s and secret_request = %s",
        (channel_id, request.merchant_id, request.request_id),
    ).fetchone()
    return row[0] if row else None


def rotate_secret(ledger: Ledger, request: Request, channel_id: str) -> Receipt:
    """Sign webhooks with a new secret, and for ``OLD_SECRET_SECONDS`` with the old one too.

    Raises ``ChannelNotFound``, also for a channel that signs nothing, and ``SecretRotating`` while there is an old one.
    """

    def write(connection: Connection, _: int) -> None:
        found = connection.cursor(row_factory=tuple_row).execute(
            "select case when old_secret_until > clock_timestamp() then old_secret_until end from channels"
            " where channel_id = %s and merchant_id = %s and deleted_at is null and kind = 'webhook' for update",
            (channel_id, request.merchant_id),
        )
        _must_find(channel_id, found)
        if until := found.fetchall()[0][0]:
            raise SecretRotating(id=channel_id, until=text_of(until))
        connection.execute(
            "update channels set old_secret = secret, secret = %s, secret_request = %s,"
            " old_secret_until = clock_timestamp() + make_interval(secs => %s) where channel_id = %s",
            (_new_secret(), request.request_id, OLD_SECRET_SECONDS, channel_id),
        )

    return once(ledger, request, {"channel_id": channel_id}, write)


def enable(ledger: Ledger, request: Request, channel_id: str) -> Receipt:
    """Send on a channel again that was disabled, what waits for it too. Raises ``ChannelNotFound``."""
    return once(
        ledger,
        request,
        {"channel_id": channel_id},
        lambda connection, _: _must_find(
            channel_id,
            connection.execute(
                "update channels set disabled_at = null"
                " where channel_id = %s and merchant_id = %s and deleted_at is null",
                (channel_id, request.merchant_id),
            ),
        ),
    )


def ping(ledger: Ledger, request: Request, channel_id: str) -> Receipt:
    """Send something harmless on the channel, whatever it wants. Raises ``ChannelNotFound``."""
    key = f"ping {request.merchant_id} {request.request_id}"
    body = {"title": "A test of this channel", "text": "Nothing is to be done."}

    def write(connection: Connection, _: int) -> None:
        found = connection.execute(
            "select from channels where channel_id = %s and merchant_id = %s and deleted_at is null",
            (channel_id, request.merchant_id),
        )
        _must_find(channel_id, found)
        enqueue(connection, [Delivery(key, channel_id, request.merchant_id, PING, body)])

    return once(ledger, request, {"channel_id": channel_id}, write)


def retry(ledger: Ledger, request: Request, delivery_ids: Sequence[int]) -> Receipt:
    """Have deliveries that were given up tried again, all or none. Raises ``DeliveryNotFound``."""

    def write(connection: Connection, _: int) -> None:
        found = deliveries.retry(connection, request.merchant_id, delivery_ids)
        if missing := sorted(set(delivery_ids) - set(found)):
            raise DeliveryNotFound(id=missing[0])

    return once(ledger, request, {"delivery_ids": sorted(set(delivery_ids))}, write)


def delete(connection: Connection, merchant_id: str, channel_id: str) -> None:
    """Erase target and secrets; what waits to be sent is dropped. Raises ``ChannelNotFound``, also the second time."""
    found = connection.execute(
        "update channels set deleted_at = clock_timestamp(), wants = '{}', target = null, secret = null,"
        " old_secret = null where channel_id = %s and merchant_id = %s and deleted_at is null",
        (channel_id, merchant_id),
    )
    _must_find(channel_id, found)


def disable(connection: Connection, channel_id: str, *, unless_reached_since: datetime | None = None) -> bool:
    """Send nothing there any more, because its receiver is gone; unless something reached it since then."""
    cursor = connection.execute(
        "update channels set disabled_at = clock_timestamp() where channel_id = %s and disabled_at is null"
        " and (%s::timestamptz is null or reached_at is null or reached_at < %s)",
        (channel_id, unless_reached_since, unless_reached_since),
    )
    return cursor.rowcount == 1


def reached(connection: Connection, channel_id: str) -> None:
    """Something was taken there just now."""
    connection.execute("update channels set reached_at = clock_timestamp() where channel_id = %s", (channel_id,))


# --- users' addresses -------------------------------------------------------------------------------


def contact_of(connection: Connection, merchant_id: str, user_id: str) -> str | None:
    """The user's e-mail address, where somebody told it."""
    cursor = connection.cursor(row_factory=tuple_row)
    row = cursor.execute(
        "select email from contacts where merchant_id = %s and user_id = %s", (merchant_id, user_id), prepare=True
    ).fetchone()
    return row[0] if row else None


def set_contact(connection: Connection, merchant_id: str, user_id: str, email: str) -> None:
    """Remember a user's e-mail address in the place of one known before. Raises ``InvalidField``."""
    check_address("email", email)
    connection.execute(
        "insert into contacts (merchant_id, user_id, email) values (%s, %s, %s)"
        " on conflict (merchant_id, user_id) do update set email = excluded.email, updated_at = clock_timestamp()",
        (merchant_id, user_id, email),
    )


def forget_contact(connection: Connection, merchant_id: str, user_id: str) -> None:
    """Erase a user's e-mail address; that of whom nobody knows is no mistake."""
    connection.execute("delete from contacts where merchant_id = %s and user_id = %s", (merchant_id, user_id))


# --- inside -----------------------------------------------------------------------------------------


def _channel(**row: Any) -> Channel:
    return Channel(**row | {"wants": tuple(row["wants"])})


def _new_secret() -> str:
    """As Standard Webhooks has it: 24 to 64 random bytes in base64 behind a prefix."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


def _must_find(channel_id: str, cursor: psycopg.Cursor[Any]) -> None:
    if cursor.rowcount != 1:
        raise ChannelNotFound(id=channel_id)

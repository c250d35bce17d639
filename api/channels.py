"""Channels: where a merchant is told of events, alerts and reminders; users' addresses; and what could not be told."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from api import channel_bodies as bodies
from api import contract, cursors, problems
from api.access import caller, operation_name
from api.exchange import answer, answer_receipt, command, ledger
from api.wire import Empty, NoQuery, UserPath
from ledger.aggregate import text_of
from ledger.request import Request
from ledger.telling import channels as known
from ledger.telling import deliveries
from ledger.work import Receipt

channels = APIBlueprint(
    "channels",
    __name__,
    url_prefix="/v1",
    abp_tags=[Tag(name="channels", description="Webhooks and e-mails: where a merchant is told of things.")],
    operation_id_callback=operation_name,
)


@channels.post("/channels", responses=contract.write(201, bodies.NewChannel, known.ChannelLimitReached))
def create_channel(body: bodies.ChannelBody) -> Response:
    """Tell the merchant of these things from now on. A webhook's secret is in the answer, and nowhere later."""
    request = command()
    receipt = known.register(ledger(), request, name=body.name, kind=body.kind, target=body.target, wants=body.wants)
    return answer_receipt(_with_secret(receipt, request), status=201)


@channels.get("/channels", responses=contract.read(bodies.Channels))
def list_channels(query: NoQuery) -> Response:  # noqa: ARG001
    """Read the merchant's channels, without their secrets."""
    with ledger().store.connection() as connection:
        found = known.of_merchant(connection, caller().merchant_id)
    return answer({"channels": [_shown(each) for each in found]})


@channels.post(
    "/channels/<channel_id>/secrets",
    responses=contract.write(200, bodies.SecretOfChannel, known.ChannelNotFound, known.SecretRotating),
)
def rotate_channel_secret(path: bodies.ChannelPath, body: Empty) -> Response:  # noqa: ARG001
    """Sign with a new secret, and for a day with the old one too, so that the receiver can change over meanwhile."""
    request = command()
    return answer_receipt(_with_secret(known.rotate_secret(ledger(), request, path.channel_id), request))


@channels.post("/channels/<channel_id>/test", responses=contract.write(200, bodies.ChannelId, known.ChannelNotFound))
def test_channel(path: bodies.ChannelPath, body: Empty) -> Response:  # noqa: ARG001
    """Send something harmless of type `ping` on the channel."""
    return answer_receipt(known.ping(ledger(), command(), path.channel_id))


@channels.post("/channels/<channel_id>/enable", responses=contract.write(200, bodies.ChannelId, known.ChannelNotFound))
def enable_channel(path: bodies.ChannelPath, body: Empty) -> Response:  # noqa: ARG001
    """Send again on a channel whose receiver was gone, what waits for it too."""
    return answer_receipt(known.enable(ledger(), command(), path.channel_id))


@channels.delete("/channels/<channel_id>", responses=contract.read(bodies.ChannelId, known.ChannelNotFound))
def delete_channel(path: bodies.ChannelPath) -> Response:
    """Erase a channel, and what waits to be sent on it."""
    with ledger().store.connection() as connection:
        known.delete(connection, caller().merchant_id, path.channel_id)
    return answer({"channel_id": path.channel_id})


# --- what could not be told -------------------------------------------------------------------------


@channels.get("/failed-deliveries", responses=contract.read(bodies.FailedDeliveries, problems.BadCursor))
def list_failed_deliveries(query: bodies.FailedQuery) -> Response:
    """Read which deliveries were given up."""
    name = f"failed {query.channel_id}"
    after = cursors.unseal(name, query.cursor)[0] if query.cursor else 0
    with ledger().store.connection() as connection:
        found = deliveries.dead(
            connection, caller().merchant_id, channel_id=query.channel_id, after=after, limit=query.limit + 1
        )
    page = found[: query.limit]
    more = len(found) > query.limit
    return answer(
        {
            "deliveries": [
                asdict(each) | {"created_at": text_of(each.created_at), "settled_at": text_of(each.settled_at)}
                for each in page
            ],
            "next_cursor": cursors.seal(name, [page[-1].delivery_id]) if more else None,
        }
    )


@channels.post("/failed-deliveries/retries", responses=contract.write(200, bodies.Retried, deliveries.DeliveryNotFound))
def retry_deliveries(body: bodies.RetryBody) -> Response:
    """Deliver again what was given up; all of these, or none."""
    return answer_receipt(known.retry(ledger(), command(), body.delivery_ids))


# --- users' addresses -------------------------------------------------------------------------------


@channels.put(
    "/users/<callers_id:user_id>/contact",
    responses=contract.read(bodies.UserId, problems.MalformedJson, problems.TooLarge, problems.UnsupportedMediaType),
)
def put_contact(path: UserPath, body: bodies.ContactBody) -> Response:
    """Remember a user's e-mail address, for reminders; it enters no event, and can be erased."""
    with ledger().store.connection() as connection:
        known.set_contact(connection, caller().merchant_id, path.user_id, body.email)
    return answer({"user_id": path.user_id})


@channels.delete("/users/<callers_id:user_id>/contact", responses=contract.read(bodies.UserId))
def delete_contact(path: UserPath) -> Response:
    """Erase a user's e-mail address, if there is one."""
    with ledger().store.connection() as connection:
        known.forget_contact(connection, caller().merchant_id, path.user_id)
    return answer({"user_id": path.user_id})


# --- inside -----------------------------------------------------------------------------------------


def _with_secret(receipt: Receipt, request: Request) -> Receipt:
    """The answer with the channel's secret, which is not kept with it."""
    with ledger().store.connection() as connection:
        secret = known.secret_of(connection, receipt.answer["channel_id"], request)
    return Receipt({**receipt.answer, "secret": secret}, receipt.position, receipt.replayed)


def _shown(channel: known.Channel) -> dict[str, Any]:
    found = channel._asdict()
    del found["merchant_id"]
    times = {name: text_of(found[name]) for name in ("created_at", "disabled_at", "old_secret_until")}
    return found | times

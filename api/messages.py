"""Messages to users: sent by operators, shown in the shop's application."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from api import contract, cursors, problems
from api import message_bodies as bodies
from api.access import caller, operation_name
from api.exchange import answer, answer_receipt, command, ledger
from api.wire import Empty, PageQuery, UserPath
from ledger import errors
from ledger.aggregate import text_of
from ledger.telling import messages as known
from ledger.telling.inbox import Message, inbox, mark_read

messages = APIBlueprint(
    "messages",
    __name__,
    url_prefix="/v1",
    abp_tags=[Tag(name="messages", description="What users are told in the shop's application.")],
    operation_id_callback=operation_name,
)


@messages.post(
    "/messages",
    responses=contract.write(201, bodies.NewMessage, known.BroadcastLimitReached, errors.InvalidPeriod),
)
def send_message(body: bodies.MessageBody) -> Response:
    """Tell named users something, or all of them with one row, however many they are."""
    receipt = known.send(
        ledger(),
        command(),
        title=body.title,
        body=body.body,
        user_ids=body.user_ids,
        expires_at=body.expires_at,
    )
    words = {"title": body.title, "body": body.body}
    return answer_receipt(replace(receipt, answer=receipt.answer | words), status=201)


@messages.get("/messages", responses=contract.read(bodies.SentMessages, problems.BadCursor))
def list_messages(query: PageQuery) -> Response:
    """Read what was sent, the newest first."""
    before = cursors.unseal("messages", query.cursor)[0] if query.cursor else None
    with ledger().store.connection() as connection:
        found = known.sent(connection, caller().merchant_id, before=before, limit=query.limit + 1)
    page, more = found[: query.limit], len(found) > query.limit
    shown = [_told(each, ("sent_at", "expires_at", "withdrawn_at"), without=("message_no", "kind")) for each in page]
    return answer({"messages": shown, "next_cursor": cursors.seal("messages", [page[-1].message_no]) if more else None})


@messages.post(
    "/messages/<message_id>/withdraw", responses=contract.write(200, bodies.MessageId, known.MessageNotFound)
)
def withdraw_message(path: bodies.MessagePath, body: Empty) -> Response:  # noqa: ARG001
    """Show a message to nobody any more."""
    return answer_receipt(known.withdraw(ledger(), command(), path.message_id))


@messages.get("/users/<callers_id:user_id>/messages", responses=contract.read(bodies.Inbox, problems.BadCursor))
def list_user_messages(path: UserPath, query: bodies.InboxQuery) -> Response:
    """Read a user's messages, the newest first, and how many are unread."""
    name = f"user {path.user_id} messages {query.unread}"
    before = cursors.unseal(name, query.cursor)[0] if query.cursor else None
    with ledger().store.connection() as connection:
        page = inbox(
            connection,
            caller().merchant_id,
            path.user_id,
            joined_at=query.joined_at,
            unread_only=query.unread,
            before=before,
            limit=query.limit + 1,
        )
    shown, more = page.messages[: query.limit], len(page.messages) > query.limit
    return answer(
        {
            "user_id": path.user_id,
            "messages": [_of_user(each) for each in shown],
            "unread": page.unread,
            "next_cursor": cursors.seal(name, [shown[-1].message_no]) if more else None,
        }
    )


@messages.post(
    "/users/<callers_id:user_id>/messages/read",
    responses=contract.read(
        bodies.ReadMessages, problems.MalformedJson, problems.TooLarge, problems.UnsupportedMediaType
    ),
)
def read_user_messages(path: UserPath, body: bodies.ReadBody) -> Response:
    """Mark messages as read; a repeat changes nothing, so it needs no key."""
    with ledger().store.connection() as connection:
        count = mark_read(connection, caller().merchant_id, path.user_id, body.message_ids)
    return answer({"user_id": path.user_id, "read": count})


def _of_user(message: Message) -> dict[str, Any]:
    return _told(message, ("sent_at", "expires_at", "read_at"), without=("message_no",))


def _told(row: Any, times: tuple[str, ...], *, without: tuple[str, ...]) -> dict[str, Any]:
    """A row as callers see it."""
    shown = {name: value for name, value in asdict(row).items() if name not in without}
    return shown | {name: text_of(shown[name]) for name in times}

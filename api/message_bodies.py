"""What callers send and get about messages to users."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, Field, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from api.answers import Time
from api.wire import Body, Id, Moment, Name, PageQuery, Parameters
from ledger.telling.messages import BODY_LIMIT, NAMED_LIMIT

READ_LIMIT = 200
"""Messages that one call may mark as read by id."""


def _lines(value: str) -> str:
    if not value.replace("\n", "").isprintable():
        raise PydanticCustomError("invalid_field", "printable characters and line breaks")
    return value


def _flag(value: Any) -> bool:
    found = {"true": True, "false": False, True: True, False: False}.get(value)
    if found is None:
        raise PydanticCustomError("invalid_field", "true or false")
    return found


Flag = Annotated[bool, PlainValidator(_flag), WithJsonSchema({"type": "boolean"})]


class MessageBody(Body):
    """What users are told: text, never markup."""

    title: Name
    body: Annotated[
        str,
        AfterValidator(_lines),
        Field(
            min_length=1,
            max_length=BODY_LIMIT,
            description="Printable characters and line breaks (line feeds).",
            json_schema_extra={"format": "printable"},
        ),
    ]
    user_ids: Annotated[
        list[Id] | None,
        Field(
            min_length=1,
            max_length=NAMED_LIMIT,
            description="Who gets it; without it all users of the merchant, also those who never come.",
        ),
    ] = None
    expires_at: Annotated[Moment | None, Field(description="Its end; without it, a year from now.")] = None


class ReadBody(Body):
    """Which messages a user has read."""

    message_ids: Annotated[
        list[Id] | None, Field(max_length=READ_LIMIT, description="Without it, all that the user has now.")
    ] = None


class InboxQuery(PageQuery):
    """Which page of an inbox, and since when the user is there."""

    unread: Flag = Field(False, description="Only messages that the user has not read.")
    joined_at: Moment | None = Field(
        None,
        description="Since when the user is there, as the calling application knows; messages to all of before are not"
        " for the user. Of what was said at different times the earliest counts, and at most now.",
    )


class MessagePath(Parameters):
    """A message's id."""

    message_id: Id


class MessageId(BaseModel):
    """Which message it was about."""

    message_id: str


class NewMessage(MessageId):
    """A message that was just sent."""

    to_all: bool
    title: str
    body: str
    expires_at: Time | None = Field(description="As it was asked for.")


class SentMessage(MessageId):
    """A message as its senders see it."""

    to_all: bool
    title: str
    body: str
    sent_at: Time
    expires_at: Time
    withdrawn_at: Time | None


class SentMessages(BaseModel):
    """A page of messages that were sent, the newest first."""

    messages: list[SentMessage]
    next_cursor: str | None


class UserMessage(MessageId):
    """A message as a user has it."""

    kind: str = Field(description="`message`, or what told the user: `reminder`, ...")
    title: str
    body: str
    sent_at: Time
    expires_at: Time
    read_at: Time | None


class Inbox(BaseModel):
    """A page of a user's messages, the newest first."""

    user_id: str
    messages: list[UserMessage]
    unread: int = Field(description="Of all the user's messages, not only of this page.")
    next_cursor: str | None


class ReadMessages(BaseModel):
    """What was marked."""

    user_id: str
    read: int = Field(description="How many were unread until now.")

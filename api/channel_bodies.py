"""What callers send and get about channels, contacts and deliveries."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field, model_validator

from api.answers import Time
from api.wire import Body, Id, Name, PageQuery, Parameters, obeying
from ledger.telling.channels import Kind, check_plan
from ledger.telling.targets import ADDRESS_LIMIT, URL_LIMIT, check_address

RETRY_LIMIT = 1_000


class ChannelBody(Body):
    """Somewhere that the merchant is told of things."""

    name: Name
    kind: Kind
    target: Annotated[
        str | None,
        Field(
            max_length=URL_LIMIT,
            description="The URL of a `webhook`, https to a named host; the address of an `email`, or none: then each"
            " user is written to at the address that is known of the user.",
        ),
    ] = None
    wants: Annotated[
        list[Annotated[str, Field(pattern=r"^[a-z_.]{1,64}$")]],
        Field(
            min_length=1,
            max_length=100,
            description="`alert`, `reminder`, and of a `webhook` topics of events, such as `coupon.used`.",
            json_schema_extra={"uniqueItems": True},
        ),
    ]

    @model_validator(mode="after")
    def _obeys(self) -> ChannelBody:
        obeying(lambda: check_plan(self.kind, self.target, self.wants))
        return self


class ContactBody(Body):
    """How a user is reached."""

    email: Annotated[str, Field(max_length=ADDRESS_LIMIT, json_schema_extra={"format": "email"})]

    @model_validator(mode="after")
    def _obeys(self) -> ContactBody:
        obeying(lambda: check_address("email", self.email))
        return self


class RetryBody(Body):
    """Deliveries that were given up."""

    delivery_ids: Annotated[
        list[Annotated[int, Field(ge=1, le=2**63 - 1)]],
        Field(min_length=1, max_length=RETRY_LIMIT, json_schema_extra={"uniqueItems": True}),
    ]


class ChannelPath(Parameters):
    """A channel's id."""

    channel_id: Id


class FailedQuery(PageQuery):
    """Which deliveries that were given up."""

    channel_id: Id | None = Field(None, description="Only those on this channel.")


class ChannelId(BaseModel):
    """Which channel it was about."""

    channel_id: str


class SecretOfChannel(ChannelId):
    """A channel's new secret."""

    secret: str | None = Field(
        description="`whsec_` and the key of the signatures in base64. It is shown to this request and its repeats"
        " only; null of an e-mail channel, and when there is a newer one."
    )


class NewChannel(SecretOfChannel):
    """A channel that was just registered."""

    name: str
    kind: Kind
    target: str | None
    wants: list[str]


class ChannelRow(ChannelId):
    """A channel."""

    owner: str = Field(description="Who registered it.")
    name: str
    kind: Kind
    target: str | None
    wants: list[str]
    created_at: Time
    after_position: int = Field(description="It is told of events after this position.")
    disabled_at: Time | None = Field(description="When its receiver was gone; nothing is sent until it is enabled.")
    old_secret_until: Time | None = Field(description="Until when the secret of before signs too.")


class Channels(BaseModel):
    """The merchant's channels."""

    channels: list[ChannelRow]


class FailedDelivery(BaseModel):
    """A delivery that was given up."""

    delivery_id: int
    channel_id: str
    type: str = Field(description="A topic, `alert`, `reminder` or `ping`.")
    attempts: int
    created_at: Time
    settled_at: Time = Field(description="When it was given up.")
    error: str | None = Field(description="Of the last attempt.")


class FailedDeliveries(BaseModel):
    """A page of deliveries that were given up, the oldest first."""

    deliveries: list[FailedDelivery]
    next_cursor: str | None


class Retried(BaseModel):
    """Deliveries that are due again."""

    delivery_ids: list[int]


class UserId(BaseModel):
    """Which user it was about."""

    user_id: str

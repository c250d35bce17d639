"""What callers get. These models describe; the answers of writes are stored with the events and sent as they are."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, WithJsonSchema

Time = Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"})]
"""RFC 3339 in UTC with a Z."""

CouponState = Literal["PENDING", "UNUSED", "LOCKED", "USED", "EXPIRED", "VOIDED"]
BatchState = Literal["DRAFT", "IN_REVIEW", "APPROVED", "RUNNING", "PAUSED", "STOPPED", "ENDED"]


class FieldProblem(BaseModel):
    """One field that was refused."""

    pointer: str = Field("", description="JSON pointer to a member of the body.")
    parameter: str = Field("", description="Name of a parameter in the address.")
    code: str
    detail: str


class Problem(BaseModel):
    """A refusal (RFC 9457). Programs decide on code; title and detail are for people."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    errors: list[FieldProblem] = Field([], description="The fields that were refused.")
    facts: dict[str, Any] = Field({}, description="What the refusal was about.")


class Finding(BaseModel):
    """What the linter finds risky about terms or a plan."""

    code: str
    severity: Literal["refuse", "warn"] = Field(description="refuse where the risk was accepted.")
    field: str
    message: str


class TemplateVersion(BaseModel):
    """A template and the version that the write made."""

    template_id: str
    version: int
    warnings: list[Finding]


class Template(BaseModel):
    """A template as it is."""

    template_id: str
    version: int
    name: str
    description: str = Field(description="What the offer is, for people; empty where nobody said.")
    terms: dict[str, Any]


class ListedTemplate(BaseModel):
    """A template's newest version, without its terms."""

    template_id: str
    version: int
    name: str
    created_at: Time
    revised_at: Time = Field(description="When the newest version was made.")


class Templates(BaseModel):
    """A page of templates, by id."""

    templates: list[ListedTemplate]
    next_cursor: str | None


BUDGET_TAKEN = Field(
    description="Of the budget, by the coupons issued so far, each at the most that it can take off; null without one."
)


class BatchStep(BaseModel):
    """A batch after a write."""

    batch_id: str
    state: BatchState
    quantity: int
    budget_minor: int | None
    version: int


class PlannedBatch(BatchStep):
    """A batch just planned."""

    warnings: list[Finding]


class Audience(BaseModel):
    """Who may get a coupon: all of these conditions."""

    users: int = Field(description="How many users are named; 0 where anybody may.")
    newcomers: bool
    tiers: list[str]
    min_points: int | None
    tags: list[str]


class Alerts(BaseModel):
    """Of what the merchant is told; of nothing that is null."""

    stock_below: int | None
    budget_spent_permyriad: int | None
    claims_per_minute: int | None


class Batch(BatchStep):
    """A batch as it is."""

    budget_taken_minor: int | None = BUDGET_TAKEN
    template_id: str
    template_version: int
    name: str
    campaign: str
    per_user_limit: int | None
    claim_from: Time | None
    claim_until: Time | None
    valid_from: Time | None
    valid_until: Time | None
    valid_delay_seconds: int
    valid_for_seconds: int | None
    time_zone: str
    ends_at_day_close: bool
    per_day_limit: int | None
    per_user_day_limit: int | None
    per_person_limit: int | None
    audience: Audience
    needs_approval: bool
    alerts: Alerts


class ListedBatch(BaseModel):
    """A batch, and how many coupons it has issued."""

    batch_id: str
    template_id: str
    template_version: int
    name: str
    campaign: str
    state: BatchState
    quantity: int
    budget_minor: int | None
    issued: int
    claim_from: Time | None
    claim_until: Time | None
    created_at: Time


class Batches(BaseModel):
    """A page of batches, by id."""

    batches: list[ListedBatch]
    next_cursor: str | None
    position: int = Field(description="The position of the log that the page shows at least.")


class Balance(BaseModel):
    """Where a batch's coupons are: issued = pending + unused + locked + used + expired + voided."""

    batch_id: str
    state: BatchState
    quantity: int
    remaining: int = Field(description="That may still be issued.")
    issued: int
    pending: int
    unused: int
    locked: int
    used: int
    expired: int
    voided: int
    returned: int = Field(
        description="Returns in whole or in part, whether or not the coupon came back, and credits of vouchers."
    )
    discount_minor: int = Field(description="Of all uses, and of what was spent of vouchers.")
    returned_minor: int = Field(
        description="What returns gave back of it, or put on vouchers again; nothing where the policy keeps it used."
    )
    merchant_funded_minor: int = Field(description="The merchant's part of the discount.")
    platform_funded_minor: int = Field(description="The platform's part.")
    currency: str
    at_stake_minor: int = Field(description="What can still be taken off, where the worth of a coupon is known.")
    orders: int = Field(description="That used coupons of the batch.")
    orders_told: int = Field(
        description="Of these, the ones of which it was told what was paid, with their first coupon."
    )
    paid_minor: int = Field(description="For these.")
    budget_minor: int | None = Field(description="What its coupons may be worth together.")
    budget_taken_minor: int | None = BUDGET_TAKEN
    position: int = Field(description="The position of the log that the figures show at least.")
    as_of: Time = Field(description="The moment that the states are for.")


class PublishedEvent(BaseModel):
    """A fact, as the ledger tells it."""

    position: int = Field(description="The place in the log.")
    recorded_at: Time = Field(description="When the ledger stored it.")
    occurred_at: Time = Field(description="When it happened; earlier than recorded_at for imported history.")
    stream: str = Field(description="Category, hyphen, id.")
    version: int = Field(description="The place in the stream, from 1.")
    topic: str
    payload: dict[str, Any]


class CouponEvents(BaseModel):
    """A page of a coupon's history, oldest first."""

    coupon_id: str
    events: list[PublishedEvent]
    next_cursor: str | None


class EventPage(BaseModel):
    """A page of the merchant's part of the log, in the order of positions."""

    events: list[PublishedEvent]
    next: int = Field(description="What to pass as `after` for what follows, now or later.")
    more: bool = Field(description="Whether asking again at once may find more.")


class Health(BaseModel):
    """Whether the service can do its work."""

    status: Literal["ok", "failed"]
    checks: dict[str, Any]

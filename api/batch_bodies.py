"""What callers send of batches and of the coupons that they issue; each says how it becomes the domain's value."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from api.template_bodies import AcceptRisk, Ids, Words, Zone
from api.wire import Body, Channel, Cursor, Id, Label, Moment, Name, Quantity, Reason, RequestId, obeying
from ledger.alerts import UNITS_LIMIT, Alerts
from ledger.audience import POINTS_LIMIT, Audience, Facts
from ledger.batch import BUDGET_LIMIT_MINOR, DURATION_LIMIT_SECONDS, BatchPlan
from ledger.undoing import Issued
from ledger.use_cases import ISSUE_LIMIT
from ledger.use_cases.issuing import NO_FACTS

Seconds = Annotated[int, Field(ge=0, le=DURATION_LIMIT_SECONDS)]
Budget = Annotated[
    int, Field(ge=1, le=BUDGET_LIMIT_MINOR, description="Minor units of the template's currency, such as cents.")
]
Limited = Annotated[Quantity | None, Field(description="null for no limit.")]


class AudienceBody(Body):
    """Conditions that a user must meet, all of them; one that is left out asks for nothing."""

    users: Annotated[Ids, Field(description="Only these.")] = Field(default=[])
    newcomers: Annotated[bool, Field(description="Only who is new.")] = False
    tiers: Annotated[Words, Field(description="Only members of one of these tiers.")] = Field(default=[])
    min_points: Annotated[int, Field(ge=1, le=POINTS_LIMIT)] | None = None
    tags: Annotated[Words, Field(description="Only who has one of these.")] = Field(default=[])

    def to_audience(self) -> Audience:
        """The domain's value."""
        return Audience.from_payload(dict(vars(self)))


class AlertsBody(Body):
    """Of what the merchant is told, once each time that it happens; of nothing that is left out."""

    stock_below: Annotated[int, Field(ge=1, le=UNITS_LIMIT, description="Fewer coupons are left.")] | None = None
    budget_spent_permyriad: (
        Annotated[int, Field(ge=1, le=10_000, description="This part of the budget is spent, or more.")] | None
    ) = None
    claims_per_minute: (
        Annotated[int, Field(ge=1, le=UNITS_LIMIT, description="More are issued in a minute of the clock.")] | None
    ) = None

    def to_alerts(self) -> Alerts:
        """The domain's value."""
        return Alerts(**vars(self))


class BatchBody(Body):
    """A plan to issue coupons on one version of a template.

    Coupons are valid in [valid_from, valid_until), or from valid_delay_seconds after issue for valid_for_seconds, or
    the part of the second that lies within the first where both are given. valid_from without valid_for_seconds takes
    no delay. With ends_at_day_close validity runs on to the close of the day in time_zone, where the days of limits
    begin and end too.
    """

    template_id: Id
    template_version: Annotated[int, Field(ge=1, le=1_000_000_000, description="The newest where left out.")] | None = (
        None
    )
    name: Name
    campaign: Label = ""
    quantity: Quantity
    per_user_limit: Limited = 1
    claim_from: Moment | None = None
    claim_until: Moment | None = None
    valid_from: Moment | None = None
    valid_until: Moment | None = None
    valid_delay_seconds: Seconds = 0
    valid_for_seconds: Annotated[int, Field(ge=1, le=DURATION_LIMIT_SECONDS)] | None = None
    time_zone: Zone = "UTC"
    ends_at_day_close: bool = False
    per_day_limit: Limited = None
    per_user_day_limit: Limited = None
    per_person_limit: Limited = None
    budget_minor: Budget | None = None
    audience: AudienceBody = AudienceBody()
    needs_approval: bool = False
    alerts: AlertsBody = AlertsBody()
    accept_risk: AcceptRisk = False

    @model_validator(mode="after")
    def _obeys(self) -> BatchBody:
        obeying(self.to_plan)
        return self

    def to_plan(self) -> BatchPlan:
        """The domain's value."""
        beside = ("template_id", "template_version", "accept_risk")
        plan = {name: value for name, value in vars(self).items() if name not in beside}
        return BatchPlan(**{**plan, "audience": self.audience.to_audience(), "alerts": self.alerts.to_alerts()})


class QuantityBody(Body):
    """Compare and set: the quantity that the caller saw, and the one that it wants."""

    expected: Quantity
    target: Quantity


class BudgetBody(Body):
    """Compare and set: the budget that the caller saw, and the one that it wants."""

    expected_minor: Budget
    target_minor: Budget


class FactsBody(Body):
    """What the asking system knows of the user now. Only what the batch's conditions need is used, and recorded."""

    person: Annotated[
        Id | None,
        Field(
            description="Opaque key of the natural person, such as a keyed hash of a phone number, never the number."
        ),
    ] = None
    newcomer: bool | None = None
    tier: Id | None = None
    points: Annotated[int, Field(ge=0, le=POINTS_LIMIT)] | None = None
    tags: Words | None = None

    def to_facts(self) -> Facts:
        """The domain's value."""
        if not self.model_fields_set:
            return NO_FACTS
        return Facts(**{**vars(self), "tags": None if self.tags is None else tuple(self.tags)})


PointsReceipt = Annotated[
    Id | None,
    Field(description="Names the payment of the points, where the template has a price in points. It is good once."),
]


class IssueBody(Body):
    """To whom: one coupon for each entry, all or none; a user named twice gets two.

    Facts and a points receipt are about one coupon, so they go with one entry only.
    """

    user_ids: Annotated[list[Id], Field(min_length=1, max_length=ISSUE_LIMIT)]
    channel: Channel = "issue"
    facts: FactsBody = FactsBody()
    points_receipt: PointsReceipt = None


class VoidsBody(Body):
    """Why, and which of the batch's coupons: all, or those that were issued as named, by at most one of the three."""

    reason: Reason
    issued_by: Annotated[RequestId | None, Field(description="Only under this request id.")] = None
    issued_by_prefix: Annotated[
        RequestId | None,
        Field(description="Only under request ids that begin so, such as a source of messages and a space."),
    ] = None
    codes_id: Annotated[Id | None, Field(description="Only those for which codes of this set were exchanged.")] = None
    cursor: Cursor | None = None

    @model_validator(mode="after")
    def _obeys(self) -> VoidsBody:
        obeying(self.to_issued)
        return self

    def to_issued(self) -> Issued:
        """The domain's value."""
        return Issued(by=self.issued_by, by_prefix=self.issued_by_prefix, codes_id=self.codes_id)


class ClaimBody(Body):
    """Who asks for a coupon."""

    user_id: Id
    channel: Channel = "claim"
    facts: FactsBody = FactsBody()
    points_receipt: PointsReceipt = None

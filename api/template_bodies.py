"""What callers send of templates. Each body says how it becomes the domain's own value."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from api.wire import Body, Currency, Description, Id, Minor, Name, obeying
from ledger.basket import Channel as OrderChannel
from ledger.benefit import ITEM_LIMIT, MONEY_LIMIT_MINOR, UNITS_LIMIT, Benefit, BenefitKind
from ledger.reminders import LEAD_LIMIT, LEAD_LIMIT_DAYS, Reminders
from ledger.scope import MINUTES_OF_DAY, SCOPE_LIMIT, WORD_LIMIT, Scope, UseHours
from ledger.terms import (
    GRACE_LIMIT_DAYS,
    LIVE_LOCKS_LIMIT,
    LOCK_TTL_LIMIT_SECONDS,
    POINTS_LIMIT,
    PRIORITY_LIMIT,
    LateConfirm,
    ReturnPolicy,
    ReturnRule,
    StackingMode,
    Terms,
)

Share = Annotated[int, Field(description="Permyriad: 1/10,000.")]
Ids = Annotated[list[Id], Field(max_length=SCOPE_LIMIT)]
Words = Annotated[list[Id], Field(max_length=WORD_LIMIT)]
Amount = Annotated[int, Field(ge=1, le=MONEY_LIMIT_MINOR, description="Minor units of the currency, such as cents.")]
Zone = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z][A-Za-z0-9_+/-]{0,63}$",
        description="Of the IANA database: the merchant's, whose clock decides.",
        json_schema_extra={"format": "time-zone"},
        examples=["Asia/Shanghai", "UTC"],
    ),
]
MinuteOfDay = Annotated[
    int,
    Field(ge=0, lt=MINUTES_OF_DAY, description="From midnight. Quiet hours have both ends, and may pass midnight."),
]
AcceptRisk = Annotated[
    bool,
    Field(
        description="Whether to go on where the linter refuses what loses money by mistake. Its findings are then among"
        " the warnings."
    ),
]


class BenefitBody(Body):
    """What the shopper gets; which members are needed depends on the kind."""

    kind: BenefitKind
    value_minor: Amount | None = None
    percent_permyriad: Annotated[Share, Field(ge=1, le=10_000)] | None = None
    max_discount_minor: Amount | None = None
    products: Annotated[
        list[Id], Field(max_length=ITEM_LIMIT, description="Of a gift, trial or exchange: any of these.")
    ] = Field(default=[])
    units: (
        Annotated[int, Field(ge=1, le=UNITS_LIMIT, description="How many units at most; 1 where left out.")] | None
    ) = None
    leaves_balance: Annotated[bool, Field(description="Of a cash voucher: whether what is not spent stays on it.")] = (
        False
    )

    @model_validator(mode="after")
    def _obeys(self) -> BenefitBody:
        obeying(self.to_benefit)
        return self

    def to_benefit(self) -> Benefit:
        """The domain's value."""
        return Benefit(**{**vars(self), "products": tuple(self.products)})


class ScopeBody(Body):
    """What the coupon may be used on. An empty list means everything, and an exclusion always wins.

    Products and categories are alternatives of each other; the other lists must hold as well.
    """

    products: Ids = Field(default=[])
    categories: Ids = Field(default=[])
    shops: Ids = Field(default=[])
    excluded_products: Ids = Field(default=[])
    excluded_categories: Ids = Field(default=[])
    excluded_shops: Ids = Field(default=[])
    order_types: Words = Field(default=[])
    user_types: Words = Field(default=[])
    channels: Annotated[list[OrderChannel], Field(max_length=WORD_LIMIT)] = Field(default=[])

    def to_scope(self) -> Scope:
        """The domain's value."""
        return Scope(**{name: tuple(ids) for name, ids in vars(self).items()})


class UseHoursBody(Body):
    """Hours of some weekdays, on the clock of the terms' zone; hours past midnight are two entries."""

    weekdays: Annotated[
        list[Annotated[int, Field(ge=1, le=7)]],
        Field(
            min_length=1, max_length=7, description="ISO 8601: 1 is Monday.", json_schema_extra={"uniqueItems": True}
        ),
    ] = Field(default=[1, 2, 3, 4, 5, 6, 7])
    from_minute: Annotated[int, Field(ge=0, lt=MINUTES_OF_DAY, description="From midnight.")] = 0
    until_minute: Annotated[int, Field(ge=1, le=MINUTES_OF_DAY, description="Not included.")] = MINUTES_OF_DAY

    @model_validator(mode="after")
    def _obeys(self) -> UseHoursBody:
        obeying(self.to_hours)
        return self

    def to_hours(self) -> UseHours:
        """The domain's value."""
        return UseHours.from_payload(dict(vars(self)))


class ReturnPolicyBody(Body):
    """Whether a used coupon comes back, by the reason of the return."""

    order_cancelled: ReturnRule = "restore"
    merchant_refund: ReturnRule = "restore"
    buyer_refund: ReturnRule = "keep_used"
    grace_days: Annotated[int, Field(ge=0, le=GRACE_LIMIT_DAYS)] = 0

    @model_validator(mode="after")
    def _obeys(self) -> ReturnPolicyBody:
        obeying(self.to_policy)
        return self

    def to_policy(self) -> ReturnPolicy:
        """The domain's value."""
        return ReturnPolicy(**vars(self))


class RemindersBody(Body):
    """When the owner is told that the coupon ends, on the clock of the terms' zone."""

    days_before: Annotated[
        list[Annotated[int, Field(ge=1, le=LEAD_LIMIT_DAYS)]],
        Field(
            max_length=LEAD_LIMIT,
            description="Each is one reminder, at the hour of the end; none, where empty.",
            json_schema_extra={"uniqueItems": True},
        ),
    ] = Field(default=[])
    quiet_from_minute: MinuteOfDay | None = None
    quiet_until_minute: MinuteOfDay | None = None

    @model_validator(mode="after")
    def _obeys(self) -> RemindersBody:
        obeying(self.to_reminders)
        return self

    def to_reminders(self) -> Reminders:
        """The domain's value."""
        return Reminders(**vars(self) | {"days_before": tuple(self.days_before)})


class TermsBody(Body):
    """Everything that a template's version fixes."""

    benefit: BenefitBody
    currency: Currency
    min_spend_minor: Annotated[Minor, Field(description="Of the lines in scope together, before any coupon.")] = 0
    scope: ScopeBody = ScopeBody()
    use_hours: Annotated[
        list[UseHoursBody], Field(max_length=WORD_LIMIT, description="When it may be used; always, where empty.")
    ] = Field(default=[])
    time_zone: Zone = "UTC"
    stacking_mode: StackingMode = "exclusive"
    stacking_group: Annotated[
        Id | None, Field(max_length=WORD_LIMIT, description="Of the stacking mode group, which needs it.")
    ] = None
    priority: Annotated[
        int, Field(ge=-PRIORITY_LIMIT, le=PRIORITY_LIMIT, description="The higher comes off first.")
    ] = 0
    order_cap_permyriad: Annotated[Share, Field(ge=1, le=10_000)] | None = None
    return_policy: ReturnPolicyBody = ReturnPolicyBody()
    lock_ttl_seconds: Annotated[int, Field(ge=1, le=LOCK_TTL_LIMIT_SECONDS)] = 900
    live_locks_per_user: Annotated[int, Field(ge=1, le=LIVE_LOCKS_LIMIT)] | None = None
    late_confirm: LateConfirm = "refuse"
    transferable: bool = False
    shareable: bool = False
    points_price: Annotated[int, Field(ge=1, le=POINTS_LIMIT)] | None = None
    merchant_share_permyriad: Annotated[Share, Field(ge=0, le=10_000)] = 10_000
    reminders: RemindersBody = RemindersBody()

    @model_validator(mode="after")
    def _obeys(self) -> TermsBody:
        obeying(self.to_terms)
        return self

    def to_terms(self) -> Terms:
        """The domain's value."""
        own = {
            "benefit": self.benefit.to_benefit(),
            "scope": self.scope.to_scope(),
            "use_hours": tuple(hours.to_hours() for hours in self.use_hours),
            "return_policy": self.return_policy.to_policy(),
            "reminders": self.reminders.to_reminders(),
        }
        return Terms(**{**vars(self), **own})


class TemplateBody(Body):
    """An offer: its name, what it is, and its terms."""

    name: Name
    description: Description = ""
    terms: TermsBody
    accept_risk: AcceptRisk = False

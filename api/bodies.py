"""What callers send. Each body says how it becomes the domain's own value, which checks what fields mean together."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field, model_validator

from api.wire import (
    Body,
    Channel,
    Currency,
    Digest,
    Id,
    Label,
    Minor,
    Moment,
    Name,
    Quantity,
    Reason,
    obeying,
)
from ledger.batch import DURATION_LIMIT_SECONDS, BatchPlan
from ledger.coupon import ALLOCATION_LIMIT, Redemption
from ledger.terms import (
    GRACE_LIMIT_DAYS,
    LOCK_TTL_LIMIT_SECONDS,
    MONEY_LIMIT_MINOR,
    SCOPE_LIMIT,
    Benefit,
    BenefitKind,
    ReturnPolicy,
    ReturnReason,
    ReturnRule,
    Scope,
    StackingMode,
    Terms,
)
from ledger.use_cases import ISSUE_LIMIT, ORDER_COUPON_LIMIT

Share = Annotated[int, Field(description="Permyriad: 1/10,000.")]
Ids = Annotated[list[Id], Field(max_length=SCOPE_LIMIT)]
OrderCoupons = Annotated[
    list[Id], Field(min_length=1, max_length=ORDER_COUPON_LIMIT, json_schema_extra={"uniqueItems": True})
]


class Empty(Body):
    """No members. The body may be left out."""

    model_config = ConfigDict(openapi_extra={"required": False})  # type: ignore[typeddict-unknown-key]


class BenefitBody(Body):
    """What the shopper gets; which amounts are needed depends on the kind."""

    kind: BenefitKind
    value_minor: Annotated[int, Field(ge=1, le=MONEY_LIMIT_MINOR)] | None = None
    percent_permyriad: Annotated[Share, Field(ge=1, le=10_000)] | None = None
    max_discount_minor: Annotated[int, Field(ge=1, le=MONEY_LIMIT_MINOR)] | None = None

    @model_validator(mode="after")
    def _obeys(self) -> BenefitBody:
        obeying(self.to_benefit)
        return self

    def to_benefit(self) -> Benefit:
        """The domain's value."""
        return Benefit(**vars(self))


class ScopeBody(Body):
    """What the coupon may be used on; an empty list means everything."""

    products: Ids = Field(default=[])
    categories: Ids = Field(default=[])
    shops: Ids = Field(default=[])


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


class TermsBody(Body):
    """Everything that a template's version fixes."""

    benefit: BenefitBody
    currency: Currency
    min_spend_minor: Minor = 0
    scope: ScopeBody = ScopeBody()
    stacking_mode: StackingMode = "exclusive"
    return_policy: ReturnPolicyBody = ReturnPolicyBody()
    lock_ttl_seconds: Annotated[int, Field(ge=1, le=LOCK_TTL_LIMIT_SECONDS)] = 900
    merchant_share_permyriad: Annotated[Share, Field(ge=0, le=10_000)] = 10_000

    def to_terms(self) -> Terms:
        """The domain's value."""
        scope = Scope(**{name: tuple(ids) for name, ids in vars(self.scope).items()})
        own = {"benefit": self.benefit.to_benefit(), "scope": scope, "return_policy": self.return_policy.to_policy()}
        return Terms(**{**vars(self), **own})


class TemplateBody(Body):
    """An offer: its name and its terms."""

    name: Name
    terms: TermsBody


Seconds = Annotated[int, Field(ge=0, le=DURATION_LIMIT_SECONDS)]


class BatchBody(Body):
    """A plan to issue coupons on one version of a template.

    Coupons are valid in [valid_from, valid_until), or from valid_delay_seconds after issue for valid_for_seconds, or
    the part of the second that lies within the first where both are given.
    """

    template_id: Id
    template_version: Annotated[int, Field(ge=1, le=1_000_000_000, description="The newest where left out.")] | None = (
        None
    )
    name: Name
    campaign: Label = ""
    quantity: Quantity
    per_user_limit: Annotated[Quantity | None, Field(description="null for no limit.")] = 1
    claim_from: Moment | None = None
    claim_until: Moment | None = None
    valid_from: Moment | None = None
    valid_until: Moment | None = None
    valid_delay_seconds: Seconds = 0
    valid_for_seconds: Annotated[int, Field(ge=1, le=DURATION_LIMIT_SECONDS)] | None = None

    @model_validator(mode="after")
    def _obeys(self) -> BatchBody:
        obeying(self.to_plan)
        return self

    def to_plan(self) -> BatchPlan:
        """The domain's value."""
        return BatchPlan(**{name: value for name, value in vars(self).items() if not name.startswith("template_")})


class ReasonBody(Body):
    """Why."""

    reason: Reason


class QuantityBody(Body):
    """Compare and set: the quantity that the caller saw, and the one that it wants."""

    expected: Quantity
    target: Quantity


class IssueBody(Body):
    """To whom: one coupon for each entry, all or none; a user named twice gets two."""

    user_ids: Annotated[list[Id], Field(min_length=1, max_length=ISSUE_LIMIT)]
    channel: Channel = "issue"


class ClaimBody(Body):
    """Who asks for a coupon."""

    user_id: Id
    channel: Channel = "claim"


class LockBody(Body):
    """Which coupons of one user an order wants to hold, all or none."""

    user_id: Id
    coupon_ids: OrderCoupons
    ttl_seconds: (
        Annotated[int, Field(ge=1, le=LOCK_TTL_LIMIT_SECONDS, description="The template's where left out.")] | None
    ) = None
    order_total_minor: Minor | None = None
    quote_digest: Digest | None = None


class AllocationBody(Body):
    """The part of a discount that one line of the order carries."""

    line_id: Id
    product_id: Id | None = None
    discount_minor: Minor


class RedemptionBody(Body):
    """What one coupon took off; where an allocation is given, its parts sum to the discount."""

    coupon_id: Id
    discount_minor: Minor
    allocation: Annotated[list[AllocationBody], Field(max_length=ALLOCATION_LIMIT)] = Field(default=[])

    @model_validator(mode="after")
    def _obeys(self) -> RedemptionBody:
        obeying(self.to_redemption)
        return self

    def to_redemption(self) -> Redemption:
        """The domain's value."""
        parts = [dict(vars(part)) for part in self.allocation]
        return Redemption(coupon_id=self.coupon_id, discount_minor=self.discount_minor, allocation=parts)


class ConfirmBody(Body):
    """The coupons that a paid order used, all or none."""

    redemptions: Annotated[list[RedemptionBody], Field(min_length=1, max_length=ORDER_COUPON_LIMIT)]
    lock_id: Id | None = None
    order_total_minor: Minor | None = None
    paid_minor: Minor | None = None


class UnlockBody(Body):
    """The coupons that an order lets go, all or none."""

    coupon_ids: OrderCoupons
    reason: Reason
    lock_id: Id | None = None


class ReturnBody(Body):
    """The used coupons whose order was undone, all or none."""

    coupon_ids: OrderCoupons
    reason: ReturnReason

"""What an auditor asks of a refusal: what an order system sent, when, and what it says it heard."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Field, model_validator
from pydantic_core import PydanticCustomError

from api.answers import PublishedEvent, Time
from api.basket_bodies import BasketBody
from api.batch_bodies import ClaimBody, IssueBody
from api.coupon_bodies import ExtensionBody, ShareBody, TransferBody
from api.order_bodies import AllocationBody, ConfirmBody, LockBody, ReturnBody, UnlockBody
from api.wire import POSITION_LIMIT, Body, Id, Minor, Moment, ReasonBody, RequestId
from ledger import use_cases
from ledger.basket import Channel as OrderChannel
from ledger.coupon import ALLOCATION_LIMIT
from ledger.request import Request
from ledger.work import Work

ExpectedVersion = Annotated[
    int | None, Field(ge=1, le=POSITION_LIMIT, description="That `If-Match` named, where it did.")
]


class LockAsked(LockBody):
    """A lock, as it was sent."""

    order_id: Id

    def work(self, request: Request) -> Work:
        """The use case with what was sent."""
        basket = self.basket.to_basket() if self.basket else None
        return use_cases.lock(request, **_said(self) | {"basket": basket})


class ConfirmAsked(ConfirmBody):
    """A confirmation, as it was sent."""

    order_id: Id

    def work(self, request: Request) -> Work:
        """The use case with what was sent."""
        redemptions = [redemption.to_redemption() for redemption in self.redemptions]
        return use_cases.confirm(request, **_said(self) | {"redemptions": redemptions})


class UnlockAsked(UnlockBody):
    """An unlock, as it was sent."""

    order_id: Id

    def work(self, request: Request) -> Work:
        """The use case with what was sent."""
        return use_cases.unlock(request, **_said(self))


class ReturnAsked(ReturnBody):
    """A return, as it was sent."""

    order_id: Id

    def work(self, request: Request) -> Work:
        """The use case with what was sent."""
        return use_cases.return_coupons(request, **_said(self) | {"lines": [line.to_line() for line in self.lines]})


class RedeemAsked(Body):
    """A use at a till, with the coupon that its code stood for: the code itself tells nothing here."""

    order_id: Id
    coupon_id: Id
    user_id: Id | None = None
    discount_minor: Minor | None = None
    order_total_minor: Minor | None = None
    paid_minor: Minor | None = None
    channel: OrderChannel = "in_store"
    basket: BasketBody | None = None
    allocation: Annotated[list[AllocationBody], Field(max_length=ALLOCATION_LIMIT)] = Field(default=[])

    def work(self, request: Request) -> Work:
        """The use case with what was sent."""
        basket = self.basket.to_basket() if self.basket else None
        parts = [dict(vars(part)) for part in self.allocation]
        return use_cases.redeem(request, **_said(self) | {"basket": basket, "allocation": parts})


class ClaimAsked(ClaimBody):
    """A claim, as it was sent."""

    batch_id: Id

    def work(self, request: Request) -> Work:
        """The use case with what was sent."""
        return use_cases.claim(request, **_said(self) | {"facts": self.facts.to_facts()})


class IssueAsked(IssueBody):
    """An issue, as it was sent."""

    batch_id: Id

    def work(self, request: Request) -> Work:
        """The use case with what was sent."""
        return use_cases.issue(request, **_said(self) | {"facts": self.facts.to_facts()})


class VoidAsked(ReasonBody):
    """A void, as it was sent."""

    coupon_id: Id
    expected_version: ExpectedVersion = None

    def work(self, request: Request) -> Work:
        """The use case with what was sent."""
        return use_cases.void(request, **_said(self))


class ExtendAsked(ExtensionBody):
    """A longer validity, as it was asked for."""

    coupon_id: Id
    expected_version: ExpectedVersion = None

    def work(self, request: Request) -> Work:
        """The use case with what was sent."""
        return use_cases.extend(request, **_said(self))


class TransferAsked(TransferBody):
    """A transfer, as it was sent."""

    coupon_id: Id
    expected_version: ExpectedVersion = None

    def work(self, request: Request) -> Work:
        """The use case with what was sent."""
        return use_cases.transfer(request, **_said(self))


class ShareAsked(ShareBody):
    """A sharing, as it was sent."""

    coupon_id: Id
    expected_version: ExpectedVersion = None

    def work(self, request: Request) -> Work:
        """The use case with what was sent."""
        return use_cases.share(request, **_said(self))


Asked = (
    LockAsked | ConfirmAsked | UnlockAsked | ReturnAsked | RedeemAsked | ClaimAsked | IssueAsked | VoidAsked
    | ExtendAsked | TransferAsked | ShareAsked
)  # fmt: skip
OPERATIONS = (
    "lock", "confirm", "unlock", "return", "redeem", "claim", "issue", "void", "extend", "transfer", "share",
)  # fmt: skip


class ExplanationBody(Body):
    """One operation as it was sent, when that was, and the code that came back."""

    lock: LockAsked | None = None
    confirm: ConfirmAsked | None = None
    unlock: UnlockAsked | None = None
    return_: ReturnAsked | None = Field(None, alias="return")
    redeem: RedeemAsked | None = None
    claim: ClaimAsked | None = None
    issue: IssueAsked | None = None
    void: VoidAsked | None = None
    extend: ExtendAsked | None = None
    transfer: TransferAsked | None = None
    share: ShareAsked | None = None
    at: Annotated[Moment | None, Field(description="When it was refused; now, where nothing is said.")] = None
    position: Annotated[
        int | None,
        Field(ge=1, le=POSITION_LIMIT, description="How far the log was, where that is known better than by `at`."),
    ] = None
    occurred_at: Annotated[
        Moment | None, Field(description="The business time with which it came, where history was imported.")
    ] = None
    request_id: Annotated[
        RequestId | None,
        Field(description="Its idempotency key, or what names its message: its source, a space, its id."),
    ] = None
    code: Annotated[
        str | None, Field(pattern=r"^[a-z][a-z_]{0,63}$", description="The code that the caller says it heard.")
    ] = None

    @model_validator(mode="after")
    def _one_operation(self) -> ExplanationBody:
        if len(self._operations()) != 1:
            raise PydanticCustomError("invalid_field", "exactly one operation is asked about")
        return self

    def asked(self) -> Asked:
        """The operation."""
        return self._operations()[0]

    def _operations(self) -> list[Asked]:
        members = (getattr(self, "return_" if name == "return" else name) for name in OPERATIONS)
        return [member for member in members if member is not None]


def _said(body: Body) -> dict[str, Any]:
    return dict(vars(body))


class PinnedTerms(BaseModel):
    """Which terms decided."""

    coupon_id: str | None = Field(description="null where they are those of a batch that issues.")
    template_id: str
    template_version: int
    position: int = Field(description="Of the event that fixed this version.")


class Explanation(BaseModel):
    """What the ledger would have said then, and by what."""

    refused: bool | None = Field(description="null where that hangs on what is `unknown`.")
    code: str | None = Field(description="Of the refusal.")
    told_as: str | None = Field(description="The code under which HTTP tells it.")
    title: str | None
    detail: str | None
    facts: dict[str, Any]
    agrees: bool | None = Field(description="Whether that is what the caller says it heard; null without a code.")
    answer: dict[str, Any] | None = Field(description="What it would have answered, where it would not have refused.")
    replayed_position: int | None = Field(
        description="Where the same request had its effect before: repeats are answered the same, and never refused."
    )
    clock: Time = Field(description="By which it was decided.")
    position: int = Field(description="The last position that the log held.")
    terms: list[PinnedTerms]
    because: list[PublishedEvent] = Field(description="The events that made it so.")
    unknown: list[str] = Field(description="What the log cannot tell.")

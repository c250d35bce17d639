"""Everything the ledger says no with.

One class is one refusal. Its snake-case name is the stable code that callers see over HTTP, Kafka and the
command line; its docstring is the title; ``facts`` say what it was about, and never hold personal data.
"""

from __future__ import annotations

import re
from typing import Any


class LedgerError(Exception):
    """The ledger could not do what was asked."""

    facts: dict[str, Any]

    def __init__(self, detail: str = "", **facts: Any) -> None:
        self.detail = detail or self.title()
        self.facts = facts
        super().__init__(self.detail)

    @classmethod
    def code(cls) -> str:
        """The stable code: the class name in snake case."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()

    @classmethod
    def title(cls) -> str:
        """The first line of the docstring, without its full stop."""
        return (cls.__doc__ or cls.__name__).strip().splitlines()[0].rstrip(".")


class Refusal(LedgerError):
    """A rule of the domain says no. It wrote nothing, and a later retry is decided afresh."""


# --- things that are not there -------------------------------------------------------------------


class NotFound(Refusal):
    """No such object."""


class BatchNotFound(NotFound):
    """No such batch."""


class TemplateNotFound(NotFound):
    """No such template."""


class CouponNotFound(NotFound):
    """No such coupon."""


# --- input that no state could accept --------------------------------------------------------------


class InvalidInput(Refusal):
    """The command contradicts itself or the bounds of its fields."""


class InvalidField(InvalidInput):
    """A field does not have the right form."""


class InvalidQuantity(InvalidInput):
    """A quantity is outside its bounds."""


class InvalidPeriod(InvalidInput):
    """A period is empty, has no time zone or lies outside the calendar."""


class NotApplicable(InvalidInput):
    """The coupon does not apply to this order."""


class OutOfScope(NotApplicable):
    """The coupon covers nothing of this order."""


class OutOfHours(NotApplicable):
    """The coupon may not be used at this hour."""


class BelowMinSpend(NotApplicable):
    """What the coupon covers costs less than its minimum spend."""


class ExclusiveConflict(NotApplicable):
    """The coupon cannot be used together with another one of the order."""


class RiskyTerms(InvalidInput):
    """The terms would lose money by mistake."""


class FactRequired(InvalidInput):
    """The batch's conditions need a fact about the user that the request does not have."""


# --- requests ---------------------------------------------------------------------------------------


class IdempotencyKeyReused(Refusal):
    """The same request id came before with another body."""


class VersionConflict(Refusal):
    """The object has another version than the caller expected."""


# --- batches ----------------------------------------------------------------------------------------


class BatchNotOpen(Refusal):
    """The batch does not issue coupons now."""


class BatchStateConflict(Refusal):
    """The batch's state does not allow this step."""


class SoldOut(Refusal):
    """The batch has fewer coupons left than were asked for."""


class UserLimitReached(Refusal):
    """The user already has as many coupons of this batch as one user may have."""


class DayLimitReached(Refusal):
    """The batch has issued what it may on one day."""


class UserDayLimitReached(Refusal):
    """The user got as many coupons of this batch today as one user may on one day."""


class PersonLimitReached(Refusal):
    """The natural person already has as many coupons of this batch as one may have."""


class BudgetSpent(Refusal):
    """The batch's budget does not cover another coupon."""


class NotInAudience(Refusal):
    """The batch is not for this user."""


class PointsReceiptUsed(Refusal):
    """These points were already exchanged for a coupon."""


class QuantityConflict(Refusal):
    """The quantity is not what the caller expected, or more coupons are already issued than the target."""


class BudgetConflict(Refusal):
    """The budget is not what the caller expected, or coupons worth more than the target are already issued."""


class SelfApproval(Refusal):
    """Who planned or submitted a batch cannot be the second person who approves it."""


# --- rules and codes ---------------------------------------------------------------------------------


class RuleNotFound(NotFound):
    """No such rule."""


class RuleLimitReached(Refusal):
    """The merchant has as many live rules as one may have."""


class CodeNotFound(NotFound):
    """No such code, or it cannot be exchanged."""


class CodesNotFound(NotFound):
    """No such set of codes."""


class CodeUsed(Refusal):
    """The code was already exchanged for a coupon."""


class CodesExported(Refusal):
    """The codes were already handed over."""


class TooManyMisses(Refusal):
    """Too many wrong codes were tried; wait before the next."""


# --- coupons ----------------------------------------------------------------------------------------


class CouponNotStarted(Refusal):
    """The coupon is not yet effective."""


class CouponExpired(Refusal):
    """The coupon's validity has ended."""


class CouponVoid(Refusal):
    """The coupon was voided."""


class CouponUsed(Refusal):
    """The coupon is already used."""


class CouponLocked(Refusal):
    """Another order holds the coupon."""


class NotOwner(Refusal):
    """The coupon belongs to another user."""


class NotLocked(Refusal):
    """No order holds the coupon."""


class LockMismatch(Refusal):
    """The lock belongs to another order, or its token is another one."""


class LockExpired(Refusal):
    """The lock ended before the order was confirmed."""


class NotUsed(Refusal):
    """The coupon is not used, so there is nothing to return."""


class CouponNotExpired(Refusal):
    """The coupon's validity has not ended."""


class LockLimitReached(Refusal):
    """The user holds as many coupons at once as one user may."""


class QuoteChanged(Refusal):
    """The coupons are worth something else now than in the quote."""


class ReturnNotAllowed(Refusal):
    """More would be returned than the use took off."""


class NotTransferable(Refusal):
    """The coupon's terms do not let its owner give it away."""


class NotShareable(Refusal):
    """The coupon's terms do not let its owner share it."""


class RedemptionCodeInvalid(Refusal):
    """The shown code is wrong or no longer fresh."""


# --- the service ------------------------------------------------------------------------------------


class ServiceError(LedgerError):
    """The service could not answer now; the same request may be sent again with the same request id."""


class Unavailable(ServiceError):
    """The database cannot be reached or is too busy. Nothing was written."""


class QueueFull(ServiceError):
    """Too many requests are waiting. Nothing was written."""


class OutcomeUnknown(ServiceError):
    """The connection was lost while committing; ask again with the same request id to learn the outcome."""


class NotCaughtUp(ServiceError):
    """The read model has not reached the asked position yet."""


class ForeignEvent(LedgerError):
    """The store holds an event whose topic or version is not in the catalogue."""

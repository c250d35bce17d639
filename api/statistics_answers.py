"""What callers get who ask how offers do: figures by day, funnels, liability, and a wallet at a glance."""

from __future__ import annotations

from datetime import date
from typing import Annotated

from pydantic import BaseModel, Field, WithJsonSchema

from api.answers import Time

Day = Annotated[date, WithJsonSchema({"type": "string", "format": "date"})]
POSITION = Field(description="The position of the log that the figures show at least.")


class DailyFigures(BaseModel):
    """What became of a batch's coupons on one day, by the channel in which they were issued.

    Counts and amounts may be summed over rows; ``quantity`` is the batch's. Rates are permyriad of this row, rounded
    down, and null where there is nothing to divide by; of several rows, they are those of the sums.
    """

    day: Day = Field(description="In the batch's time zone, by when things happened.")
    batch_id: str
    channel: str = Field(description="How the coupons reached their users: issue, claim, ...")
    currency: str
    quantity: int | None = Field(description="Of the batch: coupons that may be issued at most.")
    issued: int
    locked: int = Field(description="Locks, also by the same order again.")
    unlocked: int
    used: int = Field(description="Uses that ended the coupon.")
    debited: int = Field(description="Parts of vouchers that orders spent.")
    first_uses: int = Field(description="Coupons used for the first time, in whole or in part, whenever issued.")
    online: int = Field(description="Of used and debited, those of web shops.")
    in_store: int = Field(description="And those at tills.")
    returned: int = Field(description="Returns, in whole or in part, and credits of vouchers.")
    restored: int = Field(description="Of them, those that made a used coupon unused again.")
    expired: int = Field(description="Expiries that were written down.")
    voided: int
    discount_minor: int = Field(description="Of used and debited.")
    merchant_funded_minor: int = Field(description="The merchant's part of that.")
    platform_funded_minor: int = Field(description="The platform's part.")
    discount_told_minor: int = Field(description="Of the discount, that of uses told with what was paid.")
    returned_minor: int = Field(description="Given back by returns and credits.")
    orders: int = Field(description="That used coupons of the batch, each counted with its first one.")
    orders_told: int = Field(description="Of these, the ones told with their first coupon what was paid.")
    paid_minor: int = Field(description="For these, as told then.")
    new_customers: int = Field(description="Users whose first use at the merchant was one of this row.")
    new_customer_orders: int = Field(description="Of the orders, those whose first coupon here was such a use.")
    claim_rate_permyriad: int | None = Field(description="issued of quantity; rows add up to the batch's.")
    use_rate_permyriad: int | None = Field(description="first_uses of issued; one day's may be over 10,000.")
    return_on_spend_permyriad: int | None = Field(description="paid_minor of discount_told_minor.")
    new_customer_order_share_permyriad: int | None = Field(description="new_customer_orders of orders.")


class DailyStatistics(BaseModel):
    """A page of days, in their order, then by batch and channel."""

    days: list[DailyFigures]
    next_cursor: str | None
    position: int = POSITION


class BatchFunnel(BaseModel):
    """How far a batch's coupons came, each counted once at every step that it ever reached, and what that brought.

    Rates are permyriad, rounded down, and null where there is nothing to divide by.
    """

    batch_id: str
    campaign: str
    name: str
    quantity: int
    issued: int
    locked: int
    used: int
    returned: int
    used_again: int = Field(description="More than once: after a return, or in parts.")
    claim_rate_permyriad: int | None = Field(description="issued of quantity.")
    lock_rate_permyriad: int | None = Field(description="locked of issued.")
    use_rate_permyriad: int | None = Field(description="used of issued.")
    seconds_to_use: int | None = Field(description="From issue to first use, on average; null before any.")
    currency: str
    discount_minor: int
    discount_told_minor: int = Field(description="Of the discount, that of uses told with what was paid.")
    returned_minor: int
    orders: int = Field(description="That used coupons of the batch.")
    orders_told: int = Field(description="Of these, the ones told with their first coupon what was paid.")
    paid_minor: int = Field(description="For these, as told then.")
    return_on_spend_permyriad: int | None = Field(description="paid_minor of discount_told_minor.")
    new_customers: int = Field(description="Users whose first use at the merchant was one of this batch.")
    new_customer_orders: int = Field(description="Of the orders, those whose first coupon here was such a use.")
    new_customer_order_share_permyriad: int | None = Field(description="new_customer_orders of orders.")


class Funnel(BaseModel):
    """A page of batches, by id."""

    batches: list[BatchFunnel]
    next_cursor: str | None
    position: int = POSITION


class LiabilityAccounts(BaseModel):
    """One funder's accounts in one currency: issued = outstanding + redeemed + unspent + breakage + withdrawn."""

    funder: str = Field(description="merchant or platform.")
    currency: str
    valued: bool = Field(
        description="Whether the face value of the coupons is known; without, the books issue them by their use."
    )
    issued_minor: int = Field(description="Face value of coupons issued.")
    outstanding_minor: int = Field(description="Of it, what can still be used: the liability.")
    redeemed_minor: int = Field(description="What uses took off.")
    unspent_minor: int = Field(description="What uses left of the face value.")
    breakage_minor: int = Field(description="What expired.")
    withdrawn_minor: int = Field(description="What was voided.")
    coupons_issued: int = Field(description="Coupons that two funders share count with both.")
    coupons_outstanding: int


class Liability(BaseModel):
    """The accounts at the end of a month, or as they are so far while it lasts; without a month, as they are now."""

    month: Day | None = Field(description="Its first day, in each batch's time zone; null where no day was told.")
    accounts: list[LiabilityAccounts]
    position: int = POSITION


class StateCounts(BaseModel):
    """Coupons by state."""

    PENDING: int
    UNUSED: int
    LOCKED: int
    USED: int
    EXPIRED: int
    VOIDED: int


class UsableWorth(BaseModel):
    """What the coupons that a user can use now may take off together, in one currency."""

    currency: str
    coupons: int
    worth_minor: int = Field(description="The most that they can take off; of a voucher, what is left on it.")
    not_valued: int = Field(description="Of the coupons, those of which only a basket can tell; not in the sum.")


class WalletSummary(BaseModel):
    """A wallet at a glance: the user's coupons and those that friends share, as the list has them."""

    user_id: str
    counts: StateCounts
    usable: list[UsableWorth]
    next_expiry: Time | None = Field(description="When the first of the usable ones ends; null without any.")
    position: int = POSITION
    as_of: Time = Field(description="The moment that the states are for.")

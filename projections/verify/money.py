"""What a coupon may take off an order, and what of it was given back: a second reading of ``ledger/redemption.py``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from projections.verify.plans import Terms
from projections.verify.report import Broken
from projections.verify.rows import Payload


class Spending:
    """A use by one order, and what of it was given back."""

    __slots__ = ("discount_minor", "lines", "redemption_id", "returned_minor")

    def __init__(self, redemption_id: str, discount_minor: int) -> None:
        self.redemption_id = redemption_id
        self.discount_minor = discount_minor
        self.lines = 0
        """What was undone by lines, in minor units."""
        self.returned_minor = 0


class Bounds:
    """What a lock found that a use under it may take off."""

    __slots__ = ("discount_minor", "lines")

    def __init__(self, locked: Payload) -> None:
        self.discount_minor: int | None = locked["discount_minor"]
        self.lines: Mapping[str, int] = {}
        """What each line in scope costs, where the order system says what comes off them; otherwise empty."""
        if in_scope := locked["lines_in_scope"]:
            self.lines = {line["line_id"]: line["amount_minor"] for line in in_scope}
        allocated = sum(part["discount_minor"] for part in locked["allocation"])
        if self.discount_minor is not None and locked["allocation"] and allocated != self.discount_minor:
            raise Broken("I17", f"an allocation of {self.discount_minor}", f"of {allocated}")


def check_money(event: Payload, terms: Terms, bounds: Bounds) -> None:
    """A use within its terms, its lock and the order's lines, shared between its funders as the terms say.

    What other coupons of the order took off the same lines lies in other streams, and is not counted here.
    """
    discount = event["discount_minor"]
    known = [terms.most_minor(event["order_total_minor"]), bounds.discount_minor]
    if bounds.lines:
        known.append(sum(bounds.lines.values()))
    most = min((bound for bound in known if bound is not None), default=discount)
    if not 0 <= discount <= most:
        raise Broken("I17", f"a discount from 0 to {most}", str(discount))
    if event["currency"] != terms.currency:
        raise Broken("I17", f"a discount in {terms.currency}", f"in {event['currency']}")
    merchant = discount * terms.merchant_share_permyriad // 10_000
    if (event["merchant_funded_minor"], event["platform_funded_minor"]) != (merchant, discount - merchant):
        found = f"{event['merchant_funded_minor']} and {event['platform_funded_minor']}"
        raise Broken("I17", f"{merchant} of the merchant and {discount - merchant} of the platform", found)
    if event["allocation"] and sum(part["discount_minor"] for part in event["allocation"]) != discount:
        raise Broken("I17", f"an allocation of {discount}", "another sum")
    if bounds.lines:
        _check_lines(event, bounds.lines)


def _check_lines(event: Payload, lines: Mapping[str, int]) -> None:
    off: Counter[str] = Counter()
    for part in event["allocation"]:
        off[part["line_id"]] += part["discount_minor"]
    for line_id, discount in off.items():
        most = lines.get(line_id, 0)
        if discount > most:
            raise Broken("I17", f"at most {most} off line {line_id}", str(discount))

"""What a coupon may take off an order, and what of it was given back: a second reading of ``ledger/redemption.py``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from projections.verify.report import Broken
from projections.verify.rows import Payload
from projections.verify.terms import Terms


class Spending:
    """A use by one order, and what of it was given back."""

    __slots__ = ("discount_minor", "lines", "redemption_id", "returned_minor")

    def __init__(self, redemption_id: str, discount_minor: int) -> None:
        self.redemption_id = redemption_id
        self.discount_minor = discount_minor
        self.lines = 0
        """What was undone by lines, in minor units."""
        self.returned_minor = 0

    def undo(self, event: Payload, given_minor: int, rule: str) -> bool:
        """Count what a return undoes, under that rule of the return policy; whether that is all of the use."""
        lines = event["lines"]
        undone = sum_of(lines) if lines else self.discount_minor - self.lines
        self.lines += undone
        self.returned_minor += given_minor
        if self.lines > self.discount_minor:
            raise Broken("I17", f"at most {self.discount_minor} undone in all", f"{undone} now")
        if given_minor != (0 if rule == "keep_used" else undone):
            raise Broken("I17", f"what the policy gives back of {undone} ({rule})", str(given_minor))
        return self.lines == self.discount_minor


class Bounds:
    """What a lock found that a use under it may take off."""

    __slots__ = ("discount_minor", "lines")

    def __init__(self, locked: Payload, terms: Terms, left_minor: int | None) -> None:
        """``left_minor`` is what is left on a voucher. Raises ``Broken`` for a lock that promises too much."""
        total = amount_if_given(locked, "order_total_minor")
        self.discount_minor = discount = amount_if_given(locked, "discount_minor")
        self.lines: Mapping[str, int] = {}
        """What each line in scope costs, where the order system says what comes off them; otherwise empty."""
        if in_scope := locked["lines_in_scope"]:
            self.lines = {line["line_id"]: amount(line, "amount_minor") for line in in_scope}
        terms.check_total(total)
        if discount is None:
            if terms.needs_basket:
                raise Broken("I17", "a lock that says what comes off, as the terms need", "none said")
            if locked["allocation"]:
                raise Broken("I17", "no allocation of a discount that is not said", repr(locked["allocation"]))
            return
        most = terms.most_minor(total)
        if left_minor is not None and (most is None or left_minor < most):
            most = left_minor
        if most is not None and discount > most:
            raise Broken("I17", f"a lock of a discount from 0 to {most}", str(discount))
        if locked["allocation"] and (allocated := sum_of(locked["allocation"])) != discount:
            raise Broken("I17", f"an allocation of {discount}", f"of {allocated}")

    def most_minor(self, most: int | None) -> int | None:
        """What a use may take off at most, where the terms allow so much."""
        if self.discount_minor is not None and (most is None or self.discount_minor < most):
            most = self.discount_minor
        if self.lines:
            in_scope = sum(self.lines.values())
            most = in_scope if most is None else min(most, in_scope)
        return most


def amount(payload: Mapping[str, Any], name: str) -> int:
    """An amount in minor units. Raises ``Broken`` for what is no whole number from 0."""
    value = payload[name]
    if type(value) is not int or value < 0:
        raise Broken("I17", f"a {name} that is a whole number from 0", repr(value))
    return value


def amount_if_given(payload: Mapping[str, Any], name: str) -> int | None:
    """The same, where it may be null."""
    return None if payload[name] is None else amount(payload, name)


def sum_of(parts: Sequence[Mapping[str, Any]]) -> int:
    """What lines carry of a discount, together."""
    return sum([amount(part, "discount_minor") for part in parts])


def check_money(event: Payload, terms: Terms, bounds: Bounds) -> None:
    """A use within its terms, its lock and the order's lines, shared between its funders as the terms say.

    What other coupons of the order took off the same lines lies in other streams, and is not counted here.
    """
    discount, total = event["discount_minor"], event["order_total_minor"]
    merchant, platform = event["merchant_funded_minor"], event["platform_funded_minor"]
    if not type(discount) is type(merchant) is type(platform) is int or discount < 0:
        raise Broken("I17", "amounts that are whole numbers from 0", f"{discount!r}, of it {merchant!r}, {platform!r}")
    if total is not None:
        amount(event, "order_total_minor")
    if event["paid_minor"] is not None:
        amount(event, "paid_minor")
    terms.check_total(total)
    most = bounds.most_minor(terms.most_minor(total))
    if most is not None and discount > most:
        raise Broken("I17", f"a discount from 0 to {most}", str(discount))
    if event["currency"] != terms.currency:
        raise Broken("I17", f"a discount in {terms.currency}", f"in {event['currency']}")
    share = discount * terms.merchant_share_permyriad // 10_000
    if merchant != share or platform != discount - share:
        expected = f"{share} of the merchant and {discount - share} of the platform"
        raise Broken("I17", expected, f"{merchant} and {platform}")
    if event["allocation"] and (allocated := sum_of(event["allocation"])) != discount:
        raise Broken("I17", f"an allocation of {discount}", f"of {allocated}")
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

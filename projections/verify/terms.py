"""What of a template's version can be judged without a basket: a second reading of ``ledger/terms.py``."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from projections.verify.report import Broken
from projections.verify.rows import true, whole, whole_if_given

MONEY_OFF = ("amount_off", "cash_voucher")
RULES = ("restore", "keep_used", "restore_with_grace")


class Terms:
    """One version, from the payload of the template's event. Raises ``ValueError`` and the like for what is none."""

    __slots__ = (
        "accepts_late", "currency", "face_minor", "grace", "leaves_balance", "live_locks_per_user",
        "merchant_share_permyriad", "min_spend_minor", "needs_basket", "needs_total", "off_shipping",
        "percent_permyriad", "return_rules", "shareable", "transferable", "value_minor",
    )  # fmt: skip

    def __init__(self, terms: Mapping[str, Any]) -> None:
        benefit, policy = terms["benefit"], terms["return_policy"]
        kind = benefit["kind"]
        self.value_minor = whole_if_given(benefit, "value_minor")
        self.percent_permyriad = whole_if_given(benefit, "percent_permyriad")
        known = [
            whole_if_given(benefit, "max_discount_minor"),
            whole(benefit, "value_minor") if kind in MONEY_OFF else None,
        ]
        self.face_minor = min((most for most in known if most is not None), default=None)
        """The most that one coupon can take off; ``None`` where the order alone bounds it."""
        self.leaves_balance = true(benefit, "leaves_balance")
        self.off_shipping = kind == "free_shipping"
        self.min_spend_minor = whole(terms, "min_spend_minor")
        self.needs_total = self.min_spend_minor > 0 or self.percent_permyriad is not None
        self.needs_basket = self.face_minor is None and kind not in ("percent_off", "order_stated")
        """Whether a lock must say what comes off, for nothing else does."""
        self.currency: str = terms["currency"]
        self.merchant_share_permyriad = whole(terms, "merchant_share_permyriad")
        self.live_locks_per_user = whole_if_given(terms, "live_locks_per_user")
        self.accepts_late = terms["late_confirm"] == "accept"
        self.transferable, self.shareable = true(terms, "transferable"), true(terms, "shareable")
        self.grace = timedelta(days=whole(policy, "grace_days"))
        self.return_rules: Mapping[str, str] = {name: rule for name, rule in policy.items() if name != "grace_days"}
        if unknown := [rule for rule in self.return_rules.values() if rule not in RULES]:
            raise ValueError(f"{unknown[0]!r} is no rule for returns")

    def most_minor(self, order_total_minor: int | None) -> int | None:
        """The most that one coupon can take off an order of that total."""
        most = self.face_minor
        if order_total_minor is not None and not self.off_shipping:
            if most is None or order_total_minor < most:
                most = order_total_minor
            if self.percent_permyriad is not None:
                most = min(most, (order_total_minor * self.percent_permyriad + 9_999) // 10_000)
        return most

    def check_total(self, order_total_minor: int | None) -> None:
        """The order's total is known where the terms depend on it, and reaches the minimum spend."""
        if order_total_minor is None:
            if self.needs_total:
                raise Broken("I17", "an order of a total that is known, which the terms need", "none told")
        elif order_total_minor < self.min_spend_minor:
            raise Broken("I17", f"an order of at least {self.min_spend_minor}", str(order_total_minor))

    def rule(self, reason: str) -> str:
        """What a return for this reason does with the coupon."""
        rule = self.return_rules.get(reason)
        if rule is None:
            raise Broken("I7", "a return for a reason of the policy", repr(reason))
        return rule

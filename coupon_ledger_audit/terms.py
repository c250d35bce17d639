"""Of a template's terms, what can be judged without a basket: money, late uses, returns, and changes of hands."""

from __future__ import annotations

from typing import Any

from coupon_ledger_audit.broken import DAY, FORM, I17, Broken, expect, whole, whole_if_given

RESTORE, KEEP_USED, RESTORE_WITH_GRACE = "restore", "keep_used", "restore_with_grace"
_UNSAID: dict[str, Any] = {
    "min_spend_minor": 0,
    "merchant_share_permyriad": 10_000,
    "late_confirm": "refuse",
    "transferable": False,
    "shareable": False,
    "return_policy": {},
}
"""What terms mean that do not say it, as those of old versions."""
_UNSAID_RULES: dict[str, Any] = {"order_cancelled": RESTORE, "merchant_refund": RESTORE, "buyer_refund": KEEP_USED}


class Terms:
    """One version of a template."""

    __slots__ = (
        "accepts_late",
        "currency",
        "grace",
        "kind",
        "leaves_balance",
        "max_discount_minor",
        "merchant_share_permyriad",
        "min_spend_minor",
        "percent_permyriad",
        "rules",
        "shareable",
        "transferable",
        "value_minor",
    )

    def __init__(self, said: dict[str, Any]) -> None:
        terms = _UNSAID | said
        benefit = {"value_minor": None, "percent_permyriad": None, "max_discount_minor": None} | terms["benefit"]
        self.kind: str = benefit["kind"]
        self.currency: str = terms["currency"]
        self.value_minor = whole_if_given(benefit, "value_minor", I17)
        self.percent_permyriad = whole_if_given(benefit, "percent_permyriad", I17)
        self.max_discount_minor = whole_if_given(benefit, "max_discount_minor", I17)
        self.leaves_balance = benefit.get("leaves_balance", False) is True
        if self.kind in ("amount_off", "cash_voucher"):
            whole(benefit, "value_minor", I17)
        self.min_spend_minor = whole(terms, "min_spend_minor", I17)
        self.merchant_share_permyriad = whole(terms, "merchant_share_permyriad", I17)
        self.accepts_late = terms["late_confirm"] == "accept"
        self.transferable = terms["transferable"] is True
        self.shareable = terms["shareable"] is True
        policy = _UNSAID_RULES | {"grace_days": 0} | terms["return_policy"]
        self.rules: dict[str, str] = {reason: policy[reason] for reason in _UNSAID_RULES}
        self.grace = whole(policy, "grace_days", I17) * DAY
        """In microseconds."""

    @property
    def worth_minor(self) -> int | None:
        """The most that one coupon can ever take off; ``None`` where only a basket bounds it."""
        if self.kind in ("amount_off", "cash_voucher"):
            return least(self.value_minor, self.max_discount_minor)
        return self.max_discount_minor

    @property
    def needs_basket(self) -> bool:
        """Whether nothing but an order's lines says what it takes off, so that a lock must."""
        return self.worth_minor is None and self.kind not in ("percent_off", "order_stated")

    def most_minor(self, order_total_minor: int | None) -> int | None:
        """The largest discount on such an order; a percentage is rounded up to a whole minor unit."""
        bounds = [self.worth_minor]
        if order_total_minor is not None:
            if self.kind != "free_shipping":
                bounds.append(order_total_minor)
            if self.percent_permyriad is not None:
                bounds.append(-(-order_total_minor * self.percent_permyriad // 10_000))
        return least(*bounds)

    def check_total(self, order_total_minor: int | None) -> None:
        """The order's total is known where the terms depend on it, and reaches the minimum spend."""
        if order_total_minor is None:
            needed = self.min_spend_minor > 0 or self.percent_permyriad is not None
            expect(not needed, I17, "the terms need the order's total, and it is not told")
        else:
            text = f"an order of {order_total_minor} where at least {self.min_spend_minor} must be spent"
            expect(order_total_minor >= self.min_spend_minor, I17, text)

    def rule(self, reason: str) -> str:
        """What a return for this reason does with the coupon."""
        if reason not in self.rules:
            raise Broken(FORM, f"a return for the unknown reason {reason}")
        return self.rules[reason]


def least(*bounds: int | None) -> int | None:
    """The smallest of those that there are."""
    return min((bound for bound in bounds if bound is not None), default=None)

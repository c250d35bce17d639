"""Of a template's terms, what bounds the money: the most that one coupon can take off."""

from __future__ import annotations

from typing import Any

from coupon_ledger_audit.broken import I17, whole, whole_if_given


class Terms:
    """The bounds of one version of a template."""

    __slots__ = ("currency", "kind", "leaves_balance", "max_discount_minor", "percent_permyriad", "value_minor")

    def __init__(self, terms: dict[str, Any]) -> None:
        benefit = {"value_minor": None, "percent_permyriad": None, "max_discount_minor": None} | terms["benefit"]
        self.kind: str = benefit["kind"]
        self.currency: str = terms["currency"]
        self.value_minor = whole_if_given(benefit, "value_minor", I17)
        self.percent_permyriad = whole_if_given(benefit, "percent_permyriad", I17)
        self.max_discount_minor = whole_if_given(benefit, "max_discount_minor", I17)
        self.leaves_balance = benefit.get("leaves_balance", False) is True
        if self.kind in ("amount_off", "cash_voucher"):
            whole(benefit, "value_minor", I17)

    @property
    def worth_minor(self) -> int | None:
        """The most that one coupon can ever take off; ``None`` where only a basket bounds it."""
        if self.kind in ("amount_off", "cash_voucher"):
            known = [self.value_minor, self.max_discount_minor]
            return min(bound for bound in known if bound is not None)
        return self.max_discount_minor

    def most_minor(self, order_total_minor: int | None) -> int | None:
        """The largest discount on such an order; a percentage is rounded up to a whole minor unit."""
        bounds = [self.worth_minor]
        if order_total_minor is not None:
            if self.kind != "free_shipping":
                bounds.append(order_total_minor)
            if self.percent_permyriad is not None:
                bounds.append(-(-order_total_minor * self.percent_permyriad // 10_000))
        return min((bound for bound in bounds if bound is not None), default=None)

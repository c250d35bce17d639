"""What a return gives back of a coupon's use: the coupon itself, or a part of a voucher's balance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from ledger import events
from ledger.coupon_state import CouponState
from ledger.errors import CouponVoid, LockMismatch, NotUsed
from ledger.redemption import returned_lines
from ledger.request import Request
from ledger.terms import Terms


class ReturnedCoupon(CouponState):
    """The commands of refunds."""

    def return_(
        self,
        request: Request,
        now: datetime,
        terms: Terms,
        *,
        order_id: str,
        reason: str,
        lines: Sequence[Mapping[str, Any]] = (),
    ) -> int:
        """Undo the use after a refund, as the pinned return policy says for this reason. Answers what was given back.

        With ``lines`` (``returned_lines``) only their part is returned and the coupon stays used; the return that
        completes the whole, or the one without lines, lets the policy decide. Where nothing is left of these lines,
        nothing happens. Where the policy keeps the coupon used, nothing is given back.
        """
        self._exists()
        if self.voided:
            raise CouponVoid(coupon_id=self.key)
        if order_id in self.debits:
            return self._credit(request, now, terms, order_id, reason, lines)
        if self.used is None or self.redemption_id is None or self.returned_whole():
            raise NotUsed(coupon_id=self.key)
        if self.used_order_id != order_id:
            raise LockMismatch("another order used the coupon", coupon_id=self.key)
        rule = terms.return_policy.rule(reason)
        parts = returned_lines(self.key, self.used, self.returned_lines, lines) if lines else []
        if lines and not parts:
            return 0
        left = self.discount_minor - sum(self.returned_lines.values())
        undone_minor = sum(part["discount_minor"] for part in parts) if parts else left
        returned_minor = 0 if rule == "keep_used" else undone_minor
        whole = undone_minor == left
        valid_until = self.valid_until
        if whole and rule == "restore_with_grace":
            valid_until = max(valid_until, now + timedelta(days=terms.return_policy.grace_days))
        self._record(
            events.CouponReturned,
            request,
            now,
            order_id=order_id,
            redemption_id=self.redemption_id,
            reason=reason,
            restored=whole and rule != "keep_used",
            valid_until=valid_until,
            returned_minor=returned_minor,
            lines=parts,
        )
        return returned_minor

    def _credit(
        self,
        request: Request,
        now: datetime,
        terms: Terms,
        order_id: str,
        reason: str,
        lines: Sequence[Mapping[str, Any]],
    ) -> int:
        """Put what the order spent back on the voucher, or what these lines of it carried, unless the policy keeps it.

        So a voucher is unused again that a later order had emptied, whether or not that order is returned too. A grace
        moves the end of a voucher that is still valid, or that was used up until now. Another one that has expired
        keeps its end, whether or not that was written down.
        """
        debit, rule = self.debits[order_id], terms.return_policy.rule(reason)
        undone = self.undone_lines.get(order_id, {})
        parts = returned_lines(self.key, debit, undone, lines) if lines else []
        if lines and not parts:
            return 0
        left = debit.discount_minor - sum(undone.values())
        undone_minor = sum(part["discount_minor"] for part in parts) if parts else left
        credited_minor = 0 if rule == "keep_used" else undone_minor
        restored = self.redemption_id is not None and credited_minor > 0
        self._record(
            events.CouponCredited,
            request,
            now,
            order_id=order_id,
            redemption_id=debit.redemption_id,
            reason=reason,
            credited_minor=credited_minor,
            balance_minor=self._uncredited_minor(terms, restored) + credited_minor,
            restored=restored,
            lines=parts,
        )
        if undone_minor == left and rule == "restore_with_grace":
            valid_until = now + timedelta(days=terms.return_policy.grace_days)
            if valid_until > self.valid_until and (restored or self.state_at(now) not in ("EXPIRED", "USED")):
                self._extend(request, now, valid_until, reason)
        return credited_minor

    def _uncredited_minor(self, terms: Terms, restored: bool) -> int:
        """The voucher's balance without what an order's return is about to put on it.

        While a use that emptied it stands, the balance is that of before it, for its return brings that back. A credit
        that ends its being used up makes it a part like the others: then what its lines gave back already counts too.
        """
        if self.returned_whole():
            return 0
        if restored:
            kept = {reason for reason in self.returned_by_reason if terms.return_policy.rule(reason) == "keep_used"}
            return sum(minor for reason, minor in self.returned_by_reason.items() if reason not in kept)
        return self.left_minor(terms) or 0

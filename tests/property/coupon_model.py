"""What the ledger should answer of one coupon: its rules again, as plainly as can be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from tests.property.model import GRACE, LOCK_TTL, VALUE, BatchModel, Refused

STATE_REFUSALS = {
    "PENDING": "coupon_not_started",
    "LOCKED": "coupon_locked",
    "USED": "coupon_used",
    "EXPIRED": "coupon_expired",
    "VOIDED": "coupon_void",
}
LONGEST_LOCK = timedelta(days=1)


def refuse_unless(state: str, *allowed: str) -> None:
    if state not in allowed:
        raise Refused(STATE_REFUSALS[state])


@dataclass
class CouponModel:
    id: str
    batch: BatchModel
    user_id: str
    valid_from: datetime
    valid_until: datetime
    friends: tuple[str, ...] = ()
    order: str | None = None
    """Who holds it, or held it until its end by the clock."""
    holder: str | None = None
    lock_began: datetime | None = None
    lock_ends: datetime | None = None
    ended_for: str | None = None
    """Whose hold was the last thing to happen to it, where its end was written down."""
    held_by: frozenset[str] = frozenset()
    """Orders that ever held it, and did not use it since."""
    used_by: str | None = None
    discount: int = 0
    lines: Counter[str] = field(default_factory=Counter)
    """What is left to return of the use, by line."""
    to_return: int = 0
    kept: bool = False
    """Whether the use is returned and the coupon stays used."""
    left: int = VALUE
    debits: dict[str, int] = field(default_factory=dict)
    """What orders spent of a voucher, less what was returned of it."""
    debit_lines: dict[str, Counter[str]] = field(default_factory=dict)
    """The same by line, as far as it was said by line."""
    spent: dict[str, int] = field(default_factory=dict)
    """What they spent, whatever was returned of it."""
    given_back: Counter[str] = field(default_factory=Counter)
    """What was returned of the use, by reason."""
    returned: frozenset[str] = frozenset()
    """Orders that returned it whole, and did not use it again."""
    known: frozenset[tuple[str, str]] = frozenset()
    """Orders that ever used it, each with the lines on which it took something off."""
    end: str = ""

    @property
    def offer_returns(self) -> Mapping[str, str]:
        return self.batch.offer.returns

    def state(self, now: datetime) -> str:
        if self.end == "VOIDED" or self.used_by is not None:
            return self.end or "USED"
        if not self.end and self.lock_ends is not None and now < self.lock_ends:
            return "LOCKED"
        if self.end or now >= self.valid_until:
            return "EXPIRED"
        return "PENDING" if now < self.valid_from else "UNUSED"

    # --- orders ------------------------------------------------------------------------------------------

    def lock(self, now: datetime, order: str, user_id: str, ttl: timedelta | None) -> None:
        if user_id not in (self.user_id, *self.friends):
            raise Refused("not_owner")
        if order in self.debits:
            raise Refused("coupon_used")
        if self.state(now) == "LOCKED" and self.order == order:
            if self.holder != user_id:
                raise Refused("coupon_locked")
            assert self.lock_began is not None
            assert self.lock_ends is not None
            if ttl is not None:
                self.lock_ends = max(self.lock_ends, min(now + ttl, self.lock_began + LONGEST_LOCK))
            return
        refuse_unless(self.state(now), "UNUSED")
        self.order, self.holder = order, user_id
        self.held_by |= {order}
        self.lock_began, self.lock_ends = now, now + (ttl or LOCK_TTL)
        self.ended_for = None

    def confirm(self, now: datetime, order: str, discount: int) -> None:
        spent = self.spent[order] if order in self.debits else None
        if self.used_by == order and self.end != "VOIDED" and not self.kept:
            spent = self.discount
        if spent is not None:
            if spent != discount:
                raise Refused("coupon_used")
            return
        self.check_held(now, order, self.ended_for if self.batch.offer.late else None)
        in_time = self.state(now) == "LOCKED"
        if not in_time and (not self.batch.offer.late or self.state(now) != "UNUSED"):
            raise Refused("lock_expired")
        if not in_time and self.holder not in (self.user_id, *self.friends):
            raise Refused("not_owner")
        if discount > (self.left if self.batch.offer.voucher else VALUE):
            raise Refused("not_applicable")
        self.order = self.lock_ends = self.ended_for = None
        self.returned -= {order}
        self.held_by -= {order}
        self.known |= {(order, line) for line, part in lines_of(discount).items() if part}
        if self.batch.offer.voucher and discount < self.left:
            self.left -= discount
            self.debits[order] = self.spent[order] = discount
            self.debit_lines[order] = Counter(lines_of(discount))
        else:
            self.used_by, self.discount, self.kept = order, discount, False
            self.to_return, self.lines = discount, Counter(lines_of(discount))
            self.given_back = Counter()

    def check_held(self, now: datetime, order: str, ended_for: str | None = None) -> None:
        """Refuse an order that has, or had last, no hold on the coupon."""
        refuse_unless(self.state(now), "PENDING", "UNUSED", "LOCKED", "EXPIRED")
        held_by = self.order or ended_for
        if held_by is None:
            raise Refused("not_locked")
        if held_by != order:
            raise Refused("lock_mismatch")

    def unlock(self, now: datetime, order: str) -> None:
        state = self.state(now)
        let_go = order in self.held_by | self.returned
        if let_go and (state, self.order) != ("LOCKED", order) and state != "VOIDED":
            return
        refuse_unless(state, "PENDING", "UNUSED", "LOCKED", "EXPIRED")
        if state != "LOCKED":
            raise Refused("not_locked")
        self.check_held(now, order)
        self.order = self.lock_ends = self.ended_for = None

    def write_down_the_end(self, now: datetime, order: str) -> None:
        self.check_held(now, order)
        if self.state(now) == "LOCKED":
            raise Refused("coupon_locked")
        self.order, self.lock_ends, self.ended_for = None, None, order

    def give_back(self, now: datetime, order: str, reason: str, asked: Sequence[Mapping[str, object]] = ()) -> None:
        if self.end == "VOIDED":
            raise Refused("coupon_void")
        if order in self.debits:
            self._credit(now, order, reason, asked)
            return
        if self.used_by is None or self.kept:
            raise Refused("not_used")
        if self.used_by != order:
            raise Refused("lock_mismatch")
        parts = parts_of(asked, self.lines)
        if asked and not parts:
            return
        amount = sum(parts.values()) if asked else self.to_return
        self.given_back[reason] += amount
        self.to_return -= amount
        self.lines -= Counter(parts)
        if self.to_return:
            return
        self.returned |= {order}
        rule = self.offer_returns[reason]
        if rule == "keep_used":
            self.kept = True
            return
        self.used_by = None
        if rule == "restore_with_grace":
            self.valid_until = max(self.valid_until, now + GRACE)

    def spends_on(self, order: str) -> bool:
        return (self.used_by == order and not self.kept) or order in self.debits

    def to_return_on(self, order: str) -> int:
        """What may yet be returned of the order's use."""
        return self.debits.get(order, self.to_return if self.used_by == order and not self.kept else 0)

    def _credit(self, now: datetime, order: str, reason: str, asked: Sequence[Mapping[str, object]]) -> None:
        parts = parts_of(asked, self.debit_lines[order])
        if asked and not parts:
            return
        rule = self.offer_returns[reason]
        amount = sum(parts.values()) if asked else self.debits[order]
        self.debits[order] -= amount
        self.debit_lines[order] -= parts
        restored = self.used_by is not None and rule != "keep_used" and amount > 0
        if self.used_by is not None and self.kept:
            self.left = 0
        elif restored:
            self.left = sum(each for why, each in self.given_back.items() if self.offer_returns[why] != "keep_used")
            assert self.used_by is not None
            self.debits[self.used_by], self.spent[self.used_by] = self.to_return, self.discount
            self.debit_lines[self.used_by] = Counter(self.lines)
        if rule != "keep_used":
            self.left += amount
        if restored:
            self.used_by = None
        if self.debits[order]:
            return
        del self.debits[order]
        self.returned |= {order}
        if rule == "restore_with_grace" and (restored or self.state(now) not in ("EXPIRED", "USED")):
            self.valid_until = max(self.valid_until, now + GRACE)

    # --- owners, the merchant and the clock -----------------------------------------------------------------

    def extend(self, now: datetime, valid_until: datetime) -> None:
        refuse_unless(self.state(now), "PENDING", "UNUSED")
        if valid_until <= self.valid_until:
            raise Refused("invalid_period")
        self.valid_until = valid_until

    def transfer(self, now: datetime, user_id: str, to_user_id: str) -> None:
        if self.user_id != user_id:
            raise Refused("not_owner")
        refuse_unless(self.state(now), "PENDING", "UNUSED")
        if not self.batch.offer.given_away:
            raise Refused("not_transferable")
        if user_id == to_user_id:
            raise Refused("invalid_field")
        self.user_id, self.friends = to_user_id, ()
        self.order = self.lock_ends = self.ended_for = None

    def share(self, now: datetime, user_id: str, friends: Sequence[str]) -> None:
        if self.user_id != user_id:
            raise Refused("not_owner")
        refuse_unless(self.state(now), "PENDING", "UNUSED", "LOCKED")
        if not self.batch.offer.shared:
            raise Refused("not_shareable")
        if user_id in friends:
            raise Refused("invalid_field")
        self.friends = tuple(friends)

    def void(self, now: datetime) -> None:
        refuse_unless(self.state(now), "PENDING", "UNUSED", "LOCKED")
        self.order, self.lock_ends, self.ended_for, self.end = None, None, None, "VOIDED"

    def expire(self, now: datetime) -> None:
        if self.end or self.state(now) != "EXPIRED":
            raise Refused("coupon_not_expired")
        self.ended_for = self.order or self.ended_for
        self.order, self.lock_ends, self.end = None, None, "EXPIRED"

    def copy(self) -> CouponModel:
        """The same now, for a command of several coupons that may yet be refused."""
        lines = {order: Counter(of) for order, of in self.debit_lines.items()}
        return replace(
            self,
            lines=Counter(self.lines),
            debits=dict(self.debits),
            debit_lines=lines,
            spent=dict(self.spent),
            given_back=Counter(self.given_back),
        )


def parts_of(asked: Sequence[Mapping[str, object]], left: Counter[str]) -> Counter[str]:
    """What the asked lines give back of what is left of them."""
    parts: Counter[str] = Counter()
    for line in asked:
        id = str(line["line_id"])
        wanted = line.get("discount_minor", left[id])
        if not isinstance(wanted, int) or wanted > left[id]:
            raise Refused("return_not_allowed")
        parts[id] = wanted
    return +parts


def lines_of(discount: int) -> dict[str, int]:
    """How the order systems of these tests split a discount over their lines."""
    return {"1": min(discount, 300), "2": max(discount - 300, 0)}

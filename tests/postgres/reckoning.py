"""The read models of money, reckoned one event at a time in plain Python, with all that happened before at hand."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

from ledger import events
from ledger.calendar import local_day
from ledger.coupon import Coupon
from ledger.terms import Terms

SPENT = (events.CouponUsed, events.CouponDebited)
BACK = (events.CouponReturned, events.CouponCredited)
ZEROS = {
    "daily_statistics": (
        "issued locked unlocked used debited first_uses online in_store returned restored expired voided "
        "discount_minor merchant_funded_minor platform_funded_minor discount_told_minor returned_minor orders "
        "orders_told paid_minor"
    ),
    "funnel": "issued locked used returned used_again seconds_to_use_total",
    "liability": (
        "issued_debit_minor issued_credit_minor outstanding_debit_minor outstanding_credit_minor redeemed_debit_minor "
        "redeemed_credit_minor unspent_debit_minor unspent_credit_minor breakage_debit_minor breakage_credit_minor "
        "withdrawn_debit_minor withdrawn_credit_minor coupons_issued coupons_used coupons_restored coupons_expired "
        "coupons_voided"
    ),
}


class Reckoning:
    """Rows by model and key, and the books' balances at this position."""

    def __init__(self, plans: dict[str, tuple[Terms, str]]) -> None:
        self.plans = plans
        """Terms and time zone by batch."""
        self.coupons: dict[str, Coupon] = {}
        self.past: defaultdict[str, list[Any]] = defaultdict(list)
        """Events by stream."""
        self.order_uses: list[Any] = []
        self.given_back: Counter[tuple[str, str]] = Counter()
        """By coupon and order, of the last use."""
        self.rows: dict[str, dict[tuple[Any, ...], dict[str, Any]]] = {
            name: {} for name in ("order_coupons", "daily_statistics", "customers", "funnel", "liability")
        }

    def feed(self, recorded: Any) -> None:
        """One event of the log, with its times."""
        position, _, event = recorded
        if not isinstance(event, events.CouponEvent):
            return
        coupon = self.coupons.setdefault(event.originator_id, Coupon(event.originator_id))
        before = self._value(coupon, event.batch_id)
        was_expired = coupon.expired
        event.mutate(coupon)
        self._daily(position, event)
        self._funnel(position, event)
        self._liability(position, event, before, self._value(coupon, event.batch_id), was_expired)
        self._pair(position, event)
        if isinstance(event, SPENT):
            self._customer(position, event)
            self.order_uses.append(event)
        self.past[event.originator_id].append(event)

    def outstanding(self, batch_id: str) -> int:
        """Face value of all coupons of the batch, one by one."""
        mine = [coupon for coupon in self.coupons.values() if coupon.batch_id == batch_id]
        return sum(self._value(coupon, batch_id) for coupon in mine)

    def _value(self, coupon: Coupon, batch_id: str) -> int:
        terms = self.plans[batch_id][0]
        if not coupon.version or coupon.voided or coupon.expired or coupon.redemption_id is not None:
            return 0
        left = coupon.left_minor(terms)
        return left if left is not None else terms.benefit.worth_minor or 0

    def _row(self, model: str, key: tuple[Any, ...], position: int, **new: Any) -> dict[str, Any]:
        zeros = dict.fromkeys(ZEROS[model].split(), 0) if model in ZEROS else {}
        row = self.rows[model].setdefault(key, zeros | new)
        row["position"] = position
        return row

    def _day(self, event: Any) -> Any:
        return local_day(event.occurred_at, self.plans[event.batch_id][1])

    def _daily(self, position: int, event: Any) -> None:
        words = {
            events.CouponIssued: "issued", events.CouponLocked: "locked", events.CouponUnlocked: "unlocked",
            events.CouponUsed: "used", events.CouponDebited: "debited", events.CouponReturned: "returned",
            events.CouponCredited: "returned", events.CouponExpired: "expired", events.CouponVoided: "voided",
        }  # fmt: skip
        if type(event) not in words:
            return
        issued = (self.past[event.originator_id] or [event])[0]
        terms = self.plans[event.batch_id][0]
        key = event.batch_id, self._day(event), issued.channel
        row = self._row(
            "daily_statistics", key, position, merchant_id=event.merchant_id, currency=terms.currency,
            batch_id=key[0], day=key[1], channel=key[2],
        )  # fmt: skip
        row[words[type(event)]] += 1
        if isinstance(event, SPENT):
            row[event.channel] += 1
            for name in ("discount_minor", "merchant_funded_minor", "platform_funded_minor"):
                row[name] += getattr(event, name)
            row["discount_told_minor"] += 0 if event.paid_minor is None else event.discount_minor
            row["first_uses"] += not any(isinstance(earlier, SPENT) for earlier in self.past[event.originator_id])
            if not self._known(event):
                row["orders"] += 1
                row["orders_told"] += event.paid_minor is not None
                row["paid_minor"] += event.paid_minor or 0
        if isinstance(event, BACK):
            row["restored"] += event.restored
            row["returned_minor"] += _given(event)

    def _known(self, event: Any) -> bool:
        """Whether the order used a coupon of the batch before."""
        return any((use.order_id, use.batch_id) == (event.order_id, event.batch_id) for use in self.order_uses)

    def _funnel(self, position: int, event: Any) -> None:
        steps: dict[str, tuple[type, ...]] = {
            "issued": (events.CouponIssued,), "locked": (events.CouponLocked,), "used": SPENT, "returned": BACK,
        }  # fmt: skip
        for name, kinds in steps.items():
            if not isinstance(event, kinds):
                continue
            row = self._row(
                "funnel", (event.batch_id,), position, batch_id=event.batch_id, merchant_id=event.merchant_id
            )
            times = sum(isinstance(earlier, kinds) for earlier in self.past[event.originator_id])
            row[name] += times == 0
            if name == "used":
                row["used_again"] += times == 1
                if times == 0:
                    took = event.occurred_at - self.past[event.originator_id][0].occurred_at
                    row["seconds_to_use_total"] += int(took.total_seconds())

    def _liability(self, position: int, event: Any, before: int, after: int, was_expired: bool) -> None:
        """Each funder's part of what is outstanding before and after; what is redeemed; and the rest somewhere."""
        terms = self.plans[event.batch_id][0]
        counted = {
            events.CouponIssued: "coupons_issued", events.CouponUsed: "coupons_used",
            events.CouponExpired: "coupons_expired", events.CouponVoided: "coupons_voided",
        }  # fmt: skip
        if type(event) not in counted and not isinstance(event, (*SPENT, *BACK)):
            return
        rest = "issued" if terms.benefit.worth_minor is None else "unspent"
        if isinstance(event, events.CouponIssued):
            rest = "issued"
        elif isinstance(event, events.CouponVoided):
            rest = "withdrawn"
        elif isinstance(event, events.CouponExpired) or was_expired:
            rest = "breakage"
        redeemed = self._redeemed(terms, event)
        for funder, share in (("merchant", True), ("platform", False)):
            if terms.merchant_share_permyriad == (0 if share else 10_000):
                continue
            outstanding = _part(terms, after, share) - _part(terms, before, share)
            month = self._day(event).replace(day=1)
            row = self._row(
                "liability", (event.batch_id, funder, month), position, batch_id=event.batch_id, funder=funder,
                month=month, merchant_id=event.merchant_id, currency=terms.currency,
                valued=terms.benefit.worth_minor is not None,
            )  # fmt: skip
            mine = redeemed[0 if share else 1]
            anew = self._granted_anew(terms, event, share)
            amounts = {"outstanding": outstanding, "redeemed": mine, "issued": -anew}
            signed = [*amounts.items(), (rest, anew - outstanding - mine)]
            for account, amount in signed:
                row[f"{account}_{'credit' if amount > 0 else 'debit'}_minor"] += abs(amount)
            if type(event) in counted:
                row[counted[type(event)]] += 1
            row["coupons_restored"] += isinstance(event, BACK) and event.restored

    def _redeemed(self, terms: Terms, event: Any) -> tuple[int, int]:
        key = event.originator_id, getattr(event, "order_id", "")
        if isinstance(event, SPENT):
            self.given_back[key] = 0
            return event.merchant_funded_minor, event.platform_funded_minor
        if isinstance(event, BACK):
            total = self.given_back[key] + _given(event)
            merchant = _part(terms, total, True) - _part(terms, self.given_back[key], True)
            self.given_back[key] = total
            return -merchant, -(_given(event) - merchant)
        return 0, 0

    def _granted_anew(self, terms: Terms, event: Any, share: bool) -> int:
        """What stays redeemed of a use though the coupon has all of its value again."""
        if not isinstance(event, events.CouponReturned) or not event.restored or terms.benefit.worth_minor is None:
            return 0
        earlier = self.past[event.originator_id]
        use = next(use for use in reversed(earlier) if isinstance(use, SPENT) and use.order_id == event.order_id)
        given_back = self.given_back[event.originator_id, event.order_id]
        return _part(terms, use.discount_minor, share) - _part(terms, given_back, share)

    def _customer(self, position: int, event: Any) -> None:
        key = event.merchant_id, event.holder_id, event.currency
        known = any(use.holder_id == event.holder_id for use in self.order_uses)
        row = self._row(
            "customers", key, position, merchant_id=key[0], user_id=key[1], currency=key[2], is_first=not known,
            first_used_at=event.occurred_at, first_day=self._day(event), first_order_id=event.order_id,
            first_batch_id=event.batch_id, first_channel=event.channel,
            first_issued_as=self.past[event.originator_id][0].channel, opened_order=not self._known(event), uses=0,
            orders=0, orders_told=0, discount_minor=0, paid_minor=0,
        )  # fmt: skip
        row["last_used_at"] = event.occurred_at
        row["uses"] += 1
        row["discount_minor"] += event.discount_minor
        if not any((use.order_id, use.holder_id) == (event.order_id, event.holder_id) for use in self.order_uses):
            row["orders"] += 1
            row["orders_told"] += event.paid_minor is not None
            row["paid_minor"] += event.paid_minor or 0

    def _pair(self, position: int, event: Any) -> None:
        rows = self.rows["order_coupons"]
        key = event.merchant_id, getattr(event, "order_id", None), event.originator_id[7:]
        if isinstance(event, events.CouponLocked):
            before = rows.get(key, {"first_locked_at": event.occurred_at, "uses": 0})
            empty = dict.fromkeys(
                ("unlocked_at", "used_at", "returned_at", "redemption_id", "currency", "paid_minor"), None
            )
            nothing = dict.fromkeys(
                ("discount_minor", "merchant_funded_minor", "platform_funded_minor", "undone_minor", "returned_minor"),
                0,
            )
            rows[key] = empty | nothing | {
                "merchant_id": key[0], "order_id": key[1], "coupon_id": key[2], "batch_id": event.batch_id,
                "user_id": event.user_id, "holder_id": event.holder_id, "state": "LOCKED",
                "first_locked_at": before["first_locked_at"], "locked_at": event.occurred_at,
                "lock_ends_at": event.lock_ends_at, "channel": event.channel, "found_minor": event.discount_minor,
                "order_total_minor": event.order_total_minor, "late": False, "uses": before["uses"],
            }  # fmt: skip
        elif isinstance(event, events.CouponLockExtended):
            rows[key]["lock_ends_at"] = event.lock_ends_at
        elif isinstance(event, events.CouponUnlocked):
            rows[key] |= {"state": "UNLOCKED", "unlocked_at": event.occurred_at}
        elif isinstance(event, SPENT):
            copied = (
                "user_id", "holder_id", "channel", "redemption_id", "currency", "discount_minor",
                "merchant_funded_minor", "platform_funded_minor", "order_total_minor", "paid_minor", "late",
            )  # fmt: skip
            state = "USED" if isinstance(event, events.CouponUsed) else "DEBITED"
            rows[key] |= {"state": state, "used_at": event.occurred_at, "uses": rows[key]["uses"] + 1}
            rows[key] |= {name: getattr(event, name) for name in copied}
        elif isinstance(event, BACK):
            row = rows[key]
            left = row["discount_minor"] - row["undone_minor"]
            row["undone_minor"] += sum(part["discount_minor"] for part in event.lines) if event.lines else left
            row["returned_minor"] += _given(event)
            row["returned_at"] = event.occurred_at
            if row["undone_minor"] == row["discount_minor"]:
                row["state"] = "RETURNED"
        else:
            return
        rows[key]["position"] = position


def _given(event: Any) -> int:
    given: int = event.returned_minor if isinstance(event, events.CouponReturned) else event.credited_minor
    return given


def _part(terms: Terms, amount: int, merchant: bool) -> int:
    mine = terms.merchant_funded_minor(amount)
    return mine if merchant else amount - mine

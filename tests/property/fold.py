"""The log folded as an auditor would: each coupon event is one step between states, and none is ever out of turn."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from ledger.coupon import Coupon
from ledger.events import CouponCredited, CouponIssued, CouponReturned, Event
from ledger.store import Store

STEPS = {
    "coupon.issued": ("", "UNUSED"),
    "coupon.locked": ("UNUSED", "LOCKED"),
    "coupon.unlocked": ("LOCKED", "UNUSED"),
    "coupon.used": ("LOCKED", "USED"),
    "coupon.debited": ("LOCKED", "UNUSED"),
    "coupon.returned": ("USED", "UNUSED"),
    "coupon.expired": ("UNUSED", "EXPIRED"),
    "coupon.voided": ("UNUSED", "VOIDED"),
}
"""The state before and after; a return that does not restore changes nothing."""
STANDING_STILL = {
    "coupon.lock_extended": {"LOCKED"},
    "coupon.credited": {"UNUSED", "LOCKED", "USED", "EXPIRED"},
    "coupon.extended": {"UNUSED", "LOCKED"},
    "coupon.transferred": {"UNUSED"},
    "coupon.shared": {"UNUSED", "LOCKED"},
}
"""In which states a fact may happen that leaves the state as it is; a credit may make what was used up unused."""


class Fold:
    """What the log says from its present end on."""

    def __init__(self, store: Store) -> None:
        self.position = store.head()
        self.issued: dict[str, Counter[str]] = defaultdict(Counter)
        """Batch to coupons by the user to whom they were issued."""
        self._store = store
        self._coupons: dict[str, Coupon] = {}
        self._states: dict[str, str] = {}

    def catch_up(self) -> None:
        """Fold what is new; positions have no holes."""
        with self._store.connection() as connection:
            for entry in self._store.read(connection, self.position, 10_000):
                assert entry.position == self.position + 1
                self.position = entry.position
                if entry.event.TOPIC.startswith("coupon."):
                    self._step(entry.event)

    def states_of(self, batch_id: str) -> Counter[str]:
        """The batch's coupons by their state as the events say it, without the clock."""
        return Counter(self._states[id] for id, coupon in self._coupons.items() if coupon.batch_id == batch_id)

    def coupons(self) -> Iterator[Coupon]:
        """Every coupon as its stream folds to."""
        yield from self._coupons.values()

    def _step(self, event: Event) -> None:
        stream, topic = event.originator_id, event.TOPIC
        if isinstance(event, CouponIssued):
            assert stream not in self._coupons
            self._coupons[stream] = Coupon(stream)
            self.issued[event.batch_id][event.user_id] += 1
        state = self._states.get(stream, "")
        if isinstance(event, CouponCredited) and event.restored:
            assert state == "USED", f"{topic} while {state}"
            self._states[stream] = "UNUSED"
        elif topic in STANDING_STILL:
            assert state in STANDING_STILL[topic], f"{topic} while {state}"
        else:
            before, after = STEPS[topic]
            assert state == before, f"{topic} while {state}"
            if not isinstance(event, CouponReturned) or event.restored:
                self._states[stream] = after
        event.mutate(self._coupons[stream])

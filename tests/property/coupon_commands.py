"""The commands of coupons: of orders, of owners, of the merchant and of the clock."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from ledger import use_cases
from ledger.coupon import Redemption
from tests.property.batch_commands import BatchCommands, users
from tests.property.coupon_model import CouponModel, lines_of
from tests.property.model import OFFERS, VALUE, Refused

orders = st.sampled_from(["holder", "holder", "holder", "order-1", "order-2"])
"""``holder`` is the order that holds, or used, the first coupon chosen, so that most moves can go on."""
reasons = st.sampled_from(sorted(OFFERS["generous"].returns))
discounts = st.sampled_from([VALUE, VALUE, 200, 1, VALUE + 1])
ttls = st.sampled_from([None, None, None, 60, 86_400])
which = st.integers(-3, 7)
"""One of the first coupons, two of each offer, so that most moves find what an earlier one left; or of the newest."""
some_numbers = st.lists(which, min_size=1, max_size=2)
LINES: dict[str, list[dict[str, Any]]] = {
    "whole": [],
    "line 1": [{"line_id": "1"}],
    "line 2": [{"line_id": "2"}],
    "both": [{"line_id": "1"}, {"line_id": "2"}],
    "a part": [{"line_id": "1", "discount_minor": 150}],
    "another": [{"line_id": "3"}],
}


def redemption(coupon: CouponModel, discount: int) -> Redemption:
    lines = [{"line_id": id, "discount_minor": part} for id, part in lines_of(discount).items() if part]
    return Redemption(coupon_id=coupon.id, discount_minor=discount, allocation=lines)


def refusals(coupons: Sequence[CouponModel], step: Callable[[CouponModel], None]) -> set[str]:
    """Why the coupons refuse the step, each by itself."""
    codes: set[str] = set()
    for coupon in coupons:
        try:
            step(coupon.copy())
        except Refused as refused:
            codes |= refused.codes
    return codes


class CouponCommands(BatchCommands):
    """What happens to one merchant's coupons."""

    def order(self, word: str, coupon: CouponModel) -> str:
        known = [coupon.order, coupon.ended_for, coupon.used_by, *coupon.debits]
        return next((order for order in known if order), "order-1") if word == "holder" else word

    def coupon(self, number: int) -> CouponModel:
        return self.coupons[number % len(self.coupons)]

    def some(self, chosen: list[int]) -> list[CouponModel]:
        """Distinct coupons, in the order of their ids, as the ledger takes them."""
        coupons = {coupon.id: coupon for coupon in map(self.coupon, chosen)}
        return [coupons[id] for id in sorted(coupons)]

    def together(self, coupons: Sequence[CouponModel], step: Callable[[CouponModel], None]) -> Callable[[], None]:
        """The step on all coupons or, when one refuses it, on none."""

        def move() -> None:
            tried = [coupon.copy() for coupon in coupons]
            for coupon in tried:
                step(coupon)
            for coupon, moved in zip(coupons, tried, strict=True):
                vars(coupon).update(vars(moved))

        return move

    def stand_apart(self, order: str, coupons: Sequence[CouponModel]) -> bool:
        """Whether one of these, or of what the order has used before, goes with no other."""
        used = [coupon for coupon in self.coupons if coupon.spends_on(order) and coupon not in coupons]
        all_of_them = [*coupons, *used]
        return len(all_of_them) > 1 and any(coupon.batch.offer.alone for coupon in all_of_them)

    def locks_too_many(self, coupons: Sequence[CouponModel], user_id: str) -> bool:
        """Whether the user would hold more than an offer allows.

        These examples play in a far future of the server's clock, so a hold counts until somebody writes its end down.
        """
        for offer in {coupon.batch.offer.live_locks: coupon.batch.offer for coupon in coupons}.values():
            held = [each for each in self.coupons if each.order and each.holder == user_id and each not in coupons]
            of_offer = [each for each in (*held, *coupons) if each.batch.offer is offer]
            if offer.live_locks is not None and len(of_offer) > offer.live_locks:
                return True
        return False

    # --- orders ------------------------------------------------------------------------------------------

    @rule(chosen=some_numbers, order=orders, user=st.sampled_from(["owner"] * 6 + ["friend", "dee"]), ttl=ttls)
    def lock(self, chosen: list[int], order: str, user: str, ttl: int | None) -> None:
        first = self.coupon(chosen[0])
        coupons = [coupon for coupon in self.some(chosen) if coupon.user_id == first.user_id]
        user_id = {"owner": first.user_id, "friend": next(iter(first.friends), "dee")}.get(user, user)
        order = self.order(order, first)
        held_for = None if ttl is None else timedelta(seconds=ttl)

        def expected() -> None:
            if len(coupons) > 1 and any(coupon.batch.offer.alone for coupon in coupons):
                raise Refused("exclusive_conflict", *refusals(coupons, step))
            if self.locks_too_many(coupons, user_id):
                raise Refused(*(refusals(coupons, step) or {"lock_limit_reached"}))
            self.together(coupons, step)()

        def step(coupon: CouponModel) -> None:
            coupon.lock(self.now, order, user_id, held_for)

        self.ask(
            use_cases.lock,
            expected,
            order_id=order,
            user_id=user_id,
            coupon_ids=[coupon.id for coupon in coupons],
            ttl_seconds=ttl,
        )

    @rule(chosen=some_numbers, order=orders, discount=discounts)
    def confirm(self, chosen: list[int], order: str, discount: int) -> None:
        coupons = self.some(chosen)
        order = self.order(order, coupons[0])

        def expected() -> None:
            if self.stand_apart(order, coupons):
                raise Refused(*(refusals(coupons, step) or {"exclusive_conflict"}))
            self.together(coupons, step)()

        def step(coupon: CouponModel) -> None:
            coupon.confirm(self.now, order, discount)

        self.ask(
            use_cases.confirm,
            expected,
            order_id=order,
            redemptions=[redemption(coupon, discount) for coupon in coupons],
        )

    @rule(number=which, order=orders, discount=discounts, user=st.sampled_from(["owner", "owner", "nobody", "dee"]))
    def redeem(self, number: int, order: str, discount: int, user: str) -> None:
        """Locked and confirmed at once, at a till."""
        coupon = self.coupon(number)
        order = self.order(order, coupon)
        user_id = {"owner": coupon.user_id, "nobody": None}.get(user, user)

        def step(tried: CouponModel) -> None:
            tried.lock(self.now, order, user_id or tried.user_id, None)
            tried.confirm(self.now, order, discount)

        def expected() -> None:
            if self.stand_apart(order, [coupon]):
                raise Refused(*(refusals([coupon], step) or {"exclusive_conflict"}))
            self.together([coupon], step)()

        said = redemption(coupon, discount)
        self.ask(
            use_cases.redeem,
            expected,
            order_id=order,
            coupon_id=coupon.id,
            user_id=user_id,
            discount_minor=discount,
            allocation=said.allocation,
        )

    @rule(chosen=some_numbers, order=orders, swept=st.booleans())
    def unlock(self, chosen: list[int], order: str, swept: bool) -> None:
        """By the order, or by the sweeper, which writes down that a lock is over."""
        coupons = self.some(chosen)
        order = self.order(order, coupons[0])

        def step(coupon: CouponModel) -> None:
            (coupon.write_down_the_end if swept else coupon.unlock)(self.now, order)

        self.ask(
            use_cases.unlock,
            self.together(coupons, step),
            order_id=order,
            coupon_ids=[coupon.id for coupon in coupons],
            reason="lock_ended" if swept else "r",
        )

    @rule(chosen=some_numbers, order=orders, reason=reasons, lines=st.sampled_from(["whole", *LINES]))
    def give_back(self, chosen: list[int], order: str, reason: str, lines: str) -> None:
        coupons = self.some(chosen[:1] if lines == "a part" else chosen)
        order = self.order(order, coupons[0])

        def step(coupon: CouponModel) -> None:
            coupon.give_back(self.now, order, reason, LINES[lines])

        def expected() -> None:
            open = [coupon for coupon in coupons if order not in coupon.returned] or coupons
            before = [coupon.to_return_on(order) for coupon in open]
            after = [coupon.copy() for coupon in open]
            for coupon in after:
                step(coupon)
            known = {line for coupon in coupons for of, line in coupon.known if of == order}
            if not known.issuperset(line["line_id"] for line in LINES[lines]):
                raise Refused("return_not_allowed")
            if LINES[lines] and before == [coupon.to_return_on(order) for coupon in after]:
                raise Refused("return_not_allowed")
            self.together(open, step)()

        self.ask(
            use_cases.return_coupons,
            expected,
            order_id=order,
            coupon_ids=[coupon.id for coupon in coupons],
            reason=reason,
            lines=LINES[lines],
        )

    @rule(
        number=which,
        discount=discounts,
        longer=st.booleans(),
        end=st.sampled_from(
            [
                "unlock",
                "confirm",
                "refund",
                "refund twice",
                "in parts",
                "let it end",
                "late",
                "swept, late",
                "just in time",
            ]
        ),
        reason=reasons,
    )
    def whole_order(self, number: int, discount: int, longer: bool, end: str, reason: str) -> None:
        """The usual course of an order, which single steps seldom find."""
        self.lock([number], "holder", "owner", None)
        if longer:
            self.lock([number], "holder", "owner", 60)
        if end == "unlock":
            self.unlock([number], "holder", swept=False)
        if end in ("let it end", "late", "swept, late", "just in time"):
            self.wait_for_a_boundary(number, "lock_ends", early=end == "just in time")
        if end == "swept, late":
            self.unlock([number], "holder", swept=True)
        if end not in ("unlock", "let it end"):
            self.confirm([number], "holder", discount)
        if end == "in parts":
            for lines in ("line 1", "line 1", "line 2"):
                self.give_back([number], "holder", reason, lines)
        for _ in range({"refund": 1, "refund twice": 2}.get(end, 0)):
            self.give_back([number], "holder", reason, "whole")

    @rule(
        number=st.integers(4, 5),
        parts=st.lists(st.sampled_from([100, 200, 300]), min_size=2, max_size=3),
        returned=st.lists(st.integers(0, 2), max_size=3),
        reason=reasons,
        lines=st.sampled_from(["whole", "line 1"]),
    )
    def voucher_in_parts(
        self, number: int, parts: list[int], returned: list[int], reason: str, lines: str = "whole"
    ) -> None:
        """Some orders spend a voucher, and some of them are undone."""
        orders = [f"order-{self.now.isoformat()}-{ordinal}" for ordinal in range(len(parts))]
        for order, part in zip(orders, parts, strict=True):
            self.lock([number], order, "owner", None)
            self.confirm([number], order, part)
        for ordinal in returned:
            self.give_back([number], orders[ordinal % len(orders)], reason, lines)

    # --- owners, the merchant and the clock -----------------------------------------------------------------

    @rule(number=which, seconds=st.sampled_from([-1, 0, 1, 50]))
    def extend(self, number: int, seconds: int) -> None:
        coupon = self.coupon(number)
        until = coupon.valid_until + timedelta(seconds=seconds)
        self.ask(
            use_cases.extend,
            lambda: coupon.extend(self.now, until),
            coupon_id=coupon.id,
            valid_until=until,
            reason="r",
        )

    @rule(number=which, stranger=st.sampled_from([False, False, True]), to_user=users)
    def transfer(self, number: int, stranger: bool, to_user: str) -> None:
        coupon = self.coupon(number)
        user_id = "dee" if stranger else coupon.user_id
        self.ask(
            use_cases.transfer,
            lambda: coupon.transfer(self.now, user_id, to_user),
            coupon_id=coupon.id,
            user_id=user_id,
            to_user_id=to_user,
        )

    @rule(
        number=which,
        stranger=st.sampled_from([False, False, True]),
        friends=st.lists(users, max_size=2, unique=True),
    )
    def share(self, number: int, stranger: bool, friends: list[str]) -> None:
        coupon = self.coupon(number)
        user_id = "dee" if stranger else coupon.user_id
        self.ask(
            use_cases.share,
            lambda: coupon.share(self.now, user_id, friends),
            coupon_id=coupon.id,
            user_id=user_id,
            with_user_ids=friends,
        )

    @rule(number=which, expire=st.booleans())
    def end(self, number: int, expire: bool) -> None:
        """Withdrawn, or its expiry written down."""
        coupon = self.coupon(number)
        if expire:
            self.ask(use_cases.expire, lambda: coupon.expire(self.now), coupon_id=coupon.id)
        else:
            self.ask(use_cases.void, lambda: coupon.void(self.now), coupon_id=coupon.id, reason="r")

    @precondition(lambda self: len(self.coupons) > 10)
    @rule(chosen=some_numbers)
    def void_all(self, chosen: list[int]) -> None:
        """Those that can be, and no word of refusal for the whole."""
        coupons = self.some(chosen)
        told: dict[str, Any] = {}

        def expected() -> None:
            told.update(voided=[], refused=[])
            for coupon in coupons:
                try:
                    coupon.void(self.now)
                    told["voided"].append(coupon.id)
                except Refused as refused:
                    [code] = refused.codes
                    told["refused"].append({"coupon_id": coupon.id, "code": code})

        ids = [coupon.id for coupon in coupons]
        receipt = self.ask(use_cases.void_all, expected, coupon_ids=ids, reason="r")
        assert receipt is not None
        assert receipt.answer == told

    # --- time --------------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([1, 10, 31]))
    def wait(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @rule(number=which, boundary=st.sampled_from(["valid_from", "lock_ends", "valid_until"]), early=st.booleans())
    def wait_for_a_boundary(self, number: int, boundary: str, early: bool) -> None:
        """To the very instant, or to the one before it."""
        moment: datetime | None = getattr(self.coupon(number), boundary)
        if moment is not None:
            self.now = max(self.now, moment - timedelta(microseconds=early))

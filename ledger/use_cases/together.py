"""Whether the coupons of one order go together: those of one command, and those that the order used before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from itertools import combinations

from ledger import limits
from ledger.basket import Basket
from ledger.benefit import MONEY_LIMIT_MINOR
from ledger.commit import Unit
from ledger.coupon import Coupon
from ledger.errors import ExclusiveConflict, NotApplicable
from ledger.events import CouponLocked, CouponSpent
from ledger.use_cases.checks import terms_of
from ledger.work import Loaded


def check_stacking(loaded: Loaded, coupons: Sequence[Coupon]) -> None:
    """Raise ``ExclusiveConflict`` unless these may be used together: none is exclusive, no two of one group."""
    for one, other in combinations(coupons, 2):
        terms, others = terms_of(loaded, one), terms_of(loaded, other)
        same_group = terms.stacking_group is not None and terms.stacking_group == others.stacking_group
        if same_group or "exclusive" in (terms.stacking_mode, others.stacking_mode):
            raise ExclusiveConflict(coupon_id=one.key, with_coupon_id=other.key)


def check_together(
    loaded: Loaded,
    order_id: str,
    coupons: Sequence[Coupon],
    basket: Basket | None = None,
    *,
    at_till: bool = False,
) -> None:
    """Raise unless what the order spent of these coupons stands together, and with what it spent before.

    ``ExclusiveConflict`` as ``check_stacking``. ``NotApplicable`` where not all were priced on one basket in one call,
    or none was; and where they take more off the lines than the order costs, or than the least of their order caps
    allows. An order of unknown total has neither bound. Its total is that of the ``basket`` where one comes with the
    call, and otherwise the least that was said of it, or that a lock's basket came to.

    A till that sends the ``basket`` scans one coupon after the other, so each is priced by itself; then neither a line
    nor the shipping carries more than it costs.
    """
    named = {coupon.key for coupon in coupons}
    coupons = [*coupons, *(coupon for coupon in _spent_before(loaded, order_id) if coupon.key not in named)]
    if len(coupons) == 1 and terms_of(loaded, coupons[0]).order_cap_permyriad is None:
        return  # its own terms were checked against the order's total
    check_stacking(loaded, coupons)
    uses = [coupon.spent_on(order_id) for coupon in coupons]
    locks = [_lock_of(loaded, coupon, use) for coupon, use in zip(coupons, uses, strict=True)]
    _check_priced_alike(loaded, order_id, coupons, locks, one_call=basket is None, at_till=at_till)
    all_terms = [terms_of(loaded, coupon) for coupon in coupons]
    off_shipping = sum(
        use.discount_minor for terms, use in zip(all_terms, uses, strict=True) if terms.benefit.kind == "free_shipping"
    )
    if basket is not None:
        _check_lines(order_id, uses, basket, off_shipping)
    off_lines = sum(use.discount_minor for use in uses) - off_shipping
    if basket is not None:
        totals = [basket.total_minor]
    else:
        said = [use.order_total_minor for use in uses]
        said += [lock.order_total_minor for lock in locks if lock.channel is not None]
        totals = [total for total in said if total is not None]
    cap = min((terms.order_cap_permyriad for terms in all_terms if terms.order_cap_permyriad), default=10_000)
    most = min(totals, default=MONEY_LIMIT_MINOR) * cap // 10_000
    if totals and off_lines > most:
        detail = "the coupons together take more off than the order allows"
        raise NotApplicable(detail, order_id=order_id, discount_minor=off_lines, most_minor=most)


def counted(unit: Unit, loaded: Loaded, order_id: str) -> Unit:
    """The unit, counting the order's uses: if another came since the decision looked, it is decided again."""
    if uses := sum(isinstance(event, CouponSpent) for event in unit.events):
        unit.quota[limits.uses_key(loaded.merchant_id, order_id)] = (uses, loaded.order_uses + uses)
    return unit


def carried_before(loaded: Loaded, order_id: str, named: Collection[str]) -> Counter[str]:
    """What the uses of the order's other coupons, those not named, took off each line."""
    carried: Counter[str] = Counter()
    for coupon in _spent_before(loaded, order_id):
        if coupon.key not in named:
            carried.update(off_lines(coupon.spent_on(order_id)))
    return carried


def off_lines(use: CouponSpent) -> Counter[str]:
    """What a use takes off each line."""
    off: Counter[str] = Counter()
    for part in use.allocation:
        off[part["line_id"]] += part["discount_minor"]
    return off


def _spent_before(loaded: Loaded, order_id: str) -> list[Coupon]:
    known = [loaded.coupon(stream.removeprefix("coupon-")) for stream in loaded.order_streams]
    return [coupon for coupon in known if coupon.spends_on(order_id)]


def _check_priced_alike(
    loaded: Loaded,
    order_id: str,
    coupons: Sequence[Coupon],
    locks: Sequence[CouponLocked],
    *,
    one_call: bool,
    at_till: bool,
) -> None:
    priced, digests = set(), set()
    for coupon, lock in zip(coupons, locks, strict=True):
        digests.add(lock.quote_digest)
        # What the order system values has no discount in its lock, with a basket or without.
        if terms_of(loaded, coupon).benefit.kind != "order_stated":
            priced.add(lock.discount_minor is not None)
    with_basket = {lock.discount_minor is not None or lock.channel is not None for lock in locks}
    if at_till and len(with_basket) > 1:
        detail = "some of the order's coupons were used with a basket and some without: send it with each scan"
        raise NotApplicable(detail, order_id=order_id)
    if len(priced) > 1:
        detail = "some of the order's coupons were locked with a basket and some without: lock all in one call"
        raise NotApplicable(detail, order_id=order_id)
    if one_call and True in priced and len(digests) > 1:
        raise NotApplicable("the coupons were not priced together: lock them in one call", order_id=order_id)


def _lock_of(loaded: Loaded, coupon: Coupon, use: CouponSpent) -> CouponLocked:
    if coupon.locked is not None and coupon.locked.lock_id == use.lock_id:
        return coupon.locked
    history = loaded.streams[coupon.id]
    return next(event for event in history if isinstance(event, CouponLocked) and event.lock_id == use.lock_id)


def _check_lines(order_id: str, uses: Sequence[CouponSpent], basket: Basket, off_shipping: int) -> None:
    if off_shipping > basket.shipping_minor:
        raise NotApplicable(
            "the coupons together take more off the shipping than it costs",
            order_id=order_id,
            discount_minor=off_shipping,
            most_minor=basket.shipping_minor,
        )
    off: Counter[str] = Counter()
    for use in uses:
        off.update(off_lines(use))
    for line in basket.lines:
        if off[line.line_id] > line.amount_minor:
            raise NotApplicable(
                "the coupons together take more off a line than it costs",
                order_id=order_id,
                line_id=line.line_id,
                discount_minor=off[line.line_id],
                most_minor=line.amount_minor,
            )

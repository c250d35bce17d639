"""Random wallets on random baskets through an order's life, in memory: what is quoted is locked, used and returned.

Everything that a quote offers must lock under its digest, everything that was locked with a basket must confirm without
a word about amounts, and what a use stored must come back line by line to the last minor unit.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from itertools import count

from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import use_cases
from ledger.coupon import Redemption
from ledger.errors import NotApplicable, NotUsed
from ledger.events import CouponIssued, CouponLocked, CouponReturned, CouponSpent
from ledger.request import Request
from ledger.use_cases import return_coupons
from ledger.work import Loaded, Receipt
from tests.property.wallets import NOW, baskets, wallets

MERCHANT, USER = "merchant-1", "user-1"


class Log:
    """Coupons of one user, and what orders do with them."""

    def __init__(self, wallet):
        self.now = NOW
        self.requests = count(1)
        self.terms = {f"template-{each.coupon_id}": each.terms for each in wallet}
        self.streams = {f"coupon-{each.coupon_id}": [self._issued(each)] for each in wallet}

    def _issued(self, each):
        return CouponIssued(
            originator_id=f"coupon-{each.coupon_id}",
            originator_version=1,
            merchant_id=MERCHANT,
            actor="test",
            request_id="issue",
            occurred_at=NOW,
            batch_id="batch",
            user_id=USER,
            template_id=f"template-{each.coupon_id}",
            template_version=1,
            channel="issue",
            valid_from=each.valid_from,
            valid_until=each.valid_until,
            facts={},
        )

    def ask(self, use_case, order_id, *arguments, **named):
        """The answer; the events, where there are any, are written down."""
        request = Request(MERCHANT, "test", f"request-{next(self.requests)}", "body", self.now)
        work = use_case(request, order_id, *arguments, **named)
        known = [
            stream
            for stream, history in self.streams.items()
            if any(isinstance(event, CouponLocked) and event.order_id == order_id for event in history)
        ]
        decided = work.decide(
            Loaded(MERCHANT, self.now, self.streams, None, lambda template, _: self.terms[template], known)
        )
        if isinstance(decided, Receipt):
            return decided.answer
        for event in decided.events:
            self.streams[event.originator_id].append(event)
        return decided.answer

    def events(self, kind=object):
        return [event for history in self.streams.values() for event in history if isinstance(event, kind)]

    def quote(self, order_id, basket):
        ids = [stream.removeprefix("coupon-") for stream in self.streams]
        return self.ask(use_cases.quote, order_id, user_id=USER, coupon_ids=ids, basket=basket)

    def lock(self, order_id, coupon_ids, basket=None, digest=None, **more):
        named = {"coupon_ids": coupon_ids, "basket": basket, "quote_digest": digest, **more}
        return self.ask(use_cases.lock, order_id, user_id=USER, **named)

    def confirm(self, order_id, coupon_ids):
        """What the order system values is worth nothing to these orders; of all else the ledger knows the discount."""
        told = [Redemption(coupon_id=id, discount_minor=self.told(id)) for id in coupon_ids]
        return self.ask(use_cases.confirm, order_id, told)

    def told(self, coupon_id):
        return 0 if self.terms[f"template-{coupon_id}"].benefit.kind == "order_stated" else None

    def joins(self, coupon_id, others):
        """Whether a coupon that the order system values may go with these, and changes no price."""
        mine = self.terms[f"template-{coupon_id}"]
        theirs = [self.terms[f"template-{other}"] for other in others]
        groups = [terms.stacking_group for terms in theirs if terms.stacking_group]
        alone = any(terms.stacking_mode == "exclusive" for terms in (mine, *theirs)) and theirs
        return not alone and mine.stacking_group not in groups and mine.order_cap_permyriad is None


def chosen_of(log, quoted):
    """The best combination, with what goes with it that the order system values."""
    ids = [each["coupon_id"] for each in quoted["best"]]
    for each in quoted["coupons"]:
        if each["outcome"] == "unvalued" and log.joins(each["coupon_id"], ids):
            ids.append(each["coupon_id"])
    return ids


def returned_by_line(log, order_id, redeemed):
    """Return each line by itself, then what is on none; answers what came back."""
    ids = [each["coupon_id"] for each in redeemed]
    total = 0
    for line_id in sorted({part["line_id"] for each in redeemed for part in each["allocation"]}):
        lines = [{"line_id": line_id}]
        answer = log.ask(return_coupons, order_id, coupon_ids=ids, reason="order_cancelled", lines=lines)
        total += sum(each["returned_minor"] for each in answer["coupons"])
    for id in ids:
        with suppress(NotUsed):  # all of it was on the lines
            rest = log.ask(return_coupons, order_id, coupon_ids=[id], reason="order_cancelled")
            total += rest["coupons"][0]["returned_minor"]
    return total


@settings(deadline=None, max_examples=300)
@given(wallets(), baskets(), st.randoms(use_true_random=False))
def test_what_is_quoted_is_locked_and_used_and_comes_back(wallet, basket, random):
    log = Log(wallet)
    for order_id in ("order-1", "order-2"):
        quoted = log.quote(order_id, basket)
        ids = chosen_of(log, quoted)
        if not ids:
            continue
        if random.random() < 0.5:
            some_first(log, order_id, ids, basket, random)
        locked = log.lock(order_id, ids, basket, quoted["digest"])
        assert locked["discount_minor"] == quoted["discount_minor"]
        before = log.events()
        assert log.lock(order_id, ids, basket, quoted["digest"]) == locked
        assert log.events() == before
        assert log.quote(order_id, basket)["digest"] == quoted["digest"]
        redeemed = confirmed(log, order_id, ids, random)
        found = {each["coupon_id"]: each for each in locked["locks"] if "discount_minor" in each}
        for each in redeemed:
            lock = found[each["coupon_id"]]
            assert (each["discount_minor"], each["allocation"]) == (lock["discount_minor"] or 0, lock["allocation"])
        again = log.quote(order_id, basket)
        if offered := [each["coupon_id"] for each in again["best"]]:
            log.lock(order_id, offered, basket, again["digest"])
            log.ask(use_cases.unlock, order_id, coupon_ids=offered, reason="left")
        if random.random() < 0.5:
            assert returned_by_line(log, order_id, redeemed) == locked["discount_minor"]
            assert log.quote("order-3", basket)["discount_minor"] >= quoted["discount_minor"]


def some_first(log, order_id, ids, basket, random):
    """Some of the coupons are in the order already, on this basket or on half of it."""
    few = random.sample(ids, random.randint(1, len(ids)))
    half = replace(basket, lines=basket.lines[: max(1, len(basket.lines) // 2)])
    with suppress(NotApplicable):  # half a basket may be too little, or nothing that they cover
        log.lock(order_id, few, random.choice([basket, half]))


def confirmed(log, order_id, ids, random):
    """The redemptions, of one call or of one for each coupon."""
    calls = [ids] if random.random() < 0.5 else [[id] for id in random.sample(ids, len(ids))]
    return [each for named in calls for each in log.confirm(order_id, named)["redemptions"]]


@settings(deadline=None, max_examples=200)
@given(wallets(), baskets(), st.data())
def test_less_than_was_found_comes_back_by_line_too(wallet, basket, data):
    log = Log(wallet)
    quoted = log.quote("order-1", basket)
    priced = [each for each in quoted["best"] if each["allocation"]]
    if not priced:
        return
    log.lock("order-1", [each["coupon_id"] for each in priced], basket)
    held = {event.originator_id.removeprefix("coupon-"): event for event in log.events(CouponLocked)}
    told = {id: data.draw(st.integers(1, hold.discount_minor)) for id, hold in held.items()}
    answer = log.ask(
        use_cases.confirm, "order-1", [Redemption(coupon_id=id, discount_minor=less) for id, less in told.items()]
    )
    for each in answer["redemptions"]:
        found = {part["line_id"]: part["discount_minor"] for part in held[each["coupon_id"]].allocation}
        assert sum(part["discount_minor"] for part in each["allocation"]) == told[each["coupon_id"]]
        assert all(0 < part["discount_minor"] <= found[part["line_id"]] for part in each["allocation"])
    assert returned_by_line(log, "order-1", answer["redemptions"]) == sum(told.values())
    assert all(event.returned_minor >= 0 for event in log.events(CouponReturned))


@settings(deadline=None, max_examples=200)
@given(wallets(), baskets(), baskets())
def test_a_changed_basket_is_what_counts(wallet, first, second):
    """Whatever the order held before, it uses what the last basket gives."""
    log = Log(wallet)
    before = [each["coupon_id"] for each in log.quote("order-1", first)["best"]]
    if before:
        log.lock("order-1", before, first)
    log.now += timedelta(minutes=1)
    quoted = log.quote("order-1", second)
    ids = [each["coupon_id"] for each in quoted["best"]]
    if ids:
        locked = log.lock("order-1", ids, second, quoted["digest"])
        redeemed = log.confirm("order-1", ids)["redemptions"]
        assert sum(each["discount_minor"] for each in redeemed) == locked["discount_minor"] == quoted["discount_minor"]
        assert {event.order_total_minor for event in log.events(CouponSpent)} == {second.total_minor}
        spent = {event.lock_id for event in log.events(CouponSpent)}
        held = {event.quote_digest for event in log.events(CouponLocked) if event.lock_id in spent}
        assert held == {quoted["digest"]}

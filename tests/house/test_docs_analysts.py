"""docs/analysts.md is run: every question's SQL, by an analyst, against what plain Python makes of the events."""

from __future__ import annotations

import heapq
import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from ledger import events, use_cases
from ledger.application import Ledger
from ledger.benefit import Benefit
from ledger.commit import Unit, commit_group
from ledger.coupon import Redemption
from ledger.database import Database
from ledger.migrate import migrate
from ledger.store import Store
from ledger.terms import Terms
from projections import analytics
from projections.runner import Runner
from tests.conftest import Shop, drop_ledger
from tests.postgres.logins import Connection, Logins

PAGE = (Path(__file__).parents[2] / "docs" / "analysts.md").read_text("utf-8")
QUESTIONS = {int(number): text for number, text in re.findall(r"^### (\d+)\..*?```sql\n(.*?)```", PAGE, re.S | re.M)}
SPRING = datetime(2017, 3, 20, 9, tzinfo=UTC)
WORTH = 500
SHARES = {"merchant": 300, "platform": 200}
"""What each funder bears of a coupon's worth."""


# --- a spring of two merchants ------------------------------------------------------------------------------


def terms(currency: str) -> Terms:
    return Terms(
        benefit=Benefit(kind="amount_off", value_minor=WORTH),
        currency=currency,
        stacking_mode="stackable",
        merchant_share_permyriad=6_000,
    )


class Spring:
    """One merchant's coupons: issued, used, returned, expired and voided on days of 2017, and a few of today.

    Merchants have the same campaigns, user ids and order ids, for these are each merchant's own.
    """

    def __init__(self, ledger: Ledger, merchant_id: str, seed: int) -> None:
        self.random = random.Random(seed)
        self.shop = Shop(ledger, merchant_id)
        self.ledger = ledger
        self.numbers = count(1)
        self.to_do: list[tuple[datetime, int, Callable[..., None], tuple[Any, ...]]] = []
        self.idle: dict[str, list[str]] = defaultdict(list)
        """Coupons that nobody planned anything for, by user."""
        self.dear = ""
        """The batch that is used for small orders."""

    def live(self) -> None:
        plans = [("spring", "EUR"), ("spring", "USD"), ("spring", "EUR"), ("early summer", "EUR")]
        for number, (campaign, currency) in enumerate(plans):
            batch_id = self.shop.batch(
                terms=terms(currency), quantity=40, per_user_limit=None, campaign=campaign, name=f"Batch {number}",
                valid_for_seconds=86_400 * 45,
            )  # fmt: skip
            self.dear = batch_id
            for _ in range(30):
                self._plan(SPRING + timedelta(days=self.random.uniform(13 * number, 50)), self._issue, batch_id)
        self.shop.batch(terms=terms("EUR"), quantity=40, campaign="spring", name="Nobody's")
        while self.to_do:
            at, _, step, arguments = heapq.heappop(self.to_do)
            step(at, *arguments)
        self._of_today()

    def _plan(self, at: datetime, step: Callable[..., None], *arguments: Any) -> None:
        heapq.heappush(self.to_do, (at, next(self.numbers), step, arguments))

    def _issue(self, at: datetime, batch_id: str) -> None:
        user_id = f"user-{self.random.randrange(12)}"
        issued = self.ledger.do(use_cases.issue(self.shop.request(at=at), batch_id, [user_id])).answer["coupons"][0]
        fate = self.random.random()
        later = at + timedelta(days=self.random.uniform(0, 20))
        if fate < 0.5:
            self._plan(later, self._use, batch_id, user_id, issued["coupon_id"])
        elif fate < 0.8:
            ends_at = datetime.fromisoformat(issued["valid_until"])
            self._plan(ends_at, self._expire, batch_id, user_id, issued["coupon_id"])
        elif fate < 0.85:
            self._plan(later, self._void, issued["coupon_id"])
        else:
            self.idle[user_id].append(issued["coupon_id"])

    def _use(self, at: datetime, batch_id: str, user_id: str, coupon_id: str) -> None:
        coupons = [coupon_id, *(self.idle[user_id][-1:] if self.random.random() < 0.5 else [])]
        if coupons[1:]:
            self.idle[user_id].pop()
        order_id, total = f"order-{next(self.numbers)}", self.random.randrange(2_000, 6_000)
        if batch_id == self.dear:
            total //= 2
        shop, do = self.shop, self.ledger.do
        do(use_cases.lock(shop.request(at=at), order_id, user_id=user_id, coupon_ids=coupons, order_total_minor=total))
        used = [Redemption(coupon_id=id, discount_minor=self.random.randrange(300, WORTH)) for id in coupons]
        paid = total - sum(each.discount_minor for each in used) if self.random.random() < 0.8 else None
        do(use_cases.confirm(shop.request(at=at), order_id, used, paid_minor=paid))
        if self.random.random() < 0.3:
            self._plan(at + timedelta(days=1), self._return, order_id, coupons)

    def _return(self, at: datetime, order_id: str, coupons: list[str]) -> None:
        reason = self.random.choice(["order_cancelled", "merchant_refund", "buyer_refund"])
        work = use_cases.return_coupons(self.shop.request(at=at), order_id, coupon_ids=coupons, reason=reason)
        self.ledger.do(work)

    def _expire(self, at: datetime, batch_id: str, user_id: str, coupon_id: str) -> None:
        unit = use_cases.expired_unit(
            self.shop.request(at=at), coupon_id, version=1, batch_id=batch_id, user_id=user_id, valid_until=at
        )
        with self.ledger.store.connection() as connection:
            [verdict] = commit_group(self.ledger.store, connection, [Unit(unit.events)])
        assert verdict.word == "done"

    def _void(self, at: datetime, coupon_id: str) -> None:
        self.ledger.do(use_cases.void(self.shop.request(at=at), coupon_id, reason="mistake"))

    def _of_today(self) -> None:
        now = self.ledger.store.now()
        for days, currency in ((2, "EUR"), (5, "EUR"), (3, "USD"), (30, "EUR")):
            batch_id = self.shop.batch(
                terms=terms(currency), per_user_limit=None, campaign="today", valid_for_seconds=86_400 * days
            )
            users = [f"user-{number}" for number in (3, 5, 5, 7, 7, 7)]
            self.ledger.do(use_cases.issue(self.shop.request(at=now), batch_id, users))


# --- the same in plain Python -------------------------------------------------------------------------------


class Plain:
    """What one merchant's events say, added up one by one."""

    def __init__(self, log: Iterable[Any], merchant_id: str, now: datetime) -> None:
        self.now = now
        self.merchant_id = merchant_id
        self.log = [each.event for each in log if each.event.merchant_id == merchant_id]
        self.batches = {each.originator_id[6:]: each for each in self.of(events.BatchCreated)}
        currencies = {each.originator_id[9:]: each.terms["currency"] for each in self.of(events.TemplateCreated)}
        self.currencies = {id: currencies[each.template_id] for id, each in self.batches.items()}
        self.issued = {each.originator_id: each for each in self.of(events.CouponIssued)}
        self.uses = self.of(events.CouponUsed)
        self.returns = self.of(events.CouponReturned)

    def of(self, kind: type[Any]) -> list[Any]:
        return [each for each in self.log if isinstance(each, kind)]

    def campaign(self, event: Any) -> str:
        return str(self.batches[event.batch_id].campaign)

    def currency(self, event: Any) -> str:
        return str(self.currencies[event.batch_id])

    def campaigns(self) -> list[str]:
        return sorted({each.campaign for each in self.batches.values()})

    def paid_once(self) -> list[Any]:
        """The first use of each order and batch, which carries what was paid."""
        first: dict[tuple[str, str], Any] = {}
        for use in self.uses:
            first.setdefault((use.batch_id, use.order_id), use)
        return [use for use in first.values() if use.paid_minor is not None]


def rounded(value: Decimal, places: int) -> Decimal:
    return value.quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP)


def percent(part: int, whole: int, places: int = 1) -> Decimal | None:
    return rounded(Decimal(100) * part / whole, places) if whole else None


def month(moment: datetime) -> date:
    return moment.date().replace(day=1)


def rates(plain: Plain) -> list[tuple[Any, ...]]:
    found = []
    for campaign in plain.campaigns():
        quantity = sum(each.quantity for each in plain.batches.values() if each.campaign == campaign)
        issued = len([each for each in plain.issued.values() if plain.campaign(each) == campaign])
        used = len({each.originator_id for each in plain.uses if plain.campaign(each) == campaign})
        found.append((campaign, quantity, issued, used, percent(issued, quantity), percent(used, issued)))
    return found


def returns_on_spend(plain: Plain) -> list[tuple[Any, ...]]:
    first, until = date(2017, 4, 1), date(2017, 7, 1)

    def key(each: Any) -> tuple[str, str] | None:
        return (plain.campaign(each), plain.currency(each)) if first <= each.occurred_at.date() < until else None

    found = []
    touched = {key(each) for each in plain.log if isinstance(each, events.CouponEvent)} - {None}
    for campaign, currency in sorted(each for each in touched if each is not None):
        mine = [use for use in plain.uses if key(use) == (campaign, currency)]
        told = sum(use.discount_minor for use in mine if use.paid_minor is not None)
        paid = sum(use.paid_minor for use in plain.paid_once() if use in mine)
        rate = rounded(Decimal(paid) / told, 2) if told else None
        found.append((campaign, currency, sum(use.discount_minor for use in mine), paid, rate))
    return found


def losing_batches(plain: Plain) -> list[tuple[Any, ...]]:
    found = []
    for batch_id, batch in sorted(plain.batches.items()):
        cost = sum(use.discount_minor for use in plain.uses if use.batch_id == batch_id)
        cost -= sum(each.returned_minor for each in plain.returns if each.batch_id == batch_id)
        paid = sum(use.paid_minor for use in plain.paid_once() if use.batch_id == batch_id)
        if cost > paid * 0.25:
            margin = int(rounded(Decimal(paid) / 4, 0))
            found.append((batch_id, batch.name, plain.currencies[batch_id], cost, margin))
    return found


def new_customers(plain: Plain) -> list[tuple[Any, ...]]:
    first: dict[str, str] = {}
    for use in plain.uses:
        first.setdefault(use.holder_id, use.batch_id)
    found = []
    for campaign in plain.campaigns():
        of = {use.holder_id for use in plain.uses if plain.campaign(use) == campaign}
        new = {user for user in of if plain.batches[first[user]].campaign == campaign}
        if of:
            found.append((campaign, len(of), len(new), percent(len(new), len(of))))
    return found


def days_to_use(plain: Plain) -> list[tuple[Any, ...]]:
    first: dict[str, datetime] = {}
    for use in plain.uses:
        first.setdefault(use.originator_id, use.occurred_at)
    found = Counter(
        (month(plain.issued[id].occurred_at), (at - plain.issued[id].occurred_at).days) for id, at in first.items()
    )
    return sorted((*key, coupons) for key, coupons in found.items())


def breakage(plain: Plain) -> list[tuple[Any, ...]]:
    found = Counter((month(each.occurred_at), plain.currency(each)) for each in plain.of(events.CouponExpired))
    return sorted(
        (at, funder, currency, coupons * SHARES[funder])
        for (at, currency), coupons in found.items()
        for funder in SHARES
    )


def ending_soon(plain: Plain) -> list[tuple[Any, ...]]:
    gone = {each.originator_id for each in plain.log if isinstance(each, events.CouponUsed | events.CouponVoided)}
    found: dict[tuple[str, str], list[datetime]] = defaultdict(list)
    for id, each in plain.issued.items():
        if id not in gone and plain.now < each.valid_until < plain.now + timedelta(days=7):
            found[each.user_id, plain.currency(each)].append(each.valid_until)
    return [(*key, len(ends), WORTH * len(ends), min(ends)) for key, ends in found.items()]


def combined(plain: Plain) -> list[tuple[Any, ...]]:
    totals = {each.order_id: each.order_total_minor for each in plain.of(events.CouponLocked)}
    by_order: dict[tuple[str, str], list[Any]] = defaultdict(list)
    for use in plain.uses:
        by_order[use.order_id, use.currency].append(use)
    rows = []
    for (order, currency), uses in by_order.items():
        batches, discount = len({use.batch_id for use in uses}), sum(use.discount_minor for use in uses)
        if len(uses) > 1:
            rows.append((order, currency, len(uses), batches, discount, totals[order]))
    return sorted(rows, key=lambda row: (row[1], -row[4], row[0]))


def undone(plain: Plain) -> list[tuple[Any, ...]]:
    found = []
    for currency, reason in sorted({(plain.currency(each), each.reason) for each in plain.returns}):
        of = [each for each in plain.returns if (plain.currency(each), each.reason) == (currency, reason)]
        times = len({each.redemption_id for each in of})
        uses = len([use for use in plain.uses if use.currency == currency])
        found.append((currency, reason, times, sum(each.returned_minor for each in of), percent(times, uses, 2)))
    return found


def owed(plain: Plain) -> list[tuple[Any, ...]]:
    moved: dict[tuple[str, date], int] = defaultdict(int)
    for each in plain.log:
        if isinstance(each, events.CouponIssued):
            moved[plain.currency(each), month(each.occurred_at)] += 1
        elif isinstance(each, events.CouponUsed | events.CouponExpired | events.CouponVoided):
            moved[plain.currency(each), month(each.occurred_at)] -= 1
        elif isinstance(each, events.CouponReturned):
            moved[plain.currency(each), month(each.occurred_at)] += each.restored
    found, left = [], Counter[str]()
    for (currency, at), coupons in sorted(moved.items()):
        left[currency] += coupons
        found += [(at, funder, currency, left[currency] * SHARES[funder]) for funder in SHARES]
    return sorted(found)


Asked = Callable[..., tuple[Connection, list[Plain]]]

ANSWERS: dict[int, Callable[[Plain], list[tuple[Any, ...]]]] = {
    1: rates,
    2: returns_on_spend,
    3: losing_batches,
    4: new_customers,
    5: days_to_use,
    6: breakage,
    7: ending_soon,
    8: combined,
    9: undone,
    10: owed,
}


def expected(number: int, merchants: list[Plain]) -> list[tuple[Any, ...]]:
    """Each merchant's answer with its name in front, one after the other; question 7 has one order for all."""
    rows = [(plain.merchant_id, *row) for plain in merchants for row in ANSWERS[number](plain)]
    return sorted(rows, key=lambda row: (row[2], -row[4], *row[:2]))[:20] if number == 7 else rows


# --- and the page -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def asked(database_url: str) -> Iterator[Asked]:
    """Makes an analyst's session for some of three merchants that had a spring, with their events in plain sums."""
    schema = f"test_analysts_{random.SystemRandom().randrange(10**9)}"
    migrate(database_url, schema)
    ledger = Ledger(Store(Database(database_url, schema)))
    try:
        for number, merchant_id in enumerate(["acme", "other-shop", "rival"]):
            Spring(ledger, merchant_id, seed=number + 11).live()
        Runner(ledger.store.database).catch_up()
        logins = Logins(ledger.store.database)

        def asked(*merchants: str) -> tuple[Connection, list[Plain]]:
            with ledger.store.connection() as connection:
                log, now = list(ledger.store.read(connection, 0, 1_000_000)), ledger.store.now()
            return logins.session(logins.create(*merchants)), [Plain(log, id, now) for id in merchants]

        yield asked
        logins.end()
    finally:
        ledger.close()
        drop_ledger(database_url, schema)


def test_every_question_is_checked() -> None:
    assert QUESTIONS.keys() == ANSWERS.keys() == set(range(1, 11))


@pytest.mark.parametrize("merchants", [("acme",), ("acme", "other-shop")], ids=len)
@pytest.mark.parametrize("number", range(1, 11))
def test_a_question_answers_what_the_events_say(number: int, merchants: tuple[str, ...], asked: Asked) -> None:
    connection, plain = asked(*merchants)
    rows = expected(number, plain)
    assert {row[0] for row in rows} == set(merchants)
    assert [tuple(row) for row in connection.execute(QUESTIONS[number])] == rows


def test_the_merchants_share_what_is_each_merchants_own(asked: Asked) -> None:
    """Without this, a question that forgets the merchant would be answered rightly."""
    _, (one, other) = asked("acme", "other-shop")
    assert {use.holder_id for use in one.uses} & {use.holder_id for use in other.uses}
    assert {use.order_id for use in one.uses} & {use.order_id for use in other.uses}
    assert one.campaigns() == other.campaigns()
    assert set(one.currencies.values()) == {"EUR", "USD"}
    assert {one.currency(each) for each in one.returns} == {"EUR", "USD"}


def test_the_page_lists_every_view_with_its_columns_in_their_order(asked: Asked) -> None:
    """The page is the contract: a column that is renamed, moved or taken away is seen here."""
    connection, _ = asked("acme")
    found = connection.execute(
        """
        select c.relname, array_agg(a.attname::text order by a.attnum), obj_description(c.oid)
          from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0
         where c.relnamespace = current_schema()::regnamespace
         group by c.oid, c.relname
        """
    ).fetchall()
    listed = re.findall(r"^\| `(\w+)` \| (.+?) \| (`.+`) \|$", PAGE, re.M)
    views = {name: (re.findall(r"`(\w+)`", columns), text) for name, text, columns in listed if name in analytics.VIEWS}
    assert views == {name: (columns, text) for name, columns, text in found}

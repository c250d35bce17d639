"""Logs of coupons that live: issued, held, used, given back, given away, spent in part, expired, voided.

Written straight into the log; guards and answers follow from it in the end, so the ledger is whole and may be verified.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from eventsourcing.persistence import JSONTranscoder

from benchmarks.stored import MERCHANT, running_batch
from ledger import events, use_cases
from ledger.application import Ledger
from ledger.benefit import Benefit, BenefitKind
from ledger.database import Database
from ledger.mapper import EventMapper
from ledger.request import Request
from ledger.store import Store
from ledger.terms import Terms

BATCHES, VOUCHERS = 8, 2
"""Batches of coupons that are used once, and of vouchers that are spent in parts."""
AT_ONCE = 20_000
"""Coupons whose events are mixed with each other, or a fifteenth of the events where those are fewer."""
PER_USER = 1_000
"""Coupons of a batch that a user may have: more than chance gives to anybody."""
BEGINS = datetime(2020, 1, 1, tzinfo=UTC)
"""So long ago that ten million events, a tenth of a second apart, and the last expiry are of the past."""
HELD, HELD_LONGER = timedelta(hours=23), timedelta(hours=24)
"""How long an order holds a coupon: always longer than it takes to its next event, about half an hour."""
TERMS: dict[str, Any] = {"currency": "EUR", "transferable": True, "shareable": True}
LIVES = (
    (30, "issued locked used"),
    (25, "issued expired"),
    (10, "issued locked unlocked locked used returned expired"),
    (10, "issued locked lock_extended used"),
    (5, "issued extended transferred locked used"),
    (5, "issued shared locked used"),
    (10, "issued locked debited locked debited credited"),
    (5, "issued voided"),
)
"""How often, and which steps; each is one that the state before it allows."""

_mapper = EventMapper(JSONTranscoder())


def store_lives(url: str, schema: str, count: int, seed: int = 1) -> None:
    """Grow the migrated ledger until its log holds exactly ``count`` events. The URL is that of the tables' owner."""
    ledger = Ledger(Store(Database(url, schema)))
    try:
        templates = [_template(ledger, "amount_off")] * BATCHES
        templates += [_template(ledger, "cash_voucher", leaves_balance=True)] * VOUCHERS
        batches = [(running_batch(ledger, count, template_id, PER_USER), template_id) for template_id in templates]
        head = ledger.store.head()
    finally:
        ledger.close()
    options = f"-c search_path={schema} -c synchronous_commit=off"
    with psycopg.connect(url, autocommit=True, options=options) as connection:
        with connection.cursor() as cursor, cursor.copy(_COPY) as copy:
            chance = random.Random(seed)  # noqa: S311
            for position, event in enumerate(_events(chance, batches, count - head), head + 1):
                copy.write_row(
                    (event.originator_id, event.originator_version, event.TOPIC, _mapper.encode(event), position)
                )
        for statement in _BESIDE:
            connection.execute(statement)
        connection.execute("vacuum analyze events, batch_stock, user_quota, requests")
        connection.execute("checkpoint")


def _template(ledger: Ledger, kind: BenefitKind, **benefit: Any) -> str:
    terms = Terms(benefit=Benefit(kind=kind, value_minor=500, **benefit), **TERMS)
    request = Request(MERCHANT, "bench", kind, "digest")
    answer = ledger.do(use_cases.create_template(request, name=kind, terms=terms)).answer
    return str(answer["template_id"])


def _events(chance: random.Random, batches: list[tuple[str, str]], count: int) -> Iterator[events.Event]:
    scripts, weights = [steps.split() for _, steps in LIVES], [weight for weight, _ in LIVES]
    alive: list[_Life] = []
    born, at_once = 0, min(AT_ONCE, count // 15 + 1)
    for number in range(count):
        now = BEGINS + timedelta(milliseconds=100 * number)
        slot = chance.randrange(at_once)
        if slot >= len(alive) or not alive[slot].steps:
            steps = chance.choices(scripts, weights)[0]
            batch = chance.choice(batches[BATCHES:] if "debited" in steps else batches[:BATCHES])
            life = _Life(born, *batch, f"user-{chance.randrange(count // 5 + 1)}", steps)
            born += 1
            if slot >= len(alive):
                alive.append(life)
                slot = len(alive) - 1
            else:
                alive[slot] = life
        yield alive[slot].step(now)


class _Life:
    """One coupon, and the steps that it still takes."""

    def __init__(self, number: int, batch_id: str, template_id: str, user_id: str, steps: list[str]) -> None:
        self.stream = f"coupon-{batch_id[:8]}{number * 7_919 % 1_000_003:07}{number:09}"
        self.facts = {"merchant_id": MERCHANT, "actor": "bench", "batch_id": batch_id}
        self.template_id = template_id
        self.user_id = self.holder_id = user_id
        self.steps = steps[::-1]
        self.version = self.locks = 0
        self.valid_until = self.locked_at = self.lock_ends_at = BEGINS
        self.balance_minor = 500

    def step(self, now: datetime) -> events.Event:
        name = self.steps.pop()
        self.version += 1
        event_class, payload = _STEPS[name]
        return event_class.made(
            {
                "originator_id": self.stream,
                "originator_version": self.version,
                "user_id": self.user_id,
                "request_id": f"{self.stream}-{self.version}",
                "occurred_at": self.valid_until if name == "expired" else now,
            }
            | self.facts
            | payload(self, now)
        )

    @property
    def hold(self) -> dict[str, Any]:
        """An order uses a coupon once, so each lock is of another."""
        return {"order_id": f"order-{self.stream}-{self.locks}", "lock_id": f"lock-{self.stream}-{self.locks}"}


def _issued(life: _Life, now: datetime) -> dict[str, Any]:
    life.valid_until = now + timedelta(days=90)
    terms = {"template_id": life.template_id, "template_version": 1, "channel": "claim", "facts": {}}
    return terms | {"valid_from": now, "valid_until": life.valid_until}


def _locked(life: _Life, now: datetime) -> dict[str, Any]:
    life.locks, life.locked_at, life.lock_ends_at = life.locks + 1, now, now + HELD
    allocation = [{"line_id": "1", "product_id": "p-1", "discount_minor": life.balance_minor}]
    return life.hold | {
        "lock_ends_at": life.lock_ends_at,
        "order_total_minor": 4_000,
        "quote_digest": None,
        "holder_id": life.holder_id,
        "discount_minor": life.balance_minor,
        "allocation": allocation,
        "channel": "online",
        "lines_in_scope": [],
    }


def _lock_extended(life: _Life, _: datetime) -> dict[str, Any]:
    life.lock_ends_at = life.locked_at + HELD_LONGER
    return life.hold | {"lock_ends_at": life.lock_ends_at}


def _spent(life: _Life, _: datetime, minor: int = 500) -> dict[str, Any]:
    return life.hold | {
        "redemption_id": f"use-{life.stream}-{life.version}",
        "currency": "EUR",
        "discount_minor": minor,
        "merchant_funded_minor": minor,
        "platform_funded_minor": 0,
        "order_total_minor": 4_000,
        "paid_minor": 4_000 - minor,
        "allocation": [{"line_id": "1", "product_id": "p-1", "discount_minor": minor}],
        "holder_id": life.holder_id,
        "channel": "online",
        "late": False,
    }


def _debited(life: _Life, now: datetime) -> dict[str, Any]:
    life.balance_minor -= 100
    return _spent(life, now, 100) | {"balance_minor": life.balance_minor}


def _credited(life: _Life, _: datetime) -> dict[str, Any]:
    life.balance_minor += 100
    back = {"credited_minor": 100, "balance_minor": life.balance_minor, "restored": False, "lines": []}
    redemption = {"order_id": life.hold["order_id"], "redemption_id": f"use-{life.stream}-{life.version - 1}"}
    return redemption | back | {"reason": "order_cancelled"}


def _returned(life: _Life, _: datetime) -> dict[str, Any]:
    redemption = {"order_id": life.hold["order_id"], "redemption_id": f"use-{life.stream}-{life.version - 1}"}
    back = {"restored": True, "valid_until": life.valid_until, "returned_minor": 500, "lines": []}
    return redemption | back | {"reason": "order_cancelled"}


def _extended(life: _Life, _: datetime) -> dict[str, Any]:
    before, life.valid_until = life.valid_until, life.valid_until + timedelta(days=7)
    return {"valid_until_before": before, "valid_until": life.valid_until, "reason": "storm"}


def _transferred(life: _Life, _: datetime) -> dict[str, Any]:
    life.user_id, before = life.holder_id, life.user_id
    life.user_id = life.holder_id = f"{before}-friend"
    return {"user_id": before, "to_user_id": life.user_id}


def _shared(life: _Life, _: datetime) -> dict[str, Any]:
    life.holder_id = f"{life.user_id}-friend"
    return {"with_user_ids": [life.holder_id]}


_STEPS: dict[str, tuple[type[events.Event], Callable[[_Life, datetime], dict[str, Any]]]] = {
    "issued": (events.CouponIssued, _issued),
    "locked": (events.CouponLocked, _locked),
    "lock_extended": (events.CouponLockExtended, _lock_extended),
    "unlocked": (events.CouponUnlocked, lambda life, _: life.hold | {"reason": "left"}),
    "used": (events.CouponUsed, _spent),
    "debited": (events.CouponDebited, _debited),
    "credited": (events.CouponCredited, _credited),
    "returned": (events.CouponReturned, _returned),
    "expired": (events.CouponExpired, lambda life, _: {"valid_until": life.valid_until}),
    "voided": (events.CouponVoided, lambda _life, _now: {"reason": "mistake"}),
    "extended": (events.CouponExtended, _extended),
    "transferred": (events.CouponTransferred, _transferred),
    "shared": (events.CouponShared, _shared),
}

_COPY = "copy events (originator_id, originator_version, topic, state, notification_id) from stdin"

# What the commits of these events would have left beside the log.
_BESIDE = (
    """
    update batch_stock s set issued = n.issued
      from (select convert_from(state, 'utf8')::json->>'batch_id' as batch_id, count(*) as issued
              from events where topic = 'coupon.issued' group by 1) n
     where s.batch_id = n.batch_id
    """,
    f"""
    insert into user_quota (batch_id, user_id, issued, most)
    select e->>'batch_id', e->>'user_id', count(*), {PER_USER}
      from (select convert_from(state, 'utf8')::json as e from events where topic = 'coupon.issued') issued
     group by 1, 2
    """,
    f"""
    insert into user_quota (batch_id, user_id, issued)
    select ' order {MERCHANT}', convert_from(state, 'utf8')::json->>'order_id', count(*)
      from events where topic in ('coupon.used', 'coupon.debited') group by 2
    """,
    # Nobody asks for an expiry.
    f"""
    insert into requests (merchant_id, request_id, body_hash, answer, position)
    select '{MERCHANT}', originator_id || '-' || originator_version, 'digest',
           json_build_object('coupon_id', substr(originator_id, 8)), notification_id
      from events where originator_id like 'coupon-%' and topic <> 'coupon.expired'
    """,
)

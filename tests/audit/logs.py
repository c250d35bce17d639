"""Logs for the tests of the audit, made without the ledger: rows as it stores them, sealed, and put into bundles."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from coupon_ledger_audit.bundle import Balances, Row, write_coupon, write_whole
from coupon_ledger_audit.note import Checkpoint, SigningKey, sign
from coupon_ledger_audit.report import Trust
from coupon_ledger_audit.tree import complete, consistency_proof, inclusion_proof, leaf_hash, root

ORIGIN = "ledger.example/shop"
KEY = SigningKey(ORIGIN, bytes(range(32)))
T0 = datetime(2026, 3, 1, tzinfo=UTC)
IMPORTED = timedelta(days=100)
"""How long after it occurred the history is recorded."""
VALID = timedelta(days=9)
HELD = timedelta(hours=1)
VALUE = 2000
SHARE_PERMYRIAD = 3_333
TERMS = {
    "benefit": {"kind": "cash_voucher", "value_minor": VALUE, "leaves_balance": True},
    "currency": "EUR",
    "merchant_share_permyriad": SHARE_PERMYRIAD,
    "late_confirm": "accept",
    "transferable": True,
    "shareable": True,
}
USERS = ("ann", "bob", "cyé", "dee", "eve")


class Log:
    """Rows that follow the rules, in an order that chance decides."""

    def __init__(self, seed: int | str = 0) -> None:
        self.chance = random.Random(seed)
        self.rows: list[Row] = []
        self.versions: dict[str, int] = {}
        self.coupons: list[Life] = []
        self.issued = 0

    def add(self, stream: str, topic: str, **payload: Any) -> None:
        """One event more."""
        position = len(self.rows) + 1
        version = self.versions[stream] = self.versions.get(stream, 0) + 1
        now = T0 + timedelta(milliseconds=position)
        said = {"merchant_id": "m", "actor": "key:till", "request_id": f"r{position}", "occurred_at": text(now)}
        state = json.dumps(said | payload, ensure_ascii=False, separators=(",", ":"))
        recorded_at_us = int((now + IMPORTED).timestamp() * 1000) * 1000 + self.chance.randrange(1000)
        self.rows.append(Row(position, stream, version, topic, recorded_at_us, state))

    def begin(self, terms: dict[str, Any] | None = None, **limits: Any) -> None:
        """A template and a batch."""
        terms = TERMS | (terms or {})
        self.add("template-t", "template.created", name="Voucher", description="", terms=terms, class_version=3)
        times = {"valid_from": text(T0), "valid_until": text(T0 + VALID)}
        times |= {"valid_delay_seconds": 0, "valid_for_seconds": None}
        plan = {"quantity": 1_000_000, "per_user_limit": None} | times | limits
        self.add("batch-b", "batch.created", template_id="t", template_version=1, name="B", class_version=3, **plan)
        self.add("batch-b", "batch.started")

    def issue(self, user_id: str | None = None, **payload: Any) -> Life:
        """A coupon more."""
        self.issued += 1
        life = Life(self, f"coupon-{self.issued:04}", user_id or self.chance.choice(USERS), **payload)
        self.coupons.append(life)
        return life

    def grow(self, size: int) -> Log:
        """Random steps of random coupons up to this size or one or two over, and one issue at the end."""
        if not self.rows:
            self.begin()
        while len(self.rows) < size - 1:
            if not self.coupons or self.chance.random() < 0.15:
                self.issue()
            else:
                self.chance.choice(self.coupons).step()
        self.issue()
        return self


class Life:
    """One voucher's coupon."""

    def __init__(self, log: Log, stream: str, user_id: str, **payload: Any) -> None:
        self.log = log
        self.stream = stream
        self.user_id = user_id
        self.batch_id = "b"
        self.state = "unused"
        self.balance: int | None = None
        self.debits: dict[str, tuple[str, int]] = {}
        self.used: tuple[str, str, int] | None = None
        self.valid_until = T0 + VALID
        self.held: tuple[str, str] | None = None
        until = {"valid_from": text(T0), "valid_until": text(self.valid_until)}
        pinned = {"template_id": "t", "template_version": 1, "channel": "claim", "facts": {}, "class_version": 2}
        self.add("issued", **pinned | until | payload)

    def add(self, verb: str, **payload: Any) -> None:
        self.log.add(self.stream, f"coupon.{verb}", **{"batch_id": self.batch_id, "user_id": self.user_id} | payload)

    def step(self) -> None:
        """One of the steps that are possible now."""
        possible = {
            "unused": [self.lock] * 3 + [self.extend, self.transfer, self.share],
            "locked": [self.unlock, self.use, self.use, self.debit, self.hold_longer],
            "used": [self.return_],
        }.get(self.state, [])
        if self.debits and self.state in ("unused", "locked"):
            possible.append(self.credit)
        if self.state == "unused" and self.log.chance.random() < 0.1:
            possible = [self.void, self.expire]
        if possible:
            self.log.chance.choice(possible)()

    @property
    def left(self) -> int:
        return VALUE if self.balance is None else self.balance

    def lock(self, **payload: Any) -> None:
        number = len(self.log.rows)
        self.held = (f"order-{number}", f"lock-{number}")
        told = {"order_total_minor": 9900, "quote_digest": None, "discount_minor": None, "allocation": []}
        said = {"holder_id": self.user_id, "channel": None, "class_version": 3} | told
        ends_at = T0 + HELD
        self.add("locked", **{**self._named(), **said, "lock_ends_at": text(ends_at)} | payload)
        self.state = "locked"

    def hold_longer(self, **payload: Any) -> None:
        ends_at = text(T0 + HELD + timedelta(seconds=len(self.log.rows)))
        self.add("lock_extended", **self._named() | {"lock_ends_at": ends_at} | payload)

    def unlock(self, **payload: Any) -> None:
        self.add("unlocked", **self._named() | {"reason": "order_cancelled"} | payload)
        self.state = "unused"

    def use(self, **payload: Any) -> None:
        spent = self._spent(self.left) | payload
        self.add("used", **spent, class_version=2)
        self.used = (spent["order_id"], spent["redemption_id"], spent["discount_minor"])
        self.state = "used"

    def debit(self, **payload: Any) -> None:
        if self.left < 2:
            return
        spent = self._spent(self.log.chance.randrange(1, self.left))
        self.balance = self.left - spent["discount_minor"]
        self.add("debited", **spent | {"balance_minor": self.balance} | payload)
        self.debits[spent["order_id"]] = (spent["redemption_id"], spent["discount_minor"])
        self.state = "unused"

    def return_(self, **payload: Any) -> None:
        assert self.used is not None
        order_id, redemption_id, discount = self.used
        given = {"restored": True, "returned_minor": discount, "lines": [], "valid_until": text(self.valid_until)}
        named = {"order_id": order_id, "redemption_id": redemption_id, "reason": "order_cancelled"}
        self.add("returned", **named | given | payload)
        self.state = "unused"

    def credit(self, **payload: Any) -> None:
        order_id = self.log.chance.choice(list(self.debits))
        redemption_id, discount = self.debits.pop(order_id)
        self.balance = self.left + discount
        named = {"order_id": order_id, "redemption_id": redemption_id, "reason": "merchant_refund"}
        given = {"credited_minor": discount, "balance_minor": self.balance, "restored": False, "lines": []}
        self.add("credited", **named | given | payload)

    def extend(self, **payload: Any) -> None:
        before, self.valid_until = self.valid_until, self.valid_until + timedelta(hours=1)
        times = {"valid_until_before": text(before), "valid_until": text(self.valid_until)}
        self.add("extended", **times | {"reason": "storm"} | payload)

    def transfer(self) -> None:
        to_user_id = f"{self.user_id}2"[-8:]
        self.add("transferred", to_user_id=to_user_id)
        self.user_id = to_user_id

    def share(self) -> None:
        self.add("shared", with_user_ids=["friend"])

    def void(self, **payload: Any) -> None:
        self.add("voided", **{"reason": "fraud"} | payload)
        self.state = "voided"

    def expire(self, **payload: Any) -> None:
        end = text(self.valid_until)
        self.add("expired", **{"valid_until": end, "occurred_at": end} | payload)
        self.state = "expired"

    def _named(self) -> dict[str, str]:
        assert self.held is not None
        return {"order_id": self.held[0], "lock_id": self.held[1]}

    def _spent(self, discount: int) -> dict[str, Any]:
        part = discount * SHARE_PERMYRIAD // 10_000
        parts = {"merchant_funded_minor": part, "platform_funded_minor": discount - part}
        lines = [{"line_id": "1", "product_id": "p", "discount_minor": discount}]
        order = {"order_total_minor": 9900, "paid_minor": None, "allocation": lines, "currency": "EUR"}
        who = {"holder_id": self.user_id, "channel": "online", "late": False}
        named = self._named() | {"redemption_id": f"redemption-{len(self.log.rows)}"}
        return {**named, "discount_minor": discount, **parts, **order, **who}


class Sealed:
    """Rows under a tree of their own."""

    def __init__(self, rows: Sequence[Row], origin: str = ORIGIN, key: SigningKey = KEY) -> None:
        self.rows = list(rows)
        self.entries = [row.entry() for row in rows]
        self.leaves = [leaf_hash(each) for each in self.entries]
        self.origin = origin
        self.key = key

    @property
    def size(self) -> int:
        return len(self.rows)

    def node(self, level: int, index: int) -> bytes:
        return complete(self.leaves[index << level : (index + 1) << level])

    def checkpoint(self, size: int | None = None) -> Checkpoint:
        size = self.size if size is None else size
        return Checkpoint(self.origin, size, root(self.node, size))

    def note(self, size: int | None = None) -> str:
        return sign(self.checkpoint(size), self.key)

    def whole(
        self, *, balances: Balances | None = None, earlier: Sequence[int] = (), unsealed: Sequence[Row] = ()
    ) -> bytes:
        """A bundle of everything, and of rows that were never sealed."""
        file = io.BytesIO()
        notes = [self.note(size) for size in earlier]
        write_whole(file, self.note(), [*self.rows, *unsealed], self.entries, balances=balances, earlier=notes)
        return file.getvalue()

    def coupon(self, *streams: str, earlier: Sequence[int] = (), but: Row | None = None) -> bytes:
        """A bundle of some streams, but for one row."""
        file = io.BytesIO()
        rows = [row for row in self.rows if row.stream in streams and row is not but]
        proofs = [inclusion_proof(self.node, row.position - 1, self.size) for row in rows]
        known = [(self.note(size), consistency_proof(self.node, size, self.size)) for size in earlier]
        write_coupon(file, self.note(), rows, proofs, earlier=known)
        return file.getvalue()


def trust(*last: str, whole: bool = False) -> Trust:
    """What the auditor of these logs has: the key, and checkpoints of before."""
    return Trust([KEY.verifier()], ORIGIN, last, whole=whole)


def text(moment: datetime) -> str:
    """A time as events have it."""
    return moment.isoformat().replace("+00:00", "Z")

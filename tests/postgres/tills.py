"""An order system for tests: what it does with the ledger, and what its file says of that."""

from __future__ import annotations

import csv
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from ledger import use_cases
from ledger.benefit import Benefit
from ledger.coupon import Redemption
from ledger.events import Recorded
from ledger.terms import Terms
from projections.reconcile import proposals
from projections.reconcile.compare import Finding, Summary, comparison
from projections.reconcile.orders_file import read_orders
from projections.reconcile.proposals import Answer
from tests.conftest import MERCHANT, Shop

NOW = datetime.now(UTC)
Row = dict[str, Any]


class Till:
    """An order system: what it did with the ledger, and what it says of that in its file."""

    def __init__(self, shop: Shop, folder: Path) -> None:
        self.shop = shop
        self.folder = folder
        terms = Terms(benefit=Benefit(kind="amount_off", value_minor=500), currency="EUR", stacking_mode="stackable")
        self.batch_id = shop.batch(per_user_limit=None, terms=terms)
        self.late_batch_id = shop.batch(per_user_limit=None, terms=replace(terms, late_confirm="accept"))
        self.rows: list[Row] = []

    def order(self, order_id: str, *coupon_ids: str, state: str = "paid", **said: Any) -> list[Row]:
        """Lines of the file; nothing is done."""
        lines = [
            {"order_id": order_id, "coupon_id": id, "state": state, "discount_minor": 200, "currency": "EUR"}
            | {"at": NOW.isoformat()}
            | said
            for id in coupon_ids
        ]
        self.rows += lines
        return lines

    def coupon(self, user_id: str = "user-1", batch_id: str | None = None) -> str:
        return self.shop.coupon(user_id, batch_id or self.batch_id)

    def lock(self, order_id: str, *coupon_ids: str, **said: Any) -> None:
        request = self.shop.request(at=said.pop("at", None))
        self.shop.ledger.do(use_cases.lock(request, order_id, user_id="user-1", coupon_ids=coupon_ids, **said))

    def use(self, order_id: str, *coupon_ids: str, discount_minor: int = 200) -> None:
        self.lock(order_id, *coupon_ids)
        told = [Redemption(coupon_id=id, discount_minor=discount_minor) for id in coupon_ids]
        self.shop.ledger.do(use_cases.confirm(self.shop.request(), order_id, told))

    def give_back(self, order_id: str, *coupon_ids: str, reason: str = "order_cancelled") -> None:
        work = use_cases.return_coupons(self.shop.request(), order_id, coupon_ids=coupon_ids, reason=reason)
        self.shop.ledger.do(work)

    def file(self, rows: list[Row] | None = None, kind: str = "ndjson") -> Path:
        rows = self.rows if rows is None else rows
        path = self.folder / f"orders.{kind}"
        if kind == "ndjson":
            path.write_bytes(b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows))
        else:
            with path.open("w", newline="", encoding="utf-8") as file:
                names = list(dict.fromkeys(name for row in rows for name in row))
                writer = csv.DictWriter(file, names)
                writer.writeheader()
                writer.writerows(rows)
        return path

    def compare(self, path: Path | None = None, **span: Any) -> tuple[list[Finding], Summary]:
        path = path or self.file()
        kind: Any = path.suffix[1:]
        with comparison(self.shop.ledger.store.database, MERCHANT, read_orders(path, kind), **span) as compared:
            return list(compared.findings()), compared.summary

    def propose(self, by: str = "alice") -> tuple[list[Answer], Path]:
        findings, _ = self.compare()
        answers = list(proposals.answers(self.shop.ledger, MERCHANT, findings, by))
        path = self.folder / "proposals.ndjson"
        path.write_bytes(b"".join(answer.proposal.to_line() for answer in answers if answer.proposal is not None))
        return answers, path

    def apply(self, path: Path, by: str = "bob") -> list[tuple[str, str]]:
        approved = proposals.approve(path, by)
        return [(done.operation, done.result) for done in proposals.apply(self.shop.ledger, approved)]

    def log(self) -> list[Recorded]:
        with self.shop.ledger.store.connection() as connection:
            return list(self.shop.ledger.store.read(connection, 0, 10_000))

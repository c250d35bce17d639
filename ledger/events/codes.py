"""Events of codes: typed strings exchanged for coupons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ledger.events.base import Event


@dataclass(frozen=True, kw_only=True)
class CodesGenerated(Event, topic="codes.generated"):
    """Codes of a batch came to be, kept as keyed hashes only. One stream a set of codes, ``codes-<id>``."""

    batch_id: str
    kind: str
    """``unique``: each for one coupon; ``generic``: one code for many users; ``imported``: unique, made elsewhere."""
    count: int

    def apply(self, aggregate: Any) -> None:
        aggregate.merchant_id = self.merchant_id
        aggregate.generated = self


@dataclass(frozen=True, kw_only=True)
class CodesExported(Event, topic="codes.exported"):
    """The codes were handed over, once; nobody can read them from the ledger afterwards."""

    def apply(self, aggregate: Any) -> None:
        aggregate.exported = True


@dataclass(frozen=True, kw_only=True)
class CodesRevoked(Event, topic="codes.revoked"):
    """None of these codes is exchanged any more; coupons that were, stay."""

    reason: str

    def apply(self, aggregate: Any) -> None:
        aggregate.revoked = True

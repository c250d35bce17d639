"""A piece of work: one use case asked for once, what it may look at, and its answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ledger.aggregate import AggregateT
from ledger.batch import Batch
from ledger.commit import Unit
from ledger.coupon import Coupon
from ledger.errors import BatchNotFound, CouponNotFound, NotFound, TemplateNotFound
from ledger.events import Event
from ledger.request import Request
from ledger.template import Template
from ledger.terms import Terms


@dataclass(frozen=True, slots=True)
class Work:
    """One use case, asked for once."""

    request: Request
    streams: tuple[str, ...]
    """The streams that it writes."""
    decide: Callable[[Loaded], Unit | Receipt]
    """From what was loaded to the unit to commit; or the answer it had before, or a refusal."""
    issues_from: str | None = None
    """The batch whose coupons it issues. Their streams are new, so nothing is read first: the commit finds out."""
    issues_to: Sequence[str] = ()
    """The users who get them."""
    order_id: str | None = None
    """The order whose coupons it looks at, beside those whose streams it writes."""

    @property
    def order(self) -> tuple[str, str] | None:
        """That order, by merchant and id."""
        return None if self.order_id is None else (self.request.merchant_id, self.order_id)


@dataclass(frozen=True, slots=True)
class Receipt:
    """The answer to work that had its effect, now or when it was first asked for."""

    answer: dict[str, Any]
    position: int
    """Of the last event; a read model at this position shows the effect. 0 where a repeat did not look it up."""
    replayed: bool = False


@dataclass(slots=True)
class Loaded:
    """What a decision may look at."""

    merchant_id: str
    now: datetime
    streams: Mapping[str, Sequence[Event]]
    cached_batch: Callable[[str], Batch]
    cached_terms: Callable[[str, int], Terms]
    order_streams: Sequence[str] = ()
    """Coupons that the work's order ever locked, among ``streams``; not read where work on coupons is its first use."""
    order_uses: int = 0
    """How often the work's order used a coupon before."""
    from_cache: set[str] = field(default_factory=set)
    """Batches that were looked at without reading them again."""

    def template(self, template_id: str) -> Template:
        """A template that this merchant owns. Raises ``TemplateNotFound``."""
        return self._owned(self._fold(Template, template_id), TemplateNotFound)

    def batch(self, batch_id: str) -> Batch:
        """A batch that this merchant owns, read with the work's streams. Raises ``BatchNotFound``."""
        return self._owned(self._fold(Batch, batch_id), BatchNotFound)

    def issuing_batch(self, batch_id: str) -> Batch:
        """The same from the cache, for work that only reads it; the commit checks that it has not moved since."""
        self.from_cache.add(batch_id)
        return self._owned(self.cached_batch(batch_id), BatchNotFound)

    def coupon(self, id: str) -> Coupon:
        """A coupon that this merchant owns. Raises ``CouponNotFound``."""
        return self._owned(self._fold(Coupon, id), CouponNotFound)

    def terms(self, template_id: str, version: int) -> Terms:
        """The terms as that version of the template fixed them."""
        return self.cached_terms(template_id, version)

    def _fold(self, kind: type[AggregateT], id: str) -> AggregateT:
        aggregate = kind(f"{kind.category}-{id}")
        return fold(aggregate, self.streams.get(aggregate.id, ()))

    def _owned(self, aggregate: AggregateT, missing: type[NotFound]) -> AggregateT:
        if not aggregate.version or aggregate.merchant_id != self.merchant_id:
            raise missing(id=aggregate.key)
        return aggregate


def fold(aggregate: AggregateT, events: Sequence[Event]) -> AggregateT:
    """The aggregate after these events of its stream."""
    for event in events:
        event.mutate(aggregate)
    return aggregate

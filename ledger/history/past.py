"""The log up to a cut, in the form that decisions look at: the real use cases decide on it again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ledger.batch import Batch
from ledger.events import CouponSpent, Recorded
from ledger.history.moment import Connection, Cut
from ledger.history.reading import histories, order_streams
from ledger.store import Store
from ledger.template import Template
from ledger.terms import Terms
from ledger.work import Loaded, Work, fold


class Past:
    """Streams as a cut has them. Each is read once."""

    def __init__(self, store: Store, connection: Connection, cut: Cut) -> None:
        self.cut = cut
        self._store = store
        self._connection = connection
        self._streams: dict[str, Sequence[Recorded]] = {}

    def read(self, streams: Iterable[str]) -> None:
        """Read these streams in one look."""
        new = [stream for stream in streams if stream not in self._streams]
        found = histories(self._store, self._connection, new, self.cut.position) if new else {}
        self._streams.update((stream, self.cut.of(history)) for stream, history in found.items())

    def history(self, stream: str) -> Sequence[Recorded]:
        """One stream; empty where it had not begun."""
        self.read([stream])
        return self._streams[stream]

    def batch(self, batch_id: str) -> Batch:
        """A batch as it was then; without a version where it was not planned yet."""
        stream = f"batch-{batch_id}"
        return fold(Batch(stream), [recorded.event for recorded in self.history(stream)])

    def terms(self, template_id: str, version: int) -> Terms:
        """The terms of a version, which never change."""
        stream = f"template-{template_id}"
        events = [recorded.event for recorded in self.history(stream)[:version]]
        return Terms.from_payload(fold(Template(stream), events).terms)

    def order_streams(self, merchant_id: str, order_id: str) -> list[str]:
        """The coupons, as streams, that the order had locked by then."""
        streams = order_streams(self._connection, merchant_id, order_id, self.cut.position)
        self.read(streams)
        return [stream for stream in streams if self._streams[stream]]

    def loaded(self, work: Work) -> Loaded:
        """What the work would have looked at, and the clock that it would have had."""
        order_streams = self.order_streams(*work.order) if work.order else []
        self.read(work.streams)
        streams = {
            stream: [recorded.event for recorded in self._streams[stream]] for stream in (*work.streams, *order_streams)
        }
        spent = (event for stream in order_streams for event in streams[stream] if isinstance(event, CouponSpent))
        return Loaded(
            work.request.merchant_id,
            work.request.at or self.cut.at,
            streams,
            self.batch,
            self.terms,
            order_streams,
            sum(event.order_id == work.order_id for event in spent),
        )

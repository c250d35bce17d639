"""Batches and terms as they were when last read, kept so that most work reads neither.

What is kept may be old: a commit checks the version of each batch that a decision looked at.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import psycopg

from ledger.batch import Batch
from ledger.errors import Unavailable
from ledger.store import Store
from ledger.template import Template
from ledger.terms import Terms
from ledger.work import fold

KEPT_OBJECTS = 10_000
LOADING_WAIT_SECONDS = 3.0
"""How long a caller waits for another to read a batch again: a little longer than for a connection."""

Connection = psycopg.Connection[Any]
K = TypeVar("K")
T = TypeVar("T")


class Plans:
    """What one process knows of batches and terms."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._batches: OrderedDict[str, Batch] = OrderedDict()
        self._terms: OrderedDict[tuple[str, int], Terms] = OrderedDict()
        # Batches and templates that a caller's transaction wrote: it may yet roll back, so they are not kept.
        self._unsettled: set[str] = set()
        # When a hot batch changes, one caller reads it or its terms while the others wait, instead of all at once.
        self._loading = threading.Lock()

    def batch(self, connection: Connection | None, batch_id: str) -> Batch:
        """A batch as it was when last read; nobody applies events to the kept one."""
        if (found := self._batches.get(batch_id)) is not None:
            return found

        def read() -> Batch:
            stream = f"batch-{batch_id}"
            batch = fold(Batch(stream), self._store.load([stream], (), connection).streams[stream])
            if batch.version and self._settled(stream, connection):
                remember(self._batches, batch_id, batch)
            return batch

        return self._read_once(self._batches, batch_id, read)

    def terms(self, connection: Connection | None, template_id: str, version: int) -> Terms:
        """Terms never change under a version, so they are kept."""
        if (found := self._terms.get((template_id, version))) is not None:
            return found

        def read() -> Terms:
            stream = f"template-{template_id}"
            events = self._store.load([stream], (), connection).streams[stream]
            terms = Terms.from_payload(fold(Template(stream), events[:version]).terms)
            if self._settled(stream, connection):
                remember(self._terms, (template_id, version), terms)
            return terms

        return self._read_once(self._terms, (template_id, version), read)

    def wrote(self, streams: Iterable[str]) -> None:
        """Take note of streams that a transaction wrote which is not committed yet."""
        self._unsettled.update(stream for stream in streams if not stream.startswith("coupon-"))

    def forget(self, batch_ids: Iterable[str]) -> None:
        """Read these batches again when they are next asked for."""
        for batch_id in batch_ids:
            self._batches.pop(batch_id, None)

    def forget_moved(self, versions: Mapping[str, int]) -> None:
        """Forget those of these batches that have another version now."""
        for batch_id, version in versions.items():
            if (kept := self._batches.get(batch_id)) is not None and kept.version != version:
                self.forget([batch_id])

    def _read_once(self, kept: OrderedDict[K, T], key: K, read: Callable[[], T]) -> T:
        """What is not kept yet; while one caller reads it, the others wait for that."""
        if not self._loading.acquire(timeout=LOADING_WAIT_SECONDS):
            raise Unavailable("the batch or its terms cannot be read now")
        try:
            found = kept.get(key)
            return read() if found is None else found
        finally:
            self._loading.release()

    def _settled(self, stream: str, connection: Connection | None) -> bool:
        return connection is None or stream not in self._unsettled


def remember(kept: OrderedDict[Any, Any], key: Any, value: Any) -> None:
    """Keep the value, and let go of the oldest where there are too many."""
    kept[key] = value
    if len(kept) > KEPT_OBJECTS:
        kept.popitem(last=False)

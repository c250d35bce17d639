"""A consumer process: polls Kafka, hands each poll to the inbox, and never skips a message because of trouble.

Several processes of one group share the topic's partitions. One process uses one thread for its consumer, one for the
database, so that a slow one costs no partition, and one for the copies of dead letters.
"""

from __future__ import annotations

import gc
import logging
import signal
import threading
import time
from collections.abc import Callable, Mapping
from concurrent import futures
from dataclasses import dataclass
from typing import Any, TypeVar

from kafka.errors import KafkaError

from consumers.dead_letter_copies import Copies
from consumers.inbox import Inbox, Partition, Taken
from consumers.inputs import BusinessTime, Input
from consumers.reader import Polled, Reader, firsts
from consumers.waiting import WAIT_SECONDS
from ledger.application import Ledger
from ledger.errors import ServiceError
from ledger.rest import rest

log = logging.getLogger(__name__)

PROBE_SECONDS = 5.0
"""A poll that brings nothing is the same for an idle topic and a lost broker, so the broker is asked this often."""
COMMIT_SECONDS = 1.0
TRY_AGAIN_SECONDS = 1.0
"""How often messages that wait are looked for."""
PATIENCE_SECONDS = 1.0
"""From when on the database is slow, and partitions are paused until it answers."""
FIRST_BACK_OFF_SECONDS = 0.1
LONGEST_BACK_OFF_SECONDS = 5.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Health:
    """How a worker is."""

    good_poll_age_seconds: float
    """Since a poll was taken into the ledger, or an idle broker answered. Over a minute, something is wrong."""
    lag: int | None
    """Messages of this worker's partitions that are to be read; ``None`` until it was asked for."""
    partitions: tuple[int, ...]
    messages: int
    effects: int
    repeats: int
    dead: int
    early: int
    """Messages that came too early and were let wait."""
    failures: int
    """Polls that were taken back because the database or the broker was away."""


class Worker:
    """One consumer of one input.

    ``kafka`` holds settings of all kafka-python's clients, such as security; ``consumer`` those of the consumer alone.
    ``wait_seconds`` is how long a message waits that came too early.
    """

    def __init__(
        self,
        ledger: Ledger,
        bootstrap: str | list[str],
        input: Input,
        *,
        group: str | None = None,
        prefix: str = "",
        business_time: BusinessTime = "live",
        wait_seconds: float = WAIT_SECONDS,
        kafka: Mapping[str, Any] | None = None,
        consumer: Mapping[str, Any] | None = None,
    ) -> None:
        self._ledger = ledger
        self._topic = f"{prefix}{input.topic}"
        self._group = group or input.group
        self._inbox = Inbox(ledger, input, self._group, business_time, wait_seconds)
        self._bootstrap = bootstrap
        self._kafka = dict(kafka or {})
        self._settings = {
            "bootstrap_servers": bootstrap,
            "group_id": self._group,
            "max_poll_records": input.max_poll_records,
            **self._kafka,
            **(consumer or {}),
        }
        self._reader: Reader | None = None
        self._counts = dict.fromkeys(("messages", "effects", "repeats", "dead", "early", "failures"), 0)
        self._lag: int | None = None
        self._good_at = time.monotonic()
        self._commit_at = self._tried_at = 0.0
        self._uncommitted: dict[Partition, int] = {}

    def health(self) -> Health:
        """May be called from any thread."""
        return Health(
            good_poll_age_seconds=time.monotonic() - self._good_at,
            lag=self._lag,
            partitions=tuple(sorted(number for _, number in self._reader.assigned.copy())) if self._reader else (),
            **self._counts,
        )

    def run(self, stop: threading.Event) -> None:
        """Consume until told to stop; the group in hand is finished first.

        The database or the broker may come and go. What raises is broken: ``TopicReplaced``, a database without the
        ledger's tables, a wrong setting.
        """
        self._reader = reader = self._open(stop)
        if reader is None:
            return
        copies = Copies(self._ledger.store, self._bootstrap, self._group, self._topic, self._kafka)
        try:
            with futures.ThreadPoolExecutor(1, "inbox") as hand:
                self._loop(reader, hand, stop)
            self._commit(reader)
        finally:
            copies.close()
            reader.close()

    def _open(self, stop: threading.Event) -> Reader | None:
        pause = FIRST_BACK_OFF_SECONDS
        while not stop.is_set():
            try:
                return Reader(self._topic, self._settings)
            except KafkaError as error:
                log.warning("Kafka cannot be read: %s", error)
            self._counts["failures"] += 1
            rest(stop, pause)
            pause = min(2 * pause, LONGEST_BACK_OFF_SECONDS)
        return None

    def _loop(self, reader: Reader, hand: futures.Executor, stop: threading.Event) -> None:
        pause = FIRST_BACK_OFF_SECONDS
        while not stop.is_set():
            polled: Polled = {}
            try:
                polled = reader.poll()
                self._turn(reader, hand, polled)
                pause = FIRST_BACK_OFF_SECONDS
            except (KafkaError, ServiceError) as error:
                log.warning("%s: %s; the same messages come again in %.1f s", type(error).__name__, error, pause)
                self._counts["failures"] += 1
                reader.seek(firsts(polled))
                until = time.monotonic() + pause
                while not stop.is_set() and time.monotonic() < until:
                    reader.keep_place()
                pause = min(2 * pause, LONGEST_BACK_OFF_SECONDS)

    def _turn(self, reader: Reader, hand: futures.Executor, polled: Polled) -> None:
        def patiently(do: Callable[[], T]) -> T:
            """Have the database do it. As long as that takes, partitions are kept, and nothing more is taken in."""
            future = hand.submit(do)
            while not futures.wait([future], PATIENCE_SECONDS).done:
                reader.keep_place()
            return future.result()

        if reader.new:
            # What was polled of them came from elsewhere than from their stored offsets.
            new = sorted(reader.new)
            reader.seek(patiently(lambda: self._inbox.begin(new)))
            reader.new.difference_update(new)
            polled = {partition: records for partition, records in polled.items() if partition not in new}
        if time.monotonic() - self._tried_at > TRY_AGAIN_SECONDS:
            self._tried_at = time.monotonic()
            self._count(patiently(lambda: self._inbox.try_again(reader.assigned.copy())))
        if self._uncommitted and time.monotonic() - self._commit_at > COMMIT_SECONDS:
            self._commit(reader)
            self._lag = patiently(lambda: self._inbox.note_ends(reader.seen_ends()))
        if polled:
            taken = patiently(lambda: self._inbox.take(polled))
            self._count(taken)
            reader.seek(taken.seeks)
            self._uncommitted |= taken.next_offsets
            self._good_at = time.monotonic()
        elif time.monotonic() - self._good_at > PROBE_SECONDS:
            ends = reader.ask_ends()
            self._good_at = time.monotonic()
            self._lag = patiently(lambda: self._inbox.note_ends(ends))

    def _count(self, taken: Taken) -> None:
        for name in ("messages", "effects", "repeats", "dead", "early"):
            self._counts[name] += getattr(taken, name)

    def _commit(self, reader: Reader) -> None:
        reader.commit(self._uncommitted)
        self._uncommitted = {}
        self._commit_at = time.monotonic()


def run(ledger: Ledger, bootstrap: str | list[str], input: Input, stop: threading.Event, **options: Any) -> None:
    """Consume an input's messages until told to stop, in a process of its own; options as of ``Worker``."""
    calm_the_collector()
    Worker(ledger, bootstrap, input, **options).run(stop)


def calm_the_collector() -> None:
    """Look for cycles less often, in a process that does one kind of work in groups.

    A group makes thousands of objects and no cycles, and searching them costs a tenth of a consumer's time and a third
    of the sweeper's.
    """
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def stop_on_signals() -> threading.Event:
    """An event that SIGTERM or SIGINT sets. Call it in the main thread."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop

"""A consumer process: polls Kafka, hands each poll to the inbox, and never skips a message because of trouble.

Several processes of one group share the topic's partitions. One process uses one thread for its consumer, and a
second one for the copies of dead letters.
"""

from __future__ import annotations

import gc
import logging
import signal
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kafka import ConsumerRebalanceListener, KafkaConsumer, TopicPartition
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.errors import KafkaError
from kafka.structs import OffsetAndMetadata

from consumers.dead_letter_copies import Copies
from consumers.inbox import Inbox, Partition
from consumers.inputs import ISSUANCE, MEMBERS, ORDERS, BusinessTime, Input
from ledger.application import Ledger
from ledger.errors import ServiceError

log = logging.getLogger(__name__)

POLL_MILLISECONDS = 200
PROBE_SECONDS = 5.0
"""A poll that brings nothing is the same for an idle topic and a lost broker, so the broker is asked this often."""
COMMIT_SECONDS = 1.0
FIRST_BACK_OFF_SECONDS = 0.1
LONGEST_BACK_OFF_SECONDS = 5.0
"""Far below ``max_poll_interval_ms``, so that waiting for the database never costs the partitions."""

_CONSUMER = {
    "enable_auto_commit": False,
    "auto_offset_reset": "earliest",
    "max_poll_interval_ms": 60_000,
    "session_timeout_ms": 15_000,
    "heartbeat_interval_ms": 3_000,
    "allow_auto_create_topics": False,
    "partition_assignment_strategy": [CooperativeStickyAssignor],
    "metrics_enabled": False,
}


@dataclass(frozen=True, slots=True)
class Health:
    """How a worker is."""

    good_poll_age_seconds: float
    """Since a poll was taken into the ledger, or an idle broker answered. Over a minute, something is wrong."""
    lag: int | None
    """Messages of this worker's partitions that wait; ``None`` until it was asked for."""
    partitions: tuple[int, ...]
    messages: int
    effects: int
    repeats: int
    dead: int
    failures: int
    """Polls that were taken back because the database or the broker was away."""


class Worker(ConsumerRebalanceListener):  # type: ignore[misc]  # the library has no types
    """One consumer of one input.

    ``kafka`` holds settings of all kafka-python's clients, such as security; ``consumer`` those of the consumer alone.
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
        kafka: Mapping[str, Any] | None = None,
        consumer: Mapping[str, Any] | None = None,
    ) -> None:
        self._ledger = ledger
        self._topic = f"{prefix}{input.topic}"
        self._group = group or input.group
        self._inbox = Inbox(ledger, input, self._group, business_time)
        self._bootstrap = bootstrap
        self._kafka = dict(kafka or {})
        self._settings = {
            **_CONSUMER,
            "bootstrap_servers": bootstrap,
            "group_id": self._group,
            "max_poll_records": input.max_poll_records,
            **self._kafka,
            **(consumer or {}),
        }
        self._new: set[Partition] = set()
        self._assigned: set[Partition] = set()
        self._counts = dict.fromkeys(("messages", "effects", "repeats", "dead", "failures"), 0)
        self._lag: int | None = None
        self._good_at = time.monotonic()
        self._commit_at = 0.0
        self._uncommitted: dict[Partition, int] = {}

    def health(self) -> Health:
        """May be called from any thread."""
        return Health(
            good_poll_age_seconds=time.monotonic() - self._good_at,
            lag=self._lag,
            partitions=tuple(sorted(number for _, number in self._assigned.copy())),
            **self._counts,
        )

    def run(self, stop: threading.Event) -> None:
        """Consume until told to stop; the group in hand is finished first.

        The database or the broker may come and go. What raises is broken: ``TopicReplaced``, a database without the
        ledger's tables, a wrong setting.
        """
        consumer = self._open(stop)
        if consumer is None:
            return
        copies = Copies(self._ledger.store, self._bootstrap, self._group, self._kafka)
        try:
            self._loop(consumer, stop)
            self._commit(consumer)
        finally:
            copies.close()
            consumer.close(timeout_ms=5_000)

    # --- rebalances: called on the client's IO thread, so they only leave word ---------------------------

    def on_partitions_assigned(self, assigned: Iterable[Partition]) -> None:
        """Read the new ones from their stored offsets before anything else."""
        self._new |= set(assigned)
        self._assigned |= set(assigned)

    def on_partitions_revoked(self, revoked: Iterable[Partition]) -> None:
        """What was polled and is not yet taken is fenced by the stored offsets."""
        self._assigned -= set(revoked)

    # --- the loop -----------------------------------------------------------------------------------------

    def _open(self, stop: threading.Event) -> Any:
        pause = FIRST_BACK_OFF_SECONDS
        while not stop.is_set():
            consumer = None
            try:
                consumer = KafkaConsumer(**self._settings)
                # Without warm metadata the first assignment is often empty.
                if consumer.partitions_for_topic(self._topic):
                    consumer.subscribe([self._topic], listener=self)
                    return consumer
                log.warning("the topic %s is not there yet", self._topic)
            except KafkaError as error:
                log.warning("Kafka cannot be reached: %s", error)
            if consumer is not None:
                consumer.close(timeout_ms=1_000)
            pause = self._back_off(pause, stop)
        return None

    def _loop(self, consumer: Any, stop: threading.Event) -> None:
        pause = FIRST_BACK_OFF_SECONDS
        while not stop.is_set():
            polled: dict[Partition, Any] = {}
            try:
                polled = consumer.poll(timeout_ms=POLL_MILLISECONDS)
                _stay_a_member(consumer)
                self._turn(consumer, polled)
            except (KafkaError, ServiceError) as error:
                log.warning("%s: %s; the same messages come again in %.1f s", type(error).__name__, error, pause)
                self._seek(consumer, {partition: records[0].offset for partition, records in polled.items()})
                pause = self._back_off(pause, stop)
            else:
                pause = FIRST_BACK_OFF_SECONDS

    def _turn(self, consumer: Any, polled: dict[Partition, Any]) -> None:
        if self._new:
            polled = self._settle_in(consumer, polled)
        if polled:
            taken = self._inbox.take(polled)
            self._seek(consumer, taken.seeks)
            for name in ("messages", "effects", "repeats", "dead"):
                self._counts[name] += getattr(taken, name)
            self._uncommitted |= taken.next_offsets
            self._good_at = time.monotonic()
        elif time.monotonic() - self._good_at > PROBE_SECONDS:
            self._probe(consumer)
        if self._uncommitted and time.monotonic() - self._commit_at > COMMIT_SECONDS:
            self._commit(consumer)

    def _settle_in(self, consumer: Any, polled: dict[Partition, Any]) -> dict[Partition, Any]:
        """Read newly assigned partitions from their stored offsets; what was polled of them came from elsewhere."""
        new = set(self._new)
        self._seek(consumer, self._inbox.begin(sorted(new)))
        self._new -= new
        return {partition: records for partition, records in polled.items() if partition not in new}

    def _seek(self, consumer: Any, offsets: Mapping[Partition, int]) -> None:
        for partition, offset in offsets.items():
            try:
                consumer.seek(TopicPartition(*partition), offset)
            except ValueError:
                log.info("%s/%s was moved to another consumer", *partition)

    def _probe(self, consumer: Any) -> None:
        """Ask the broker how far the topic goes. Raises ``KafkaError`` when it is away."""
        mine = consumer.assignment()
        ends = consumer.end_offsets(list(mine) or [TopicPartition(self._topic, 0)], timeout_ms=2_000)
        self._lag = sum(ends[partition] - (consumer.position(partition, timeout_ms=2_000) or 0) for partition in mine)
        self._good_at = time.monotonic()

    def _commit(self, consumer: Any) -> None:
        """Tell Kafka's lag tools where we are. Nothing depends on it, so nobody waits for it."""
        mine = consumer.assignment()
        offsets = {
            TopicPartition(*partition): OffsetAndMetadata(offset, "", -1)
            for partition, offset in self._uncommitted.items()
            if partition in mine
        }
        self._uncommitted = {}
        self._commit_at = time.monotonic()
        if offsets:
            consumer.commit_async(offsets)

    def _back_off(self, pause: float, stop: threading.Event) -> float:
        """Wait, and say how long the next wait is. Heartbeats go on, since they have their own thread."""
        self._counts["failures"] += 1
        until = time.monotonic() + pause
        while not stop.is_set() and time.monotonic() < until:
            time.sleep(min(0.1, pause))
        return min(2 * pause, LONGEST_BACK_OFF_SECONDS)


def _stay_a_member(consumer: Any) -> None:
    """Take up a join that kafka-python 3.0.12 began and forgot.

    It joins anew when the leader's metadata changed. If the poll ends before that join does, the metadata counts as
    seen and the join is never awaited: the consumer sends no heartbeats, is thrown out of its group, and reads on for
    ever without knowing. A join in flight after a poll is always wanted, so asking for it again changes nothing else.
    """
    coordinator = consumer._coordinator
    if coordinator.rebalance_in_progress():
        coordinator.request_rejoin()


def run_issuance(ledger: Ledger, bootstrap: str | list[str], stop: threading.Event, **options: Any) -> None:
    """Consume issuance messages until told to stop, in a process of its own; options as of ``Worker``."""
    calm_the_collector()
    Worker(ledger, bootstrap, ISSUANCE, **options).run(stop)


def run_orders(ledger: Ledger, bootstrap: str | list[str], stop: threading.Event, **options: Any) -> None:
    """Consume order messages until told to stop, in a process of its own; options as of ``Worker``."""
    calm_the_collector()
    Worker(ledger, bootstrap, ORDERS, **options).run(stop)


def run_members(ledger: Ledger, bootstrap: str | list[str], stop: threading.Event, **options: Any) -> None:
    """Consume member messages until told to stop, in a process of its own; options as of ``Worker``."""
    calm_the_collector()
    Worker(ledger, bootstrap, MEMBERS, **options).run(stop)


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

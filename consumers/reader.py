"""One member of a consumer group, as kafka-python has it, with its traps kept away from whoever reads.

Not for several threads. Rebalances are told on the client's own thread, so they only leave word here.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kafka import ConsumerRebalanceListener, KafkaConsumer, TopicPartition
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.errors import IllegalStateError, KafkaError
from kafka.structs import OffsetAndMetadata

from consumers.inbox import Partition
from consumers.kept import Record

log = logging.getLogger(__name__)

POLL_MILLISECONDS = 200
ASK_MILLISECONDS = 2_000

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

Polled = Mapping[Partition, Sequence[Record]]


class TopicMissing(KafkaError):  # type: ignore[misc]  # the library has no types
    """The topic is not there yet."""


class Reader(ConsumerRebalanceListener):  # type: ignore[misc]  # the library has no types
    """Reads one topic as one member of its group. Every method may raise ``KafkaError``."""

    def __init__(self, topic: str, settings: Mapping[str, Any]) -> None:
        """Connect and subscribe; ``settings`` are kafka-python's. Raises ``KafkaError`` when either cannot be."""
        self.new: set[Partition] = set()
        """Partitions that were assigned, and are to be read from elsewhere than Kafka thinks."""
        self.assigned: set[Partition] = set()
        self._topic = topic
        self._consumer = KafkaConsumer(**{**_CONSUMER, **settings})
        try:
            # Without warm metadata the first assignment is often empty.
            if not self._consumer.partitions_for_topic(topic):
                raise TopicMissing(f"the topic {topic} is not there yet")
            self._consumer.subscribe([topic], listener=self)
        except KafkaError:
            self._consumer.close(timeout_ms=1_000)
            raise

    def close(self) -> None:
        """Leave the group."""
        self._consumer.close(timeout_ms=5_000)

    def poll(self) -> Polled:
        """What comes within a moment. Partitions that were paused go on: one that came back may still be."""
        for partition in self._consumer.paused():
            _if_still_there(self._consumer.resume, partition)
        return self._poll()

    def keep_place(self) -> None:
        """Poll without taking anything in, so that the group goes on and this member keeps its partitions.

        All of them are paused anew each time, because others may have come.
        """
        polled: Polled = {}
        try:
            for partition in self._consumer.assignment():
                _if_still_there(self._consumer.pause, partition)
            polled = self._poll()
        except KafkaError as error:
            log.warning("%s: %s", type(error).__name__, error)
            time.sleep(POLL_MILLISECONDS / 1_000)
        self.seek(firsts(polled))

    def seek(self, offsets: Mapping[Partition, int]) -> None:
        """Read on from there."""
        for partition, offset in offsets.items():
            try:
                self._consumer.seek(TopicPartition(*partition), offset)
            except ValueError:
                log.info("%s/%s was moved to another consumer", *partition)

    def ask_ends(self) -> dict[Partition, int]:
        """How far its partitions go. Without any it asks for the topic's first: an answer shows that Kafka is there."""
        mine = sorted(self._consumer.assignment())
        ends = self._consumer.end_offsets(mine or [TopicPartition(self._topic, 0)], timeout_ms=ASK_MILLISECONDS)
        return {partition: ends[partition] for partition in mine}

    def seen_ends(self) -> dict[Partition, int]:
        """How far its partitions went when they were last read from, without asking."""
        ends: dict[Partition, int] = {}
        for partition in self._consumer.assignment():
            try:
                end = self._consumer.highwater(partition)
            except (IllegalStateError, KeyError):
                continue
            if end is not None:
                ends[partition] = end
        return ends

    def commit(self, offsets: Mapping[Partition, int]) -> None:
        """Tell Kafka's lag tools where we are. Nothing depends on it, so nobody waits for it."""
        mine = self._consumer.assignment()
        told = {
            TopicPartition(*partition): OffsetAndMetadata(offset, "", -1)
            for partition, offset in offsets.items()
            if partition in mine
        }
        if told:
            self._consumer.commit_async(told)

    def on_partitions_assigned(self, assigned: Iterable[Partition]) -> None:
        """Leave word of them."""
        self.new |= set(assigned)
        self.assigned |= set(assigned)

    def on_partitions_revoked(self, revoked: Iterable[Partition]) -> None:
        """What was polled and is not yet taken is fenced by the stored offsets."""
        self.assigned -= set(revoked)

    def _poll(self) -> Polled:
        polled: Polled = self._consumer.poll(timeout_ms=POLL_MILLISECONDS)
        # Take up a join that kafka-python 3.0.12 began and forgot. It joins anew when the leader's metadata changed. If
        # the poll ends before that join does, the metadata counts as seen and the join is never awaited: the consumer
        # sends no heartbeats, is thrown out of its group, and reads on for ever without knowing. A join in flight after
        # a poll is always wanted, so asking for it again changes nothing else.
        coordinator = self._consumer._coordinator
        if coordinator.rebalance_in_progress():
            coordinator.request_rejoin()
        return polled


def firsts(polled: Polled) -> dict[Partition, int]:
    """Where to read again to get the same records."""
    return {partition: records[0].offset for partition, records in polled.items()}


def _if_still_there(do: Any, partition: Any) -> None:
    try:
        do(partition)
    except KeyError:
        log.info("%s/%s was moved to another consumer", *partition)

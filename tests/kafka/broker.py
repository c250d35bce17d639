"""What the tests with a real broker share: topics and groups of their own, a producer, workers in threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from consumers.inputs import ISSUANCE, Input
from consumers.messages import Wire, encode
from consumers.payloads import IssueRequested, Payload
from consumers.topics import ensure_topics
from consumers.worker import Worker

__all__ = ["Broker", "KafkaConsumer", "KafkaProducer", "TopicPartition", "ensure_topics"]

MERCHANT = "merchant-1"
SOURCE = "/tests"


def wait_until(true: Callable[[], Any], what: str, seconds: float = 30.0) -> None:
    """Wait until it holds, or fail."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"waited {seconds} s in vain until {what}"
        time.sleep(0.01)


def message(payload: Payload, id: str, *, time: datetime | None = None) -> Wire:
    """A message under an id, of now unless told otherwise."""
    return encode(payload, source=SOURCE, id=id, time=time or datetime.now(UTC))


def issue(batch_id: str, number: int, *, id: str | None = None, time: datetime | None = None) -> Wire:
    """The message that asks for the coupon of a user of that number."""
    payload = IssueRequested(merchant_id=MERCHANT, batch_id=batch_id, user_id=f"user-{number}", channel="mail")
    return message(payload, id or f"issue-{number}", time=time)


@dataclass
class Broker:
    """One test's topics on the shared broker."""

    bootstrap: str
    prefix: str
    group: str
    producer: Any = field(repr=False)

    def send(self, topic: str, wires: Sequence[Wire], *, partition: int | None = None) -> None:
        """Send and wait until all are acknowledged; to their keys' partitions unless one is named."""
        futures = [self.producer.send(self.prefix + topic, partition=partition, **wire._asdict()) for wire in wires]
        self.producer.flush()
        for future in futures:
            future.get(timeout=20)

    def records(self, topic: str, count: int, *, partitions: int = 1) -> list[Any]:
        """The first records of a topic, in the order of partition and offset."""
        with closing(
            KafkaConsumer(bootstrap_servers=self.bootstrap, auto_offset_reset="earliest", enable_auto_commit=False)
        ) as consumer:
            consumer.assign([TopicPartition(self.prefix + topic, number) for number in range(partitions)])
            records: list[Any] = []
            end = time.monotonic() + 20
            while len(records) < count:
                assert time.monotonic() < end, f"{topic} has {len(records)} records, not {count}"
                for polled in consumer.poll(timeout_ms=200).values():
                    records += polled
        return sorted(records, key=lambda record: (record.partition, record.offset))

    def worker(self, ledger: Any, input: Input = ISSUANCE, **options: Any) -> Worker:
        """A worker of this test's group on this test's topics."""
        return Worker(ledger, self.bootstrap, input, **{"group": self.group, "prefix": self.prefix} | options)


@contextmanager
def running(worker: Worker) -> Iterator[Worker]:
    """Run a worker in a thread until the block ends."""
    stop = threading.Event()
    thread = threading.Thread(target=worker.run, args=(stop,))
    thread.start()
    try:
        yield worker
    finally:
        stop.set()
        thread.join(30)
        assert not thread.is_alive()


def consume(worker: Worker, count: int) -> Worker:
    """Run a worker until it has taken so many messages."""
    with running(worker):
        wait_until(lambda: worker.health().messages >= count, f"{count} messages are taken")
    assert worker.health().messages == count
    return worker

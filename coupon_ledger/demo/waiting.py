"""Waiting until the consumers and the projection runner have done their part."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from psycopg.rows import tuple_row

from ledger.application import Ledger
from ledger.errors import LedgerError

Progress = Callable[[str, int, int], None]
"""Called with the step, how much of it is done, and how much there is in all; while waiting, at every look. What it
raises ends the replay."""

POLL_SECONDS = 0.2
STALL_SECONDS = 60.0


class Stalled(LedgerError):
    """A process of the running system does not do its part any more."""


def wait_for_group(
    ledger: Ledger, group: str, topic: str, ends: Mapping[int, int], sent: int, progress: Progress, step: str
) -> None:
    """Wait until a consumer group's effects cover a topic's partitions up to these offsets.

    The offset is stored in the transaction of the effects, so nothing can be under way after it. ``sent`` is how many
    of the messages are the caller's. Raises ``Stalled``.
    """

    def left() -> int:
        with ledger.store.connection() as connection:
            rows = connection.cursor(row_factory=tuple_row).execute(
                "select partition, next_offset from kafka_offsets where consumer_group = %s and topic = %s",
                (group, topic),
            )
            reached: dict[int, int] = dict(rows.fetchall())
        return sum(max(0, end - reached.get(partition, 0)) for partition, end in ends.items())

    _wait(left, sent, progress, step, f"the consumer group {group} on {topic}")


def wait_for_projections(ledger: Ledger, progress: Progress, step: str) -> None:
    """Wait until every read model has reached the log's present head. Raises ``Stalled``."""
    head = ledger.store.head()

    def left() -> int:
        with ledger.store.connection() as connection:
            rows = connection.cursor(row_factory=tuple_row).execute(
                "select name, state, position, fault from projection_checkpoints where state <> 'BUILDING'"
            )
            checkpoints = rows.fetchall()
        for name, state, position, fault in checkpoints:
            if state == "FAULTED":
                raise Stalled(f"the projection {name} stopped after position {position}: {fault}")
        return max(0, head - min((position for _, _, position, _ in checkpoints), default=0))

    _wait(left, head, progress, step, "the projection runner")


def _wait(left: Callable[[], int], total: int, progress: Progress, step: str, who: str) -> None:
    least, moved_at = left(), time.monotonic()
    progress(step, max(0, total - least), total)
    while least:
        time.sleep(POLL_SECONDS)
        now_left = left()
        progress(step, max(0, total - now_left), total)
        if now_left < least:
            least, moved_at = now_left, time.monotonic()
        elif time.monotonic() - moved_at > STALL_SECONDS:
            raise Stalled(f"{who} has not moved for {STALL_SECONDS:.0f} s, with {least} to go")

"""The process that sends what is due on channels: webhooks and e-mails, each tried again until it is taken or dead.

A receiver that is slow or away holds up nobody else: each channel has its own few places among the threads, one that
fails has one place and is left alone for a while, and no transaction is open while somebody else's server answers. A
process that is killed between sending and settling leaves what it had in hand to be sent again under the same id.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

import psycopg

from consumers import webhooks
from consumers.follower import Follower
from consumers.sending import Outcome, Sender
from ledger.errors import ServiceError
from ledger.rest import rest
from ledger.store import Store
from ledger.telling import channels, deliveries, messages
from ledger.telling.deliveries import BACKOFF_SECONDS, LEASE_SECONDS, Claimed

log = logging.getLogger(__name__)

THREADS = 16
CHANNEL_THREADS = 4
"""Deliveries of one channel that are under way at once; one, while it fails."""
WAITING_LIMIT = 10_000
POLL_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 60.0
"""For a channel that fails, and for a database that is away."""
PURGE_SECONDS = 3_600.0


@dataclass(slots=True)
class _Health:
    """How a channel did of late, as far as this process knows."""

    failures: int = 0
    left_alone_until: float = 0.0


class Deliverer:
    """Sends what is due, a few at a time."""

    def __init__(self, store: Store, send: Callable[[Store, Claimed], Outcome], threads: int = THREADS) -> None:
        self._store = store
        self._send = send
        self._threads = threads
        self._health: dict[str, _Health] = {}
        self._under_way: dict[Future[bool], str] = {}

    def run(self, stop: threading.Event) -> None:
        """Send until told to stop; what is under way is finished first, which takes no longer than an attempt."""
        pause, purge_at = POLL_SECONDS, 0.0
        with ThreadPoolExecutor(self._threads, "deliver") as pool:
            while not stop.is_set():
                try:
                    begun = self.step(pool)
                    if time.monotonic() >= purge_at and not self._purge():
                        purge_at = time.monotonic() + PURGE_SECONDS
                    pause = POLL_SECONDS
                except ServiceError as error:
                    log.warning("deliveries wait %.1f s: %s", pause, error)
                    begun = 0
                    pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
                if self._under_way:
                    wait(self._under_way, timeout=POLL_SECONDS, return_when="FIRST_COMPLETED")
                elif not begun:
                    rest(stop, pause)

    def step(self, pool: ThreadPoolExecutor) -> int:
        """Begin to send what is due and has room; how many that is. Raises a ``ServiceError``."""
        self._reap()
        free = self._threads - len(self._under_way)
        if not free:
            return 0
        with self._store.connection() as connection:
            rooms = self._rooms(deliveries.waiting_channels(connection, WAITING_LIMIT), free)
            claimed = deliveries.claim(connection, rooms) if rooms else []
        for each in claimed:
            self._under_way[pool.submit(self._deliver, each)] = each.channel_id
        return len(claimed)

    def _rooms(self, waiting: list[str], free: int) -> dict[str, int]:
        """How many of each channel may be begun: the free threads shared out, in an order that favours nobody."""
        busy = Counter(self._under_way.values())
        now = time.monotonic()
        rooms: dict[str, int] = {}
        random.shuffle(waiting)
        for channel_id in waiting:
            health = self._health.get(channel_id)
            most = CHANNEL_THREADS if health is None else 1
            room = min(most - busy[channel_id], free)
            if room > 0 and (health is None or health.left_alone_until <= now):
                rooms[channel_id] = room
                free -= room
        return rooms

    def _reap(self) -> None:
        for future in [each for each in self._under_way if each.done()]:
            channel_id = self._under_way.pop(future)
            if future.exception() is not None:
                log.error("a delivery was not settled, and is sent again", exc_info=future.exception())
            elif future.result():
                self._health.pop(channel_id, None)
            else:
                health = self._health.setdefault(channel_id, _Health())
                health.failures += 1
                health.left_alone_until = time.monotonic() + min(2.0**health.failures, LONGEST_PAUSE_SECONDS)

    def _deliver(self, claimed: Claimed) -> bool:
        """Send one and settle it; whether its receiver is well."""
        outcome = self._send(self._store, claimed)
        # Until another process may take it; what is not settled by then is sent again.
        ends_at = time.monotonic() + LEASE_SECONDS / 2
        while True:
            try:
                with self._store.connection() as connection, connection.transaction():
                    _settle(connection, claimed, outcome)
                return outcome.word != "failed"
            except ServiceError:
                if time.monotonic() > ends_at:
                    raise
                time.sleep(1.0)

    def _purge(self) -> int:
        """Erase some messages that ended long ago, a few at a time between deliveries."""
        with self._store.connection() as connection:
            return messages.purge(connection)


def _settle(connection: psycopg.Connection[Any], claimed: Claimed, outcome: Outcome) -> None:
    word, error = outcome
    if word == "sent":
        deliveries.settle(connection, claimed, "sent")
        if claimed.tell_reached:
            channels.reached(connection, claimed.channel_id)
    elif word == "dropped":
        deliveries.settle(connection, claimed, "dropped", error=error)
    elif word == "failed" and claimed.attempts <= len(BACKOFF_SECONDS):
        # Shorter at random, so that what failed together does not come back together.
        seconds = BACKOFF_SECONDS[claimed.attempts - 1] * random.uniform(0.8, 1.0)  # noqa: S311
        deliveries.put_off(connection, claimed, seconds, error=error)
    else:
        deliveries.settle(connection, claimed, "dead", error=error)
        _disable(connection, claimed, outcome)


def _disable(connection: psycopg.Connection[Any], claimed: Claimed, outcome: Outcome) -> None:
    """Give up the channel too, where its receiver says that it is gone, or where nothing came through for days."""
    if outcome.word != "gone" and (outcome.word != "failed" or claimed.kind != "webhook"):
        return
    since = None if outcome.word == "gone" else claimed.created_at
    if channels.disable(connection, claimed.channel_id, unless_reached_since=since):
        log.warning("channel %s is disabled: %s", claimed.channel_id, outcome.error)


def run(store: Store, sender: Sender, stop: threading.Event) -> None:
    """Follow the log for merchants' webhooks, and send what is due on all channels, until told to stop.

    Raises what stops the follower, such as an event that this release does not know; what is under way is finished.
    """
    follower = Follower(store, webhooks.NAME, webhooks.enqueue_webhooks)
    with ThreadPoolExecutor(1, "webhooks") as beside:
        following = beside.submit(follower.run, stop)
        following.add_done_callback(lambda _: stop.set())
        try:
            Deliverer(store, sender.send).run(stop)
        finally:
            stop.set()
        following.result()

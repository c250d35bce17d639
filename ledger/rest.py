"""Sleeping in a process that a signal stops."""

from __future__ import annotations

import threading
import time

LOOK_SECONDS = 0.1


def rest(stop: threading.Event, seconds: float) -> None:
    """Sleep for so long, or until told to stop.

    It looks, and does not wait for the event: a signal's handler that sets it may interrupt the main thread while that
    holds the event's own lock, and would then wait for ever.
    """
    until = time.monotonic() + seconds
    while not stop.is_set() and (left := until - time.monotonic()) > 0:
        time.sleep(min(LOOK_SECONDS, left))

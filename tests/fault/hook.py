"""The merchant's web server: it takes most webhooks, is slow to take some, and refuses or hangs up on a few."""

from __future__ import annotations

import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler

from tests.fault.schedule import Schedule

SLOW_SECONDS = 0.5


class Hook:
    """How a ``Receiver`` answers one schedule's webhooks, on its threads."""

    def __init__(self, schedule: Schedule) -> None:
        self.taken = Counter[str]()
        """By webhook id, how often it was answered 200."""
        self._whims = dict(schedule.whims)
        self._came = 0
        self._lock = threading.Lock()

    def answer(self, request: BaseHTTPRequestHandler, _: str) -> int:
        """The status, 0 to hang up."""
        with self._lock:
            whim = self._whims.get(self._came)
            self._came += 1
        if whim == "refuse":
            return 503
        if whim == "hang up":
            return 0
        if whim == "slow":
            time.sleep(SLOW_SECONDS)
        with self._lock:
            self.taken[request.headers["webhook-id"]] += 1
        return 200

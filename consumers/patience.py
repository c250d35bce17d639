"""Doing a step again and again until told to stop, though the database or the broker comes and goes."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from ledger.rest import rest

log = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS = 0.1
"""After trouble; then twice as long each time."""
LONGEST_PAUSE_SECONDS = 5.0


def keep_doing(
    what: str, step: Callable[[], float], stop: threading.Event, trouble: tuple[type[Exception], ...]
) -> None:
    """Do the step until told to stop; the one in hand is finished first. It says how many seconds to rest after it.

    After an error of ``trouble``, which passes by itself, it is done again: soon, and less and less often while it
    lasts, however long it rests otherwise. Other errors are raised.
    """
    pause = FIRST_PAUSE_SECONDS
    while not stop.is_set():
        try:
            seconds = step()
            pause = FIRST_PAUSE_SECONDS
        except trouble as error:
            log.warning("%s: %s: %s; again in %.1f s", what, type(error).__name__, str(error).strip(), pause)
            seconds = pause
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
        rest(stop, seconds)

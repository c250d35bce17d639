"""Doing a step again and again: what passes by itself is waited for, a little longer each time."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from consumers import patience
from consumers.patience import keep_doing
from ledger.rest import rest


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What was slept, instead of sleeping."""
    slept: list[float] = []
    monkeypatch.setattr(patience, "rest", lambda _, seconds: slept.append(round(seconds, 1)))
    return slept


def doing(*steps: float | Exception) -> tuple[Callable[[], float], threading.Event]:
    """These steps, one after the other, and then the end."""
    stop, left = threading.Event(), list(steps)

    def step() -> float:
        found = left.pop(0)
        if not left:
            stop.set()
        if isinstance(found, Exception):
            raise found
        return found

    return step, stop


def test_trouble_is_waited_out_longer_each_time_and_soon_again(pauses: list[float]) -> None:
    step, stop = doing(600.0, *[OSError("away")] * 8, 600.0, OSError("away"), 0.0)
    keep_doing("it", step, stop, (OSError,))
    assert pauses == [600.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 600.0, 0.1, 0.0]


def test_what_is_broken_is_raised(pauses: list[float]) -> None:
    step, stop = doing(LookupError("no such table"), 0.0)
    with pytest.raises(LookupError):
        keep_doing("it", step, stop, (OSError,))
    assert pauses == []


def test_a_rest_ends_when_it_is_stopped() -> None:
    stop = threading.Event()
    resting = threading.Thread(target=rest, args=(stop, 600.0))
    resting.start()
    stop.set()
    resting.join(5)
    assert not resting.is_alive()

"""What the audit finds wrong in the events themselves."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
SECOND = 1_000_000
DAY = 86_400 * SECOND
"""Lengths of time in microseconds, as ``moment`` counts it."""


class Broken(ValueError):
    """An event breaks a rule that always holds."""

    def __init__(self, rule: str, text: str) -> None:
        super().__init__(f"{rule}: {text}")
        self.rule = rule


def expect(holds: bool, rule: str, text: str) -> None:
    """Raise ``Broken`` unless it holds."""
    if not holds:
        raise Broken(rule, text)


def moment(text: str) -> int:
    """An event's time in microseconds since 1970. Raises ``ValueError``."""
    found = datetime.fromisoformat(text)
    if found.tzinfo is None:
        raise ValueError(f"the time {text} has no zone")
    return (found - _EPOCH) // _MICROSECOND


def moment_if_given(payload: Mapping[str, Any], name: str) -> int | None:
    """The same of a payload that may lack it, or have null."""
    text = payload.get(name)
    return None if text is None else moment(text)


def whole(payload: Mapping[str, Any], name: str, rule: str) -> int:
    """A count or an amount in minor units: a whole number that is not negative."""
    value = payload[name]
    if type(value) is not int or not 0 <= value < MOST:
        raise Broken(rule, f"{name} is no whole number from 0")
    return value


def whole_if_given(payload: Mapping[str, Any], name: str, rule: str) -> int | None:
    """The same, where it may be null."""
    return None if payload[name] is None else whole(payload, name, rule)


MOST = 1 << 63
"""Above every count and amount of the ledger; sums of them can still be written out."""

I1 = "I1 conservation"
I2 = "I2 never over the quantity"
I3 = "I3 limits of users"
I4 = "I4 one live lock"
I5 = "I5 one use"
I6 = "I6 only who holds the lock"
I7 = "I7 no way back"
I8 = "I8 streams without holes"
I9 = "I9 positions and clock"
I17 = "I17 money"
FORM = "form"
"""Not a rule of the ledger: an event that this audit cannot read."""

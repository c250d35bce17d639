"""What is told of times, and of text that nobody vouches for."""

from __future__ import annotations

import time
from datetime import UTC, datetime

_AGES = (("days", 86_400), ("hours", 3_600), ("minutes", 60), ("seconds", 1))


def utc(seconds: float) -> str:
    """A moment, given as seconds since 1970, as date and time of UTC, and how long ago this machine's clock has it."""
    try:
        text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError, OSError):
        return f"{seconds:.0f} seconds after 1970 began"
    passed = time.time() - seconds
    name, length = next((age for age in _AGES if abs(passed) >= 2 * age[1]), _AGES[-1])
    number = int(abs(passed)) // length
    return f"{text}, {number} {name} ago" if passed >= 0 else f"{text}, {number} {name} ahead of this machine's clock"


def printable(text: str) -> str:
    """The text on one line, with whatever could move a terminal's cursor or hide something written as an escape."""
    return "".join(each if each.isprintable() else _escaped(each) for each in text)


def _escaped(character: str) -> str:
    return (
        character.encode("ascii", "backslashreplace").decode() if ord(character) > 127 else f"\\x{ord(character):02x}"
    )

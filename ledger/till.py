"""The code that a shopper shows at a till: which coupon, and a proof that the shop's app made it just now.

It changes every 30 seconds as in RFC 6238 (TOTP), with a secret of each coupon and user that is derived from a server
key. The static code never changes; it is longer, for paper and for phones without a connection. Both begin with the
coupon's id as far as it fits, so the till needs no table of codes: the log finds the few coupons whose ids begin so,
and the proof says which, and for whom it was shown. So a user's codes end with the right to use the coupon: when its
owner gives it away, or a friend is no longer among those with whom it is shared.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ledger.codes import CODE_LENGTH, CodeKeys, is_checked, number_of, spelled, with_check

WINDOW_SECONDS = 30
WINDOWS = 2
"""The present window and the one before it: nobody types in no time."""
DIGITS_RANGE = 10**8
"""Eight digits."""
HANDLE_DIGITS = 14
"""Hexadecimal digits of the coupon's id in its codes: 8 of the batch and 6 of the coupon."""
STATIC_BITS = 64
STATIC_LENGTH = 26


@dataclass(frozen=True, slots=True)
class TillCode:
    """What a shopper's app shows."""

    code: str
    """In normal form."""
    changes_at: datetime
    """When the app must ask for the next one."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A code as it came to the till, before anybody knows whether it is good."""

    code: str
    handle: str
    """How the coupon's id begins."""

    @property
    def is_static(self) -> bool:
        """Whether it is of the kind that never changes."""
        return len(self.code) == STATIC_LENGTH


def till_code(keys: CodeKeys, merchant_id: str, coupon_id: str, user_id: str, now: datetime) -> TillCode:
    """The user's code of the coupon at this moment."""
    window = _window(now)
    secret = _secrets(keys, merchant_id, coupon_id, user_id)[0]
    return TillCode(_changing(secret, coupon_id, window), _begin(window + 1))


def static_code(keys: CodeKeys, merchant_id: str, coupon_id: str, user_id: str) -> str:
    """The user's code of the coupon that never changes, in normal form."""
    return _static(_secrets(keys, merchant_id, coupon_id, user_id)[0], coupon_id)


def read(text: str) -> Shown | None:
    """What a code in normal form says, or ``None`` where it is no till code or has a typing error."""
    if len(text) not in (CODE_LENGTH, STATIC_LENGTH) or not is_checked(text):
        return None
    number = number_of(text[:-1])
    handle = number >> STATIC_BITS if len(text) == STATIC_LENGTH else number // DIGITS_RANGE
    return Shown(text, f"{handle:0{HANDLE_DIGITS}x}") if handle < 16**HANDLE_DIGITS else None


def is_genuine(keys: CodeKeys, merchant_id: str, coupon_id: str, user_id: str, code: str) -> bool:
    """Whether this is the user's static code of the coupon."""
    made = (_static(secret, coupon_id) for secret in _secrets(keys, merchant_id, coupon_id, user_id))
    return any(hmac.compare_digest(code, each) for each in made)


def shown_since(
    keys: CodeKeys, merchant_id: str, coupon_id: str, user_id: str, code: str, now: datetime
) -> datetime | None:
    """When the window of this code began, or ``None`` where it is none of the user's of the coupon and this minute."""
    secrets = _secrets(keys, merchant_id, coupon_id, user_id)
    for window in _fresh(now):
        if any(hmac.compare_digest(code, _changing(secret, coupon_id, window)) for secret in secrets):
            return _begin(window)
    return None


def totp(secret: bytes, window: int, attempt: int = 0) -> int:
    """Eight digits of RFC 6238 with SHA-256; ``attempt`` makes others for the same window."""
    message = window.to_bytes(8, "big") + attempt.to_bytes(1, "big") * bool(attempt)
    digest = hmac.digest(secret, message, "sha256")
    offset = digest[-1] & 0xF
    number = int.from_bytes(digest[offset : offset + 4], "big") & 0x7FFFFFFF
    return number % DIGITS_RANGE


def has_handle(coupon_id: str) -> bool:
    """Whether a coupon has till codes: its id is one that the ledger made."""
    return re.fullmatch(r"[0-9a-f]{26}", coupon_id) is not None


def _secrets(keys: CodeKeys, merchant_id: str, coupon_id: str, user_id: str) -> list[bytes]:
    return keys.derived("till", merchant_id, coupon_id, user_id)


def _changing(secret: bytes, coupon_id: str, window: int) -> str:
    handle = int(coupon_id[:HANDLE_DIGITS], 16) * DIGITS_RANGE
    return _first_checked((handle + totp(secret, window, attempt) for attempt in range(256)), CODE_LENGTH)


def _static(secret: bytes, coupon_id: str) -> str:
    handle = int(coupon_id[:HANDLE_DIGITS], 16) << STATIC_BITS
    proofs = (hmac.digest(secret, b"static %d" % attempt, "sha256") for attempt in range(256))
    return _first_checked((handle + int.from_bytes(proof[:8], "big") for proof in proofs), STATIC_LENGTH)


def _first_checked(numbers: Iterable[int], length: int) -> str:
    """One number in thirty-one has no check character, and the next one is taken."""
    return next(code for number in numbers if (code := with_check(spelled(number, length - 1))) is not None)


def _window(now: datetime) -> int:
    return int(now.timestamp()) // WINDOW_SECONDS


def _begin(window: int) -> datetime:
    return datetime.fromtimestamp(0, UTC) + timedelta(seconds=window * WINDOW_SECONDS)


def _fresh(now: datetime) -> Iterator[int]:
    return (_window(now) - age for age in range(WINDOWS))

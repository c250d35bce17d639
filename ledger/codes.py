"""Redemption codes: how they are spelled, checked and hashed, and a set of them as the log knows it.

A code is typed by people, so its alphabet has none of 0, O, 1, I, L and U, and its last character finds typing errors.
A code is worth money, so the ledger keeps a keyed hash of it and never the code.
"""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass, field
from datetime import datetime
from operator import mul

from ledger.aggregate import Aggregate
from ledger.errors import CodesExported, CodesNotFound, InvalidField, Unavailable
from ledger.events import CodesExported as ExportedEvent
from ledger.events import CodesGenerated, CodesRevoked
from ledger.request import Request

ALPHABET = "23456789ABCDEFGHJKMNPQRSTVWXYZ"
MODULUS = 31
"""The first prime above the alphabet's size, which is what lets one character find every such error."""
CODE_LENGTH = 18
"""Of a code of ours: 17 characters of 30, which is 83 random bits, and the check character."""
GROUP = 4
TEXT_LEAST, TEXT_MOST = 4, 64
"""Characters of a code that was made elsewhere."""
HASH_BYTES = 16
KEY_LEAST = 32
"""Characters of a server key."""
SET_LIMIT = 1_000_000
"""Codes of one set."""

_VALUES = {character: value for value, character in enumerate(ALPHABET)}
_SPACES = re.compile(r"[\s-]+")


# --- the text ---------------------------------------------------------------------------------------


def spelled(number: int, length: int) -> str:
    """A number in the alphabet, with exactly so many characters."""
    characters = []
    for _ in range(length):
        number, value = divmod(number, len(ALPHABET))
        characters.append(ALPHABET[value])
    if number:
        raise ValueError("the number is too large")
    return "".join(reversed(characters))


def number_of(text: str) -> int:
    """The number that this text spells."""
    number = 0
    for character in text:
        number = number * len(ALPHABET) + _VALUES[character]
    return number


def with_check(text: str) -> str | None:
    """The text and its check character, or ``None`` where that would be a thirty-first character, which there is not.

    Each place has its own weight, and the weighted sum is a multiple of a prime: so one wrong character, or any two
    that changed places, always show.
    """
    total = sum(place * _VALUES[character] for place, character in enumerate(text, 1))
    value = -total * pow(len(text) + 1, -1, MODULUS) % MODULUS
    return text + ALPHABET[value] if value < len(ALPHABET) else None


def is_checked(text: str) -> bool:
    """Whether the text, in normal form, is spelled in the alphabet and its check character is right."""
    if not text or any(character not in _VALUES for character in text):
        return False
    return sum(place * _VALUES[character] for place, character in enumerate(text, 1)) % MODULUS == 0


def normal(text: str) -> str:
    """The one form of all the ways to type a code: no spaces or hyphens, and capitals."""
    return _SPACES.sub("", text).upper()


def fault_of(text: str) -> str | None:
    """What is wrong with a normal form, so that it cannot be a code, if anything."""
    if TEXT_LEAST <= len(text) <= TEXT_MOST and re.fullmatch(r"[!-~]+", text):
        return None
    return f"needs {TEXT_LEAST} to {TEXT_MOST} printable ASCII characters besides spaces and hyphens"


def shown(text: str) -> str:
    """A code as people read it: in groups of four."""
    return "-".join(text[start : start + GROUP] for start in range(0, len(text), GROUP))


def mistyped(text: str) -> bool:
    """Whether a normal form has the length and letters of a code of ours, but not its check character."""
    return len(text) == CODE_LENGTH and not is_checked(text) and all(character in _VALUES for character in text)


# --- keys -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CodeKeys:
    """The server's keys: the first is used for what is new, all of them for finding what is there."""

    keys: tuple[tuple[str, bytes], ...] = ()
    """(Key id, key)."""

    @classmethod
    def parse(cls, text: str) -> CodeKeys:
        """From ``id=key,id=key``. Raises ``InvalidField``."""
        keys = []
        for part in text.split(","):
            id, _, key = part.strip().partition("=")
            if not re.fullmatch(r"[A-Za-z0-9_.-]{1,32}", id) or len(key) < KEY_LEAST:
                raise InvalidField(f"each code key is an id, =, and {KEY_LEAST} characters or more", field="code_keys")
            keys.append((id, key.encode()))
        if len({id for id, _ in keys}) != len(keys):
            raise InvalidField("a code key's id is there twice", field="code_keys")
        return cls(tuple(keys))

    @property
    def newest_id(self) -> str:
        """The id of the key that new sets are made with."""
        return self.keys[0][0]

    def derived(self, *purpose: str) -> list[bytes]:
        """A key of 32 bytes for one purpose from each server key, the newest first."""
        return [_digest(key, "\x1f".join(purpose).encode()) for _, key in self.keys]

    def hashes(self, merchant_id: str, text: str) -> list[bytes]:
        """What a code in normal form may be stored as, the newest key's first."""
        return [hash_of(key, text) for key in self.derived("code", merchant_id)]

    def set_secret(self, key_id: str, codes_id: str, salt: bytes) -> bytes:
        """What a set's codes are made from. Without the salt, which is erased, nobody can make them again.

        Raises ``Unavailable`` when the key is not among the server's.
        """
        key = dict(self.keys).get(key_id)
        if key is None:
            raise Unavailable(f"the codes were made with the code key {key_id}, which the server does not have")
        return _digest(key, b"set " + codes_id.encode() + b" " + salt)


def hash_of(key: bytes, text: str) -> bytes:
    """What is stored of a code in normal form, under a merchant's derived key."""
    return _digest(key, text.encode())[:HASH_BYTES]


def code_of(secret: bytes, number: int) -> str:
    """The set's code with this number, in normal form; the same one every time."""
    for attempt in range(1_000):
        # Each byte below 240 is one of thirty characters, all equally likely; of 32 bytes, 17 are such.
        values = _digest(secret, b"%d %d" % (number, attempt)).translate(_TO_VALUE, _UNEVEN)[: CODE_LENGTH - 1]
        check = -sum(map(mul, _PLACES, values)) * _LAST_INVERSE % MODULUS
        if check < len(ALPHABET) and len(values) == CODE_LENGTH - 1:
            return (values.translate(_TO_CHARACTER) + _TO_CHARACTER[check : check + 1]).decode()
    raise AssertionError("one try in thirty-one fails")


_TO_VALUE = bytes(byte % len(ALPHABET) for byte in range(256))
_TO_CHARACTER = ALPHABET.encode().ljust(256)
_UNEVEN = bytes(range(256 - 256 % len(ALPHABET), 256))
_PLACES = range(1, CODE_LENGTH)
_LAST_INVERSE = pow(CODE_LENGTH, -1, MODULUS)


def _digest(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")


# --- a set, as the log knows it ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CodeList:
    """Codes that were made elsewhere, as somebody hands them over."""

    texts: list[str] = field(default_factory=list)
    """In normal form."""
    numbers: list[int] = field(default_factory=list)
    """The place of each in what was handed over, from 1."""
    faults: list[tuple[int, str]] = field(default_factory=list)
    """What is wrong with the others: (place, why)."""

    @classmethod
    def read(cls, lines: list[str]) -> CodeList:
        """Sort out what can be imported: each code once, in a form that can be typed. Empty lines count for nothing."""
        found = cls()
        first_at: dict[str, int] = {}
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            text = normal(line)
            fault = f"is the code of line {first_at[text]} again" if text in first_at else fault_of(text)
            if fault is not None:
                found.faults.append((number, fault))
                continue
            first_at[text] = number
            found.texts.append(text)
            found.numbers.append(number)
        return found


class Codes(Aggregate):
    """A set of codes of one batch."""

    category = "codes"
    generated: CodesGenerated
    exported: bool = False
    revoked: bool = False

    def generate(self, request: Request, now: datetime, *, batch_id: str, kind: str, count: int) -> None:
        """Write down that the codes are there."""
        self.trigger(CodesGenerated, request, now, batch_id=batch_id, kind=kind, count=count)

    def export(self, request: Request, now: datetime) -> None:
        """Write down that they were handed over. Raises ``CodesExported`` when they were before."""
        self.check_exportable(request.merchant_id)
        self.trigger(ExportedEvent, request, now)

    def check_exportable(self, merchant_id: str) -> None:
        """Raise ``CodesNotFound``, or ``CodesExported`` when nobody can read them from the ledger any more."""
        self.check_owned(merchant_id)
        if self.exported or self.generated.kind != "unique":
            raise CodesExported(codes_id=self.key)

    def revoke(self, request: Request, now: datetime, *, reason: str) -> None:
        """None of them is exchanged any more. Where they are revoked already, nothing happens."""
        self.check_owned(request.merchant_id)
        if not self.revoked:
            self.trigger(CodesRevoked, request, now, reason=reason)

    def check_owned(self, merchant_id: str) -> None:
        """Raise ``CodesNotFound`` unless the set is there and this merchant's."""
        if not self.version or self.merchant_id != merchant_id:
            raise CodesNotFound(codes_id=self.key)

"""Keys of personal data: the server's keys wrap a data key for each user, which encrypts what is kept of the user."""

from __future__ import annotations

import hmac
import os
import re
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ledger.errors import InvalidField, Unavailable

KEY_LEAST = 32
"""Characters of a server key."""
NONCE_BYTES = 12
"""As NIST SP 800-38D advises, drawn at random; a data key encrypts far fewer than the 2^32 texts that this allows."""


@dataclass(frozen=True, slots=True, repr=False)
class PersonalKeys:
    """The server's keys: the first wraps what is new, all of them unwrap what is there."""

    keys: tuple[tuple[str, bytes], ...] = ()
    """(Key id, key)."""

    @classmethod
    def parse(cls, text: str) -> PersonalKeys:
        """From ``id=key,id=key``. Raises ``InvalidField``."""
        keys = []
        for part in text.split(","):
            id, _, key = part.strip().partition("=")
            if not re.fullmatch(r"[A-Za-z0-9_.-]{1,32}", id) or len(key) < KEY_LEAST:
                detail = f"each personal key is an id, =, and {KEY_LEAST} characters or more"
                raise InvalidField(detail, field="personal_keys")
            keys.append((id, hmac.digest(key.encode(), b"coupon-ledger personal data", "sha256")))
        if len({id for id, _ in keys}) != len(keys):
            raise InvalidField("a personal key's id is there twice", field="personal_keys")
        return cls(tuple(keys))

    @property
    def newest_id(self) -> str:
        """The id of the key that wraps what is new. Raises ``Unavailable`` when there is none."""
        if not self.keys:
            raise Unavailable("the server has no personal key, so it cannot keep personal data")
        return self.keys[0][0]

    def wrap(self, data_key: bytes, owner: str) -> bytes:
        """A data key as it is stored, for this owner alone."""
        newest = dict(self.keys)[self.newest_id]
        return seal(newest, data_key, owner)

    def unwrap(self, key_id: str, wrapped: bytes, owner: str) -> bytes:
        """The data key. Raises ``Unavailable`` when the server's key is not there, or is another one."""
        key = dict(self.keys).get(key_id)
        if key is None:
            raise Unavailable(f"the data key is wrapped with the personal key {key_id}, which the server does not have")
        try:
            return unseal(key, wrapped, owner)
        except InvalidTag:
            raise Unavailable(f"the personal key {key_id} is not the one that the data key is wrapped with") from None


def new_data_key() -> bytes:
    """A random key of 256 bits."""
    return AESGCM.generate_key(256)


def seal(key: bytes, text: bytes, about: str) -> bytes:
    """Nonce, ciphertext and tag; ``about`` is authenticated and not kept."""
    nonce = os.urandom(NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, text, about.encode())


def unseal(key: bytes, sealed: bytes, about: str) -> bytes:
    """The text. Raises ``InvalidTag`` when the key, what it is about, or a bit of it is another."""
    return AESGCM(key).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], about.encode())

"""Keys of personal data: what they open, and what they do not."""

from __future__ import annotations

import pytest
from cryptography.exceptions import InvalidTag

from ledger.errors import InvalidField, Unavailable
from ledger.personal_keys import PersonalKeys, new_data_key, seal, unseal

OLD, NEW = "old=" + "o" * 32, "new=" + "n" * 32


def test_what_is_sealed_is_opened_by_its_key_and_place_alone() -> None:
    key = new_data_key()
    sealed = seal(key, b"text", "place")
    assert unseal(key, sealed, "place") == b"text"
    assert seal(key, b"text", "place") != sealed
    for other_key, other, place in (
        (new_data_key(), sealed, "place"),
        (key, sealed, "another"),
        (key, sealed[:-1] + bytes([sealed[-1] ^ 1]), "place"),
        (key, sealed[:12], "place"),
    ):
        with pytest.raises(InvalidTag):
            unseal(other_key, other, place)


def test_the_newest_key_wraps_and_each_unwraps() -> None:
    data_key = new_data_key()
    wrapped = PersonalKeys.parse(OLD).wrap(data_key, "ann")
    both = PersonalKeys.parse(f"{NEW}, {OLD}")
    assert both.newest_id == "new"
    assert both.unwrap("old", wrapped, "ann") == data_key
    with pytest.raises(Unavailable):
        both.unwrap("old", wrapped, "bob")
    with pytest.raises(Unavailable):
        both.unwrap("new", wrapped, "ann")


def test_keys_are_not_shown() -> None:
    assert "o" * 32 not in repr(PersonalKeys.parse(OLD))


@pytest.mark.parametrize("text", ["", "old", "old=short", f"{OLD},{OLD}", "a b=" + "k" * 32])
def test_what_is_no_list_of_keys(text: str) -> None:
    with pytest.raises(InvalidField):
        PersonalKeys.parse(text)

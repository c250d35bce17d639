"""How codes are spelled, checked and hashed."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.codes import (
    ALPHABET,
    CODE_LENGTH,
    CodeKeys,
    CodeList,
    code_of,
    is_checked,
    mistyped,
    normal,
    number_of,
    shown,
    spelled,
    with_check,
)
from ledger.errors import InvalidField, Unavailable

SECRET = b"s" * 32
CODES = [code_of(SECRET, number) for number in range(60)]


def test_no_character_can_be_taken_for_another():
    """https://github.com/magento/community-features/issues/349"""
    assert not set("0O1ILU") & set(ALPHABET)
    assert len(set(ALPHABET)) == len(ALPHABET) == 30
    assert set("".join(CODES)) <= set(ALPHABET)


def test_a_code_has_more_than_80_random_bits():
    assert len(ALPHABET) ** (CODE_LENGTH - 1) > 2**80
    assert len({code_of(SECRET, number) for number in range(5_000)}) == 5_000


def test_the_same_number_is_the_same_code_and_another_secret_another():
    assert code_of(SECRET, 7) == CODES[7]
    assert code_of(b"t" * 32, 7) != CODES[7]


def test_every_place_has_every_character():
    """What a code is made from is spread evenly: 3,000 codes have each of 30 characters at each place."""
    codes = [code_of(SECRET, number) for number in range(3_000)]
    for place in range(CODE_LENGTH):
        counts = [sum(code[place] == character for code in codes) for character in ALPHABET]
        assert all(40 < count < 180 for count in counts), (place, counts)


@pytest.mark.parametrize("code", CODES[:20])
def test_every_wrong_character_is_found(code):
    assert is_checked(code)
    for place, wrong in itertools.product(range(len(code)), ALPHABET):
        if code[place] != wrong:
            typed = code[:place] + wrong + code[place + 1 :]
            assert not is_checked(typed)
            assert mistyped(typed)


def test_any_two_characters_that_changed_places_are_found():
    found = 0
    for code in CODES:
        for first, second in itertools.combinations(range(len(code)), 2):
            if code[first] != code[second]:
                swapped = list(code)
                swapped[first], swapped[second] = code[second], code[first]
                assert not is_checked("".join(swapped))
                found += 1
    assert found > 8_000


def test_codes_of_any_length_up_to_thirty_are_checked():
    random.seed(1)
    for length in range(1, 30):
        checked = [with_check("".join(random.choices(ALPHABET, k=length))) for _ in range(50)]
        assert all(is_checked(code) for code in checked if code)
        assert sum(code is None for code in checked) < 15


@given(st.integers(0, 30**17 - 1))
def test_spelling_goes_both_ways(number):
    text = spelled(number, 17)
    assert len(text) == 17
    assert number_of(text) == number


def test_a_number_that_is_too_large_is_not_spelled():
    with pytest.raises(ValueError):
        spelled(30**3, 3)


@pytest.mark.parametrize("code", CODES[:5])
def test_typing_is_forgiven(code):
    assert shown(code).count("-") == 4
    for typed in (shown(code), shown(code).lower(), f"  {shown(code).replace('-', ' ')}\t", code, shown(code) + "-"):
        assert normal(typed) == code


def test_words_are_no_typing_errors_of_ours():
    assert not mistyped("SUMMER25")
    assert not mistyped("0" * CODE_LENGTH)
    assert not mistyped(CODES[0])


# --- keys -------------------------------------------------------------------------------------------

OLD, NEW = "o" * 32, "n" * 32


def test_the_newest_key_hashes_and_the_old_ones_still_find():
    before, after = CodeKeys.parse(f"old={OLD}"), CodeKeys.parse(f"new={NEW}, old={OLD}")
    assert after.newest_id == "new"
    old_hash = before.hashes("m", "CODE")[0]
    assert after.hashes("m", "CODE")[0] != old_hash
    assert old_hash in after.hashes("m", "CODE")
    assert len(old_hash) == 16


def test_a_hash_tells_nothing_across_merchants_and_purposes():
    keys = CodeKeys.parse(f"a={OLD}")
    assert keys.hashes("m1", "CODE") != keys.hashes("m2", "CODE")
    assert keys.derived("code", "m") != keys.derived("till", "m")


def test_a_set_needs_its_own_key():
    keys = CodeKeys.parse(f"a={OLD}")
    assert keys.set_secret("a", "id", b"salt") != keys.set_secret("a", "id", b"salz")
    with pytest.raises(Unavailable):
        keys.set_secret("b", "id", b"salt")


@pytest.mark.parametrize("text", ["", "a", "a=short", f"={OLD}", f"a b={OLD}", f"a={OLD},", f"a={OLD},a={NEW}"])
def test_keys_that_are_none(text):
    with pytest.raises(InvalidField):
        CodeKeys.parse(text)


# --- lists ------------------------------------------------------------------------------------------


def test_a_list_is_sorted_out_with_its_line_numbers():
    listed = CodeList.read(["SUMMER-25", "", "abc", "summer 25", "x" * 65, "Grün-1234", "WINTER"])
    assert listed.texts == ["SUMMER25", "WINTER"]
    assert listed.numbers == [1, 7]
    assert [number for number, _ in listed.faults] == [3, 4, 5, 6]
    assert "line 1" in listed.faults[1][1]

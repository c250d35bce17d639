"""CSV that a spreadsheet does not compute and a terminal does not obey."""

from __future__ import annotations

import csv
import io
import json

import pytest

from ledger.csv_text import PIECE_ROWS, csv_text, harmless, harmless_json


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@sum(a1)", '=HYPERLINK("x")'])
def test_a_formula_becomes_text(text):
    assert harmless(text) == f"'{text}"


@pytest.mark.parametrize("cell", ["user-1", "a=b", "", "2026-01-01", "naïve 💶", 7, -7, None])
def test_what_is_harmless_stays(cell):
    assert harmless(cell) is cell


def test_booleans_are_written_as_json_writes_them():
    assert [harmless(True), harmless(False), harmless(1), harmless(0)] == ["true", "false", 1, 0]
    assert "".join(csv_text(("a", "b"), [(True, False)])) == "a,b\r\ntrue,false\r\n"


def test_what_does_not_print_is_escaped():
    assert harmless("a\x1b[31mb\r\n\t=c\u202e") == r"a\x1b[31mb\r\n\t=c\u202e"
    assert harmless("\t=1") == r"\t=1"


def test_pieces_are_bounded_and_read_back():
    rows = [[number, f"user {number}", 'say "x", y', None] for number in range(2 * PIECE_ROWS + 1)]
    pieces = list(csv_text(("n", "user", "text", "none"), rows))
    assert [piece.count("\r\n") for piece in pieces] == [1, PIECE_ROWS, PIECE_ROWS, 1]
    heading, *read = csv.reader(io.StringIO("".join(pieces)))
    assert heading == ["n", "user", "text", "none"]
    assert read == [[str(n), user, text, ""] for n, user, text, _ in rows]


def test_json_stays_json_of_the_same_value():
    value = {"a": "x\u2028y\u009b\U000e0001", "b": "é💶", "c": "=1"}
    text = json.dumps(value, ensure_ascii=False)
    made = harmless_json(text)
    assert made.isprintable()
    assert json.loads(made) == value
    assert harmless_json('{"a":"é"}') == '{"a":"é"}'

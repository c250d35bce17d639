"""Files of users: what is a row, what is that row's own failure, and what refuses the whole file."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.issuance_jobs import FILE_BODY
from consumers.job_sender import payload_of
from consumers.messages import decode, encode
from ledger.issuance import files as issuance_files
from ledger.issuance.files import BadRow, FileFormat, Row, read_rows
from ledger.issuance.job import UnreadableFile
from tests.unit.specs import T0


def rows(data: bytes, format: FileFormat = "csv", *, gzipped: bool = False) -> list[Row | BadRow]:
    return list(read_rows(io.BytesIO(data), format, gzipped=gzipped))


def good(*users: str, start: int = 1) -> list[Row]:
    return [Row(number, user, {}) for number, user in enumerate(users, start)]


@pytest.mark.parametrize(
    "data",
    [
        b"user_id\na\nb\n",
        b"user_id\r\na\r\nb\r\n",
        b"\xef\xbb\xbfuser_id\na\nb",
        b' USER_ID \n"a"\n\n\nb\n',
        b"channel,user_id\nissue,a\n,b\n",
    ],
)
def test_csv_has_a_heading_and_a_user_in_each_row(data: bytes) -> None:
    assert rows(data) == good("a", "b")


@pytest.mark.parametrize(
    "data",
    [
        b'"a"\n"b"\n',
        b'{"user_id": "a"}\n\n"b"',
        b'{"user_id": "a", "channel": null}\r\n{"channel": "issue", "facts": {}, "user_id": "b"}\r\n',
    ],
)
def test_ndjson_has_a_user_or_an_object_in_each_line(data: bytes) -> None:
    assert rows(data, "ndjson") == good("a", "b")


def test_what_comes_with_a_user_is_the_same_in_both() -> None:
    facts = {"tags": ["x", "y"], "tier": "gold"}
    expected = [Row(1, "a", {"channel": "mail", "points_receipt": "r-1", "facts": facts}), Row(2, "b", {})]
    table = b'user_id,channel,points_receipt,facts\na,mail,r-1,"{""tier"":""gold"",""tags"":[""x"",""y""]}"\nb,,,\n'
    assert rows(table) == expected
    line = b'{"user_id":"a","points_receipt":"r-1","channel":"mail","facts":{"tags":["x","y"],"tier":"gold"}}\n"b"'
    assert rows(line, "ndjson") == expected


@pytest.mark.parametrize(
    ("format", "line", "said", "detail"),
    [
        ("csv", b" a,", " a", "user_id is 1 to 128 printable characters"),
        ("csv", b",mail", "", "user_id is 1 to 128 printable characters"),
        ("csv", b"a\x07,", "a\x07", "user_id is 1 to 128 printable characters"),
        ("csv", b"x" * 300 + b",", "x" * 200, "user_id is 1 to 128 printable characters"),
        ("csv", b"a", "a", "the row has 1 cells and the heading 2"),
        ("csv", b"a,b,c", "a", "the row has 3 cells and the heading 2"),
        ("csv", b"a, b", "a", "channel is 1 to 128 printable characters"),
        ("ndjson", b"{", "{", "the line is no JSON"),
        ("ndjson", b'"\\ud800"', '"\\ud800"', "the line is no JSON"),
        ("ndjson", b"5", "5", "the line is neither a user id nor an object"),
        ("ndjson", b"{}", "", "user_id is a text"),
        ("ndjson", b'{"user_id": 5}', "", "user_id is a text"),
        ("ndjson", b'{"user_id": "a", "batch": 1}', "a", "batch is not known"),
        ("ndjson", b'{"user_id": "a", "facts": []}', "a", "facts is an object of person"),
        ("ndjson", b'{"user_id": "a", "facts": {"age": 1}}', "a", "facts is an object of person"),
        ("ndjson", b'{"user_id": "a", "facts": {"tags": "x"}}', "a", "facts.tags is a list"),
        ("ndjson", b'{"user_id": "a", "facts": {"points": "1"}}', "a", "facts.points is a whole number"),
        ("ndjson", b'{"user_id": "a", "facts": {"tier": 1}}', "a", "facts.tier is a text"),
        ("ndjson", b'{"user_id": "a", "user_id": "b"}', "b", "a name stands twice in one object"),
        ("ndjson", b'{"user_id": "a", "user\\u005fid": "b"}', "b", "a name stands twice in one object"),
        ("ndjson", b'{"user_id": "a:b", "facts": {"tier": "x", "tier": "x"}}', "a:b", "a name stands twice"),
        (
            "ndjson",
            b'{"channel":%b%b,"channel":"x","user_id":"a"}' % (b"[" * 1_000, b"]" * 1_000),
            "a",
            "a name stands",
        ),
    ],
)
def test_what_is_wrong_with_a_row_is_its_own_failure(format: FileFormat, line: bytes, said: str, detail: str) -> None:
    first, second = (b"user_id,channel\nu,\n", b"w,") if format == "csv" else (b'"u"\n', b'"w"')
    found = rows(first + line + b"\n" + second, format)
    assert [found[0], found[2]] == [Row(1, "u", {}), Row(3, "w", {})]
    bad = found[1]
    assert isinstance(bad, BadRow)
    assert (bad.number, bad.user_id, bad.code) == (2, said, "invalid_field")
    assert bad.detail.startswith(detail)


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"user\na\n", 1),
        (b"\n\nuser\na\n", 3),
        (b"user_id,user_id\na,b\n", 1),
        (b"user_id,name\na,b\n", 1),
        (b"user_id\na\nb\xff\n", 3),
        (b"user_id\n" + b"a\n" * 50_000 + b"\xc3(\n", 50_002),
        ("user_id\na\n".encode("utf-16"), 1),
        (b'user_id\na\n"b\nc\n', 4),
        (b'user_id\na\n"b"c\n', 3),
        (b"user_id\na\n" + b"x" * 65_537, 3),
    ],
)
def test_a_file_that_cannot_be_trusted_is_refused_and_the_line_named(data: bytes, line: int) -> None:
    with pytest.raises(UnreadableFile) as refusal:
        rows(data)
    assert refusal.value.facts["line"] == line
    assert f"line {line} " in refusal.value.detail


@pytest.mark.parametrize("data", [b"", b"\xef\xbb\xbf", b"\n\r\n", b"user_id\n", b"\nuser_id\n\n"])
def test_a_file_may_have_no_rows(data: bytes) -> None:
    """Whoever takes it refuses it, of either format, in one sentence."""
    assert rows(data) == []


@pytest.mark.parametrize(
    ("heading", "hint"),
    [
        (b"user_id;channel", "; commas cut its cells, not semicolons"),
        (b"channel\tuser_id", "; commas cut its cells, not tabs"),
        (b"user;channel", "each once"),
        (b"user_id,a;b", "each once"),
    ],
)
def test_a_heading_that_is_cut_otherwise_is_told_of_the_comma(heading: bytes, hint: str) -> None:
    with pytest.raises(UnreadableFile) as refusal:
        rows(heading + b"\na;b\n")
    assert refusal.value.detail.endswith(hint)


def test_csv_facts_name_each_fact_once() -> None:
    table = b'user_id,facts\na,"{""tier"":""x"",""tier"":""y""}"\nb,"{""tier"":""x:y""}"\n'
    bad, fine = rows(table)
    assert bad == BadRow(1, "a", "invalid_field", "a name stands twice in one object")
    assert fine == Row(2, "b", {"facts": {"tier": "x:y"}})


def test_colons_in_texts_are_no_names() -> None:
    line = b'{"user_id": "a:b\\":", "channel": ":", "facts": {"tags": ["x:", ":"]}}'
    assert rows(line, "ndjson") == [Row(1, 'a:b":', {"channel": ":", "facts": {"tags": ["x:", ":"]}})]


ANY_TEXT = st.one_of(st.text(max_size=140), st.sampled_from([" a", "a ", "\x7f", "\u2028", "x" * 129, ""]))
FACTS = st.fixed_dictionaries(
    {},
    optional={
        "person": ANY_TEXT,
        "tier": ANY_TEXT,
        "tags": st.lists(ANY_TEXT, max_size=3),
        "points": st.integers(-1, 10**13),
        "newcomer": st.booleans(),
    },
)
LINES = st.fixed_dictionaries(
    {"user_id": ANY_TEXT}, optional={"channel": ANY_TEXT, "points_receipt": ANY_TEXT, "facts": FACTS}
)


@given(LINES)
def test_what_is_a_good_row_is_a_good_message(line: dict[str, Any]) -> None:
    """One that could not be sent would hold up its job for ever."""
    (row,) = rows(json.dumps(line).encode(), "ndjson")
    if isinstance(row, Row):
        fields = {"user_id": row.user_id} | row.extras
        payload = payload_of("merchant-1", "batch-1", row.user_id, row.extras)
        message = decode(encode(payload, source="/jobs/1", id=str(row.number), time=T0))
        assert message.payload.model_dump(exclude_unset=True, exclude_none=True) == {
            "merchant_id": "merchant-1",
            "batch_id": "batch-1",
            **fields,
        }


def test_gzip_may_have_several_members() -> None:
    assert rows(gzip.compress(b"user_id\na\n", mtime=0) + gzip.compress(b"b\n", mtime=0), gzipped=True) == good(
        "a", "b"
    )


@pytest.mark.parametrize(
    "data",
    [
        b"user_id\na\n",
        gzip.compress(b"user_id\na\n", mtime=0)[:-4],
        gzip.compress(b"user_id\na\n", mtime=0) + b"rest",
        b"\x1f\x8b",
    ],
)
def test_broken_gzip_is_refused(data: bytes) -> None:
    with pytest.raises(UnreadableFile, match="gzip is broken"):
        rows(data, gzipped=True)


def test_a_file_has_a_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(issuance_files, "FILE_LIMIT_BYTES", 10_000)
    small, large = b"user_id\n" + b"a\n" * 4_996, b"user_id\n" + b"a\n" * 4_997
    assert len(rows(small)) == 4_996
    for data, gzipped in ((large, False), (gzip.compress(large, mtime=0), True)):
        with pytest.raises(UnreadableFile, match="at most 10000 bytes"):
            rows(data, gzipped=gzipped)


@pytest.mark.parametrize("format", ["csv", "ndjson"])
def test_a_file_has_so_many_rows(format: FileFormat, monkeypatch: pytest.MonkeyPatch) -> None:
    assert issuance_files.ROW_LIMIT == 10_000_000
    assert "at most 10,000,000 rows" in str(FILE_BODY["description"])
    monkeypatch.setattr(issuance_files, "ROW_LIMIT", 3)
    data = {"csv": b"user_id\na\n\n ,x\nc\n", "ndjson": b'"a"\n\n{\n"c"\n'}[format]
    assert [row.number for row in rows(data, format)] == [1, 2, 3]
    with pytest.raises(UnreadableFile, match="at most 3 rows"):
        rows(data + {"csv": b"d\n", "ndjson": b'"d"\n'}[format], format)


def test_memory_does_not_grow_with_the_file() -> None:
    import tracemalloc

    class Endless:
        """A file that is made as it is read."""

        def __init__(self, blocks: int) -> None:
            self._blocks: Iterator[bytes] = iter([b"user_id\n", *[b"user-12345678\n" * 500] * blocks])

        def read(self, size: int, /) -> bytes:
            assert size >= 7_000
            return next(self._blocks, b"")

    def peak(blocks: int) -> Any:
        tracemalloc.start()
        assert sum(1 for _ in read_rows(Endless(blocks), "csv", gzipped=False)) == 500 * blocks
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(10)
    assert peak(400) < peak(40) + 50_000

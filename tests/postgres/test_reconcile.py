"""An order system's file against the ledger: what differs is found."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import orjson
import pytest

from ledger import use_cases
from ledger.application import Ledger
from ledger.coupon import Redemption
from ledger.errors import InvalidPeriod
from ledger.merchants import UnknownMerchant
from projections.reconcile.compare import BadLines, comparison
from projections.reconcile.orders_file import UnreadableOrders, read_orders
from tests.conftest import Shop
from tests.postgres.tills import NOW, Row, Till


@pytest.fixture
def till(shop: Shop, tmp_path: Path) -> Till:
    return Till(shop, tmp_path)


@pytest.mark.parametrize("kind", ["csv", "ndjson"])
def test_what_both_say_is_equal(till: Till, kind: str) -> None:
    one, two, three, four, five = (till.coupon() for _ in range(5))
    till.use("paid", one, two)
    till.order("paid", one, two, user_id="user-1")
    till.use("cancelled", three)
    till.give_back("cancelled", three)
    till.order("cancelled", three, state="cancelled")
    till.use("refunded", four)
    till.give_back("refunded", four, reason="buyer_refund")
    till.order("refunded", four, state="refunded", reason="buyer_refund")
    till.lock("abandoned", five)
    till.shop.ledger.do(use_cases.unlock(till.shop.request(), "abandoned", coupon_ids=[five], reason="left"))
    till.order("abandoned", five, state="cancelled")
    findings, summary = till.compare(till.file(kind=kind))
    assert findings == []
    assert (summary.ok, summary.lines, summary.uses, summary.equal) == (True, 5, 2, 5)
    assert [tuple(money) for money in summary.money] == [("EUR", 400, 400)]


def test_missing_extra_and_differing_are_told_with_their_positions(till: Till) -> None:
    held, used, other, gone, foreign, undone = (till.coupon() for _ in range(6))
    till.lock("o-held", held)
    till.use("o-extra", other)
    till.use("o-amount", used)
    till.use("o-user", gone)
    till.use("o-gone", undone)
    till.give_back("o-gone", undone)
    head = till.shop.ledger.store.head()
    till.order("o-held", held)
    till.order("o-unknown", "no-such-coupon")
    till.order("o-amount", used, discount_minor=300, currency="USD")
    till.order("o-user", gone, user_id="user-9")
    till.order("o-gone", undone)
    till.order("o-never", foreign, state="cancelled", at=(NOW + timedelta(minutes=5)).isoformat())
    till.order("o-first", foreign, state="refunded", at=(NOW - timedelta(minutes=5)).isoformat())
    findings, summary = till.compare()
    assert [(each.kind, each.order_id, each.line, each.ledger["use"]) for each in findings] == [
        ("differing", "o-amount", 3, "used"),
        ("extra", "o-extra", None, "used"),
        ("differing", "o-gone", 5, "returned"),
        ("missing", "o-held", 1, "held"),
        ("missing", "o-unknown", 2, "none"),
        ("differing", "o-user", 4, "used"),
    ]
    assert [each.differs for each in findings if each.kind == "differing"] == [
        ["discount_minor", "currency"],
        ["state"],
        ["user_id"],
    ]
    assert (summary.equal, summary.missing, summary.extra, summary.differing) == (2, 2, 1, 3)
    by_order = {each.order_id: each.ledger for each in findings}
    log = {each.position: each.event for each in till.log()}
    assert log[by_order["o-extra"]["used_at_position"]].TOPIC == "coupon.used"
    assert log[by_order["o-gone"]["returned_at_position"]].TOPIC == "coupon.returned"
    assert log[by_order["o-held"]["last_position"]].originator_id == f"coupon-{held}"
    assert by_order["o-unknown"]["last_position"] is None
    assert summary.position == head


def test_a_use_out_of_the_span_is_not_extra(till: Till) -> None:
    till.use("o-1", till.coupon())
    later = NOW + timedelta(hours=1)
    till.order("o-2", till.coupon(), state="cancelled", at=later.isoformat())
    assert till.compare()[0] == []
    findings, _ = till.compare(since=NOW - timedelta(hours=1), until=later)
    assert [each.kind for each in findings] == ["extra"]


def test_what_was_given_back_by_lines_may_be_taken_off_or_not(till: Till) -> None:
    coupon = till.coupon()
    till.lock("o-1", coupon)
    parts = [
        {"line_id": "1", "product_id": "p", "discount_minor": 150},
        {"line_id": "2", "product_id": "q", "discount_minor": 50},
    ]
    told = [Redemption(coupon_id=coupon, discount_minor=200, allocation=parts)]
    till.shop.ledger.do(use_cases.confirm(till.shop.request(), "o-1", told))
    lines = [{"line_id": "2"}]
    till.shop.ledger.do(
        use_cases.return_coupons(till.shop.request(), "o-1", coupon_ids=[coupon], reason="merchant_refund", lines=lines)
    )
    for said, equal in ((200, True), (150, True), (180, False)):
        till.rows.clear()
        till.order("o-1", coupon, discount_minor=said)
        assert till.compare()[1].ok is equal


EMPTY = {"csv": "order_id,coupon_id,state,discount_minor,currency,at\n", "ndjson": "\n"}


@pytest.mark.parametrize("kind", EMPTY)
def test_a_file_without_lines_needs_both_ends_of_a_span(till: Till, kind: str) -> None:
    till.use("o-1", till.coupon())
    path = till.folder / f"orders.{kind}"
    path.write_text(EMPTY[kind], "utf-8")
    span: Row = {"since": NOW - timedelta(hours=1), "until": NOW + timedelta(hours=1)}
    some: list[Row] = [{}, {"since": span["since"]}, {"until": span["until"]}]
    for ends in some:
        with pytest.raises(InvalidPeriod, match="the file has no lines"):
            till.compare(path, **ends)
    assert [each.kind for each in till.compare(path, **span)[0]] == ["extra"]


def test_a_span_that_ends_before_it_begins_is_refused(till: Till) -> None:
    till.use("o-1", till.coupon())
    till.order("o-2", till.coupon(), state="cancelled")
    hour = timedelta(hours=1)
    spans: list[Row] = [
        {"since": NOW + hour, "until": NOW - hour},
        {"since": NOW, "until": NOW},
        {"since": NOW + hour},
        {"until": NOW - hour},
    ]
    for ends in spans:
        with pytest.raises(InvalidPeriod, match="ends before it begins"):
            till.compare(**ends)


def test_a_merchant_of_whom_the_ledger_knows_nothing_is_refused(till: Till) -> None:
    till.order("o-1", till.coupon(), state="cancelled")
    with (
        pytest.raises(UnknownMerchant, match="merchant-9"),
        comparison(till.shop.ledger.store.database, "merchant-9", read_orders(till.file(), "ndjson")),
    ):
        pass


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59.999999Z", "1969-12-31T23:59:59Z"])
def test_a_time_out_of_the_calendar_is_a_bad_line(till: Till, at: str) -> None:
    till.order("o-1", "c-1", at=at)
    with pytest.raises(BadLines) as raised:
        till.compare()
    assert raised.value.facts["faults"] == [(1, "at is in a year from 1970 to 9000")]


def test_anothers_coupon_is_none(till: Till, ledger: Ledger) -> None:
    other = Shop(ledger, "merchant-2")
    till.order("o-1", other.coupon())
    [finding] = till.compare()[0]
    assert (finding.kind, finding.ledger["last_position"]) == ("missing", None)


BAD = {
    "not-json": "is no JSON object",
    '["o"]': "is no JSON object",
    "{}": "has no order_id, coupon_id, state, discount_minor, currency, at",
    "state": "state is paid, cancelled, refunded",
    "discount_minor": "discount_minor is a whole number of minor units from 0 to below 10^12",
    "currency": "currency is an ISO 4217 code of three capital letters",
    "at": "at needs a time zone",
    "order_id": "order_id is a text",
    "reason": "reason is order_cancelled, merchant_refund, buyer_refund",
}
BAD_VALUES: Row = {
    "state": "open",
    "discount_minor": 1.5,
    "currency": "euro",
    "at": "2026-11-22T10:00:00",
    "order_id": 7,
}


@pytest.mark.parametrize("what", BAD)
def test_bad_lines_are_told_by_number_and_nothing_is_compared(till: Till, what: str) -> None:
    [good] = till.order("o-1", till.coupon())
    bad = what if what[0] in "{[n" else orjson.dumps(good | {what: BAD_VALUES.get(what, "whim")}).decode()
    path = till.folder / "orders.ndjson"
    path.write_text(f"{orjson.dumps(good).decode()}\n\n{bad}\n", "utf-8")
    with pytest.raises(BadLines) as raised:
        till.compare(path)
    assert raised.value.facts["faults"] == [(3, BAD[what])]


def test_a_coupon_twice_on_an_order_is_a_bad_line(till: Till) -> None:
    till.order("o-1", "c-1", "c-2", "c-1")
    with pytest.raises(BadLines) as raised:
        till.compare()
    assert raised.value.facts["faults"] == [(3, "is the order and coupon of line 1 again")]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"order_id,coupon_id\n", "names no state, discount_minor, currency, at"),
        (b"", "names no order_id"),
        (b"\xff\xfe", "is no UTF-8 text"),
        (b'order_id,coupon_id,state,discount_minor,currency,at\n"a\n', "is no CSV"),
        (b"order_id,coupon_id,state,discount_minor,currency,at,discount_minor\n", "names discount_minor twice"),
        (b"order_id,coupon_id,state,discount_minor,currency,at,user_id, user_id \n", "names user_id twice"),
    ],
)
def test_what_is_no_such_file_is_refused(till: Till, text: bytes, why: str) -> None:
    path = till.folder / "orders.csv"
    path.write_bytes(text)
    with pytest.raises(UnreadableOrders, match=why):
        till.compare(path)


def test_columns_that_are_left_alone_may_have_the_same_name(till: Till) -> None:
    coupon_id = till.coupon()
    till.use("o-1", coupon_id)
    path = till.folder / "orders.csv"
    heading = "order_id,coupon_id,state,discount_minor,currency,at,note,note,,"
    path.write_text(f"{heading}\no-1,{coupon_id},paid,200,EUR,2026-11-22T10:00:00Z,a,b,c,d\n", "utf-8")
    assert till.compare(path)[0] == []


def test_a_cell_more_or_less_is_a_bad_line(till: Till) -> None:
    path = till.folder / "orders.csv"
    path.write_text("order_id,coupon_id,state,discount_minor,currency,at\no-1,c-1,paid\n", "utf-8")
    with pytest.raises(BadLines) as raised:
        till.compare(path)
    assert raised.value.facts["faults"] == [(2, "has 3 cells, and the first line 6")]


# What getrusage tells begins with the memory of the process that started this one.
CHILD = """
import re, sys
from pathlib import Path
from ledger.database import Database
from projections.reconcile.compare import comparison
from projections.reconcile.orders_file import read_orders
def peak_kib():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
before = peak_kib()
with comparison(Database(sys.argv[1], sys.argv[2]), "merchant-1", read_orders(Path(sys.argv[3]), "csv")) as compared:
    missing = sum(finding.kind == "missing" for finding in compared.findings())
print(missing, peak_kib() - before)
"""


def test_memory_does_not_grow_with_the_file(till: Till) -> None:
    grown: list[int] = []
    for count in (20_000, 120_000):
        path = till.folder / f"{count}.csv"
        with path.open("w") as file:
            file.write("order_id,coupon_id,state,discount_minor,currency,at\n")
            file.writelines(f"order-{n},coupon-{n},paid,5,EUR,2026-11-22T10:00:00Z\n" for n in range(count))
        database = till.shop.ledger.store.database
        result = subprocess.run(
            [sys.executable, "-c", CHILD, database.url, database.schema, str(path)], capture_output=True, text=True
        )
        assert result.returncode == 0, result.stderr
        missing, kilobytes = map(int, result.stdout.split())
        assert missing == count
        grown.append(kilobytes)
    assert grown[1] < grown[0] + 16_384

"""An order system's file against the ledger: what differs is found, and mended only by who may."""

from __future__ import annotations

import csv
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from ledger import use_cases
from ledger.application import Ledger
from ledger.benefit import Benefit
from ledger.coupon import Redemption
from ledger.errors import InvalidField, InvalidPeriod
from ledger.merchants import UnknownMerchant
from ledger.terms import Terms
from projections.reconcile import proposals
from projections.reconcile.compare import BadLines, Finding, Summary, comparison
from projections.reconcile.orders_file import UnreadableOrders, read_orders
from projections.reconcile.proposals import Answer, BadProposal, NotApproved
from tests.conftest import MERCHANT, Shop

NOW = datetime.now(UTC)
Row = dict[str, Any]


class Till:
    """An order system: what it did with the ledger, and what it says of that in its file."""

    def __init__(self, shop: Shop, folder: Path) -> None:
        self.shop = shop
        self.folder = folder
        terms = Terms(benefit=Benefit(kind="amount_off", value_minor=500), currency="EUR", stacking_mode="stackable")
        self.batch_id = shop.batch(per_user_limit=None, terms=terms)
        self.late_batch_id = shop.batch(per_user_limit=None, terms=replace(terms, late_confirm="accept"))
        self.rows: list[Row] = []

    def order(self, order_id: str, *coupon_ids: str, state: str = "paid", **said: Any) -> list[Row]:
        """Lines of the file; nothing is done."""
        lines = [
            {"order_id": order_id, "coupon_id": id, "state": state, "discount_minor": 200, "currency": "EUR"}
            | {"at": NOW.isoformat()}
            | said
            for id in coupon_ids
        ]
        self.rows += lines
        return lines

    def coupon(self, user_id: str = "user-1", batch_id: str | None = None) -> str:
        return self.shop.coupon(user_id, batch_id or self.batch_id)

    def lock(self, order_id: str, *coupon_ids: str, **said: Any) -> None:
        request = self.shop.request(at=said.pop("at", None))
        self.shop.ledger.do(use_cases.lock(request, order_id, user_id="user-1", coupon_ids=coupon_ids, **said))

    def use(self, order_id: str, *coupon_ids: str, discount_minor: int = 200) -> None:
        self.lock(order_id, *coupon_ids)
        told = [Redemption(coupon_id=id, discount_minor=discount_minor) for id in coupon_ids]
        self.shop.ledger.do(use_cases.confirm(self.shop.request(), order_id, told))

    def give_back(self, order_id: str, *coupon_ids: str, reason: str = "order_cancelled") -> None:
        work = use_cases.return_coupons(self.shop.request(), order_id, coupon_ids=coupon_ids, reason=reason)
        self.shop.ledger.do(work)

    def file(self, rows: list[Row] | None = None, kind: str = "ndjson") -> Path:
        rows = self.rows if rows is None else rows
        path = self.folder / f"orders.{kind}"
        if kind == "ndjson":
            path.write_bytes(b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows))
        else:
            with path.open("w", newline="", encoding="utf-8") as file:
                names = list(dict.fromkeys(name for row in rows for name in row))
                writer = csv.DictWriter(file, names)
                writer.writeheader()
                writer.writerows(rows)
        return path

    def compare(self, path: Path | None = None, **span: Any) -> tuple[list[Finding], Summary]:
        path = path or self.file()
        kind: Any = path.suffix[1:]
        with comparison(self.shop.ledger.store.database, MERCHANT, read_orders(path, kind), **span) as compared:
            return list(compared.findings()), compared.summary

    def propose(self, by: str = "alice") -> tuple[list[Answer], Path]:
        findings, _ = self.compare()
        answers = list(proposals.answers(self.shop.ledger, MERCHANT, findings, by))
        path = self.folder / "proposals.ndjson"
        path.write_bytes(b"".join(answer.proposal.to_line() for answer in answers if answer.proposal is not None))
        return answers, path

    def apply(self, path: Path, by: str = "bob") -> list[tuple[str, str]]:
        proposals.check_file(path, by)
        return [(done.operation, done.result) for done in proposals.apply(self.shop.ledger, path, by)]


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
    log = {each.position: each.event for each in _log(till)}
    assert log[by_order["o-extra"]["used_at_position"]].TOPIC == "coupon.used"
    assert log[by_order["o-gone"]["returned_at_position"]].TOPIC == "coupon.returned"
    assert log[by_order["o-held"]["last_position"]].originator_id == f"coupon-{held}"
    assert by_order["o-unknown"]["last_position"] is None
    assert summary.position == head


def _log(till: Till) -> list[Any]:
    with till.shop.ledger.store.connection() as connection:
        return list(till.shop.ledger.store.read(connection, 0, 10_000))


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
    ],
)
def test_what_is_no_such_file_is_refused(till: Till, text: bytes, why: str) -> None:
    path = till.folder / "orders.csv"
    path.write_bytes(text)
    with pytest.raises(UnreadableOrders, match=why):
        till.compare(path)


def test_a_cell_more_or_less_is_a_bad_line(till: Till) -> None:
    path = till.folder / "orders.csv"
    path.write_text("order_id,coupon_id,state,discount_minor,currency,at\no-1,c-1,paid\n", "utf-8")
    with pytest.raises(BadLines) as raised:
        till.compare(path)
    assert raised.value.facts["faults"] == [(2, "has 3 cells, and the first line 6")]


def test_what_is_held_is_confirmed_together_and_what_is_over_is_returned_or_let_go(till: Till, ledger: Ledger) -> None:
    one, two, used, refunded, held, free = (till.coupon() for _ in range(6))
    till.lock("o-held", one, two)
    till.order("o-held", one, two, paid_minor=900)
    till.use("o-over", used)
    till.order("o-over", used, state="cancelled")
    till.use("o-refund", refunded)
    till.order("o-refund", refunded, state="refunded", reason="merchant_refund")
    till.lock("o-left", held)
    till.order("o-left", held, state="cancelled")
    till.order("o-free", free)
    answers, path = till.propose()
    proposed = [(answer.proposal.operation, len(answer.findings)) for answer in answers if answer.proposal]
    assert sorted(proposed) == [("confirm", 2), ("redeem", 1), ("return", 1), ("return", 1), ("unlock", 1)]
    head = ledger.store.head()
    assert [result for _, result in till.apply(path)] == ["done"] * 5
    assert ledger.store.head() == head + 7
    actors = {each.event.actor for each in _log(till) if each.position > head}
    assert actors == {"reconcile:bob, proposed by alice"}
    assert till.compare()[0] == []
    assert [result for _, result in till.apply(path)] == ["done before"] * 5
    assert ledger.store.head() == head + 7


def test_a_late_confirmation_is_proposed_where_the_terms_let_it_count(till: Till) -> None:
    long_ago = NOW - timedelta(hours=2)
    claims = [
        use_cases.claim(till.shop.request(at=long_ago), batch, "user-1")
        for batch in (till.batch_id, till.late_batch_id)
    ]
    strict, lenient = (till.shop.ledger.do(work).answer["coupon_id"] for work in claims)
    till.lock("o-strict", strict, at=long_ago)
    till.lock("o-late", lenient, at=long_ago)
    till.order("o-strict", strict)
    till.order("o-late", lenient)
    answers, _ = till.propose()
    told = {answer.findings[0].order_id: answer for answer in answers}
    assert told["o-late"].proposal is not None and told["o-late"].told == "confirm"
    assert told["o-strict"].proposal is None and "lock_expired" in told["o-strict"].told


def test_what_no_command_can_mend_is_told(till: Till) -> None:
    used, voided, returned = (till.coupon() for _ in range(3))
    till.use("o-1", used)
    till.order("o-1", used, discount_minor=100)
    till.shop.ledger.do(use_cases.void(till.shop.request(), voided, reason="leaked"))
    till.order("o-2", voided)
    till.use("o-3", returned)
    till.order("o-3", returned, state="refunded")
    answers, path = till.propose()
    assert [answer.told for answer in answers] == [
        "no command can mend this: tell the order system",
        "no command can mend this: tell the order system (coupon_void: The coupon was voided)",
        "the file does not say whose refund it was: a column reason would",
    ]
    assert path.read_bytes() == b""


def test_who_proposes_cannot_approve_and_a_changed_line_is_refused_before_anything_is_done(
    till: Till, ledger: Ledger
) -> None:
    for number in (1, 2):
        id = till.coupon()
        till.lock(f"o-{number}", id)
        till.order(f"o-{number}", id)
    _, path = till.propose()
    head = ledger.store.head()
    for name in ("alice", " Alice "):
        with pytest.raises(NotApproved, match="line 1 was proposed by alice"):
            till.apply(path, name)
    with pytest.raises(InvalidField, match="approved_by"):
        till.apply(path, "")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1].replace(b":200", b":500"))
    with pytest.raises(BadProposal, match="line 2 was changed since it was proposed"):
        till.apply(path)
    path.write_bytes(lines[0] + b"{}\n")
    with pytest.raises(BadProposal, match="line 2 is no proposal"):
        till.apply(path)
    assert ledger.store.head() == head


@pytest.mark.parametrize(("old", "new"), [(b'"alice"', b'"carol"'), (b"says paid", b"said paid")])
def test_who_proposed_and_why_cannot_be_changed(till: Till, old: bytes, new: bytes) -> None:
    id = till.coupon()
    till.lock("o-1", id)
    till.order("o-1", id)
    _, path = till.propose()
    text = path.read_bytes()
    assert text.count(old) == 1
    path.write_bytes(text.replace(old, new))
    with pytest.raises(BadProposal, match="line 1 was changed since it was proposed"):
        till.apply(path, "alice")


@pytest.mark.parametrize("name", ["\u0430lice", "\uff41lice", "al\u00adice", "alice\t", "", "a" * 65])
def test_a_name_is_of_letters_that_nobody_takes_for_others(till: Till, name: str) -> None:
    id = till.coupon()
    till.lock("o-1", id)
    till.order("o-1", id)
    _, path = till.propose()
    with pytest.raises(InvalidField, match="approved_by"):
        till.apply(path, name)
    with pytest.raises(InvalidField, match="proposed_by"):
        till.propose(name)


@pytest.mark.parametrize("count", [100, 101, 250])
def test_each_of_many_findings_on_an_order_is_answered(till: Till, count: int) -> None:
    ids = [f"coupon-{number:03}" for number in range(count)]
    till.order("o-1", *ids, state="paid")
    finding = till.compare()[0][0]
    # Uses that the file lacks: no use case is asked about them.
    findings = [replace(finding, kind="extra", told=None, coupon_id=id) for id in ids]
    answers = list(proposals.answers(till.shop.ledger, MERCHANT, findings, "alice"))
    assert [each.coupon_id for answer in answers for each in answer.findings] == ids
    assert max(len(answer.findings) for answer in answers) == 100


def test_the_same_findings_are_proposed_as_the_same_requests(till: Till) -> None:
    id = till.coupon()
    till.lock("o-1", id)
    till.order("o-1", id)
    _, path = till.propose()
    first = path.read_bytes()
    assert till.propose()[1].read_bytes() == first
    assert till.apply(path) == [("confirm", "done")]
    till.give_back("o-1", id)
    till.lock("o-1", id)
    assert till.propose()[1].read_bytes() != first


def test_what_is_refused_meanwhile_is_told_and_the_others_are_done(till: Till) -> None:
    one, two = till.coupon(), till.coupon()
    for order_id, id in (("o-1", one), ("o-2", two)):
        till.lock(order_id, id)
        till.order(order_id, id)
    _, path = till.propose()
    till.shop.ledger.do(use_cases.void(till.shop.request(), one, reason="leaked"))
    assert till.apply(path) == [("confirm", "coupon_void"), ("confirm", "done")]


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

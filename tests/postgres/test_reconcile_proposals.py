"""Commands that would mend what an order system and the ledger say differently: done only by who may."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from ledger import use_cases
from ledger.application import Ledger
from ledger.benefit import Benefit
from ledger.coupon import Redemption
from ledger.errors import InvalidField
from ledger.terms import Terms
from projections.reconcile import proposals
from projections.reconcile.proposals import BadProposal, NotApproved
from tests.conftest import MERCHANT, Shop
from tests.postgres.tills import NOW, Row, Till


@pytest.fixture
def till(shop: Shop, tmp_path: Path) -> Till:
    return Till(shop, tmp_path)


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
    actors = {each.event.actor for each in till.log() if each.position > head}
    assert actors == {"reconcile:bob, proposed by alice"}
    assert till.compare()[0] == []
    assert [result for _, result in till.apply(path)] == ["done before"] * 5
    assert ledger.store.head() == head + 7


@pytest.mark.parametrize("written", [False, True])
def test_a_lock_that_has_ended_is_confirmed_late_or_holds_nothing(till: Till, written: bool) -> None:
    """Whether somebody wrote its end down or not."""
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
    if written:
        for order_id, id in (("o-strict", strict), ("o-late", lenient)):
            ended = use_cases.unlock(till.shop.request(), order_id, coupon_ids=[id], reason="lock_ended")
            till.shop.ledger.do(ended)
    assert {finding.ledger["use"] for finding in till.compare()[0]} == {"none"}
    answers, path = till.propose()
    told = {answer.findings[0].order_id: answer.told for answer in answers}
    assert told == {"o-late": "confirm", "o-strict": "redeem"}
    assert sorted(till.apply(path)) == [("confirm", "done"), ("redeem", "done")]
    assert till.compare()[0] == []


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


NO_COMMAND = "no command can mend this: tell the order system"


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"currency": "USD"}, "the ledger would say currency EUR"),
        ({"user_id": "user-9"}, "the ledger would say user_id user-1"),
        (
            {"currency": "USD", "user_id": "user-9"},
            "the ledger would say currency EUR, user_id user-1",
        ),
    ],
)
def test_what_would_say_something_else_than_the_file_is_not_proposed(till: Till, said: Row, why: str) -> None:
    held = till.coupon()
    till.lock("o-held", held)
    till.order("o-held", held, **said)
    answers, path = till.propose()
    assert [answer.told for answer in answers] == [f"{NO_COMMAND} ({why})"]
    assert path.read_bytes() == b""


def test_what_nobody_holds_is_not_used_in_another_currency(till: Till) -> None:
    till.order("o-free", till.coupon(), currency="USD")
    till.order("o-other", till.coupon(), user_id="user-9")
    answers, path = till.propose()
    assert [answer.told for answer in answers] == [
        f"{NO_COMMAND} (the ledger would say currency EUR)",
        f"{NO_COMMAND} (not_owner: The coupon belongs to another user)",
    ]
    assert path.read_bytes() == b""


def test_of_several_that_are_held_only_those_are_confirmed_that_would_be_equal(till: Till) -> None:
    one, two, three = (till.coupon() for _ in range(3))
    till.lock("o-1", one, two, three)
    till.order("o-1", one, three)
    till.order("o-1", two, currency="USD")
    answers, path = till.propose()
    assert {answer.findings[0].coupon_id: answer.told for answer in answers} == {
        one: "confirm",
        two: f"{NO_COMMAND} (the ledger would say currency EUR)",
        three: "confirm",
    }
    assert [result for _, result in till.apply(path)] == ["done"] * 2
    assert [finding.coupon_id for finding in till.compare()[0]] == [two]


def test_what_cannot_be_returned_keeps_nothing_else_of_the_order(till: Till) -> None:
    terms = Terms(
        benefit=Benefit(kind="cash_voucher", value_minor=900, leaves_balance=True),
        currency="EUR",
        stacking_mode="stackable",
    )
    voucher = till.coupon(batch_id=till.shop.batch(terms=terms))
    plain, other = till.coupon(), till.coupon()
    till.use("o-1", plain, voucher, other)
    till.shop.ledger.do(use_cases.void(till.shop.request(), voucher, reason="leaked"))
    till.order("o-1", plain, voucher, other, state="cancelled")
    answers, path = till.propose()
    assert {answer.findings[0].coupon_id: answer.told for answer in answers} == {
        plain: "return",
        voucher: f"{NO_COMMAND} (coupon_void: The coupon was voided)",
        other: "return",
    }
    assert till.apply(path) == [("return", "done")] * 2
    assert [finding.coupon_id for finding in till.compare()[0]] == [voucher]


def test_each_paid_amount_is_the_lines_own(till: Till) -> None:
    ids = [till.coupon() for _ in range(4)]
    till.lock("o-1", *ids)
    for id, paid_minor in zip(ids, (4_000, 3_000, 4_000, None), strict=True):
        till.order("o-1", id, **({} if paid_minor is None else {"paid_minor": paid_minor}))
    answers, path = till.propose()
    assert sorted(len(answer.findings) for answer in answers) == [1, 1, 2]
    assert [result for _, result in till.apply(path)] == ["done"] * 3
    assert till.compare()[0] == []


def test_a_hold_that_the_clock_ended_is_none_of_a_cancelled_order(till: Till) -> None:
    long_ago = NOW - timedelta(hours=2)
    claim = use_cases.claim(till.shop.request(at=long_ago), till.batch_id, "user-1")
    id = till.shop.ledger.do(claim).answer["coupon_id"]
    till.lock("o-1", id, at=long_ago)
    till.order("o-1", id, state="cancelled")
    assert till.compare()[0] == []


def test_what_was_mended_since_it_was_compared_is_not_proposed(till: Till) -> None:
    paid, left = till.coupon(), till.coupon()
    till.lock("o-left", left)
    till.order("o-left", left, state="cancelled")
    till.lock("o-paid", paid)
    till.order("o-paid", paid)
    findings, _ = till.compare()
    till.shop.ledger.do(
        use_cases.confirm(till.shop.request(), "o-paid", [Redemption(coupon_id=paid, discount_minor=200)])
    )
    till.shop.ledger.do(use_cases.unlock(till.shop.request(), "o-left", coupon_ids=[left], reason="left"))
    answers = list(proposals.answers(till.shop.ledger, MERCHANT, findings, "alice"))
    assert [answer.told for answer in answers] == ["the ledger was changed meanwhile: compare again"] * 2


def test_a_file_that_is_changed_after_it_was_approved_is_done_as_it_was(till: Till) -> None:
    ids = [till.coupon() for _ in range(2)]
    for number, id in enumerate(ids):
        till.lock(f"o-{number}", id)
        till.order(f"o-{number}", id)
    _, path = till.propose("alice")
    text = path.read_bytes()
    till.propose("bob")
    bobs = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(text)
    approved = proposals.approve(path, "bob")
    done = proposals.apply(till.shop.ledger, approved)
    assert next(done).result == "done"
    path.write_bytes(text.splitlines(keepends=True)[0] + bobs[1])
    assert [outcome.result for outcome in done] == ["done"]
    actors = {recorded.event.actor for recorded in till.log() if recorded.event.actor.startswith("reconcile")}
    assert actors == {"reconcile:bob, proposed by alice"}

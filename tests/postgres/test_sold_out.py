"""A batch known as sold out says so without a commit, for as long as nothing may have changed that."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ledger import use_cases
from ledger.application import Ledger
from ledger.database import Database
from ledger.errors import BatchNotOpen, IdempotencyKeyReused, SoldOut, Unavailable, UserLimitReached
from ledger.store import Store
from ledger.work import Receipt
from tests.conftest import Shop
from tests.postgres.tools import assert_guards_equal_events, at_once, picture, whole_log, writers_blocked


@pytest.fixture
def elsewhere(database: Database) -> Iterator[Ledger]:
    """Another process at work on the same ledger."""
    ledger = Ledger(Store(database))
    yield ledger
    ledger.close()


@pytest.fixture
def sold_out(ledger: Ledger, shop: Shop) -> str:
    """A batch of two whose end this process has seen; its owners are ``first`` and ``second``."""
    batch_id = shop.batch(quantity=2, per_user_limit=2)
    for user_id in ("first", "second"):
        ledger.do(use_cases.claim(shop.request(user_id), batch_id, user_id))
    with pytest.raises(SoldOut):
        ledger.do(use_cases.claim(shop.request(), batch_id, "late"))
    return batch_id


def test_it_says_so_while_no_writer_may_write(ledger: Ledger, shop: Shop, sold_out: str) -> None:
    before = picture(ledger.store.database)
    with writers_blocked(ledger.store.database):
        for n in range(3):
            with pytest.raises(SoldOut) as refusal:
                ledger.do(use_cases.claim(shop.request(), sold_out, f"late-{n}"))
            assert refusal.value.facts == {"batch_id": sold_out}
        with pytest.raises(SoldOut):
            ledger.do(use_cases.issue(shop.request(), sold_out, ["late"] * 2))
    assert picture(ledger.store.database) == before


def test_a_repeat_gets_its_coupon_all_the_same(ledger: Ledger, shop: Shop, sold_out: str) -> None:
    first = ledger.do(use_cases.claim(shop.request("first"), sold_out, "first"))
    assert (first.replayed, first.answer["user_id"]) == (True, "first")
    with pytest.raises(IdempotencyKeyReused):
        ledger.do(use_cases.claim(shop.request("first", body_hash="other"), sold_out, "first"))


def test_a_repeated_message_finds_its_coupon_too(ledger: Ledger, shop: Shop) -> None:
    batch_id = shop.batch(quantity=1)
    issue = use_cases.issue_by_message(shop.request("message"), batch_id, "first", channel="message")
    ledger.do(issue)
    with pytest.raises(SoldOut):
        ledger.do(use_cases.issue_by_message(shop.request(), batch_id, "late", channel="message"))
    again = ledger.do(issue)
    assert (again.replayed, again.answer["user_id"]) == (True, "first")


def test_more_of_it_elsewhere_is_noticed_at_once(ledger: Ledger, elsewhere: Ledger, shop: Shop, sold_out: str) -> None:
    elsewhere.do(use_cases.change_quantity(shop.request(), sold_out, expected=2, target=3))
    assert ledger.do(use_cases.claim(shop.request(), sold_out, "third")).answer["user_id"] == "third"
    with pytest.raises(SoldOut):
        ledger.do(use_cases.claim(shop.request(), sold_out, "fourth"))
    assert_guards_equal_events(ledger.store.database)


def test_more_of_it_here_is_noticed_at_once(ledger: Ledger, shop: Shop, sold_out: str) -> None:
    ledger.do(use_cases.change_quantity(shop.request(), sold_out, expected=2, target=3))
    assert ledger.do(use_cases.claim(shop.request(), sold_out, "third")).answer["user_id"] == "third"


def test_a_stop_elsewhere_ends_it_whatever_is_raised(
    ledger: Ledger, elsewhere: Ledger, shop: Shop, sold_out: str
) -> None:
    """Sold out and stopped are both true, and either may be said; once there is more of it, only the stop is."""
    elsewhere.do(use_cases.change_quantity(shop.request(), sold_out, expected=2, target=3))
    elsewhere.do(use_cases.stop_batch(shop.request(), sold_out, reason="over"))
    with pytest.raises(BatchNotOpen):
        ledger.do(use_cases.claim(shop.request(), sold_out, "late"))


def test_too_few_for_one_is_enough_for_another(ledger: Ledger, shop: Shop) -> None:
    batch_id = shop.batch(quantity=2, per_user_limit=None)
    with pytest.raises(SoldOut):
        ledger.do(use_cases.issue(shop.request(), batch_id, ["user"] * 3))
    assert len(ledger.do(use_cases.issue(shop.request(), batch_id, ["user"] * 2)).answer["coupons"]) == 2


def test_a_process_that_just_started_finds_out_by_itself(
    elsewhere: Ledger, ledger: Ledger, shop: Shop, sold_out: str
) -> None:
    with pytest.raises(SoldOut):
        elsewhere.do(use_cases.claim(shop.request(), sold_out, "late"))
    with writers_blocked(ledger.store.database), pytest.raises(SoldOut):
        elsewhere.do(use_cases.claim(shop.request(), sold_out, "later"))


def test_a_group_in_a_callers_transaction_says_so_too(ledger: Ledger, shop: Shop, sold_out: str) -> None:
    other = shop.batch(quantity=5, per_user_limit=None)
    repeat = use_cases.claim(shop.request("first"), sold_out, "first")
    with ledger.store.connection() as connection, connection.transaction():
        late, again, fresh = ledger.do_all(
            [
                use_cases.claim(shop.request(), sold_out, "late"),
                repeat,
                use_cases.claim(shop.request(), other, "fresh"),
            ],
            connection,
        )
        assert isinstance(late, SoldOut)
        assert isinstance(again, Receipt) and again.replayed
        assert isinstance(fresh, Receipt) and not fresh.replayed
        # Made and raised in this very transaction: nobody else can know of it yet.
        raised, third = ledger.do_all(
            [
                use_cases.change_quantity(shop.request(), sold_out, expected=2, target=3),
                use_cases.claim(shop.request(), sold_out, "third"),
            ],
            connection,
        )
    assert isinstance(raised, Receipt)
    assert isinstance(third, Receipt)


def test_what_a_transaction_that_rolled_back_made_of_it_is_not_remembered(ledger: Ledger, shop: Shop) -> None:
    batch_id = shop.batch(quantity=1)
    with ledger.store.connection() as connection, connection.transaction(force_rollback=True):
        taken, late = ledger.do_all(
            [use_cases.claim(shop.request(), batch_id, user_id) for user_id in ("taken", "late")], connection
        )
        assert isinstance(taken, Receipt)
        assert isinstance(late, SoldOut)
    assert ledger.do(use_cases.claim(shop.request(), batch_id, "first")).replayed is False


def test_a_raise_that_meets_a_crowd_gives_every_coupon_away(
    ledger: Ledger, elsewhere: Ledger, shop: Shop, sold_out: str
) -> None:
    """While the quantity grows again and again, refusals are right at their moment, and nothing is left over."""
    target = 30

    def ask(number: int) -> int:
        if number == 0:
            for quantity in range(2, target):
                elsewhere.do(
                    use_cases.change_quantity(
                        shop.request(f"raise-{quantity}"), sold_out, expected=quantity, target=quantity + 1
                    )
                )
            return 0
        got = 0
        for turn in range(40):
            try:
                ledger.do(use_cases.claim(shop.request(f"crowd-{number}-{turn}"), sold_out, f"{number}-{turn}"))
                got += 1
            except (SoldOut, Unavailable):  # the second when the batch moves under each of its attempts
                continue
        return got

    results = at_once(8, ask)
    assert all(isinstance(result, int) for result in results), results
    got = sum(result for result in results if isinstance(result, int))
    for number in range(target - 2 - got):
        ledger.do(use_cases.claim(shop.request(f"rest-{number}"), sold_out, f"rest-{number}"))
    with pytest.raises(SoldOut):
        ledger.do(use_cases.claim(shop.request("one more"), sold_out, "one more"))
    assert sum(entry.event.TOPIC == "coupon.issued" for entry in whole_log(ledger.store)) == target
    assert_guards_equal_events(ledger.store.database)


def test_the_users_limit_is_not_taken_for_the_end_of_the_batch(ledger: Ledger, shop: Shop) -> None:
    batch_id = shop.batch(quantity=2, per_user_limit=1)
    ledger.do(use_cases.claim(shop.request(), batch_id, "first"))
    with pytest.raises(UserLimitReached):
        ledger.do(use_cases.claim(shop.request(), batch_id, "first"))
    assert ledger.do(use_cases.claim(shop.request(), batch_id, "second")).replayed is False

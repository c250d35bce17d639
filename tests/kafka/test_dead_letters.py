"""What operators do with dead letters."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from consumers.dead_letter_copies import copy_of
from consumers.dead_letters import (
    DeadLetter,
    DeadLetterNotFound,
    DeadLetterSettled,
    discard,
    list_letters,
    retry,
    show,
)
from consumers.inputs import ISSUANCE
from ledger import use_cases
from ledger.application import Ledger
from ledger.errors import InvalidField
from tests.conftest import Shop
from tests.kafka.broker import Broker, consume, issue

Sql = Callable[..., list[tuple[Any, ...]]]
COUPONS = "select count(*) from event_log where topic = 'coupon.issued'"


@pytest.fixture
def letter(broker: Broker, ledger: Ledger, shop: Shop) -> DeadLetter:
    """A request that came before its batch was started."""
    batch = shop.batch(start=False)
    broker.send(ISSUANCE.topic, [issue(batch, 1)])
    consume(broker.worker(ledger), 1)
    with ledger.store.connection() as connection:
        (letter,) = list_letters(connection)
    assert letter.reason == "batch_not_open"
    return letter


def batch_of(letter: DeadLetter) -> str:
    assert letter.value is not None
    return letter.value.split(b'"batch_id":"')[1].split(b'"')[0].decode()


def test_a_retry_that_succeeds_settles_the_letter(ledger: Ledger, shop: Shop, sql: Sql, letter: DeadLetter) -> None:
    ledger.do(use_cases.start_batch(shop.request(), batch_of(letter)))
    settled = retry(ledger, letter.id, actor="key:operator")
    assert (settled.settlement, settled.settled_by, settled.attempts) == ("retried", "key:operator", 2)
    assert sql(COUPONS) == [(1,)]
    assert sql("select payload->>'actor' from event_log where topic = 'coupon.issued'") == [
        (f"consumer:{letter.consumer_group}",)
    ]
    for again in (
        lambda: retry(ledger, letter.id, actor="x"),
        lambda: discard(ledger, letter.id, actor="x", note="y"),
    ):
        with pytest.raises(DeadLetterSettled):
            again()
    with ledger.store.connection() as connection:
        assert list_letters(connection) == []
        assert [one.id for one in list_letters(connection, open_only=False)] == [letter.id]


def test_a_retry_in_vain_keeps_the_letter_with_the_newest_reason(
    ledger: Ledger, shop: Shop, sql: Sql, letter: DeadLetter
) -> None:
    ledger.do(use_cases.stop_batch(shop.request(), batch_of(letter), reason="test"))
    still = retry(ledger, letter.id, actor="key:operator")
    assert (still.settlement, still.attempts, still.reason) == (None, 2, "batch_not_open")
    assert still.detail == "the batch is STOPPED"
    assert retry(ledger, letter.id, actor="key:operator").attempts == 3
    assert sql(COUPONS) == [(0,)]


def test_the_message_may_come_again_after_its_retry(
    broker: Broker, ledger: Ledger, shop: Shop, sql: Sql, letter: DeadLetter
) -> None:
    ledger.do(use_cases.start_batch(shop.request(), batch_of(letter)))
    retry(ledger, letter.id, actor="key:operator")
    broker.send(ISSUANCE.topic, [issue(batch_of(letter), 1)])
    health = consume(broker.worker(ledger), 1).health()
    assert (health.repeats, health.dead) == (1, 0)
    assert sql(COUPONS) == [(1,)]


def test_a_letter_of_imported_history_is_retried_at_its_own_time(
    broker: Broker, ledger: Ledger, shop: Shop, sql: Sql, long_ago: datetime
) -> None:
    batch = shop.batch(start=False, valid_from=long_ago, valid_until=long_ago + timedelta(9), valid_for_seconds=None)
    broker.send(ISSUANCE.topic, [issue(batch, 1, time=long_ago)])
    consume(broker.worker(ledger, business_time="message"), 1)
    ledger.do(use_cases.start_batch(shop.request(), batch))
    with ledger.store.connection() as connection:
        (letter,) = list_letters(connection)
    assert retry(ledger, letter.id, actor="key:operator").settlement == "retried"
    ((occurred,),) = sql("select payload->>'occurred_at' from event_log where topic = 'coupon.issued'")
    assert datetime.fromisoformat(occurred) == long_ago


def test_discarding_needs_a_note_and_has_no_effect(ledger: Ledger, sql: Sql, letter: DeadLetter) -> None:
    with pytest.raises(InvalidField):
        discard(ledger, letter.id, actor="key:operator", note="")
    settled = discard(ledger, letter.id, actor="key:operator", note="a test of the shop")
    assert (settled.settlement, settled.settlement_note) == ("discarded", "a test of the shop")
    with pytest.raises(DeadLetterSettled):
        retry(ledger, letter.id, actor="key:operator")
    assert sql(COUPONS) == [(0,)]


def test_unknown_letters_are_not_found(ledger: Ledger) -> None:
    with pytest.raises(DeadLetterNotFound):
        retry(ledger, 7, actor="key:operator")
    with pytest.raises(DeadLetterNotFound):
        discard(ledger, 7, actor="key:operator", note="none")
    with ledger.store.connection() as connection, pytest.raises(DeadLetterNotFound):
        show(connection, 7)


def test_letters_are_listed_by_pages_and_topics(broker: Broker, ledger: Ledger) -> None:
    broker.send(ISSUANCE.topic, [issue("none", number) for number in range(7)])
    consume(broker.worker(ledger), 7)
    with ledger.store.connection() as connection:
        pages = [list_letters(connection, limit=3)]
        while pages[-1]:
            pages.append(list_letters(connection, limit=3, after=pages[-1][-1].id))
        assert [len(page) for page in pages] == [3, 3, 1, 0]
        assert len(list_letters(connection, topic=f"{broker.prefix}{ISSUANCE.topic}")) == 7
        assert list_letters(connection, topic="another") == []


def test_a_copy_leaves_out_what_does_not_fit() -> None:
    letter = DeadLetter(
        id=1, consumer_group="g", topic="t", partition=0, offset=9, key=b"k" * 50, value=b"v" * 500,
        headers=[("h", b"x" * 500), ("none", None)], message_time=None, business_time="live", reason="r", detail="d",
        dead_at=datetime.now(UTC), published_at=None, settled_at=None, settlement=None, settled_by=None,
        settlement_note=None, attempts=1,
    )  # fmt: skip
    whole, without_value, bare = (copy_of(letter, limit) for limit in (10_000, 1_000, 600))
    assert (whole.key, whole.value, whole.headers[:2]) == (letter.key, letter.value, [("h", b"x" * 500), ("none", b"")])
    assert (without_value.key, without_value.value) == (letter.key, b"")
    assert dict(without_value.headers)["dead_letter_value_left_out_bytes"] == b"500"
    assert (bare.key, bare.value) == (None, b"")
    assert dict(bare.headers)["dead_letter_left_out"] == b"key, value, headers"
    assert dict(bare.headers)["dead_letter_offset"] == b"9"

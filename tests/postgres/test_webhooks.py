"""Merchants' webhooks: each event once to each channel that wants it, and none of before."""

from __future__ import annotations

from typing import Any

import pytest

from consumers import webhooks
from consumers.follower import Follower
from ledger import use_cases
from ledger.application import Ledger
from ledger.errors import IdempotencyKeyReused, InvalidField
from ledger.request import Request
from ledger.telling import channels
from tests.conftest import MERCHANT, Shop


def follow(ledger: Ledger, handle: Any = webhooks.enqueue_webhooks) -> None:
    follower = Follower(ledger.store, webhooks.NAME, handle, chunk_events=3)
    follower.step()
    while follower.step():
        pass


def channel(shop: Shop, *wants: str, **more: Any) -> str:
    plan = {"name": "x", "kind": "webhook", "target": "https://hooks.example/", "wants": wants, **more}
    channel_id: str = channels.register(shop.ledger, shop.request(), **plan).answer["channel_id"]
    return channel_id


def waiting(ledger: Ledger) -> list[tuple[str, str, int]]:
    """Channel, topic and position of what is to be sent."""
    with ledger.store.connection() as connection:
        rows = connection.execute("select channel_id, type, body from deliveries order by delivery_id").fetchall()
    return [(row["channel_id"], row["type"], row["body"]["position"]) for row in rows]


def test_each_event_is_enqueued_for_each_channel_that_wants_it(shop: Shop, ledger: Ledger) -> None:
    shop.coupon()
    both, one = channel(shop, "coupon.issued", "coupon.voided"), channel(shop, "coupon.voided", "alert")
    channel(Shop(ledger, "merchant-2"), "coupon.issued", "coupon.voided")
    mail = channels.register(ledger, shop.request(), name="m", kind="email", target="a@b.example", wants=["alert"])
    coupon_id = shop.coupon()
    issued = ledger.store.head()
    ledger.do(use_cases.void(shop.request(), coupon_id, reason="x"))
    follow(ledger)
    assert sorted(waiting(ledger)) == sorted(
        [(both, "coupon.issued", issued), (both, "coupon.voided", issued + 1), (one, "coupon.voided", issued + 1)]
    )
    assert mail.answer["channel_id"] not in str(waiting(ledger))
    follow(ledger)
    assert len(waiting(ledger)) == 3


def test_the_same_events_again_add_nothing(shop: Shop, ledger: Ledger) -> None:
    channel(shop, "coupon.issued")
    shop.coupon()
    with ledger.store.connection() as connection:
        events = list(ledger.store.read(connection, 0, 100))
        for _ in range(2):
            webhooks.enqueue_webhooks(connection, events)
    assert len(waiting(ledger)) == 1


def test_position_and_deliveries_are_one(shop: Shop, ledger: Ledger) -> None:
    channel(shop, "coupon.issued")
    shop.coupon()

    def broken(connection: Any, events: Any) -> None:
        webhooks.enqueue_webhooks(connection, events)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        follow(ledger, broken)
    assert waiting(ledger) == []
    follow(ledger)
    assert len(waiting(ledger)) == 1


def test_a_disabled_channel_is_told_later_and_a_deleted_one_nothing(shop: Shop, ledger: Ledger) -> None:
    disabled, deleted = channel(shop, "coupon.issued"), channel(shop, "coupon.issued")
    with ledger.store.connection() as connection:
        channels.disable(connection, disabled)
        channels.delete(connection, MERCHANT, deleted)
    shop.coupon()
    follow(ledger)
    assert waiting(ledger) == [(disabled, "coupon.issued", ledger.store.head())]


def test_interest_is_by_merchant_word_and_owner(shop: Shop, ledger: Ledger) -> None:
    first = channel(shop, "alert", "reminder")
    request = Request(MERCHANT, "key:other", "other")
    plan = {"name": "x", "kind": "email", "target": "a@b.example", "wants": ["alert"]}
    second = channels.register(ledger, request, **plan).answer["channel_id"]
    with ledger.store.connection() as connection:

        def found(*what: str, **owner: str) -> set[str]:
            return {each.channel_id for each in channels.wanting(connection, *what, **owner)}

        assert found(MERCHANT, "alert") == {first, second}
        assert found(MERCHANT, "alert", owner="key:other") == {second}
        assert found(MERCHANT, "reminder") == {first}
        assert found("merchant-2", "alert") == found(MERCHANT, "coupon.used") == set()
    assert channels.register(ledger, request, **plan).replayed
    with pytest.raises(IdempotencyKeyReused):
        channels.register(ledger, Request(MERCHANT, "key:other", "other", "digest"), **plan)


def test_a_merchant_has_so_many_channels_at_most(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "CHANNEL_LIMIT", 2)
    channel(shop, "alert")
    gone = channel(shop, "alert")
    with pytest.raises(channels.ChannelLimitReached):
        channel(shop, "alert")
    with shop.ledger.store.connection() as connection:
        channels.delete(connection, MERCHANT, gone)
    channel(shop, "alert")


def test_a_deleted_channel_keeps_no_secret_and_no_address(shop: Shop, ledger: Ledger) -> None:
    channel_id = channel(shop, "alert")
    channels.rotate_secret(ledger, shop.request(), channel_id)
    with ledger.store.connection() as connection:
        channels.delete(connection, MERCHANT, channel_id)
        (row,) = connection.execute("select target, secret, old_secret from channels").fetchall()
        assert set(row.values()) == {None}
        with pytest.raises(channels.ChannelNotFound):
            channels.delete(connection, MERCHANT, channel_id)
    for change in (channels.rotate_secret, channels.enable, channels.ping):
        with pytest.raises(channels.ChannelNotFound):
            change(ledger, shop.request(), channel_id)


@pytest.mark.parametrize(
    ("kind", "target", "wants", "field"),
    [
        ("webhook", "https://hooks.example/", [], "wants"),
        ("webhook", "https://hooks.example/", ["alert", "alert"], "wants"),
        ("webhook", "https://hooks.example/", ["coupon.exploded"], "wants"),
        ("webhook", None, ["alert"], "target"),
        ("email", None, ["alert"], "target"),
        ("email", None, ["alert", "reminder"], "target"),
        ("email", "a@b.example", ["coupon.used"], "wants"),
        ("email", "https://hooks.example/", ["alert"], "target"),
    ],
)
def test_a_plan_must_be_whole(kind: Any, target: str | None, wants: list[str], field: str, shop: Shop) -> None:
    with pytest.raises(InvalidField) as refusal:
        channel(shop, *wants, kind=kind, target=target)
    assert refusal.value.facts["field"] == field

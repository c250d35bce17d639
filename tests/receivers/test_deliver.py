"""Deliveries: signed, tried again, given up, and never lost, to a real HTTPS server."""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson
import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from consumers import deliver, web_post
from consumers.deliver import CHANNEL_THREADS, Deliverer
from consumers.sending import Outcome, signed, webhook_id
from ledger.telling import channels, deliveries
from ledger.telling.deliveries import BACKOFF_SECONDS, Delivery
from tests.conftest import Shop
from tests.receivers.conftest import Desk
from tests.receivers.receiver import Receiver


def test_a_webhook_is_signed_and_sent_once(desk: Desk, receiver: Receiver) -> None:
    channel_id = desk.channel(receiver.url("/hook"))
    (key,) = desk.enqueue(channel_id, body={"coupon_id": "c-1", "title": "Gru\u00df \u2028"})
    desk.deliver()
    desk.make_due()
    desk.deliver()
    ((path, headers, body),) = receiver.got
    assert (path, headers["content-type"], headers["webhook-id"]) == ("/hook", "application/json", webhook_id(key))
    told = orjson.loads(body)
    assert (told["type"], told["data"]) == ("alert", {"coupon_id": "c-1", "title": "Gru\u00df \u2028"})
    assert told["timestamp"].endswith("Z")
    secret = secrets_of(desk, channel_id)[0]
    assert Webhook(secret).verify(body, headers) == told
    for name, value in (("webhook-id", "msg_x"), ("webhook-timestamp", str(int(time.time()) - 9))):
        with pytest.raises(WebhookVerificationError):
            Webhook(secret).verify(body, headers | {name: value})
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(body.replace(b"c-1", b"c-2"), headers)
    assert desk.rows() == {key: ("sent", 1, None)}
    with desk.shop.ledger.store.connection() as connection:
        assert connection.execute("select body from deliveries").fetchone() == {"body": None}


def secrets_of(desk: Desk, channel_id: str) -> list[str]:
    with desk.shop.ledger.store.connection() as connection:
        row = connection.execute("select secret, old_secret from channels where channel_id = %s", (channel_id,))
        return list(row.fetchall()[0].values())


def test_while_a_secret_is_rotated_both_sign(desk: Desk, receiver: Receiver) -> None:
    channel_id = desk.channel(receiver.url())
    channels.rotate_secret(desk.shop.ledger, desk.shop.request(), channel_id)
    desk.enqueue(channel_id)
    desk.deliver()
    _, headers, body = receiver.got[0]
    new, old = secrets_of(desk, channel_id)
    assert new != old
    assert headers["webhook-signature"].count("v1,") == 2
    for secret in (new, old):
        Webhook(secret).verify(body, headers)
    with desk.shop.ledger.store.connection() as connection:
        connection.execute("update channels set old_secret_until = clock_timestamp()")
    desk.enqueue(channel_id)
    desk.deliver()
    assert receiver.got[1][1]["webhook-signature"].count("v1,") == 1


@pytest.mark.parametrize("status", [302, 400, 404, 429, 500, 503])
def test_what_is_refused_is_tried_again_under_the_same_id(status: int, desk: Desk, receiver: Receiver) -> None:
    channel_id = desk.channel(receiver.url())
    (key,) = desk.enqueue(channel_id)
    receiver.answer = lambda request, path: status
    desk.deliver()
    assert desk.rows() == {key: ("due", 1, f"HTTP {status}")}
    assert 0.8 * BACKOFF_SECONDS[0] - 3 <= wait_of(desk, key) <= BACKOFF_SECONDS[0]
    desk.make_due()
    desk.deliver()
    assert 0.8 * BACKOFF_SECONDS[1] - 3 <= wait_of(desk, key) <= BACKOFF_SECONDS[1]
    receiver.answer = lambda request, path: 204
    desk.make_due()
    desk.deliver()
    assert desk.rows() == {key: ("sent", 3, None)}
    assert receiver.ids() == [webhook_id(key)] * 3


def wait_of(desk: Desk, key: str) -> float:
    with desk.shop.ledger.store.connection() as connection:
        statement = "select extract(epoch from due_at - clock_timestamp())::float8 as s from deliveries where key = %s"
        found: float = connection.execute(statement, (key,)).fetchall()[0]["s"]
        return found


def test_the_pauses_are_three_days() -> None:
    assert 2.5 * 86_400 < sum(BACKOFF_SECONDS) <= 3 * 86_400


def give_up(desk: Desk) -> None:
    """Attempt whatever is due until nothing is."""
    for _ in range(len(BACKOFF_SECONDS) + 1):
        desk.make_due()
        desk.deliver()


def test_what_is_never_taken_is_dead_and_kept_and_may_be_retried(desk: Desk, receiver: Receiver) -> None:
    channel_id = desk.channel(receiver.url())
    taken, *lost = desk.enqueue(channel_id, 3)
    receiver.answer = lambda request, path: 200 if request.headers["webhook-id"] == webhook_id(taken) else 500
    desk.enqueue(channel_id)  # a later one reaches it, so the channel lives
    give_up(desk)
    reach(desk, channel_id)
    states = desk.rows()
    attempts = len(BACKOFF_SECONDS) + 1
    assert states[taken][0] == "sent"
    assert states[lost[0]] == ("dead", attempts, "HTTP 500")
    with desk.shop.ledger.store.connection() as connection:
        dead = deliveries.dead(connection, desk.shop.merchant_id, channel_id=channel_id)
        assert [each.error for each in dead] == ["HTTP 500"] * 3
        assert deliveries.dead(connection, "merchant-2") == []
        assert deliveries.retry(connection, "merchant-2", [dead[0].delivery_id]) == []
        channels.enable(desk.shop.ledger, desk.shop.request(), channel_id)
        assert deliveries.retry(connection, None, [dead[0].delivery_id, dead[0].delivery_id, 999]) == [
            dead[0].delivery_id
        ]
    receiver.answer = lambda request, path: 200
    desk.deliver()
    assert sorted(state for state, _, _ in desk.rows().values()) == ["dead", "dead", "sent", "sent"]


def reach(desk: Desk, channel_id: str) -> None:
    with desk.shop.ledger.store.connection() as connection:
        channels.reached(connection, channel_id)


def test_a_channel_that_nothing_reached_for_days_is_disabled(desk: Desk, receiver: Receiver) -> None:
    receiver.answer = lambda request, path: 500
    silent, reached = desk.channel(receiver.url("/a")), desk.channel(receiver.url("/b"))
    desk.enqueue(silent)
    desk.enqueue(reached)
    reach(desk, reached)
    give_up(desk)
    assert {each.channel_id for each in of_shop(desk) if each.disabled_at} == {silent}


def of_shop(desk: Desk) -> list[channels.Channel]:
    with desk.shop.ledger.store.connection() as connection:
        return channels.of_merchant(connection, desk.shop.merchant_id)


def test_gone_disables_the_channel_at_once(desk: Desk, receiver: Receiver) -> None:
    channel_id, other = desk.channel(receiver.url("/gone")), desk.channel(receiver.url("/here"))
    receiver.answer = lambda request, path: 410 if path == "/gone" else 200
    (first,) = desk.enqueue(channel_id)
    desk.deliver()
    assert desk.rows()[first] == ("dead", 1, "HTTP 410")
    (later,), (good,) = desk.enqueue(channel_id), desk.enqueue(other)
    desk.deliver()
    assert desk.rows()[later] == ("due", 0, None)
    assert desk.rows()[good][0] == "sent"
    with desk.shop.ledger.store.connection() as connection:
        assert channel_id not in deliveries.waiting_channels(connection, 100)
    assert sum(path == "/gone" for path, _, _ in receiver.got) == 1
    receiver.answer = lambda request, path: 200
    channels.enable(desk.shop.ledger, desk.shop.request(), channel_id)
    desk.deliver()
    assert desk.rows()[later] == ("sent", 1, None)
    assert desk.rows()[first][0] == "dead"


def test_what_waits_for_a_disabled_channel_waits_three_days(desk: Desk, receiver: Receiver) -> None:
    channel_id = desk.channel(receiver.url())
    old, new = desk.enqueue(channel_id, 2)
    with desk.shop.ledger.store.connection() as connection:
        channels.disable(connection, channel_id)
        later = "update deliveries set due_at = clock_timestamp() - make_interval(hours => %s) where key = %s"
        connection.execute(later, (71, new))
        connection.execute(later, (71, old))
        desk.deliver()
        assert {state for state, _, _ in desk.rows().values()} == {"due"}
        connection.execute(later, (73, old))
        desk.deliver()
        assert desk.rows() == {old: ("dead", 0, "the channel is disabled"), new: ("due", 0, None)}
        (dead,) = deliveries.dead(connection, channel_id=channel_id)
        channels.enable(desk.shop.ledger, desk.shop.request(), channel_id)
        assert deliveries.retry(connection, None, [dead.delivery_id]) == [dead.delivery_id]
    desk.deliver()
    assert {state for state, _, _ in desk.rows().values()} == {"sent"}


def test_what_waits_on_a_deleted_channel_is_dropped(desk: Desk, receiver: Receiver) -> None:
    channel_id = desk.channel(receiver.url())
    (key,) = desk.enqueue(channel_id)
    with desk.shop.ledger.store.connection() as connection:
        channels.delete(connection, desk.shop.merchant_id, channel_id)
        new = Delivery("late", channel_id, desk.shop.merchant_id, "alert", {})
        assert deliveries.enqueue(connection, [new]) == 0
    desk.deliver()
    assert desk.rows() == {key: ("dropped", 0, "the channel was deleted")}
    assert receiver.got == []


def test_what_one_holds_is_taken_over_after_its_lease_and_settled_once(desk: Desk, receiver: Receiver) -> None:
    """A process that was frozen for long wakes up, and its word counts for nothing any more."""
    channel_id = desk.channel(receiver.url())
    (key,) = desk.enqueue(channel_id)
    frozen = desk.claimed(channel_id)
    desk.deliver()
    assert receiver.got == []  # it is held
    desk.make_due()
    desk.deliver()
    assert desk.rows() == {key: ("sent", 2, None)}
    with desk.shop.ledger.store.connection() as connection:
        assert not deliveries.settle(connection, frozen, "dead", error="late")
        assert not deliveries.put_off(connection, frozen, 1, error="late")
    assert desk.rows() == {key: ("sent", 2, None)}
    assert signed(frozen, frozen.created_at)[1]["webhook-id"] == receiver.ids()[0]


def test_slow_receivers_do_not_hold_up_others(desk: Desk, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """While slow ones hold all the places that they may have, a quick one is served."""
    monkeypatch.setattr(web_post, "ATTEMPT_SECONDS", 300.0)  # however busy the machine, no slow attempt is given up
    slow = [desk.channel(receiver.url(f"/slow/{n}")) for n in range(3)]
    quick = desk.channel(receiver.url("/quick"))
    release, lock = threading.Event(), threading.Lock()
    held, peaks = Counter[str](), Counter[str]()

    def answer(request: Any, path: str) -> int:
        if path.startswith("/slow"):
            with lock:
                held[path] += 1
                peaks[path] = max(peaks[path], held[path])
            release.wait()
            with lock:
                held[path] -= 1
        return 200

    receiver.answer = answer
    places = {f"/slow/{n}": CHANNEL_THREADS for n in range(3)}
    for channel_id in slow:
        desk.enqueue(channel_id, 20)
    stop = threading.Event()
    deliverer = Deliverer(desk.shop.ledger.store, desk.sender.send)
    thread = threading.Thread(target=deliverer.run, args=[stop])
    thread.start()
    try:
        until(lambda: held == places)
        desk.enqueue(quick, 100)
        until(lambda: sum(path == "/quick" for path, _, _ in receiver.got) == 100)
        assert held == places
        release.set()
        until(lambda: len(receiver.got) == 160)
    finally:
        release.set()
        stop.set()
        thread.join()
    assert {state for state, _, _ in desk.rows().values()} == {"sent"}
    assert peaks == places
    assert len(set(receiver.ids())) == 160


def until(true: Any) -> None:
    ends_at = time.monotonic() + 100
    while not true():
        assert time.monotonic() < ends_at
        time.sleep(0.02)


def test_a_channel_that_fails_has_one_place_and_is_left_alone(desk: Desk, receiver: Receiver) -> None:
    channel_id = desk.channel(receiver.url())
    desk.enqueue(channel_id, 20)
    receiver.answer = lambda request, path: 500
    deliverer = Deliverer(desk.shop.ledger.store, desk.sender.send)
    with ThreadPoolExecutor(16) as pool:
        assert deliverer.step(pool) == CHANNEL_THREADS
        while deliverer._under_way:
            time.sleep(0.01)
            assert deliverer.step(pool) == 0
        deliverer._health[channel_id].left_alone_until = 0
        assert deliverer.step(pool) == 1


def test_two_processes_share_the_work(desk: Desk, receiver: Receiver) -> None:
    for n in range(8):
        desk.enqueue(desk.channel(receiver.url(f"/{n}")), 10)
    stop = threading.Event()
    threads = [
        threading.Thread(target=Deliverer(desk.shop.ledger.store, desk.sender.send).run, args=[stop]) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    try:
        until(lambda: len(receiver.got) >= 80)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert len(receiver.ids()) == len(set(receiver.ids())) == 80
    assert set(desk.rows().values()) == {("sent", 1, None)}


def test_an_attempt_that_breaks_is_logged_and_made_again(
    desk: Desk, receiver: Receiver, shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    (key,) = desk.enqueue(desk.channel(receiver.url()))

    def broken(store: Any, claimed: Any) -> Outcome:
        raise RuntimeError("a fault of ours")

    deliverer = Deliverer(shop.ledger.store, broken)
    with ThreadPoolExecutor(1) as pool:
        assert deliverer.step(pool) == 1
    assert deliverer._rooms([], 1) == {}
    deliverer._reap()
    assert "a fault of ours" in caplog.text
    assert desk.rows()[key][0] == "due"
    desk.make_due()
    desk.deliver()
    assert desk.rows()[key] == ("sent", 2, None)


def test_a_ping_goes_to_a_channel_that_wants_something_else(desk: Desk, receiver: Receiver) -> None:
    channel_id = desk.channel(receiver.url(), wants=("reminder",))
    request = desk.shop.request()
    channels.ping(desk.shop.ledger, request, channel_id)
    assert channels.ping(desk.shop.ledger, request, channel_id).replayed
    desk.deliver()
    assert [orjson.loads(body)["type"] for _, _, body in receiver.got] == ["ping"]


def test_the_loop_sends_while_the_database_comes_and_goes(
    desk: Desk, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ledger.errors import Unavailable

    monkeypatch.setattr(deliver, "LONGEST_PAUSE_SECONDS", 0.1)
    whole, failures = deliveries.waiting_channels, iter(range(3))

    def away(connection: Any, limit: int) -> list[str]:
        if next(failures, None) is not None:
            raise Unavailable()
        return whole(connection, limit)

    monkeypatch.setattr(deliveries, "waiting_channels", away)
    desk.enqueue(desk.channel(receiver.url()))
    stop = threading.Event()
    thread = threading.Thread(target=Deliverer(desk.shop.ledger.store, desk.sender.send).run, args=[stop])
    thread.start()
    try:
        until(lambda: len(receiver.got) == 1)
    finally:
        stop.set()
        thread.join()
    assert set(desk.rows().values()) == {("sent", 1, None)}

"""The process itself: from an event to its receiver, over kills, and its end."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import trustme

from consumers.sending import webhook_id
from ledger import use_cases
from ledger.database import Database
from tests.conftest import Shop
from tests.receivers.conftest import Desk
from tests.receivers.receiver import Receiver

Start = Callable[[], subprocess.Popen[bytes]]


@pytest.fixture
def start(database: Database, authority: trustme.CA, tmp_path: Path) -> Iterator[Start]:
    """Starts a process that trusts the receivers of these tests."""
    bundle = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(bundle))
    environment = {
        **os.environ,
        "DATABASE_URL": database.url,
        "COUPON_LEDGER_SCHEMA": database.schema,
        "COUPON_LEDGER_WEBHOOK_PRIVATE_HOSTS": "localhost",
        "SSL_CERT_FILE": str(bundle),
    }
    started: list[subprocess.Popen[bytes]] = []

    def begin() -> subprocess.Popen[bytes]:
        with (tmp_path / "log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "coupon_ledger", "deliver"], env=environment, stderr=log, stdout=log
            )
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.wait()


def until(true: Any) -> None:
    ends_at = time.monotonic() + 60
    while not true():
        assert time.monotonic() < ends_at
        time.sleep(0.02)


def test_an_event_reaches_whoever_wants_it_and_the_process_ends_well(
    desk: Desk, shop: Shop, receiver: Receiver, start: Start
) -> None:
    before = shop.coupon()
    desk.channel(receiver.url("/used", "localhost"), wants=("coupon.issued", "coupon.voided"))
    process = start()
    coupon_id = shop.coupon()
    shop.ledger.do(use_cases.void(shop.request(), coupon_id, reason="test"))
    until(lambda: len(receiver.got) == 2)
    told = [orjson.loads(body) for _, _, body in receiver.got]
    assert {each["type"] for each in told} == {"coupon.issued", "coupon.voided"}
    assert {each["data"]["stream"] for each in told} == {f"coupon-{coupon_id}"}
    assert before not in str(told)
    process.terminate()
    assert process.wait(timeout=15) == 0


def test_a_kill_between_sending_and_settling_sends_again_under_the_same_id(
    desk: Desk, receiver: Receiver, start: Start
) -> None:
    (key,) = desk.enqueue(desk.channel(receiver.url("/", "localhost")))
    release = threading.Event()
    receiver.answer = lambda request, path: 200 if release.wait(30) else 500
    first = start()
    until(lambda: len(receiver.got) == 1)
    first.send_signal(signal.SIGKILL)
    first.wait()
    release.set()
    assert desk.rows() == {key: ("due", 1, None)}
    desk.make_due()
    start()
    until(lambda: desk.rows()[key][0] == "sent")
    assert receiver.ids() == [webhook_id(key)] * 2


def test_nothing_is_lost_and_each_is_settled_once_over_kills(desk: Desk, receiver: Receiver, start: Start) -> None:
    chance = random.Random(20_260_501)
    receiver.answer = lambda request, path: time.sleep(0.01) or chance.choice([200, 200, 200, 500])
    keys = [key for n in range(5) for key in desk.enqueue(desk.channel(receiver.url(f"/{n}", "localhost")), 40)]
    for _ in range(4):
        process = start()
        reached = len(receiver.got)
        until(lambda so_far=reached: len(receiver.got) > so_far)
        time.sleep(chance.uniform(0, 0.1))
        process.send_signal(signal.SIGKILL)
        process.wait()
        desk.make_due()
    receiver.answer = lambda request, path: 200
    start()

    def all_sent() -> bool:
        desk.shorten_pauses()
        return {state for state, _, _ in desk.rows().values()} == {"sent"}

    until(all_sent)
    assert set(receiver.ids()) == {webhook_id(key) for key in keys}
    assert desk.rows().keys() == set(keys)

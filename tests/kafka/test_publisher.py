"""Every event of the log comes to ``ledger.events.v1``, in order for each key, whatever ends or stands still."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from consumers import publisher
from consumers.follower import Follower
from consumers.messages import Wire
from consumers.publisher import NAME, PIECE_LIMIT_BYTES, Publisher
from consumers.topics import EVENTS, EVENTS_MESSAGE_LIMIT_BYTES, PUBLISHED
from coupon_ledger.embedded import EmbeddedKafka
from ledger import use_cases
from ledger.application import Ledger
from ledger.database import Database
from ledger.published import published
from ledger.scope import Scope
from ledger.store import Store
from ledger.use_cases import ID_LIMIT
from tests.conftest import Shop
from tests.contract.catalogue import stored_story
from tests.contract.test_asyncapi import check
from tests.kafka.broker import Broker, ensure_topics, wait_until
from tests.unit.specs import TERMS

Sql = Callable[..., list[tuple[Any, ...]]]
CHECKOUT = Path(__file__).parents[2]
POSITION = "select coalesce(max(position), 0) from followers where name = 'publisher'"
USERS = 40

CHILD = """
import sys
from consumers import publisher, worker
from ledger.database import Database
from ledger.store import Store
url, schema, bootstrap, prefix, most = sys.argv[1:]
publisher.CHUNK_EVENTS = int(most)
store = Store(Database(url, schema))
publisher.run(store, bootstrap, worker.stop_on_signals(), prefix=prefix)
store.close()
"""


@contextmanager
def child(broker: Broker, database: Database, most: int = 50) -> Iterator[subprocess.Popen[bytes]]:
    """A publisher in a process of its own."""
    words = [database.url, database.schema, broker.bootstrap, broker.prefix, str(most)]
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), "PYTHONWARNINGS": "ignore"}
    process = subprocess.Popen([sys.executable, "-c", CHILD, *words], env=environment)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@contextmanager
def publishing(store: Store, bootstrap: str, prefix: str) -> Iterator[None]:
    """A publisher in a thread."""
    stop = threading.Event()
    thread = threading.Thread(target=publisher.run, args=(store, bootstrap, stop), kwargs={"prefix": prefix})
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(30)
        assert not thread.is_alive()


def follower(ledger: Ledger, publisher: Publisher, chunk_events: int = 100) -> Follower:
    """One that is ready to take its first step."""
    found = Follower(ledger.store, NAME, publisher.send, chunk_events=chunk_events)
    found.step()
    return found


def live(shop: Shop, rounds: int = 1) -> None:
    """Coupons are issued, locked and let go, so that each has some events."""
    batch_id = shop.batch(quantity=10_000, per_user_limit=None)
    for _ in range(rounds):
        coupons = [shop.coupon(f"user-{n}", batch_id) for n in range(USERS)]
        for n, coupon_id in enumerate(coupons):
            order = {"order_id": f"order-{coupon_id}", "coupon_ids": [coupon_id]}
            shop.ledger.do(use_cases.lock(shop.request(), user_id=f"user-{n}", **order))
            shop.ledger.do(use_cases.unlock(shop.request(), reason="cancelled", **order))


def positions(records: list[Any]) -> list[int]:
    return [int(dict(record.headers)["ce_id"]) for record in records]


def assert_whole_and_in_order(records: list[Any], head: int) -> None:
    """Each position is there; of each key the first copies come in the order of the log, on one partition."""
    assert set(positions(records)) == set(range(1, head + 1))
    highest: dict[bytes, int] = defaultdict(int)
    versions: dict[bytes, int] = defaultdict(int)
    partitions = {}
    for record, position in zip(records, positions(records), strict=True):
        assert partitions.setdefault(record.key, record.partition) == record.partition
        if position > highest[record.key]:
            version = json.loads(record.value)["version"]
            assert version == versions[record.key] + 1
            highest[record.key], versions[record.key] = position, version


def test_every_kind_of_event_comes_as_its_contract_says(broker: Broker, database: Database, ledger: Ledger) -> None:
    assert stored_story(database)
    head = ledger.store.head()
    with publishing(ledger.store, broker.bootstrap, broker.prefix):
        records = broker.records(EVENTS, head, partitions=PUBLISHED[EVENTS])
    assert_whole_and_in_order(records, head)
    with ledger.store.connection() as connection:
        log = {recorded.position: recorded for recorded in ledger.store.read(connection, 0, head)}
    for record, position in zip(records, positions(records), strict=True):
        headers = dict(record.headers)
        check(Wire(record.key, record.value, record.headers), headers["ce_type"].decode())
        assert headers["ce_source"] == f"/coupon-ledger/{database.schema}".encode()
        assert json.loads(record.value) == json.loads(json.dumps(published(log[position])))
        assert record.key == log[position].event.originator_id.encode()


def test_a_stopped_publisher_catches_up_and_repeats_nothing(broker: Broker, ledger: Ledger, shop: Shop) -> None:
    live(shop)
    for _ in range(2):
        head = ledger.store.head()
        with publishing(ledger.store, broker.bootstrap, broker.prefix):
            records = broker.records(EVENTS, head, partitions=PUBLISHED[EVENTS])
        assert sorted(positions(records)) == list(range(1, head + 1))
        assert_whole_and_in_order(records, head)
        live(shop)


def test_of_two_publishers_one_works(broker: Broker, ledger: Ledger, shop: Shop) -> None:
    live(shop, rounds=2)
    head = ledger.store.head()
    with publishing(ledger.store, broker.bootstrap, broker.prefix):
        with publishing(ledger.store, broker.bootstrap, broker.prefix):
            broker.records(EVENTS, head, partitions=PUBLISHED[EVENTS])
        shop.batch()  # the one that is left goes on
        head = ledger.store.head()
        records = broker.records(EVENTS, head, partitions=PUBLISHED[EVENTS])
    assert sorted(positions(records)) == list(range(1, head + 1))


def test_killed_at_random_moments(broker: Broker, database: Database, ledger: Ledger, shop: Shop, sql: Sql) -> None:
    chance = random.Random(20_261_122)
    live(shop, rounds=10)
    head, kills = ledger.store.head(), 0
    assert head > 1_200
    while sql(POSITION) != [(head,)]:
        before = sql(POSITION)[0][0]
        with child(broker, database, most=20 if kills < 5 else 1_000) as process:
            wait_until(lambda least=before: sql(POSITION)[0][0] > least, "it works")
            if kills < 5:
                time.sleep(chance.uniform(0, 0.05))
                process.send_signal(signal.SIGKILL)
                kills += 1
            else:
                wait_until(lambda: sql(POSITION) == [(head,)], "all are published")
                process.send_signal(signal.SIGTERM)
                assert process.wait(20) == 0
    assert kills == 5
    assert_whole_and_in_order(broker.records(EVENTS, head, partitions=PUBLISHED[EVENTS]), head)


def test_killed_after_sending_and_before_its_position_moved(
    broker: Broker, ledger: Ledger, shop: Shop, sql: Sql
) -> None:
    """The events come again, and no new one before them."""
    live(shop)
    head = ledger.store.head()
    with closing(Publisher(ledger.store.database.schema, broker.bootstrap, prefix=broker.prefix)) as sender:

        def send_and_die(*given: Any) -> None:
            sender.send(*given)
            raise SystemError

        dying = Follower(ledger.store, NAME, send_and_die, chunk_events=50)
        dying.step()
        with pytest.raises(SystemError):
            dying.step()
        assert sql(POSITION) == [(0,)]
        surviving = follower(ledger, sender)
        while surviving.step():
            pass
    records = broker.records(EVENTS, head + 50, partitions=PUBLISHED[EVENTS])
    counts = Counter(positions(records))
    assert {position for position, count in counts.items() if count == 2} <= set(range(1, 51))
    assert_whole_and_in_order(records, head)


def test_a_broker_that_goes_away_holds_up_the_log_and_nothing_is_lost(
    tmp_path: Path, ledger: Ledger, shop: Shop, sql: Sql
) -> None:
    server = EmbeddedKafka(tmp_path)
    with server:
        ensure_topics(server.address, "away.")
        live(shop)
        head = ledger.store.head()
        with closing(Publisher("away", server.address, prefix="away.")) as sender:
            steps = follower(ledger, sender, chunk_events=60)
            assert steps.step() == 60
            os.killpg(os.getpgid(server_pid(tmp_path)), signal.SIGSTOP)
            try:
                with pytest.raises(KafkaError):
                    steps.step()
                with pytest.raises(KafkaError):
                    steps.step()
                assert sql(POSITION) == [(60,)]
            finally:
                os.killpg(os.getpgid(server_pid(tmp_path)), signal.SIGCONT)
            end = time.monotonic() + 60
            while sql(POSITION) != [(head,)]:
                assert time.monotonic() < end
                try:
                    steps.step()
                except KafkaError:
                    continue
        records = Broker(server.address, "away.", "away", None).records(EVENTS, head, partitions=PUBLISHED[EVENTS])
        assert_whole_and_in_order(records, head)


def server_pid(state: Path) -> int:
    from coupon_ledger.embedded.guard import read_record

    record = read_record(state / "kafka.pid")
    assert record is not None
    return record.server_pid


def test_events_above_a_brokers_usual_limit_pass(broker: Broker, ledger: Ledger, shop: Shop) -> None:
    """Terms with so many products, in letters that do not compress well, that no piece of the log holds them."""
    chance = random.Random(7)
    letters = [chr(number) for number in range(0x4E00, 0x9FFF)]
    products = tuple("".join(chance.choices(letters, k=ID_LIMIT)) for _ in range(8_000))
    terms = replace(TERMS, scope=Scope(products=products))
    for _ in range(3):
        ledger.do(use_cases.create_template(shop.request(), name="All of it", terms=terms))
    head = ledger.store.head()
    with closing(Publisher("large", broker.bootstrap, prefix=broker.prefix)) as sender:
        assert follower(ledger, sender).step() == head
    records = broker.records(EVENTS, head, partitions=PUBLISHED[EVENTS])
    assert_whole_and_in_order(records, head)
    assert max(len(record.value) for record in records) > 2 * PIECE_LIMIT_BYTES


def test_the_topic_takes_the_largest_batch(broker: Broker) -> None:
    assert PIECE_LIMIT_BYTES < EVENTS_MESSAGE_LIMIT_BYTES
    with closing(KafkaAdminClient(bootstrap_servers=broker.bootstrap)) as admin:
        ensure_topics(broker.bootstrap, broker.prefix)  # the count of partitions is as it was
        (described,) = admin.describe_topics([broker.prefix + EVENTS])
    assert len(described["partitions"]) == PUBLISHED[EVENTS]


def test_a_topic_that_is_not_there_is_waited_for(broker: Broker, ledger: Ledger, shop: Shop, sql: Sql) -> None:
    shop.batch()
    with closing(Publisher("nowhere", broker.bootstrap, prefix="nowhere.")) as sender, pytest.raises(KafkaError):
        follower(ledger, sender).step()
    assert sql(POSITION) == [(0,)]

"""Jobs of mass issuance over a real broker: one coupon a row, whoever is killed, however often a message comes."""

from __future__ import annotations

import io
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kafka.errors import KafkaError

from consumers.inputs import ISSUANCE
from consumers.job_sender import JobSender
from ledger import use_cases
from ledger.application import Ledger
from ledger.database import Database
from ledger.issuance import jobs as issuance_jobs
from ledger.issuance import uploads as issuance_uploads
from ledger.issuance import work as issuance_work
from ledger.issuance.jobs import JobProgress
from ledger.issuance.uploads import take_file
from ledger.request import Request
from tests.conftest import Shop
from tests.kafka.broker import Broker, consume, running, wait_until

Sql = Callable[..., list[tuple[Any, ...]]]
Spawn = Callable[[str], subprocess.Popen[bytes]]
CHECKOUT = Path(__file__).parents[2]
ISSUED = " from event_log where topic = 'coupon.issued'"
COUPONS = "select count(*), count(distinct payload->>'user_id') from event_log where topic = 'coupon.issued'"
SENT = "select sent from issuance_job_work"
TAKEN = "select coalesce(sum(next_offset), 0)::int from kafka_offsets"

# As in test_crashes.py: a group of Kafka's own for each consumer, for the broker waits 15 s for a killed member.
CHILD = """
import sys
from consumers import worker
from consumers.inputs import ISSUANCE
from consumers.job_sender import JobSender
from ledger.issuance import work as issuance_work
from ledger.application import Ledger
from ledger.database import Database
from ledger.store import Store
what, url, schema, bootstrap, prefix, group, number = sys.argv[1:]
ledger, stop = Ledger(Store(Database(url, schema))), worker.stop_on_signals()
issuance_work.AHEAD_LIMIT_ROWS = 1_000
if what == "sender":
    JobSender(ledger, bootstrap, prefix=prefix).run(stop)
else:
    consumer = {"group_id": f"{group}-{number}", "max_poll_records": 100}
    worker.run(ledger, bootstrap, ISSUANCE, stop, prefix=prefix, group=group, consumer=consumer)
ledger.close()
"""


@pytest.fixture
def spawn(broker: Broker, database: Database) -> Iterator[Spawn]:
    """Starts senders and consumers of the test's topic."""
    children: list[subprocess.Popen[bytes]] = []

    def start(what: str) -> subprocess.Popen[bytes]:
        words = [what, database.url, database.schema, broker.bootstrap, broker.prefix, broker.group, str(len(children))]
        environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), "PYTHONWARNINGS": "ignore"}
        children.append(subprocess.Popen([sys.executable, "-c", CHILD, *words], env=environment))
        return children[-1]

    yield start
    for child in children:
        child.kill()
        child.wait()


@pytest.fixture
def sender(broker: Broker, ledger: Ledger) -> Iterator[JobSender]:
    """A sender in the test's own thread."""
    sender = JobSender(ledger, broker.bootstrap, prefix=broker.prefix)
    yield sender
    sender.close()


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of 200 rows, so that a few thousand rows are many."""
    monkeypatch.setattr(issuance_uploads, "CHUNK_ROWS", 200)


def take(ledger: Ledger, batch_id: str, count: int, *, key: str = "upload") -> str:
    """The id of a job of so many users."""
    file = io.BytesIO(b"user_id\n" + b"".join(b"user-%d\n" % number for number in range(count)))
    receipt = take_file(
        ledger, lambda digest: Request("merchant-1", "test", key, digest), batch_id, file, "csv", gzipped=False
    )
    job_id: str = receipt.answer["job_id"]
    return job_id


def found(ledger: Ledger, job_id: str) -> JobProgress:
    with ledger.store.connection() as connection:
        return issuance_jobs.find(connection, job_id)


def drive(sender: JobSender) -> int:
    """How many steps there were until nothing is to be done."""
    return sum(1 for _ in iter(sender.step, False))


def test_each_row_becomes_one_coupon(
    broker: Broker, ledger: Ledger, shop: Shop, sql: Sql, sender: JobSender, small_chunks: None
) -> None:
    batch = shop.batch(quantity=3_000)
    job_id = take(ledger, batch, 3_000)
    assert drive(sender) == 15
    assert found(ledger, job_id).sent == 3_000
    health = consume(broker.worker(ledger), 3_000).health()
    assert (health.effects, health.repeats, health.dead) == (3_000, 0, 0)
    assert drive(sender) == 1
    job = found(ledger, job_id)
    assert (job.state, job.issued, job.refused, job.waiting) == ("FINISHED", 3_000, 0, 0)
    assert sql(COUPONS) == [(3_000, 3_000)]
    assert take(ledger, batch, 3_000, key="again") == job_id
    assert drive(sender) == 0
    again = consume(broker.worker(ledger, group=f"{broker.group}-anew"), 3_000).health()
    assert (again.effects, again.repeats, again.dead) == (0, 3_000, 0)
    assert found(ledger, job_id) == job


def test_what_the_batch_refuses_is_a_failure_and_no_dead_letter(
    broker: Broker, ledger: Ledger, shop: Shop, sql: Sql, sender: JobSender
) -> None:
    job_id = take(ledger, shop.batch(quantity=700), 1_000)
    drive(sender)
    health = consume(broker.worker(ledger), 1_000).health()
    assert (health.effects, health.dead) == (700, 0)
    again = consume(broker.worker(ledger, group=f"{broker.group}-anew"), 1_000).health()
    assert (again.effects, again.repeats, again.dead) == (0, 700, 0)
    drive(sender)
    job = found(ledger, job_id)
    assert (job.state, job.issued, job.refused_by_code) == ("FINISHED", 700, {"sold_out": 300})
    failures = list(issuance_jobs.failures(ledger.store, job))
    assert {failure.code for failure in failures} == {"sold_out"}
    assert len({failure.row for failure in failures}) == 300
    issued_to = {user for (user,) in sql("select payload->>'user_id' from event_log where topic = 'coupon.issued'")}
    assert issued_to | {failure.user_id for failure in failures} == {f"user-{number}" for number in range(1_000)}
    assert sql("select count(*) from dead_letters") == [(0,)]


def test_killed_at_random_moments_each_row_has_one_coupon(
    broker: Broker, ledger: Ledger, shop: Shop, sql: Sql, spawn: Spawn, small_chunks: None
) -> None:
    chance = random.Random(20_261_122)
    count = 4_000
    job_id = take(ledger, shop.batch(quantity=count), count)
    children = {what: spawn(what) for what in ("sender", "consumer")}
    moved = {"sender": SENT, "consumer": TAKEN}
    kills = dict.fromkeys(children, 0)
    while min(kills.values()) < 3 and found(ledger, job_id).state == "RUNNING":
        what = chance.choice(list(children))
        before = sql(moved[what])
        wait_until(
            lambda what=what, before=before: sql(moved[what]) != before or found(ledger, job_id).state != "RUNNING",
            f"the {what} works",
        )
        time.sleep(chance.uniform(0, 0.2))
        children[what].send_signal(signal.SIGKILL)
        children[what].wait()
        kills[what] += 1
        children[what] = spawn(what)
    wait_until(lambda: found(ledger, job_id).state == "FINISHED", "every row is settled", seconds=60)
    for child in children.values():
        child.send_signal(signal.SIGTERM)
        assert child.wait(20) == 0
    assert min(kills.values()) >= 1
    job = found(ledger, job_id)
    assert (job.issued, job.refused, job.sent) == (count, 0, count)
    assert sql(COUPONS) == [(count, count)]
    assert sql("select issued from batch_stock") == [(count,)]
    assert sql("select count(*) from dead_letters") == [(0,)]


def test_undone_while_it_is_sent(
    broker: Broker, ledger: Ledger, shop: Shop, sql: Sql, sender: JobSender, small_chunks: None
) -> None:
    """Some rows are issued, some lie on Kafka, some are not sent."""
    job_id = take(ledger, shop.batch(quantity=3_000), 3_000)
    for _ in range(3):
        assert sender.step()
    with running(broker.worker(ledger)) as worker:
        wait_until(lambda: worker.health().messages == 600, "some are issued")
    for _ in range(5):
        assert sender.step()
    issuance_jobs.undo(ledger, shop.request(), job_id, reason="wrong users")
    assert drive(sender) == 1
    with running(broker.worker(ledger)) as worker:
        wait_until(lambda: sql(TAKEN) == [(1_600,)], "the rest is refused")
    job = found(ledger, job_id)
    assert (job.state, job.sent, job.issued, job.voided, job.kept) == ("UNDONE", 1_600, 600, 600, 0)
    assert (job.refused_by_code, job.waiting) == ({"job_undone": 1_000}, 1_400)
    assert sql(COUPONS) == [(600, 600)]
    assert sql("select count(*) from event_log where topic = 'coupon.voided'") == [(600,)]
    assert len(list(issuance_jobs.failures(ledger.store, job))) == 1_000


def test_undone_while_it_is_sent_and_issued_by_others(
    broker: Broker, ledger: Ledger, shop: Shop, sql: Sql, spawn: Spawn, small_chunks: None
) -> None:
    job_id = take(ledger, shop.batch(quantity=4_000), 4_000)
    children = [spawn("sender"), spawn("consumer")]
    wait_until(lambda: found(ledger, job_id).issued >= 500, "some are issued")
    issuance_jobs.undo(ledger, shop.request(), job_id, reason="wrong users")
    issued = found(ledger, job_id).issued
    wait_until(lambda: found(ledger, job_id).state == "UNDONE", "it is undone", seconds=60)
    sent = found(ledger, job_id).sent
    wait_until(lambda: sql(TAKEN) == [(sent,)], "the rest is refused")
    for child in children:
        child.send_signal(signal.SIGTERM)
        assert child.wait(20) == 0
    job = found(ledger, job_id)
    assert (job.issued, job.voided, job.kept) == (issued, issued, 0)
    assert job.issued + job.refused == sent < 4_000
    assert sql("select count(*) from event_log where topic = 'coupon.voided'") == sql(
        COUPONS.partition(",")[0] + ISSUED
    )


def test_a_sender_goes_on_where_another_could_not_send(
    broker: Broker, ledger: Ledger, shop: Shop, sender: JobSender, small_chunks: None
) -> None:
    job_id = take(ledger, shop.batch(quantity=400), 400)
    lost = JobSender(ledger, broker.bootstrap, prefix=f"{broker.prefix}no-such-topic.", max_block_ms=300)
    with pytest.raises(KafkaError):
        lost.step()
    lost.close()
    assert found(ledger, job_id).sent == 0
    assert drive(sender) == 2
    consume(broker.worker(ledger), 400)


def test_jobs_take_turns_and_wait_for_consumers_and_pauses(
    broker: Broker, ledger: Ledger, shop: Shop, sql: Sql, sender: JobSender, small_chunks: None, monkeypatch: Any
) -> None:
    monkeypatch.setattr(issuance_work, "AHEAD_LIMIT_ROWS", 600)
    paused = shop.batch(quantity=4_000)
    jobs = [take(ledger, shop.batch(quantity=4_000), 2_000, key=f"{n}") for n in range(2)]
    waits = take(ledger, paused, 200, key="paused")
    ledger.do(use_cases.pause_batch(shop.request(), paused, reason="lunch"))
    assert drive(sender) == 6 + 1  # the paused batch is looked at
    assert [found(ledger, job).sent for job in jobs] == [600, 600]
    assert found(ledger, waits).sent == 0
    ledger.do(use_cases.resume_batch(shop.request(), paused))
    wait_until(lambda: drive(sender) == 1, "it is looked at again", seconds=5)
    consume(broker.worker(ledger), 1_400)
    assert drive(sender) == 7
    assert [found(ledger, job).sent for job in jobs] == [1_200, 1_200]
    assert found(ledger, waits).state == "FINISHED"


def test_jobs_of_paused_batches_hold_up_nobody(
    broker: Broker, ledger: Ledger, shop: Shop, sql: Sql, sender: JobSender, small_chunks: None, monkeypatch: Any
) -> None:
    """Each is looked at once and then left alone for a while, whoever waits behind it and however long that takes."""
    paused = [shop.batch() for _ in range(12)]
    for number, batch in enumerate(paused):
        take(ledger, batch, 1, key=f"paused-{number}")
        ledger.do(use_cases.pause_batch(shop.request(), batch, reason="lunch"))
    look, looks = issuance_work.is_paused, list[issuance_work.Turn]()

    def counted(ledger: Ledger, connection: Any, turn: issuance_work.Turn) -> bool:
        looks.append(turn)
        return look(ledger, connection, turn)

    monkeypatch.setattr(issuance_work, "PAUSED_LOOK_SECONDS", 3_600.0)
    monkeypatch.setattr(issuance_work, "is_paused", counted)
    first = take(ledger, shop.batch(quantity=1_000), 1_000, key="first")
    assert drive(sender) == 12 + 5  # ``run`` sleeps only where a step found nothing
    assert found(ledger, first).sent == 1_000
    assert len(looks) == 12 + 5
    second = take(ledger, shop.batch(quantity=1_000), 1_000, key="second")
    assert drive(sender) == 5
    assert found(ledger, second).sent == 1_000
    for job_id in {turn.job_id for turn in looks[:12]}:
        issuance_jobs.undo(ledger, shop.request(), job_id, reason="over")  # which waits for no look
    assert drive(sender) == 12
    assert sql("select count(*) from issuance_jobs where state = 'UNDONE'") == [(12,)]


def test_what_an_upload_left_that_was_cut_off_is_swept(ledger: Ledger, shop: Shop, sql: Sql) -> None:
    from ledger.issuance.chunks import store_chunk, sweep

    take(ledger, shop.batch(), 3)
    with ledger.store.connection() as connection:
        store_chunk(connection, "cut-off", "accepted", 1, 1, b'[1,"a"]')
        store_chunk(connection, "slow", "accepted", 1, 1, b'[1,"a"]')
        sql("update issuance_chunks set stored_at = stored_at - interval '2 hours' where upload_id <> 'x' returning 1")
        store_chunk(connection, "slow", "accepted", 2, 1, b'[2,"b"]')
        assert sweep(connection) == 1
    assert sql("select count(*), count(*) filter (where upload_id = 'slow') from issuance_chunks") == [(3, 2)]


def test_the_topic_is_the_consumers(broker: Broker, ledger: Ledger, shop: Shop, sender: JobSender) -> None:
    """What lies on it are the messages of the contract."""
    from consumers.messages import decode

    job_id = take(ledger, shop.batch(), 1)
    drive(sender)
    (record,) = broker.records(ISSUANCE.topic, 1, partitions=4)
    message = decode(record)
    assert message.request_id == f"/coupon-ledger/jobs/{job_id} 1"
    assert message.payload.key == "user-0"

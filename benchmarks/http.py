"""Case http: the API through gunicorn as the product serves it, beside a bare Flask view on the same gunicorn.

``http_claims`` is one claim a request on one hot batch; ``http_lock_confirm`` is a lock and then a confirmation of a
coupon by one order, and the pair counts as one operation (for the bare view: two requests). Callers are keep-alive
connections of one generator process, processes are gunicorn's workers, and the CPU is that of gunicorn's processes.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import psycopg

from api import keys
from benchmarks.http_load import HttpLoad, Step, drive
from benchmarks.load import Measured
from benchmarks.options import Options
from benchmarks.processes import cpu_seconds
from benchmarks.results import Row
from benchmarks.servers import schema
from coupon_ledger.embedded.guard import die_with_parent
from coupon_ledger.settings import Settings
from ledger import use_cases
from ledger.application import Ledger
from ledger.batch import BatchPlan
from ledger.benefit import Benefit
from ledger.database import Database
from ledger.migrate import migrate
from ledger.request import Request
from ledger.store import Store
from ledger.terms import Terms

MERCHANT = "bench"
USERS = 100_000
COUPONS_A_SECOND = 2_500
"""More than any contender locks and confirms; a run that used them all up raises, for its rate would be wrong."""
READY_SECONDS = 30.0


@dataclass(frozen=True)
class Gunicorn:
    """A contender's server that answers."""

    port: int
    pid: int

    def cpu_seconds(self) -> float:
        """Of the arbiter and its workers so far."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return cpu_seconds(self.pid, *map(int, children))


def measure(options: Options) -> Iterator[Row]:
    """Rows of both cases for every number of workers and connections, the contenders in turns."""
    for workers in options.processes:
        with (
            _shop(options.url) as shop,
            _serving(shop.ledger.store.database, workers, "coupon_ledger", "serve") as ours,
            _serving(shop.ledger.store.database, workers, "benchmarks.http_bare") as bare,
        ):
            for connections in options.connections:
                for contender, server in (("ledger", ours), ("bare_flask", bare)):
                    steps = shop.claim() if contender == "ledger" else [BARE]
                    yield shop.run("http_claims", contender, server, workers, connections, options.seconds, steps)
                for contender, server in (("ledger", ours), ("bare_flask", bare)):
                    steps = shop.lock_confirm() if contender == "ledger" else [BARE, BARE]
                    yield shop.run("http_lock_confirm", contender, server, workers, connections, options.seconds, steps)


BARE = Step("/claims", "none", '{"user_id":"{user}","channel":"claim"}', 201)


class Shop:
    """A fresh ledger with a hot batch and keys, and the bare view's table beside it."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self._numbers = iter(range(1_000_000))
        terms = Terms(benefit=Benefit(kind="amount_off", value_minor=500), currency="EUR")
        template = ledger.do(use_cases.create_template(self._request(), name="bench", terms=terms))
        plan = BatchPlan(name="bench", quantity=100_000_000, per_user_limit=1_000_000, valid_for_seconds=86_400)
        batch = ledger.do(use_cases.create_batch(self._request(), plan, template_id=template.answer["template_id"]))
        self.batch_id: str = batch.answer["batch_id"]
        ledger.do(use_cases.start_batch(self._request(), self.batch_id))
        with ledger.store.connection() as connection:
            self._app_key = keys.create(connection, MERCHANT, "shopper-app", "bench")
            self._orders_key = keys.create(connection, MERCHANT, "orders", "bench")

    def claim(self) -> list[Step]:
        """One claim."""
        path, body = f"/v1/batches/{self.batch_id}/claims", '{"user_id":"{user}","channel":"claim"}'
        return [Step(path, self._app_key, body, 201)]

    def lock_confirm(self) -> list[Step]:
        """A hold, then the use."""
        lock = '{"user_id":"{user}","coupon_ids":["{coupon}"],"order_total_minor":5000}'
        confirm = '{"redemptions":[{"coupon_id":"{coupon}","discount_minor":500}],"order_total_minor":5000}'
        return [
            Step("/v1/orders/order-{n}/locks", self._orders_key, lock, 200),
            Step("/v1/orders/order-{n}/confirmations", self._orders_key, confirm, 200),
        ]

    def run(
        self,
        case: str,
        contender: str,
        server: Gunicorn,
        workers: int,
        connections: int,
        seconds: float,
        steps: list[Step],
    ) -> Row:
        """One row: the steps on so many connections, and whether the database holds what was acknowledged."""
        needs_coupons = any("{coupon}" in step.body for step in steps)
        coupons = self._coupons(int(COUPONS_A_SECOND * seconds) + 2 * connections) if needs_coupons else ()
        load = HttpLoad("127.0.0.1", server.port, connections, seconds, tuple(steps), USERS, coupons)
        before, cpu = self._counts(), server.cpu_seconds()
        with get_context("spawn").Pool(1) as pool:
            measured: Measured = pool.apply(drive, (load,))
        measured.cpu_seconds = server.cpu_seconds() - cpu
        if coupons and measured.acknowledged == len(coupons):
            raise RuntimeError("the coupons were used up before the time was")
        right = exact(case, contender, before, self._counts(), measured)
        return measured.row(case, contender, connections, workers, exact=right)

    def _coupons(self, count: int) -> tuple[tuple[str, str], ...]:
        """Coupons of users of their own, fresh for one run."""
        found: list[tuple[str, str]] = []
        while len(found) < count:
            users = [f"holder-{number}" for number in range(len(found), min(count, len(found) + use_cases.ISSUE_LIMIT))]
            answer = self.ledger.do(use_cases.issue(self._request(), self.batch_id, users)).answer
            found += [(coupon["coupon_id"], coupon["user_id"]) for coupon in answer["coupons"]]
        return tuple(found)

    def _counts(self) -> dict[str, int]:
        """What the database holds, by the word for it."""
        with self.ledger.store.connection() as connection:
            topics = connection.execute("select topic, count(*) as count from events group by topic").fetchall()
            stock = connection.execute("select issued from batch_stock").fetchone()
            assert stock is not None
        with _owner(self.ledger.store.database) as owner:
            bare = owner.execute("select count(*) from bare_claims").fetchone()
            assert bare is not None
        return {"bare": bare[0], "stock": stock["issued"]} | {row["topic"]: row["count"] for row in topics}

    def _request(self) -> Request:
        return Request(MERCHANT, "bench", f"request-{next(self._numbers)}")


def exact(case: str, contender: str, before: dict[str, int], after: dict[str, int], measured: Measured) -> bool:
    """Whether each acknowledged operation, and nothing else, is in the database."""
    grew = {word: after[word] - before.get(word, 0) for word in after}
    grew = {word: growth for word, growth in grew.items() if growth}
    done = measured.acknowledged
    if contender == "bare_flask":
        return grew == {"bare": done if case == "http_claims" else 2 * done}
    if case == "http_claims":
        return grew == {"coupon.issued": done, "stock": done}
    return grew == {"coupon.locked": done, "coupon.used": done}


@contextmanager
def _shop(url: str) -> Iterator[Shop]:
    database = Database(url, f"http_{uuid.uuid4().hex[:8]}")
    with schema(url, database.schema):
        migrate(url, database.schema)
        with _owner(database) as owner:
            owner.execute(
                "create table bare_claims (id bigint generated always as identity primary key, user_id text not null,"
                " claimed_at timestamptz not null default now())"
            )
        ledger = Ledger(Store(database))
        try:
            yield Shop(ledger)
        finally:
            ledger.close()


def _owner(database: Database) -> psycopg.Connection[Any]:
    return psycopg.connect(database.url, autocommit=True, options=f"-c search_path={database.schema}")


@contextmanager
def _serving(database: Database, workers: int, *module: str) -> Iterator[Gunicorn]:
    """The module's gunicorn in processes of its own, on a free port, until the block ends."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    settings = Settings().model_copy(
        update={
            "database_url": database.url,
            "schema_": database.schema,
            "http_bind": f"127.0.0.1:{port}",
            "http_workers": workers,
        }
    )
    process = subprocess.Popen(
        [sys.executable, "-m", *module],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **settings.as_environment()},
        preexec_fn=die_with_parent(signal.SIGTERM),  # noqa: PLW1509  # no threads yet
    )
    try:
        _await_port(port, process)
        yield Gunicorn(port, process.pid)
    finally:
        process.terminate()
        process.wait(READY_SECONDS)


def _await_port(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError("gunicorn did not come up; run it by hand to see why")

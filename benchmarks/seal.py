"""Case seal: how fast a log is sealed that never was, and how long an event waits for a checkpoint at a steady pace.

``seal_backlog``: the sealer's process on a log of all kinds of events, until a checkpoint covers all of it. The rival
is the tree that pymerkle keeps in a file of SQLite: it stores the same entries and their hashes in one transaction,
and works its root out once; it signs nothing, and keeps no tiles that a proof is read from.
``seal_steady``: so many claims a second, and how old the first event is that no checkpoint covers, looked at all the
time. Writers, sealer and database share the machine.
"""

from __future__ import annotations

import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

from pymerkle import SqliteTree

from benchmarks.bulk import await_count
from benchmarks.lived import store_lives
from benchmarks.load import percentile_ms
from benchmarks.options import Options
from benchmarks.processes import cpu_seconds
from benchmarks.results import Row
from benchmarks.servers import schema, settle
from benchmarks.stored import MERCHANT, running_batch
from coupon_ledger.processes import Processes, running
from coupon_ledger.seal_keys import make_key
from coupon_ledger.settings import Settings
from ledger import use_cases
from ledger.application import Ledger
from ledger.database import Database
from ledger.migrate import migrate
from ledger.request import Request
from ledger.store import Store
from projections.seal import checkpoints
from projections.seal.check import check
from projections.seal.leaves import READ_EVENTS, whole
from projections.seal.standing import standing

WRITES_PER_SECOND = 500
WRITERS = 8
"""Threads that write in turns, so that a commit that takes long holds up none but its own."""
PROBE_SECONDS = 0.005
QUANTITY = 10_000_000


def measure(options: Options) -> Iterator[Row]:
    """Rows ``seal_backlog`` and ``seal_steady``."""
    database = Database(options.url, "bench_seal")
    with schema(options.url, database.schema), tempfile.TemporaryDirectory(prefix="coupon-ledger-bench-") as state:
        migrate(options.url, database.schema)
        store_lives(options.url, database.schema, options.projected)
        options.tell(f"{options.projected:,} events stored")
        folder = Path(state) / "seal"
        ledger = Ledger(Store(database))
        try:
            with sealing(ledger.store, folder) as sealer:
                yield _backlog(ledger, sealer, folder)
                yield _steady(ledger, sealer, folder, options.seconds)
        finally:
            ledger.close()
        settle(options.url)
        yield _pymerkle(database, options.projected, Path(state) / "pymerkle")


@contextmanager
def sealing(store: Store, folder: Path) -> Iterator[Processes]:
    """The sealer's process, from the moment when it leads. Its key lies beside the folder."""
    settings = Settings().model_copy(
        update={
            "database_url": store.database.url,
            "schema_": store.database.schema,
            "seal_folder": folder,
            "seal_key": folder.with_name("seal-key"),
        }
    )
    make_key(settings.seal_key_file, settings.seal_origin)
    with running(folder.with_name("logs"), settings.as_environment()) as processes:
        processes.start("sealer", "seal")
        await_count(store, "select count(*) as reached from seal_standing", 1, processes.check)
        yield processes


def await_sealed(store: Store, sealer: Processes, size: int) -> None:
    """Wait for a checkpoint over so many events. Raises when the sealer ended, or stands still."""
    await_count(store, "select coalesce(max(size), 0) as reached from checkpoints", size, sealer.check)


def _backlog(ledger: Ledger, sealer: Processes, folder: Path) -> Row:
    head, pid = ledger.store.head(), sealer.children["sealer"].pid
    cpu, began_at = cpu_seconds(pid), time.perf_counter()
    await_sealed(ledger.store, sealer, head)
    seconds, cpu = time.perf_counter() - began_at, cpu_seconds(pid) - cpu
    return _row("seal_backlog", "ledger", head, seconds, cpu, exact=is_sealed(ledger.store, folder, head))


def _steady(ledger: Ledger, sealer: Processes, folder: Path, seconds: float) -> Row:
    batch_id = running_batch(ledger, QUANTITY)
    base, pid = ledger.store.head(), sealer.children["sealer"].pid
    writes, ages = round(WRITES_PER_SECOND * seconds), []
    cpu, began_at = cpu_seconds(pid), time.perf_counter()

    def write(first: int) -> None:
        for number in range(first, writes, WRITERS):
            time.sleep(max(0.0, began_at + number / WRITES_PER_SECOND - time.perf_counter()))
            request = Request(MERCHANT, "bench", uuid.uuid4().hex, "digest")
            ledger.do(use_cases.claim(request, batch_id, f"user-{number}"))

    with ThreadPoolExecutor(WRITERS) as pool, ledger.store.database.connect() as connection:
        writers = [pool.submit(write, first) for first in range(WRITERS)]
        while not all(writer.done() for writer in writers):
            ages.append(standing(connection).unsealed_seconds)
            time.sleep(PROBE_SECONDS)
        seconds = time.perf_counter() - began_at
        for writer in writers:
            writer.result()
    await_sealed(ledger.store, sealer, base + writes)
    cpu = cpu_seconds(pid) - cpu
    exact = is_sealed(ledger.store, folder, base + writes)
    return _row("seal_steady", "ledger", writes, seconds, cpu, ages, exact=exact)


def is_sealed(store: Store, folder: Path, head: int) -> bool:
    """Whether that is the log's end, the newest checkpoint covers it, and every event is the one that was sealed."""
    with store.connection() as connection:
        newest = checkpoints.newest(connection)
        return newest is not None and newest.size == head == store.head() and not check(connection, folder)


def _pymerkle(database: Database, size: int, path: Path) -> Row:
    cpu, began_at = time.process_time(), time.perf_counter()
    with database.connect() as connection, closing(SqliteTree(str(path))) as tree:
        tree.append_entries((row.entry() for row in whole(connection, size)), chunksize=READ_EVENTS)
        root = tree.get_root()
        seconds, cpu = time.perf_counter() - began_at, time.process_time() - cpu
        signed = checkpoints.of_size(connection, size)
    exact = signed is not None and signed.root == root
    return _row("seal_backlog", "pymerkle", size, seconds, cpu, exact=exact)


def _row(
    case: str, contender: str, events: int, seconds: float, cpu: float, ages: Sequence[float] = (), *, exact: bool
) -> Row:
    ordered = sorted(ages)
    return Row(
        case=case,
        contender=contender,
        callers=1,
        processes=1,
        rate_per_s=round(events / seconds, 1),
        p50_ms=percentile_ms(ordered, 0.5),
        p99_ms=percentile_ms(ordered, 0.99),
        cpu_s_per_1000=round(cpu / events * 1_000, 4),
        exact=exact,
    )

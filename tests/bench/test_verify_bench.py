"""Case verify: the bench's own log keeps every promise, and one that does not is not exact."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, nullcontext
from pathlib import Path

import psycopg
import pytest

from benchmarks import results, verify
from benchmarks.lived import store_lives
from benchmarks.options import Options
from benchmarks.seal import await_sealed, is_sealed, sealing
from ledger.database import PROJECTOR_ROLE, Database
from ledger.store import Store
from projections.runner import Runner

EVENTS = 2_000


def test_every_promise_of_the_log_is_checked(database_url: str) -> None:
    told: list[str] = []
    options = Options(url=database_url, redis=lambda _: nullcontext(""), projected=EVENTS, tell=told.append)
    [row] = verify.measure(options)
    assert (row.case, row.contender, row.exact) == ("verify", "ledger", True)
    assert row.rate_per_s > 0
    assert row.cpu_s_per_1000 > 0
    assert told == ["2,000 events stored, folded and sealed"]
    assert [judgement.wanted for judgement in results.judge([row])] == ["at least 16,667"]


@pytest.fixture
def place(database: Database, tmp_path: Path) -> Iterator[tuple[Database, Path, psycopg.Connection]]:
    """A sealed log of which no read model was folded, and somebody for whom no trigger holds."""
    store_lives(database.url, database.schema, EVENTS)
    with closing(Store(database)) as store, sealing(store, tmp_path / "seal") as sealer:
        await_sealed(store, sealer, EVENTS)
    path = f"-c search_path={database.schema} -c session_replication_role=replica"
    with psycopg.connect(database.url, autocommit=True, options=path) as owner:
        yield database, tmp_path / "seal", owner


def test_what_is_left_out_or_wrong_is_not_exact(place: tuple[Database, Path, psycopg.Connection]) -> None:
    database, folder, owner = place
    assert not verify.checked(database, folder).exact  # no read models
    Runner(Database(database.url, database.schema, PROJECTOR_ROLE)).catch_up()
    assert verify.checked(database, folder).exact
    assert not verify.checked(database, folder.with_name("elsewhere")).exact
    owner.execute("update user_quota set issued = issued + 1 where batch_id like ' order %' and user_id like '%01-1'")
    assert not verify.checked(database, folder).exact


def test_a_log_that_is_not_what_was_sealed_is_not_exact(place: tuple[Database, Path, psycopg.Connection]) -> None:
    database, folder, owner = place
    with closing(Store(database)) as store:
        assert is_sealed(store, folder, EVENTS)
        assert not is_sealed(store, folder, EVENTS + 1)
        owner.execute("update events set recorded_at = recorded_at + interval '1 s' where notification_id = 50")
        assert not is_sealed(store, folder, EVENTS)

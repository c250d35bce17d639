"""Every contender really runs, and a wrong outcome is seen."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis

from benchmarks import claims, results, servers
from benchmarks.contenders import CONTENDERS
from benchmarks.contenders.app_save import AppSave
from benchmarks.contenders.base import Contender, Place
from benchmarks.contenders.ledger import GroupCommit
from benchmarks.contenders.redis import RedisAlways
from benchmarks.contenders.relational import Relational
from benchmarks.contenders.skip_locked import SkipLocked
from benchmarks.options import Options

# Redis is no part of the service, so a machine without it tests the others.
HERE = [kind for kind in CONTENDERS if kind.on_postgres or shutil.which("redis-server")]


def options(database_url: str) -> Options:
    """A very short run."""
    return Options(url=database_url, redis=servers.redis_server, seconds=0.3, callers=(8,), processes=(2,))


def check(rows: list[results.Row], names: list[str], path: Path) -> None:
    """Each contender ran exactly, and its row is in the file."""
    assert [row.contender for row in rows] == names
    assert [row.contender for row in rows if not row.exact] == []
    assert all(row.p50_ms is not None and row.p99_ms is not None and 0 < row.p50_ms <= row.p99_ms for row in rows)
    results.write(path, rows)
    written = json.loads(path.read_text())
    assert [(row["contender"], row["callers"], row["processes"]) for row in written["rows"]] == [
        (name, 8, 2) for name in names
    ]
    assert list(written["ratios"]) == [f"{rows[0].case}.8.ledger/{name}" for name in names if name != "ledger"]


def test_every_contender_claims_exactly(database_url: str, tmp_path: Path) -> None:
    rows = list(claims.measure_all("claims", options(database_url), HERE))
    check(rows, [kind.name for kind in HERE], tmp_path / "results.json")


def test_those_that_confirm_do_so_exactly(database_url: str, tmp_path: Path) -> None:
    rows = list(claims.measure_lock_confirm(options(database_url)))
    check(rows, ["ledger", "app_save", "relational"], tmp_path / "results.json")


@contextmanager
def prepared(kind: type[Contender], database_url: str) -> Iterator[tuple[Contender, psycopg.Connection[Any]]]:
    """A contender that made three claims and used three coupons, and a session of the tables' owner."""
    name = f"bench_{uuid.uuid4().hex[:12]}"
    with servers.schema(database_url, name):
        contender = kind(Place(database_url, name), 1)
        contender.prepare(100, 100)
        for number in range(3):
            contender.claim(f"user-{number}")
        with psycopg.connect(database_url, autocommit=True, options=f"-c search_path={name}") as owner:
            yield contender, owner
        contender.close()


SPOILT: list[tuple[type[Contender], str]] = [
    (GroupCommit, "update batch_stock set issued = issued + 1 where issued < quantity"),
    (GroupCommit, "update user_quota set issued = 2, most = 2 where user_id = 'user-1'"),
    (GroupCommit, "delete from requests where position = (select max(position) from requests)"),
    (AppSave, "delete from application_events where originator_version = 3"),
    (Relational, "update batch set remaining = remaining - 1"),
    (Relational, "delete from coupon where user_id = 'user-1' and batch_id = 1"),
    (SkipLocked, "update coupon set user_id = 'user-9', state = 'UNUSED' where id = 50"),
    (SkipLocked, "delete from record where coupon_id = 2"),
]


@pytest.mark.parametrize(("kind", "spoil"), SPOILT)
def test_a_claim_lost_or_too_many_is_seen(kind: type[Contender], spoil: str, database_url: str) -> None:
    with prepared(kind, database_url) as (contender, owner):
        assert set(contender.claimed()) == {3}
        owner.execute(spoil.encode())
        assert set(contender.claimed()) != {3}


def test_a_use_too_many_is_seen(database_url: str) -> None:
    with prepared(Relational, database_url) as (contender, owner):
        for number, coupon in enumerate(contender.coupons(3)):
            contender.lock_confirm(coupon, f"order-{number}")
        assert set(contender.confirmed()) == {3}
        owner.execute(
            "update coupon set state = 'USED' where id = (select id from coupon where state = 'UNUSED' limit 1)"
        )
        assert set(contender.confirmed()) != {3}


@pytest.mark.parametrize("kind", [kind for kind in HERE if issubclass(kind, RedisAlways)], ids=lambda kind: kind.name)
def test_redis_keeps_its_promise_on_disk_and_a_lost_claim_is_seen(kind: type[RedisAlways]) -> None:
    with servers.redis_server(kind.appendfsync) as socket, redis.Redis(unix_socket_path=socket) as client:
        assert client.config_get("append*")["appendonly"] == "yes"
        assert client.config_get("append*")["appendfsync"] == kind.appendfsync
        assert client.config_get("save")["save"] == ""
        contender = kind(Place(socket, ""), 1)
        contender.prepare(10, 0)
        contender.claim("user-1")
        with pytest.raises(RuntimeError, match="already"):
            contender.claim("user-1")
        assert contender.claimed() == (1, 1)
        client.srem("members", "user-1")
        assert contender.claimed() == (1, 0)
        contender.close()


def test_a_slow_flush_delays_even_a_lone_commit_and_ends(tmp_path: Path) -> None:
    """On a server of its own, for the setting is the whole server's."""
    with servers.postgres(tmp_path) as url, psycopg.connect(url, autocommit=True) as connection:
        with servers.slow_flush(url):
            assert connection.execute("show commit_delay").fetchone() == ("1000",)
            assert connection.execute("show commit_siblings").fetchone() == ("0",)
            assert servers.lone_commit_ms(url, rounds=20) > 1.0
        assert connection.execute("show commit_delay").fetchone() == ("0",)
        assert connection.execute("show fsync").fetchone() == ("on",)

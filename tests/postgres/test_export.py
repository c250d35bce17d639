"""The export: what is in the files is what is in the log and in the read models, whichever format reads it back."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import psycopg
import pyarrow.parquet as pq
import pytest
from psycopg.rows import dict_row

from coupon_ledger_audit.entry import entry
from coupon_ledger_audit.tree import Frontier, leaf_hash
from ledger.application import Ledger
from ledger.database import Database
from ledger.errors import ForeignEvent, InvalidField
from projections import checkpoints
from projections.catalogue import PROJECTIONS
from projections.chunk import MissingEvent
from projections.export import log_rows
from projections.export.check import check
from projections.export.folder import FolderBusy, locked
from projections.export.log_rows import EventUnreadable, LogMoved
from projections.export.manifest import Manifest
from projections.export.model_rows import ModelMissing
from projections.export.run import WHAT, Exported, FolderDiffers, FolderTaken, Options, export
from projections.runner import Runner
from tests.conftest import MERCHANT, Shop
from tests.postgres.lives import Lives

DAYS = ("2026-11-20", "2026-11-21", "2026-11-22")
FORMATS = ("parquet", "csv", "ndjson")
MODELS = tuple(projection.name for projection in PROJECTIONS)


def as_owner(database: Database, *statements: str, values: Any = None) -> None:
    """What nobody but the database's owner can do to a log."""
    options = f"-c search_path={database.schema} -c session_replication_role=replica"
    with psycopg.connect(database.url, autocommit=True, options=options) as connection:
        for statement in statements:
            connection.execute(statement.encode(), values)


def spread_over_days(database: Database) -> None:
    """Let a third of the log be recorded on each of the days."""
    for number, day in enumerate(DAYS):
        as_owner(
            database,
            f"update events set recorded_at = '{day} 10:00+00'::timestamptz + notification_id * interval '1 ms'"
            f" where notification_id > {number} * (select max(notification_id) from events) / 3",
        )


def fill(database: Database, ledger: Ledger, seed: int = 5) -> None:
    """Lives of coupons of two merchants, and read models that have caught up."""
    lives = Lives(Shop(ledger), seed)
    for _ in range(5):
        lives.go_on(60)
    other = Shop(ledger, "merchant-2")
    for number in range(7):
        other.coupon(f"other-{number}")
    catch_up(database)


def catch_up(database: Database) -> None:
    checkpoints.install(database, PROJECTIONS)
    Runner(database, PROJECTIONS).catch_up()


@pytest.fixture(scope="module")
def filled(shared_database: Database, shared_ledger: Ledger) -> Database:
    """A log of some hundred events on three days. Tests of this module only read it."""
    fill(shared_database, shared_ledger)
    spread_over_days(shared_database)
    return shared_database


def run(database: Database, folder: Path, format: Any = "parquet", **options: Any) -> Exported:
    done = export(database, folder, Options(format=format, **options))
    assert check(folder)[1] == []
    return done


def in_sql(database: Database, query: str) -> list[tuple[Any, ...]]:
    with database.connect() as connection:
        return connection.execute(query.encode()).fetchall()


def in_duckdb(query: str) -> list[tuple[Any, ...]]:
    with duckdb.connect() as connection:
        connection.execute("set timezone = 'UTC'")
        table = connection.sql(query).to_arrow_table()  # its own tuples of times would need pytz
    return list(zip(*(column.to_pylist() for column in table.columns), strict=True))


def parts(folder: Path, format: str = "parquet") -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.glob(f"log/*/*.{format}"))


# --- what is in it ---------------------------------------------------------------------------------------------------


def test_duckdb_reads_the_log_as_postgresql_has_it(filled, tmp_path):
    run(filled, tmp_path)
    log = f"read_parquet('{tmp_path}/log/*/*.parquet', hive_partitioning = true)"
    assert [parts(tmp_path)[n].split("/")[1] for n in range(3)] == [f"day={day}" for day in DAYS]
    types = dict(row[:2] for row in in_duckdb(f"describe select * from {log}"))
    kinds = {"int64": "BIGINT", "text": "VARCHAR", "json": "VARCHAR", "time": "TIMESTAMP WITH TIME ZONE"}
    assert types.pop("day") == "DATE"
    assert types == {column.name: kinds.get(column.kind, "BOOLEAN") for column in log_rows.COLUMNS}
    figures = (
        "select topic, count(*), sum({discount}), sum({restored}), min({until}), count(distinct {user}) from {log}"
        " group by topic order by topic"
    )
    ours = in_duckdb(
        figures.format(
            discount="discount_minor", restored="restored::int", until="valid_until", user="user_id", log=log
        )
    )
    payload = "convert_from(state, 'utf8')::json->>"
    theirs = in_sql(
        filled,
        figures.format(
            discount=f"({payload}'discount_minor')::bigint",
            restored=f"({payload}'restored')::boolean::int",
            until=f"({payload}'valid_until')::timestamptz",
            user=f"({payload}'user_id')",
            log="events",
        ),
    )
    assert ours == theirs
    assert len(ours) > 10


def test_every_payload_is_there_to_the_byte(filled, tmp_path):
    run(filled, tmp_path, what=("log",))
    stored = in_sql(
        filled,
        "select notification_id, recorded_at, originator_id, originator_version, topic, convert_from(state, 'utf8')"
        "  from events order by 1",
    )
    columns = "position, recorded_at, stream, version, topic, payload"
    assert in_duckdb(f"select {columns} from '{tmp_path}/log/*/*.parquet' order by 1") == stored
    run(filled, tmp_path / "lines", "ndjson", what=("log",))
    assert [row["payload"] for row in log_lines(tmp_path / "lines")] == [row[-1] for row in stored]


def log_lines(folder: Path) -> list[dict[str, Any]]:
    """The rows of an NDJSON export's log."""
    return [json.loads(line) for part in parts(folder, "ndjson") for line in (folder / part).read_bytes().splitlines()]


def test_all_formats_hold_the_same_rows(filled, tmp_path):
    tables = {}
    for format in FORMATS:
        run(filled, tmp_path / format, format)
        for what in WHAT:
            pattern = f"log/*/*.{format}" if what == "log" else f"{what}/*.{format}"
            files = sorted((tmp_path / format).glob(pattern))
            kinds = Manifest.read(tmp_path / format)
            assert kinds is not None
            columns = kinds.log.columns if what == "log" and kinds.log else kinds.models[what].columns
            tables[format, what] = [row for file in files for row in READ[format](file, columns)]
    for what in WHAT:
        assert tables["ndjson", what] == tables["parquet", what]
        # CSV has one word for no value and for an empty text.
        plain = [
            {name: None if value == "" else value for name, value in row.items()} for row in tables["parquet", what]
        ]
        assert tables["csv", what] == plain
    assert all(tables["parquet", what] for what in ("log", "coupon_status", "wallet", "batch_balance"))


def read_parquet(path: Path, columns: dict[str, str]) -> Iterator[dict[str, Any]]:
    yield from pq.read_table(path, partitioning=None).to_pylist()


def read_ndjson(path: Path, columns: dict[str, str]) -> Iterator[dict[str, Any]]:
    for line in path.read_bytes().splitlines():
        yield typed(json.loads(line), columns)


def read_csv(path: Path, columns: dict[str, str]) -> Iterator[dict[str, Any]]:
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    for row in frame.to_dict("records"):
        yield typed({name: value or None for name, value in row.items()}, columns, text=True)


def typed(row: dict[str, Any], columns: dict[str, str], *, text: bool = False) -> dict[str, Any]:
    def value_of(kind: str, value: Any) -> Any:
        if value is None:
            return None
        if kind == "time":
            return datetime.fromisoformat(value)
        if kind == "date":
            return datetime.fromisoformat(value).date()
        if not text:
            return value
        if kind == "boolean":
            return {"true": True, "false": False}[value]
        return {"int64": int, "float64": float}.get(kind, str)(value)

    assert list(row) == list(columns)
    return {name: value_of(columns[name], value) for name, value in row.items()}


READ = {"parquet": read_parquet, "csv": read_csv, "ndjson": read_ndjson}


@pytest.mark.parametrize("name", MODELS)
def test_a_read_model_is_exported_row_by_row(filled, tmp_path, name):
    done = run(filled, tmp_path, what=(name,))
    [file] = done.written
    head = in_sql(filled, "select max(notification_id) from events")[0][0]
    assert (file.last_position, done.manifest.models[name].position) == (head, head)
    exported = pq.read_table(tmp_path / file.path).to_pylist()
    with filled.connect(row_factory=dict_row) as connection:
        rows = connection.execute(f"select to_jsonb(t) as row from {name} t".encode()).fetchall()
    plain = [json.loads(json.dumps(row["row"])) for row in rows]

    def comparable(row: dict[str, Any]) -> str:
        found = {}
        for column, kind in done.manifest.models[name].columns.items():
            value = row[column]
            if kind == "time" and value is not None:
                value = (datetime.fromisoformat(value) if isinstance(value, str) else value).astimezone(UTC).isoformat()
            if kind == "json" and isinstance(value, str):
                value = json.loads(value)
            found[column] = str(value) if kind in ("text", "date") else value
        return json.dumps(found, sort_keys=True)

    assert sorted(map(comparable, exported)) == sorted(map(comparable, plain))
    assert file.rows == len(rows)


def test_the_same_state_makes_the_same_bytes(filled, tmp_path):
    first, second = (run(filled, tmp_path / name).manifest for name in "ab")
    assert [(file.path, file.sha256) for file in first.files] == [(file.path, file.sha256) for file in second.files]


def test_one_merchant_alone(filled, tmp_path):
    done = run(filled, tmp_path, "ndjson", merchant_id="merchant-2")
    rows = log_lines(tmp_path)
    theirs = in_sql(filled, "select position from event_log where payload->>'merchant_id' = 'merchant-2' order by 1")
    assert [(row["position"],) for row in rows] == theirs
    assert len(parts(tmp_path, "ndjson")) == 1  # the days on which it did nothing have no file
    coupons = [file for file in done.manifest.files if file.what == "coupon_status"]
    assert [file.rows for file in coupons] == [7]
    assert MERCHANT not in "".join(path.read_text() for path in tmp_path.rglob("*.ndjson"))


def test_one_merchant_alone_whatever_is_wrong_with_the_events_of_others(database, shop, tmp_path):
    shop.coupon()
    theirs = shop.ledger.store.head()
    Shop(shop.ledger, "merchant-2").coupon()

    def positions(folder: Path) -> list[int]:
        done = run(database, folder, "ndjson", what=("log",), merchant_id="merchant-2")
        assert done.manifest.log is not None
        assert done.manifest.log.last_position == shop.ledger.store.head()
        return [row["position"] for row in log_lines(folder)]

    expected = positions(tmp_path / "before")
    foreign, broken = json.dumps({"merchant_id": MERCHANT}).encode(), theirs - 1
    as_owner(database, "update events set topic = 'os.system' where notification_id = %s", values=(theirs,))
    as_owner(database, "update events set state = %s where notification_id = %s", values=(foreign, broken))
    assert positions(tmp_path / "after") == expected
    # An event that does not say whose it is may be anybody's.
    for number, state in enumerate((b"{}", b"[]", b"{", b'{"merchant_id": "merchant-2"}')):
        as_owner(database, "update events set state = %s where notification_id = %s", values=(state, broken))
        with pytest.raises(EventUnreadable, match=f"position {broken}:"):
            positions(tmp_path / str(number))


def test_a_slice_of_positions(filled, tmp_path):
    run(filled, tmp_path, what=("log",), after=10, until=100)
    assert in_duckdb(f"select min(position), max(position), count(*) from '{tmp_path}/log/*/*.parquet'") == [
        (11, 100, 90)
    ]
    run(filled, tmp_path, what=("log",), continue_=True, until=90)  # nothing to do
    run(filled, tmp_path, what=("log",), continue_=True)
    head = in_sql(filled, "select max(notification_id) from events")[0][0]
    assert in_duckdb(f"select max(position), count(*) from '{tmp_path}/log/*/*.parquet'") == [(head, head - 10)]


def test_old_versions_are_stored_as_they_were_and_upcast_in_columns(database, tmp_path):
    sample = json.loads(Path("tests/contract/events/coupon.used.v1.json").read_text())
    payload = json.dumps(sample["sample"]["state"]) + "  "
    as_owner(database, "insert into events values ('coupon-x', 1, 'coupon.used', %s, 1)", values=(payload.encode(),))
    done = run(database, tmp_path, "ndjson", what=("log",))
    row = json.loads((tmp_path / done.written[0].path).read_text())
    assert (row["event_version"], row["late"], row["coupon_id"]) == (1, False, "x")
    assert row["holder_id"] == row["user_id"] is not None
    assert row["payload"] == payload


def test_cells_are_no_formulas_and_nothing_a_terminal_obeys(database, shop, tmp_path):
    payload = {
        "merchant_id": "=1+1",
        "actor": "+a",
        "request_id": "\x1b[2J",
        "occurred_at": "2026-01-01T00:00:00Z",
        "reason": "@sum\u202e",
    }
    state = json.dumps(payload, ensure_ascii=False).encode()
    as_owner(database, "insert into events values ('batch--x', 1, 'batch.paused', %s, 1)", values=(state,))
    done = run(database, tmp_path, "csv", what=("log",))
    text = (tmp_path / done.written[0].path).read_bytes().decode()
    assert text.replace("\r\n", "").isprintable()
    [row] = csv.DictReader(text.splitlines())
    assert [row[name] for name in ("merchant_id", "actor", "request_id", "reason", "batch_id")] == [
        "'=1+1",
        "'+a",
        r"\x1b[2J",
        r"'@sum\u202e",
        "'-x",
    ]
    assert json.loads(row["payload"]) == payload


def test_an_empty_ledger_makes_an_empty_export(database, tmp_path):
    checkpoints.install(database, PROJECTIONS)
    for format in FORMATS:
        done = run(database, tmp_path / format, format)
        assert parts(tmp_path / format, format) == []
        assert {file.rows for file in done.manifest.files} == {0}
        assert run(database, tmp_path / format, format, continue_=True).written == []


def test_the_seal_can_be_computed_from_it(filled, tmp_path):
    run(filled, tmp_path, what=("log",))
    exported, stored = Frontier(), Frontier()
    for part in parts(tmp_path):
        for row in pq.read_table(tmp_path / part, partitioning=None).to_pylist():
            at = (row["recorded_at"] - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
            leaf = entry(row["position"], row["stream"], row["version"], row["topic"], at, row["payload"].encode())
            exported.append(leaf_hash(leaf))
    for row in in_sql(
        filled,
        "select notification_id, originator_id, originator_version, topic,"
        "       (extract(epoch from recorded_at) * 1000000)::bigint, state from events order by 1",
    ):
        stored.append(leaf_hash(entry(*row)))
    assert (exported.size, exported.root()) == (stored.size, stored.root())


# --- going on --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", FORMATS)
def test_it_adds_only_what_is_new(database, ledger, tmp_path, format):
    fill(database, ledger)
    first = run(database, tmp_path, format, continue_=True)  # without a manifest: from the beginning
    before = {path: (tmp_path / path).read_bytes() for path in parts(tmp_path, format)}
    assert run(database, tmp_path, format, continue_=True).written == []
    coupon = Shop(ledger, "merchant-3").coupon()
    catch_up(database)
    second = run(database, tmp_path, format, continue_=True)
    [part] = [file for file in second.written if file.what == "log"]
    assert first.manifest.log is not None
    assert part.first_position == first.manifest.log.last_position + 1
    assert {path: (tmp_path / path).read_bytes() for path in before} == before
    assert len(list((tmp_path / "coupon_status").iterdir())) == 1
    [status] = [file for file in second.written if file.what == "coupon_status"]
    rows = READ[format](tmp_path / status.path, second.manifest.models["coupon_status"].columns)
    assert coupon in [row["coupon_id"] for row in rows]


def test_what_was_not_asked_for_stays(filled, tmp_path):
    run(filled, tmp_path, what=("log", "wallet"))
    done = run(filled, tmp_path, what=("coupon_status",), continue_=True)
    assert {file.what for file in done.manifest.files} == {"log", "wallet", "coupon_status"}


def test_a_run_that_finds_nothing_new_leaves_the_manifest_as_it_was(filled, tmp_path):
    run(filled, tmp_path)
    before = (tmp_path / "manifest.json").read_bytes()
    run(filled, tmp_path, what=WHAT[::-1], continue_=True)
    assert (tmp_path / "manifest.json").read_bytes() == before
    content = json.loads(before)
    assert list(content["models"]) == sorted(MODELS)
    order = [(file["what"], file["first_position"], file["path"]) for file in content["files"]]
    assert order == sorted(order)


def test_rows_that_went_while_the_position_stayed_are_gone(database, ledger, tmp_path):
    fill(database, ledger)
    first = run(database, tmp_path)
    version = first.manifest.models["wallet"].version
    as_owner(database, f"delete from wallet_v{version} where user_id = 'other-3'")
    second = run(database, tmp_path, continue_=True)
    assert [(file.what, file.rows) for file in second.written] == [
        ("wallet", next(file.rows for file in first.written if file.what == "wallet") - 1)
    ]
    assert len(list((tmp_path / "wallet").iterdir())) == 1


def test_a_broken_run_leaves_the_export_as_it_was(database, ledger, tmp_path):
    fill(database, ledger)
    run(database, tmp_path)
    Shop(ledger, "merchant-3").coupon()
    catch_up(database)
    steps: list[str] = []
    run_quietly = Options(format="parquet", continue_=True)
    export(database, tmp_path / "counted", run_quietly, lambda what, _done, _total: steps.append(what))
    for broken in range(len(steps)):
        left = [broken]

        def progress(_what: str, _done: int, _total: int | None, left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            export(database, tmp_path, run_quietly, progress)
        _, findings = check(tmp_path)
        assert {finding.problem for finding in findings} <= {"is not in the manifest"}
    assert not list(tmp_path.rglob("*.part"))
    done = run(database, tmp_path, continue_=True)
    assert done.manifest.log is not None
    positions = in_duckdb(f"select position from '{tmp_path}/log/*/*.parquet' order by 1")
    assert positions == [(position,) for position in range(1, done.manifest.log.last_position + 1)]


# --- what is refused -------------------------------------------------------------------------------------------------


def test_an_export_is_never_written_over(filled, tmp_path):
    run(filled, tmp_path, what=("log",))
    for options in ({}, {"after": 5}):
        with pytest.raises(FolderTaken):
            export(filled, tmp_path, Options(format="parquet", **options))
    for differing in (
        Options(format="csv", continue_=True),
        Options(format="parquet", merchant_id="m", continue_=True),
    ):
        with pytest.raises(FolderDiffers):
            export(filled, tmp_path, differing)
    with pytest.raises(FolderDiffers):
        export(Database(filled.url, "other"), tmp_path, Options(format="parquet", continue_=True))


def test_another_log_is_not_added(database, ledger, tmp_path):
    fill(database, ledger)
    run(database, tmp_path, what=("log",))
    with psycopg.connect(database.url) as connection:
        kept = connection.execute(f'select * from "{database.schema}".events order by 5'.encode()).fetchall()
    last = "(select max(notification_id) from events)"
    for change in (
        f"update events set state = state || ' ' where notification_id = {last}",
        f"delete from events where notification_id > {last} - 3",
    ):
        as_owner(database, change)
        with pytest.raises(LogMoved):
            export(database, tmp_path, Options(format="parquet", continue_=True))
        as_owner(database, "delete from events")
        with psycopg.connect(database.url) as connection, connection.cursor() as cursor:
            cursor.executemany(f'insert into "{database.schema}".events values (%s, %s, %s, %s, %s, %s)'.encode(), kept)
    run(database, tmp_path, what=("log",), continue_=True)


def test_positions_that_the_log_does_not_have_are_refused_before_anything_is_written(filled, tmp_path):
    head = in_sql(filled, "select max(notification_id) from events")[0][0]
    run(filled, tmp_path / "before", what=("log",), until=head - 1)
    for folder, field, options in (
        ("new", "after", {"after": head + 1}),
        ("new", "after", {"after": 10**30}),
        ("new", "until_position", {"until": head + 1}),
        ("new", "until_position", {"after": 40, "until": 39}),
        ("before", "until_position", {"until": head + 1, "continue_": True}),
    ):
        told: list[str] = []
        asked = Options(format="parquet", **options)
        with pytest.raises(InvalidField) as refused:
            export(filled, tmp_path / folder, asked, lambda what, _done, _total, told=told: told.append(what))
        assert (refused.value.facts["field"], told) == (field, [])
    assert not list((tmp_path / "new").rglob("*.parquet"))
    assert Manifest.read(tmp_path / "new") is None
    done = run(filled, tmp_path / "new", after=head, until=head).manifest  # the log from here on
    assert done.log is not None
    assert (done.log.first_position, done.log.last_position) == (head + 1, head)


def test_a_hole_and_a_foreign_row_are_told(database, ledger, tmp_path):
    fill(database, ledger)
    as_owner(database, "update events set topic = 'os.system' where notification_id = 9")
    with pytest.raises(ForeignEvent, match=r"position 9: topic 'os\.system'"):
        export(database, tmp_path, Options(format="parquet", what=("log",)))
    as_owner(database, "update events set topic = 'coupon.issued', state = '{}' where notification_id = 9")
    with pytest.raises(EventUnreadable, match=r"position 9: 'coupon\.issued' in stream"):
        export(database, tmp_path, Options(format="parquet", what=("log",)))
    as_owner(database, "delete from events where notification_id = 9")
    with pytest.raises(MissingEvent, match="position 9 is missing"):
        export(database, tmp_path, Options(format="parquet", what=("log",)))
    assert not list(tmp_path.rglob("*.parquet"))
    assert Manifest.read(tmp_path) is None


def test_two_at_once_and_models_that_are_not_there(database, tmp_path):
    with pytest.raises(ModelMissing):
        export(database, tmp_path, Options(format="parquet"))
    with locked(tmp_path), pytest.raises(FolderBusy):
        export(database, tmp_path, Options(format="parquet"))
    checkpoints.install(database, PROJECTIONS)
    run(database, tmp_path)


def test_without_pyarrow_it_says_so(database, tmp_path, monkeypatch):
    from projections.export.files import PyarrowMissing

    for module in ("pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(PyarrowMissing):
        export(database, tmp_path / "x", Options(format="parquet"))
    assert not (tmp_path / "x").exists()


# --- the check -------------------------------------------------------------------------------------------------------


def test_the_check_finds_every_damage(filled, tmp_path):
    for format in FORMATS:
        folder = tmp_path / format
        done = run(filled, folder, format)
        for file in done.manifest.files:
            if not file.rows:
                continue
            path = folder / file.path
            content = path.read_bytes()
            middle = len(content) // 2
            for damaged, problem in (
                (content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :], "another SHA-256"),
                (content[:-1], "bytes, not"),
                (b"", "bytes, not"),
                (None, "is missing"),
            ):
                path.unlink() if damaged is None else path.write_bytes(damaged)
                _, findings = check(folder)
                assert [finding.path for finding in findings] == [file.path]
                assert problem in findings[0].problem
            path.write_bytes(content)
        assert check(folder)[1] == []


def test_the_check_finds_rows_that_are_not_as_the_manifest_says(filled, tmp_path):
    manifest = run(filled, tmp_path, "ndjson", what=("log", "wallet")).manifest
    first, second, *_ = (file for file in manifest.files if file.what == "log")

    def found(files: Any) -> str:
        changed = Manifest.read(tmp_path)
        assert changed is not None
        changed.files = list(files)
        changed.write(tmp_path)
        problems = " ".join(finding.problem for finding in check(tmp_path)[1])
        manifest.write(tmp_path)
        return problems

    from dataclasses import replace

    others = [file for file in manifest.files if file != first]
    assert "is due" in found(others)
    assert "is not in the manifest" in found(others)
    assert "is due" in found([*manifest.files, second])
    assert "rows, not" in found([*others, replace(first, rows=first.rows - 1)])
    assert "has position" in found([*others, replace(first, first_position=2, rows=first.rows - 1)])
    elsewhere = "wallet/v2-000000000009-5f1d02c7.ndjson"
    assert "is missing" in found([*manifest.files, replace(second, path=elsewhere, what="wallet")])
    (tmp_path / elsewhere).symlink_to(Path(__file__))
    assert "is missing" in found([*manifest.files, replace(second, path=elsewhere, what="wallet")])
    stray = tmp_path / "log" / "day=2026-11-22" / "part-000000009000-000000009001.ndjson"
    stray.write_text("{}\n")
    assert "is not in the manifest" in found(manifest.files)
    run(filled, tmp_path, "ndjson", what=("log",), continue_=True)
    assert not stray.exists()

"""GET /livez and GET /readyz."""

from __future__ import annotations

import psycopg
import pytest

from api.app import create_app
from ledger.application import Ledger
from ledger.database import Database
from ledger.store import Store
from projections.catalogue import PROJECTIONS


def test_alive(nobody):
    assert nobody.get("/livez").ok() == {"status": "ok", "checks": {}}


def test_ready(nobody, shop, project):
    shop.batch()
    project()
    checks = nobody.get("/readyz").ok()["checks"]
    assert checks["database"] == {"ok": True, "head": 3}
    assert checks["migrations"] == {"ok": True, "pending": []}
    models = {model["name"]: (model["state"], model["position"]) for model in checks["projections"]["models"]}
    assert models == {projection.name: ("RUNNING", 3) for projection in PROJECTIONS}


def test_not_ready_when_a_read_model_stopped(nobody, project, ledger):
    project()
    with ledger.store.connection() as connection:
        connection.execute("set role coupon_ledger_projector")
        connection.execute("update projection_checkpoints set state = 'FAULTED' where name = 'wallet'")
        connection.execute("set role coupon_ledger_app")
    answer = nobody.get("/readyz")
    assert answer.status == 503
    assert answer.response.content_type == "application/problem+json"
    assert (answer.json["code"], answer.json["detail"]) == ("not_ready", "failed: projections")
    assert answer.headers["Retry-After"] == "1"


def test_not_ready_when_a_read_model_is_outdated(nobody, project, database):
    project()
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute(f"update \"{database.schema}\".projection_checkpoints set version = 1 where name = 'wallet'")
    answer = nobody.get("/readyz")
    assert (answer.status, answer.json["detail"]) == (503, "failed: projections")
    models = {model["name"]: model for model in answer.json["facts"]["checks"]["projections"]["models"]}
    assert (models["wallet"]["state"], models["wallet"]["version"], models["wallet"]["release_version"]) == (
        "OUTDATED", 1, 2,
    )  # fmt: skip
    assert models["funnel"]["state"] == "RUNNING"


def test_not_ready_when_a_migration_is_missing(nobody, ledger, database):
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute(f"delete from \"{database.schema}\".schema_migrations where name like '0007%'")
    answer = nobody.get("/readyz")
    assert (answer.status, answer.json["detail"]) == (503, "failed: migrations")
    assert len(answer.json["facts"]["checks"]["migrations"]["pending"]) == 1


def test_not_ready_when_the_database_is_newer(nobody, database):
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute(
            f"insert into \"{database.schema}\".schema_migrations (name, sha256) values ('9999_future.sql', 'x')"
        )
    answer = nobody.get("/readyz")
    assert answer.status == 503
    assert answer.json["facts"]["checks"]["migrations"] == {"ok": False, "code": "schema_newer"}


@pytest.fixture
def without_database():
    ledger = Ledger(Store(Database("host=/nowhere/at/all dbname=postgres")))
    yield create_app(ledger).test_client()
    ledger.close()


def test_alive_but_not_ready_without_a_database(without_database):
    assert without_database.get("/livez").status_code == 200
    answer = without_database.get("/readyz")
    assert answer.status_code == 503
    assert answer.json["facts"]["checks"]["database"] == {"ok": False, "code": "unavailable"}


def test_without_a_database_calls_are_told_to_come_again(without_database):
    answer = without_database.get("/v1/events", headers={"Authorization": "Bearer ck_1.secret"})
    assert (answer.status_code, answer.json["code"]) == (503, "unavailable")
    assert answer.headers["Retry-After"] == "1"

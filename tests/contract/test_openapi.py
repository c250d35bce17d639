"""The description of the API: the committed one is the generated one, and it says everything that callers rely on."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from openapi_spec_validator import validate

from api import access
from api.app import create_app
from api.contract import document
from ledger.application import Ledger
from ledger.database import Database
from ledger.store import Store

COMMITTED = Path(__file__).with_name("openapi.json")


@pytest.fixture(scope="module")
def generated():
    """The description, made without any database: an application connects to nothing before its first request."""
    return document(create_app(Ledger(Store(Database("host=/nowhere/at/all")))))


@pytest.fixture(scope="module")
def operations(generated):
    """Every operation by its id, with its path and method."""
    return {
        operation["operationId"]: (path, method, operation)
        for path, item in generated["paths"].items()
        for method, operation in item.items()
    }


def test_the_committed_description_is_the_generated_one(generated):
    text = orjson.dumps(generated, option=orjson.OPT_INDENT_2) + b"\n"
    assert COMMITTED.read_bytes() == text, f"write it to {COMMITTED.name} and read the difference"


def test_it_is_valid_openapi(generated):
    assert generated["openapi"] == "3.1.0"
    validate(generated)


def test_every_operation_is_described(operations):
    described = access.ALLOWED.keys() | {"get_livez", "get_readyz"}
    assert operations.keys() == described
    for path, _, operation in operations.values():
        assert operation["summary"].endswith(".")
        assert len(operation["tags"]) == 1
        assert path.startswith(("/v1/", "/livez", "/readyz"))


def test_every_refusal_is_a_problem_document(operations):
    for id, (_, _, operation) in operations.items():
        refusals = {status: answer for status, answer in operation["responses"].items() if status >= "400"}
        assert "500" in refusals
        if id in access.ALLOWED:
            assert {"400", "401", "403", "406", "414", "422", "503"} <= refusals.keys()
            assert operation["security"] == [{"bearer": []}]
        for answer in refusals.values():
            assert list(answer["content"]) == ["application/problem+json"]
            assert answer["content"]["application/problem+json"]["schema"]["$ref"].endswith("/Problem")
            assert "`: " in answer["description"]
        if "503" in refusals:
            assert "Retry-After" in refusals["503"]["headers"]


def test_every_write_names_its_headers(operations):
    for id, (_, method, operation) in operations.items():
        headers = {parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "header"}
        writes = method == "post" and id not in access.ASKING
        assert ("Idempotency-Key" in headers) == writes, id
        assert ("If-Match" in headers) == ("412" in operation["responses"]), id
        if writes:
            assert {"409", "413", "415"} <= operation["responses"].keys() | {"409"}
            success = operation["responses"].get("200") or operation["responses"]["201"]
            assert {"Ledger-Position", "Idempotent-Replayed", "X-Request-Id"} <= success["headers"].keys()


def test_reads_of_read_models_take_at_least(operations):
    taking = {
        id
        for id, (_, _, operation) in operations.items()
        if any(parameter["name"] == "at_least" for parameter in operation["parameters"])
    }
    users = {"list_user_coupons", "get_user_state", "get_user_difference", "get_user_timeline", "get_user_timeline_csv"}
    figures = {"get_batch_balance", "list_batches", "get_daily_statistics", "get_funnel", "get_liability"}
    assert taking == {*figures, *(f"{id}_csv" for id in figures), "get_user_coupon_summary", *users}


def test_bodies_are_closed(generated):
    for name, schema in generated["components"]["schemas"].items():
        if name.endswith("Body") or name == "Empty":
            assert schema["additionalProperties"] is False, name

"""Probes: is this process alive, and can it do its work."""

from __future__ import annotations

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from api import answers, contract
from api.access import operation_name
from api.exchange import answer, ledger
from api.problems import NotReady, problem
from projections.readiness import readiness

health = APIBlueprint(
    "health",
    __name__,
    abp_tags=[Tag(name="health", description="Probes.")],
    operation_id_callback=operation_name,
)


@health.get("/livez", responses=contract.public(answers.Health))
def get_livez() -> Response:
    """Say that this process answers, whatever else may be down."""
    return answer({"status": "ok", "checks": {}})


@health.get("/readyz", responses=contract.public(answers.Health, NotReady))
def get_readyz() -> Response:
    """Say whether the database is reachable, fully migrated, and no read model has stopped."""
    checks = readiness(ledger().store)
    if all(check["ok"] for check in checks.values()):
        return answer({"status": "ok", "checks": checks})
    failed = ", ".join(name for name, check in checks.items() if not check["ok"])
    return problem(NotReady(f"failed: {failed}", checks=checks))

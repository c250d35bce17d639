"""docker-compose.yml is checked by reading it: no Docker engine is needed to find a wrong setting or condition."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from coupon_ledger.cli import cli
from coupon_ledger.settings import Settings

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service.get("build")}


def test_the_services_are_there() -> None:
    assert set(SERVICES) >= {"postgres", "kafka", "migrate", "api", "issuance", "orders", "projector", "sweeper"}


@pytest.mark.parametrize("name", SERVICES)
def test_each_service_has_an_image_or_build_and_a_health_check(name: str) -> None:
    service = SERVICES[name]
    assert service.get("image") or service.get("build")
    assert service["healthcheck"]["test"]


@pytest.mark.parametrize("name", SERVICES)
def test_dependencies_have_a_condition_that_can_come_true(name: str) -> None:
    for other, how in SERVICES[name].get("depends_on", {}).items():
        if how["condition"] == "service_healthy":
            assert SERVICES[other]["healthcheck"].get("test")
        else:
            assert how["condition"] == "service_completed_successfully"
            assert SERVICES[other]["restart"] == "no"


@pytest.mark.parametrize("name", OURS)
def test_settings_exist(name: str) -> None:
    prefix = Settings.model_config["env_prefix"]
    known = {
        str(field.alias or field.validation_alias or f"{prefix}{field_name.upper()}")
        for field_name, field in Settings.model_fields.items()
    }
    assert set(OURS[name]["environment"]) <= known
    assert {"DATABASE_URL", "KAFKA_BOOTSTRAP"} <= set(OURS[name]["environment"])


@pytest.mark.parametrize("name", OURS)
def test_commands_parse(name: str) -> None:
    command, *arguments = OURS[name]["command"]
    found = cli.get_command(None, command)
    found.make_context(command, list(arguments), resilient_parsing=False)


def test_ports_are_published_on_loopback_only() -> None:
    for service in SERVICES.values():
        for port in service.get("ports", []):
            assert str(port).startswith("127.0.0.1:")


def test_kafka_has_the_static_voters_that_its_image_formats_for() -> None:
    kafka = SERVICES["kafka"]["environment"]
    assert kafka["KAFKA_CONTROLLER_QUORUM_VOTERS"] == f"{kafka['KAFKA_NODE_ID']}@kafka:9093"
    assert "CONTROLLER://:9093" in kafka["KAFKA_LISTENERS"]


def test_no_secret_is_in_the_file() -> None:
    for service in SERVICES.values():
        for variable, value in service.get("environment", {}).items():
            if "PASSWORD" in variable:
                assert value is None or value.startswith("${POSTGRES_PASSWORD:?")


def test_named_volumes_are_declared() -> None:
    used = {volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])}
    assert used == set(COMPOSE["volumes"])

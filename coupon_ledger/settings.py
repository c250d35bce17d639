"""Every setting of the service, read from the environment here and nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict
from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from ledger.codes import CodeKeys
from ledger.database import APP_ROLE, Database


class Settings(BaseSettings):
    """Settings with their meaning; docs/operate.md lists them, and a test keeps it complete."""

    model_config = SettingsConfigDict(env_prefix="COUPON_LEDGER_", frozen=True)

    database_url: str | None = Field(
        default=None,
        validation_alias="DATABASE_URL",
        description="PostgreSQL URL of a role that may migrate; without it an embedded server is used.",
    )
    kafka_bootstrap: str | None = Field(
        default=None,
        validation_alias="KAFKA_BOOTSTRAP",
        pattern=r"^\s*[^\s,:]+:[0-9]{1,5}(\s*,\s*[^\s,:]+:[0-9]{1,5})*\s*$",
        description="Kafka bootstrap servers, host:port separated by commas; without it an embedded broker is used.",
    )
    schema_: str = Field(
        default="coupon_ledger",
        alias="COUPON_LEDGER_SCHEMA",
        pattern=r"^[a-z_][a-z0-9_]{0,62}$",
        description="The PostgreSQL schema of this ledger; one ledger is one schema and one order of events.",
    )
    state: Path = Field(
        default=Path(".state"),
        description="Folder where embedded servers keep their data.",
    )
    topic_prefix: str = Field(
        default="",
        pattern=r"^[a-zA-Z0-9._-]{0,100}$",
        description="Put before every topic name, so that several ledgers can share a cluster.",
    )
    business_time: Literal["live", "message"] = Field(
        default="live",
        description="Which clock decides in consumers: the database's (live), or each message's time (import).",
    )
    http_bind: str = Field(
        default="127.0.0.1:8080",
        pattern=r"^[^\s:]+:[0-9]{1,5}$",
        description="Address that the API listens on.",
    )
    http_workers: int = Field(
        default=2,
        ge=1,
        le=64,
        description="API processes.",
    )
    http_threads: int = Field(
        default=128,
        ge=4,
        le=1024,
        description="Threads of each API process; when three in four are writing, the next writer hears 503.",
    )
    database_pool_size: int = Field(
        default=4,
        ge=1,
        le=100,
        description="Most PostgreSQL connections of each process.",
    )
    code_keys: str | None = Field(
        default=None,
        repr=False,
        pattern=r"^\s*[A-Za-z0-9_.-]{1,32}=[^\s,]{32,}(\s*,\s*[A-Za-z0-9_.-]{1,32}=[^\s,]{32,})*\s*$",
        description="Secret keys of codes, id=key separated by commas, the newest first; with an embedded database, one"
        " is made in the state folder.",
    )

    @field_validator("database_url")
    @classmethod
    def _is_conninfo(cls, url: str | None) -> str | None:
        if url is not None:
            try:
                conninfo_to_dict(url)
            except ProgrammingError as error:
                raise ValueError(f"not a PostgreSQL URL: {str(error).strip()}") from None
        return url

    def database(self, role: str = APP_ROLE) -> Database:
        """Where the ledger lives, for sessions of this role."""
        return Database(self.required_database_url, self.schema_, role)

    def keys_of_codes(self) -> CodeKeys:
        """The keys that codes are hashed with; none, where none is set."""
        return CodeKeys.parse(self.code_keys) if self.code_keys is not None else CodeKeys()

    @property
    def required_database_url(self) -> str:
        """The database's URL, once ``servers`` has found one."""
        assert self.database_url is not None
        return self.database_url

    @property
    def bootstrap_servers(self) -> list[str]:
        """Kafka's addresses, once ``servers`` has found them."""
        assert self.kafka_bootstrap is not None
        return [address.strip() for address in self.kafka_bootstrap.split(",")]

    def as_environment(self) -> dict[str, str]:
        """These settings for a child process."""
        named = {
            "database_url": "DATABASE_URL",
            "kafka_bootstrap": "KAFKA_BOOTSTRAP",
            "schema_": "COUPON_LEDGER_SCHEMA",
        }
        return {
            named.get(name, f"COUPON_LEDGER_{name.upper()}"): str(value)
            for name, value in self.model_dump().items()
            if value is not None
        }

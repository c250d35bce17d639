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
from ledger.personal_keys import PersonalKeys

LIMIT = r"^(0|[0-9]{1,6}(\.[0-9]{1,6})?:[1-9][0-9]{0,6})$"
"""Requests a second, a colon, and requests at once."""


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
    message_wait_seconds: int = Field(
        default=60,
        ge=1,
        le=86_400,
        description="How long a message waits that came before what it needs, until it is a dead letter.",
    )
    consumer_session_seconds: int = Field(
        default=15,
        ge=6,
        le=300,
        description="How long the partitions of a consumer that died wait for another: 6 to 300.",
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

    personal_keys: str | None = Field(
        default=None,
        repr=False,
        pattern=r"^\s*[A-Za-z0-9_.-]{1,32}=[^\s,]{32,}(\s*,\s*[A-Za-z0-9_.-]{1,32}=[^\s,]{32,})*\s*$",
        description="Secret keys of personal data, id=key separated by commas, the newest first; with an embedded"
        " database, one is made in the state folder.",
    )

    throttle_user: str = Field(
        default="5:20",
        pattern=LIMIT,
        description="Claims and code redemptions of one user: so many a second, and so many at once. 0: no limit.",
    )
    throttle_address: str = Field(
        default="0",
        pattern=LIMIT,
        description="The same from one client address. 0: no limit.",
    )
    throttle_claims_key: str = Field(
        default="0",
        pattern=LIMIT,
        description="The same by one API key, which often speaks for all shoppers of a shop. 0: no limit.",
    )
    throttle_key: str = Field(
        default="20000:40000",
        pattern=LIMIT,
        description="All other requests by one API key. 0: no limit.",
    )
    trusted_proxy: bool = Field(
        default=False,
        description="Whether a proxy of yours writes the last hop of X-Forwarded-For: the client's address.",
    )

    seal_folder: Path | None = Field(
        default=None,
        description="Folder of the seal's tiles and newest checkpoint; without it, seal/SCHEMA in the state folder.",
    )
    seal_key: Path | None = Field(
        default=None,
        description="File of the key that checkpoints are signed with; without it, seal-key in the state folder.",
    )
    seal_origin: str = Field(
        default="localhost/coupon-ledger",
        pattern=r"^[^\s+]{1,200}$",
        description="Name of the log in checkpoints, such as example.com/coupons: no two ledgers have the same.",
    )
    seal_anchors: str = Field(
        default="",
        pattern=r"^\s*((file:/|https?://)[^\s,]+(\s*,\s*(file:/|https?://)[^\s,]+)*)?\s*$",
        description="Where checkpoints are put too, separated by commas: file:/path, or https://... of a witness.",
    )

    webhook_private_hosts: str = Field(
        default="",
        pattern=r"^\s*([a-z0-9.-]{1,253}(\s*,\s*[a-z0-9.-]{1,253})*)?\s*$",
        description="Host names of inner networks that webhooks may reach, separated by commas; others must be public.",
    )
    smtp_host: str | None = Field(
        default=None,
        pattern=r"^[^\s:]+$",
        description="Mail server that e-mails are handed to; without it none is sent.",
    )
    smtp_port: int = Field(
        default=587,
        ge=1,
        le=65_535,
        description="Its port.",
    )
    smtp_tls: Literal["starttls", "tls", "none"] = Field(
        default="starttls",
        description="How the way to it is encrypted: starttls, tls from the first byte on, or none.",
    )
    smtp_user: str | None = Field(
        default=None,
        description="Name that it knows us by, where it asks for one.",
    )
    smtp_password: str | None = Field(
        default=None,
        repr=False,
        description="The password of that name.",
    )
    smtp_sender: str = Field(
        default="coupon-ledger@localhost",
        pattern=r"^[^\s@<>]+@[^\s@<>]+$",
        description="Address that e-mails come from.",
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

    def keys_of_personal_data(self) -> PersonalKeys:
        """The keys that wrap users' data keys; none, where none is set."""
        return PersonalKeys.parse(self.personal_keys) if self.personal_keys is not None else PersonalKeys()

    @property
    def sealed_in(self) -> Path:
        """The folder of the seal."""
        return self.seal_folder or self.state / "seal" / self.schema_

    @property
    def seal_key_file(self) -> Path:
        """The file of its key."""
        return self.seal_key or self.state / "seal-key"

    def consumer_session(self) -> dict[str, int]:
        """The session of consumers, as kafka-python has it."""
        seconds = self.consumer_session_seconds
        return {"session_timeout_ms": seconds * 1_000, "heartbeat_interval_ms": seconds * 200}

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

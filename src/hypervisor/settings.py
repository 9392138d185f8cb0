"""Settings, from the environment or a `.env` file; validated once at start."""

from __future__ import annotations

from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from hypervisor import addresses
from hypervisor.public_urls import check_public_url, parse_http_url

ENGINE_SCHEMES = ("unix://", "tcp://", "http://", "https://")
MAX_RETENTION_DAYS = 36_500
"""100 years, the upper limit of every retention setting."""


class Settings(BaseSettings):
    """Every setting of the server. The environment variable is the field's name in capitals."""

    model_config = SettingsConfigDict(env_file=".env", env_file_encoding="utf-8", extra="ignore")

    database_url: str = Field(
        default="sqlite:///hypervisor-data/hypervisor.db",
        description="SQLite file (one server process) or postgresql:// URL. The driver may be omitted.",
    )
    redis_url: str | None = Field(
        default=None,
        description="Redis or Valkey for several servers: redis://, rediss:// or unix://. Unset: none.",
    )
    data_dir: Path = Field(
        default=Path("hypervisor-data"),
        description="Folder for process workloads, logs and the generated secret key.",
    )
    secret_key: SecretStr | None = Field(
        default=None,
        description="Secret for tokens and encryption, at least 32 characters. "
        "Unset: a random key in DATA_DIR; allowed only if HOST is a loopback address.",
    )
    access_token_expire_minutes: int = Field(
        default=30, ge=1, le=24 * 60, description="Lifetime of an access token, in minutes."
    )
    scheduler_interval: float = Field(
        default=5.0,
        gt=0,
        le=300,
        description="Maximum time between scheduling passes, in seconds. A change starts a pass at once.",
    )
    improve_seconds: float = Field(
        default=1.0,
        ge=0,
        le=60,
        description="Time budget per pass for the optimizer, in seconds; 0 means unlimited.",
    )
    host: str = Field(
        default="127.0.0.1",
        description="Address or host name that the server listens on; "
        "0.0.0.0 means all IPv4 addresses, :: all IPv4 and IPv6 addresses.",
    )
    port: int = Field(
        default=8000, ge=0, le=65535, description="Port that the server listens on; 0 means any free port."
    )
    public_url: str | None = Field(
        default=None,
        description="URL under which workloads reach the API, for checkpoints. "
        "Unset: http://HOST:PORT; for containers, an address of this machine if HOST has one.",
    )
    default_runtime: str = Field(
        default="auto",
        description="Runtime of clusters that name none. auto: Docker if an engine answers, else simulated.",
    )
    docker_host: str | None = Field(
        default=None, description="Address of the Docker engine. Unset: the default socket."
    )
    docker_pull_policy: Literal["if-missing", "always", "never"] = Field(
        default="if-missing", description="When Docker pulls an image."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Lowest level that is logged."
    )
    log_format: Literal["auto", "console", "json"] = Field(
        default="auto", description="Format of log lines. auto: console on a terminal, else json."
    )
    graceful_stop_seconds: int = Field(
        default=5,
        ge=0,
        le=300,
        description="Time for open requests to finish at shutdown, in seconds; 0 ends them at once.",
    )
    access_log: bool = Field(default=False, description="Write one log line per request.")
    metrics: Literal["on", "off"] = Field(default="on", description="off: /metrics answers 404.")
    metrics_token: SecretStr | None = Field(
        default=None,
        description="Bearer token for /metrics, at least 16 characters. Unset or empty: no token needed.",
    )
    otel_exporter_otlp_endpoint: str | None = Field(
        default=None, description="Base URL of an OTLP/HTTP collector for traces. Unset: no traces."
    )
    rate_limit: str = Field(
        default="1200/minute",
        description="Requests per caller, as an expression of the `limits` package. Empty: no limit.",
    )
    role: Literal["all", "api", "scheduler"] = Field(
        default="all",
        description="What this process runs: the API, the control loops (scheduler), or all.",
    )
    site: str | None = Field(
        default=None,
        max_length=200,
        description="Name of this machine, the identity of its local engines. "
        "Unset: the machine id; in a container, its host name.",
    )
    lease_seconds: float = Field(
        default=15,
        ge=3,
        le=300,
        description="Lifetime of a lease, in seconds: the delay of a failover after a scheduler died.",
    )
    disk_min_free_mb: int = Field(
        default=256,
        ge=0,
        description="Free space below which no new process starts on the disk of DATA_DIR, in MiB; "
        "0 means no limit.",
    )
    event_retention_days: int = Field(
        default=90, ge=1, le=MAX_RETENTION_DAYS, description="Retention of events, in days."
    )
    idempotency_retention_hours: float = Field(
        default=24,
        gt=0,
        le=24 * MAX_RETENTION_DAYS,
        description="Retention of an Idempotency-Key and its result, in hours.",
    )
    log_retention_days: int = Field(
        default=30,
        ge=1,
        le=MAX_RETENTION_DAYS,
        description="Retention of the logs of ended workloads in DATA_DIR, in days.",
    )
    snapshot_retention_hours: float = Field(
        default=24,
        ge=0,
        le=24 * MAX_RETENTION_DAYS,
        description="Retention of scheduling decisions for a replay, in hours; 0 stores none.",
    )
    snapshot_max_mb: int = Field(
        default=512,
        ge=1,
        description="Maximum size of all stored decisions, in MiB. The oldest are deleted first.",
    )

    @field_validator("secret_key")
    @classmethod
    def _check_secret_key(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value()) < 32:
            raise ValueError("needs at least 32 characters; create one with `openssl rand -hex 32`")
        return value

    @field_validator("metrics_token")
    @classmethod
    def _check_metrics_token(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None or not value.get_secret_value():
            return None
        if len(value.get_secret_value()) < 16:
            raise ValueError("needs at least 16 characters; create one with `openssl rand -hex 16`")
        return value

    @field_validator("data_dir", "host", mode="before")
    @classmethod
    def _check_not_empty(cls, value: object, info: ValidationInfo) -> object:
        if isinstance(value, str) and not value.strip():
            default = cls.model_fields[info.field_name or ""].default
            raise ValueError(f"is empty; set a value, or unset it to use {default}")
        return value

    @field_validator("log_level", mode="before")
    @classmethod
    def _lower_case(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator("host")
    @classmethod
    def _check_host(cls, value: str) -> str:
        return addresses.check_host(value)

    @field_validator("docker_host")
    @classmethod
    def _check_docker_host(cls, value: str | None) -> str | None:
        if value is None or not value.strip():
            return None
        if not value.strip().startswith(ENGINE_SCHEMES):
            raise ValueError("must be an address like unix:///var/run/docker.sock or tcp://host:2376")
        return value.strip()

    @field_validator("otel_exporter_otlp_endpoint")
    @classmethod
    def _check_otlp_endpoint(cls, value: str | None) -> str | None:
        if value is None or not value.strip():
            return None
        if parse_http_url(value) is None:
            raise ValueError("must be a URL like http://collector:4318")
        return value.strip()

    @field_validator("public_url")
    @classmethod
    def _check_public_url(cls, value: str | None) -> str | None:
        if value is None or not value.strip():
            return None
        return check_public_url(value)

    @property
    def local_url(self) -> str:
        """URL of this server for clients on this machine, without a trailing slash."""
        return f"http://{addresses.local_host(self.host)}:{self.port}"

    @property
    def url_prefix(self) -> str:
        """The path of PUBLIC_URL, decoded and without a trailing slash; usually empty."""
        return unquote(self.link_prefix)

    @property
    def link_prefix(self) -> str:
        """The path of PUBLIC_URL for links, without a trailing slash; usually empty."""
        return urlsplit(self.public_url or "").path

    @property
    def binds_loopback_only(self) -> bool:
        """Whether HOST is reachable only from this machine."""
        return addresses.is_loopback_only(self.host)

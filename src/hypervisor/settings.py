"""Settings from the environment or a `.env` file, checked once at start."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Literal
from urllib.parse import SplitResult, urlsplit

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

RuntimeChoice = Literal["auto", "docker", "process", "simulated"]
ENGINE_SCHEMES = ("unix://", "tcp://", "http://", "https://")
MOST_DAYS = 36_500
"""A hundred years: whoever wants to keep something for ever writes this."""


class Settings(BaseSettings):
    """Every setting of the service; the variable's name is the field's name in capitals."""

    model_config = SettingsConfigDict(env_file=".env", env_file_encoding="utf-8", extra="ignore")

    database_url: str = Field(
        default="sqlite:///hypervisor-data/hypervisor.db",
        description="SQLite file or PostgreSQL; the async driver is added where it is missing.",
    )
    redis_url: str | None = Field(default=None, description="Optional Redis for several replicas.")
    data_dir: Path = Field(
        default=Path("hypervisor-data"),
        description="Folder for process workloads, their logs and the generated secret key.",
    )
    secret_key: SecretStr | None = Field(
        default=None,
        description="At least 32 characters. Unset: a random key is kept in DATA_DIR, on loopback only.",
    )
    access_token_expire_minutes: int = Field(default=30, ge=1, le=24 * 60)
    scheduler_interval: float = Field(
        default=5.0, gt=0, le=300, description="Seconds between full passes; events wake the loop at once."
    )
    improve_seconds: float = Field(
        default=1.0,
        ge=0,
        le=60,
        description="At most so long a pass searches for a better arrangement; 0: as long as the steps take.",
    )
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    public_url: str | None = Field(
        default=None,
        description="Where workloads reach this server; unset: http://HOST:PORT of this machine.",
    )
    default_runtime: RuntimeChoice = Field(
        default="auto", description="auto: Docker if an engine answers, else simulated."
    )
    docker_host: str | None = Field(default=None, description="Engine endpoint; unset: the default socket.")
    docker_pull_policy: Literal["if-missing", "always", "never"] = "if-missing"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "console", "json"] = "auto"
    graceful_stop_seconds: int = Field(
        default=5, ge=0, le=300, description="What open requests get when the server is told to stop."
    )
    access_log: bool = Field(default=False, description="One log line for each request that was answered.")
    metrics: Literal["on", "off"] = Field(default="on", description="Whether /metrics answers.")
    metrics_token: SecretStr | None = Field(
        default=None, description="Set: /metrics wants it as a bearer token. At least 16 characters."
    )
    otel_exporter_otlp_endpoint: str | None = Field(
        default=None, description="Base URL of an OTLP/HTTP collector for traces; unset: none are made."
    )
    rate_limit: str = Field(
        default="1200/minute", description="Requests per caller; a `limits` expression, empty for none."
    )
    role: Literal["all", "api", "scheduler"] = Field(
        default="all",
        description="all: API and control loops; api: requests only; scheduler: control loops only.",
    )
    site: str | None = Field(
        default=None,
        max_length=200,
        description="Name of this machine where engines are its own; unset: its id, or a container's name.",
    )
    lease_seconds: float = Field(
        default=15, ge=3, le=300, description="How soon others take over from a scheduler that died."
    )
    disk_min_free_mb: int = Field(
        default=256, ge=0, description="With less left on DATA_DIR's disk no new process is started."
    )
    event_retention_days: int = Field(default=90, ge=1, le=MOST_DAYS)
    idempotency_retention_hours: float = Field(
        default=24,
        gt=0,
        le=24 * MOST_DAYS,
        description="How long an Idempotency-Key answers with what it made.",
    )
    log_retention_days: int = Field(
        default=30, ge=1, le=MOST_DAYS, description="How long logs of what has ended are kept in DATA_DIR."
    )
    snapshot_retention_hours: float = Field(
        default=24,
        ge=0,
        le=24 * MOST_DAYS,
        description="How long decisions are kept for a replay; 0 keeps none.",
    )
    snapshot_max_mb: int = Field(
        default=512, ge=1, description="What kept decisions may take; the oldest go first."
    )

    @field_validator("secret_key")
    @classmethod
    def _long_enough(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value()) < 32:
            raise ValueError("SECRET_KEY must have at least 32 characters; `openssl rand -hex 32` makes one")
        return value

    @field_validator("metrics_token")
    @classmethod
    def _hard_to_guess(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None or not value.get_secret_value():
            return None
        if len(value.get_secret_value()) < 16:
            raise ValueError("METRICS_TOKEN needs at least 16 characters; `openssl rand -hex 16` makes one")
        return value

    @field_validator("data_dir", mode="before")
    @classmethod
    def _named(cls, value: object) -> object:
        if value == "":
            raise ValueError("it is empty; name a folder, or unset it for hypervisor-data")
        return value

    @field_validator("log_level", mode="before")
    @classmethod
    def _in_any_case(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator("docker_host")
    @classmethod
    def _engine(cls, value: str | None) -> str | None:
        if value is None or not value.strip():
            return None
        if not value.strip().startswith(ENGINE_SCHEMES):
            raise ValueError("DOCKER_HOST is an address like unix:///var/run/docker.sock or tcp://host:2376")
        return value.strip()

    @field_validator("otel_exporter_otlp_endpoint")
    @classmethod
    def _collector(cls, value: str | None) -> str | None:
        if value is None or not value.strip():
            return None
        if _web_address(value) is None:
            raise ValueError("OTEL_EXPORTER_OTLP_ENDPOINT is an address like http://collector:4318")
        return value.strip()

    @field_validator("public_url")
    @classmethod
    def _absolute(cls, value: str | None) -> str | None:
        if value is None or not value.strip():
            return None
        parts = _web_address(value)
        if parts is None or parts.query or parts.fragment:
            raise ValueError("PUBLIC_URL is an address like https://hypervisor.example.com")
        return value.strip().rstrip("/")

    @property
    def reachable_host(self) -> str:
        """HOST as others on this machine write it in a URL."""
        if self.host in ("0.0.0.0", "::"):  # noqa: S104
            return "127.0.0.1"
        return f"[{self.host}]" if ":" in self.host else self.host

    @property
    def reachable_url(self) -> str:
        """Where workloads reach this server, without a slash at the end."""
        return self.public_url or f"http://{self.reachable_host}:{self.port}"

    @property
    def reports_url(self) -> str | None:
        """Where workloads report to; a scheduler answers no requests and does not know who does."""
        return self.public_url if self.role == "scheduler" else self.reachable_url

    @property
    def binds_loopback_only(self) -> bool:
        """Whether HOST is reachable from this machine alone."""
        if self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False


def _web_address(value: str) -> SplitResult | None:
    """The parts of an absolute http address, None for anything else."""
    try:
        parts = urlsplit(value.strip())
        _ = parts.port
    except ValueError:
        return None
    return parts if parts.scheme in ("http", "https") and parts.hostname else None

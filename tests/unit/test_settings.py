"""Validation of the settings, and the values derived from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from sqlalchemy.engine import make_url

from hypervisor.bootstrap import running
from hypervisor.cli.core.configuration import load_settings
from hypervisor.errors import StartupError
from hypervisor.runtimes.kinds import runtime_choices
from hypervisor.scheduling.snapshots.wording import listed
from hypervisor.settings import Settings
from hypervisor.store.database import normalise_url


@pytest.mark.parametrize("wrong", ["hv.example.com", "ftp://hv.example.com", "https://", "http://h/?a=b"])
def test_a_public_url_is_an_absolute_http_address(wrong: str) -> None:
    with pytest.raises(ValidationError, match="must be a URL"):
        Settings(_env_file=None, public_url=wrong)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("data_dir", ""),
        ("host", "http://localhost"),
        ("docker_host", "the-engine"),
        ("public_url", "http://hv.example.com:port"),
        ("otel_exporter_otlp_endpoint", "http://collector:port"),
        ("event_retention_days", 99_999_999_999),
        ("log_retention_days", 10**9),
        ("idempotency_retention_hours", float("inf")),
        ("snapshot_retention_hours", 1e12),
    ],
)
def test_an_invalid_value_is_refused_at_start(name: str, wrong: Any) -> None:
    with pytest.raises(ValidationError) as refused:
        Settings(_env_file=None, **{name: wrong})
    assert [error["loc"] for error in refused.value.errors()] == [(name,)]


def test_an_unknown_default_runtime_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEFAULT_RUNTIME", "kubernetes")
    with pytest.raises(StartupError) as refused:
        load_settings()
    assert str(refused.value) == f"DEFAULT_RUNTIME: must be one of {listed(runtime_choices(), 'or')}"


async def test_the_service_refuses_an_unknown_default_runtime(tmp_path: Path) -> None:
    settings = Settings(_env_file=None, default_runtime="kubernetes", data_dir=tmp_path / "data")
    with pytest.raises(StartupError, match="DEFAULT_RUNTIME: must be one of"):
        async with running(settings):
            pass


def test_a_database_without_a_file_is_refused() -> None:
    for url in ("sqlite://", "sqlite:///:memory:"):
        with pytest.raises(StartupError, match="names no file"):
            normalise_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "nonsense",
        "postgresql://u:p@127.0.0.1:notaport/x",
        "postgresql://u:p@127.0.0.1:99999/x",
        "postgresql://u:p@[::1/x",
        "postgresql://h/x?bogus=1",
        "postgresql://h/x?sslmode=disable",
        "postgresql://h/x?timeout=abc",
        "postgresql://h/x?port=abc",
        "postgresql://h/x?host=a:1&host=b:notaport",
        "postgresql://h/x?prepared_statement_cache_size=many",
        "sqlite:///a.db?bogus=1",
        "sqlite:///a.db?timeout=abc",
        "sqlite:///a.db?plugin=none",
        "sqlite://host/a.db",
    ],
)
def test_a_database_url_that_the_driver_cannot_take_is_refused(url: str) -> None:
    with pytest.raises(StartupError) as refused:
        normalise_url(url)
    assert str(refused.value) == (
        "DATABASE_URL is not a valid database URL; use sqlite:///path/to.db or postgresql://user@host/db"
    )


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///a.db",
        "sqlite:///a.db?timeout=5",
        "postgres://u:p@[::1]:5432/x",
        "postgresql:///x",
        "postgresql:///x?host=/run/postgresql",
        "postgresql://h/x?ssl=require&command_timeout=3",
        "postgresql://h/x?prepared_statement_cache_size=0",
        "postgresql://u@/x?host=a:1&host=b:2&target_session_attrs=primary",
    ],
)
def test_a_database_url_with_known_options_is_accepted(url: str) -> None:
    assert normalise_url(url).query == make_url(url).query


def test_a_log_level_may_be_written_in_capitals() -> None:
    assert Settings(_env_file=None, log_level="INFO").log_level == "info"

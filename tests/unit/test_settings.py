"""Validation of the settings, and the values derived from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from hypervisor.bootstrap import running
from hypervisor.cli.core.configuration import load_settings
from hypervisor.errors import StartupError
from hypervisor.runtimes.kinds import runtime_choices
from hypervisor.scheduling.snapshots.wording import listed
from hypervisor.settings import Settings


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


def test_a_log_level_may_be_written_in_capitals() -> None:
    assert Settings(_env_file=None, log_level="INFO").log_level == "info"

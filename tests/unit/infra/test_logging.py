"""Logs never contain secrets that are only in memory, and do not repeat tracebacks."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Literal

import pytest
import structlog

from hypervisor.infra.observability.failures import Failures
from hypervisor.infra.observability.logging import configure_logging
from hypervisor.kernel.resources import Resources
from hypervisor.runtimes.protocol import LaunchSpec
from hypervisor.settings import Settings


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_a_traceback_shows_no_local_variable(
    log_format: Literal["console", "json"], capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging(Settings(_env_file=None, log_format=log_format))
    try:
        _fail(token="hunter" + "2")
    except ZeroDivisionError:
        structlog.get_logger("test").exception("launch.failed")
    logged = capsys.readouterr().err
    assert "ZeroDivisionError" in logged
    assert "hunter2" not in logged


def test_a_repeated_failure_is_logged_with_its_traceback_once(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(Settings(_env_file=None, log_format="json"))
    failures = Failures(structlog.get_logger("test"), "loop.failed")

    def tracebacks(*messages: str) -> list[bool]:
        for message in messages:
            try:
                raise OSError(message)
            except OSError as error:
                failures.note(error)
        return ["Traceback" in line for line in capsys.readouterr().err.splitlines()]

    assert tracebacks("away", "away\nwith a second line", "another") == [True, False, True]
    failures.over()
    assert tracebacks("another") == [True]


def test_a_launch_is_shown_without_its_environment() -> None:
    assert "hunter2" not in repr(LaunchSpec("hv-x", Resources(1, 1, 0), env={"TOKEN": "hunter2"}))


def _fail(token: str) -> float:
    return len(token) / 0

"""The summary of a test run: tests per backend and the reasons of skips; no silent skips in CI.

HV_REQUIRE_DOCKER=1 and HV_REQUIRE_BROWSER=1 make a skipped test marked `docker` or `browser` fail.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Generator, Iterable

import pytest
from _pytest.terminal import TerminalReporter

BACKENDS = ("sqlite", "postgresql", "redis", "docker", "browser")
_PROPERTY = "backend"
_REQUIRED_BY = {"docker": "HV_REQUIRE_DOCKER", "browser": "HV_REQUIRE_BROWSER"}

Report = pytest.TestReport | pytest.CollectReport


def count_for(request: pytest.FixtureRequest, backend: str) -> None:
    """Count the requesting test for this backend."""
    _note(request.node, backend)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for marker in _REQUIRED_BY:
            if item.get_closest_marker(marker):
                _note(item, marker)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if not report.skipped or hasattr(report, "wasxfail"):
        return report
    for marker, variable in _REQUIRED_BY.items():
        if item.get_closest_marker(marker) and os.environ.get(variable) == "1":
            report.outcome = "failed"
            report.longrepr = f"skipped although {variable}=1: {skip_reason(report)}"
    return report


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    stats = terminalreporter.stats
    ran = Counter(backend for report in _ran(stats) for backend in _backends(report))
    terminalreporter.write_line("")
    terminalreporter.write_line("backends: " + ", ".join(f"{name} {ran[name]}" for name in BACKENDS))
    reasons = Counter(skip_reason(report) for report in stats.get("skipped", []))
    for reason, number in sorted(reasons.items()):
        terminalreporter.write_line(f"skipped: {number} x {reason}")


def skip_reason(report: Report) -> str:
    """The reason of a skipped report, without the prefix and location that pytest adds."""
    longrepr = report.longrepr
    text = str(longrepr[2]) if isinstance(longrepr, tuple) else str(longrepr)
    return text.removeprefix("Skipped: ")


def _ran(stats: dict[str, list[object]]) -> Iterable[pytest.TestReport]:
    for outcome in ("passed", "failed", "xfailed", "xpassed"):
        for report in stats.get(outcome, []):
            if isinstance(report, pytest.TestReport) and report.when == "call":
                yield report


def _backends(report: pytest.TestReport) -> set[str]:
    return {str(value) for name, value in report.user_properties if name == _PROPERTY}


def _note(item: pytest.Item, backend: str) -> None:
    item.user_properties.append((_PROPERTY, backend))

"""The command `hypervisor doctor`: it runs all checks and prints the findings with advice."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import asdict

import typer
from rich.text import Text

from hypervisor import __version__
from hypervisor.cli.core.configuration import load_settings
from hypervisor.cli.core.session import Session
from hypervisor.cli.core.tables import table
from hypervisor.cli.doctor import database, local_checks, services
from hypervisor.cli.doctor.database import NodeEngines
from hypervisor.cli.doctor.finding import Finding, run_check
from hypervisor.errors import StartupError
from hypervisor.settings import Settings
from hypervisor.store.driver.address import parse_database_url

_STYLES = {"ok": "green", "warning": "yellow", "problem": "bold red"}


def doctor(context: typer.Context) -> None:
    """Check configuration, database, Redis, engines, clock and disk. The exit code is 1 for a problem.

    Run it on the server's machine, with the server's environment. The server may be running or stopped; the
    checks change nothing.
    """
    session = Session.of(context)
    findings = asyncio.run(_run_checks())
    problems = sum(finding.status == "problem" for finding in findings)
    warnings = sum(finding.status == "warning" for finding in findings)
    result = {
        "version": __version__,
        "healthy": not problems,
        "findings": [asdict(finding) for finding in findings],
    }
    session.show(result, table(["", "check", "=finding"], _rows(findings)))
    session.note(_summary(problems, warnings))
    if problems:
        raise typer.Exit(1)


async def _run_checks() -> list[Finding]:
    try:
        settings = load_settings()
        parse_database_url(settings.database_url)
    except StartupError as error:
        advice = "correct it in the environment or in .env; the other checks were skipped"
        return [Finding(local_checks.CONFIGURATION, "problem", str(error), advice)]
    return await _check_all(settings)


async def _check_all(settings: Settings) -> list[Finding]:
    node_engines = NodeEngines()
    results = [
        await run_check(local_checks.CONFIGURATION, lambda: local_checks.configuration(settings)),
        await run_check(local_checks.KEY, lambda: local_checks.secret_key(settings)),
        await run_check(local_checks.FOLDER, lambda: local_checks.folder_and_disk(settings)),
        await run_check(database.DATABASE, lambda: database.database(settings, node_engines)),
    ]
    # The check of the engines needs the engines of the nodes, from the database.
    results += await asyncio.gather(
        run_check(services.REDIS, lambda: services.redis(settings)),
        run_check(services.ENGINES, lambda: services.engines(settings, node_engines)),
        run_check(services.SERVER, lambda: services.server(settings)),
    )
    return [finding for findings in results for finding in findings]


def _rows(findings: Sequence[Finding]) -> Iterable[tuple[Text, str, Text]]:
    for finding in findings:
        text = Text(finding.detail)
        if finding.advice:
            text.append(f"\n{finding.advice}", style="bold" if finding.status == "problem" else "dim")
        yield Text(finding.status, style=_STYLES[finding.status]), finding.check, text


def _summary(problems: int, warnings: int) -> str:
    if not problems and not warnings:
        return "No problems found."
    counts = [(problems, "problem"), (warnings, "warning")]
    return " and ".join(f"{n} {noun}{'s' if n > 1 else ''}" for n, noun in counts if n) + "."

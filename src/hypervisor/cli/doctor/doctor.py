"""doctor: look at everything that a server needs, and say what to do."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import asdict

import typer
from rich.text import Text

from hypervisor import __version__
from hypervisor.cli.core.configuration import load_settings
from hypervisor.cli.core.output import table
from hypervisor.cli.core.session import Session
from hypervisor.cli.doctor import database, local_checks, services
from hypervisor.cli.doctor.database import NodeEngines
from hypervisor.cli.doctor.finding import Finding, run_check
from hypervisor.errors import StartupError
from hypervisor.settings import Settings
from hypervisor.store.database import normalise_url

_STYLES = {"ok": "green", "warning": "yellow", "problem": "bold red"}


def doctor(context: typer.Context) -> None:
    """Look at configuration, database, Redis, engines, clock and disk; exit code 1 if something is wrong.

    Run it where the server runs, with its environment. It only looks, and the server may run or not.
    """
    session = Session.of(context)
    findings = asyncio.run(_examine())
    problems = sum(one.status == "problem" for one in findings)
    warnings = sum(one.status == "warning" for one in findings)
    answer = {"version": __version__, "healthy": not problems, "findings": [asdict(one) for one in findings]}
    session.show(answer, table(["", "check", "what was found"], _rows(findings)))
    session.note(_summary(problems, warnings))
    if problems:
        raise typer.Exit(1)


async def _examine() -> list[Finding]:
    try:
        settings = load_settings()
        normalise_url(settings.database_url)
    except StartupError as error:
        advice = "correct it in the environment or in .env; the rest was not looked at"
        return [Finding(local_checks.CONFIGURATION, "problem", str(error), advice)]
    return await _look_at_all(settings)


async def _look_at_all(settings: Settings) -> list[Finding]:
    seen = NodeEngines()
    found = [
        await run_check(local_checks.CONFIGURATION, lambda: local_checks.configuration(settings)),
        await run_check(local_checks.KEY, lambda: local_checks.secret_key(settings)),
        await run_check(local_checks.FOLDER, lambda: local_checks.folder_and_disk(settings)),
        await run_check(database.DATABASE, lambda: database.database(settings, seen)),
    ]
    # Which engines matter stands in the database.
    found += await asyncio.gather(
        run_check(services.REDIS, lambda: services.redis(settings)),
        run_check(services.ENGINES, lambda: services.engines(settings, seen)),
        run_check(services.SERVER, lambda: services.server(settings)),
    )
    return [finding for findings in found for finding in findings]


def _rows(findings: Sequence[Finding]) -> Iterable[tuple[Text, str, Text]]:
    for one in findings:
        told = Text(one.detail)
        if one.advice:
            told.append(f"\n{one.advice}", style="bold" if one.status == "problem" else "dim")
        yield Text(one.status, style=_STYLES[one.status]), one.check, told


def _summary(problems: int, warnings: int) -> str:
    if not problems and not warnings:
        return "All is well."
    counts = [(problems, "problem"), (warnings, "warning")]
    return " and ".join(f"{n} {what}{'s' if n > 1 else ''}" for n, what in counts if n) + "."

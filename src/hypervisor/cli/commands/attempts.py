"""`hypervisor attempts`: the runs of a deployment."""

from __future__ import annotations

from collections.abc import Iterator

import typer

from hypervisor.cli.core import resolve
from hypervisor.cli.core.arguments import DeploymentName
from hypervisor.cli.core.formatting import checkpoint, clock, listed
from hypervisor.cli.core.output import Cell
from hypervisor.cli.core.session import Session
from hypervisor.cli.core.tables import Table, table
from hypervisor.client.models import Attempt

COLUMNS = (
    ">#",
    ">replica",
    "_node",
    "gpus",
    "runtime",
    "started",
    "restarted",
    "health",
    "finished",
    "outcome",
    ">exit",
    "checkpoint",
    "~message",
)
DROPS = ("runtime", "checkpoint", "finished", "restarted", "health", "started", "gpus")
ONLY_WITH_VALUES = {"restarted": "restarted_at", "health": "health"}
"""Columns that most deployments do not need, and their field."""


def attempts(context: typer.Context, deployment: DeploymentName) -> None:
    """List the attempts of a deployment: node, times and outcome of each run."""
    session = Session.of(context)
    found = session.client.deployments.attempts(resolve.deployment(session, deployment)["id"])
    session.render(found, lambda: attempts_table(found))


def attempts_table(found: list[Attempt]) -> Table:
    """One line per attempt."""
    columns = [name for name in COLUMNS if _has_values(name, found)]
    rows = [[cell for name, cell in _cells(attempt) if name in columns] for attempt in found]
    return table(columns, rows, drops=[name for name in DROPS if name in columns])


def _has_values(column: str, found: list[Attempt]) -> bool:
    field = ONLY_WITH_VALUES.get(column)
    return field is None or any(attempt.get(field) for attempt in found)


def _cells(attempt: Attempt) -> Iterator[tuple[str, Cell]]:
    values: tuple[Cell, ...] = (
        attempt["number"],
        attempt.get("replica"),
        attempt.get("node_name"),
        listed(attempt.get("gpu_indices")),
        attempt.get("runtime"),
        clock(attempt.get("started_at")),
        clock(attempt.get("restarted_at")),
        attempt.get("health"),
        clock(attempt.get("finished_at")),
        attempt.get("outcome"),
        attempt.get("exit_code"),
        checkpoint(attempt),
        attempt.get("message"),
    )
    return zip(COLUMNS, values, strict=True)

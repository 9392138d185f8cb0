"""`hypervisor attempts`: the runs of a deployment."""

from __future__ import annotations

import typer
from rich.table import Table

from hypervisor.cli.core import resolve
from hypervisor.cli.core.arguments import DeploymentName
from hypervisor.cli.core.formatting import checkpoint, clock, listed
from hypervisor.cli.core.output import Cell, table_for_width
from hypervisor.cli.core.session import Session
from hypervisor.client.models import Attempt

COLUMNS = (
    ">#",
    ">replica",
    "node",
    "gpus",
    "runtime",
    "started",
    "finished",
    "outcome",
    ">exit",
    "checkpoint",
    "message",
)
ONLY_WHEN_WIDE = frozenset({"runtime", "finished", "checkpoint"})


def attempts(context: typer.Context, deployment: DeploymentName) -> None:
    """List the attempts of a deployment: node, times and outcome of each run."""
    session = Session.of(context)
    found = session.client.deployments.attempts(resolve.deployment(session, deployment)["id"])
    session.render(found, lambda: attempts_table(found, session.console.width))


def attempts_table(found: list[Attempt], width: int) -> Table:
    """One entry per attempt; fewer columns on a terminal that is narrow (`width` in characters)."""
    return table_for_width(COLUMNS, [_row(attempt) for attempt in found], width, ONLY_WHEN_WIDE)


def _row(attempt: Attempt) -> tuple[Cell, ...]:
    return (
        attempt["number"],
        attempt.get("replica"),
        attempt.get("node_name"),
        listed(attempt.get("gpu_indices")),
        attempt.get("runtime"),
        clock(attempt.get("started_at")),
        clock(attempt.get("finished_at")),
        attempt.get("outcome"),
        attempt.get("exit_code"),
        checkpoint(attempt),
        attempt.get("message"),
    )

"""`hypervisor attempts`: the runs of a deployment."""

from __future__ import annotations

import typer

from hypervisor.cli.core import resolve
from hypervisor.cli.core.arguments import DeploymentName
from hypervisor.cli.core.formatting import checkpoint, clock, listed
from hypervisor.cli.core.output import Cell, table
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


def attempts(context: typer.Context, deployment: DeploymentName) -> None:
    """List the attempts of a deployment: node, times and outcome of each run."""
    session = Session.of(context)
    found = session.client.deployments.attempts(resolve.deployment(session, deployment)["id"])
    session.show(found, table(COLUMNS, [_row(attempt) for attempt in found]))


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

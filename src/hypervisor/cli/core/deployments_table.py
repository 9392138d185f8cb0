"""The table of deployments of `ps`, `watch` and `demo`."""

from __future__ import annotations

from hypervisor.cli.core.formatting import ago, amounts, location, requires, runtime_of, state
from hypervisor.cli.core.output import Cell
from hypervisor.cli.core.tables import Table, table
from hypervisor.client.models import Deployment

COLUMNS = (">id", "name", "kind", "state", "priority", "requests", "node", "ran", ">age", "~reason")
DROPS = ("kind", "age", "requests", "ran", "priority", "node")
"""Columns that a narrow terminal leaves out, the least important first."""


def deployments_table(deployments: list[Deployment]) -> Table:
    """One line per deployment."""
    return table(COLUMNS, [_row(deployment) for deployment in deployments], drops=DROPS)


def _row(deployment: Deployment) -> tuple[Cell, ...]:
    position = deployment.get("queue_position")
    return (
        deployment["id"],
        deployment["name"],
        deployment["kind"],
        state(deployment["status"]),
        deployment.get("priority_label") or deployment["priority"],
        requires(deployment),
        location(deployment) or (f"#{position} in queue" if position else ""),
        runtime_of(deployment),
        ago(deployment["created_at"]),
        _short_reason(deployment),
    )


def _short_reason(deployment: Deployment) -> str:
    """The missing amounts and the nearest node; `show` and `explain` have the full sentence."""
    missing = shortfall(deployment)
    nearest = (deployment.get("reason_data") or {}).get("nearest_node")
    return f"{missing} short on {nearest}" if missing and nearest else deployment.get("reason") or ""


def shortfall(deployment: Deployment) -> str:
    """The amounts that a queued deployment lacks, such as `2 GPU`; empty otherwise."""
    data = deployment.get("reason_data") or {}
    missing = data.get("shortfall") if deployment["status"] == "QUEUED" else None
    return amounts(missing) if missing and any(missing.values()) else ""

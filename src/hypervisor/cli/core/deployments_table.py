"""The table of deployments that `ps`, `watch` and the demo show."""

from __future__ import annotations

from rich.table import Table

from hypervisor.cli.core.formatting import ago, amounts, place, requires, runtime_of, state
from hypervisor.cli.core.output import Cell, table
from hypervisor.client.models import Deployment

COLUMNS = (">id", "name", "kind", "state", "priority", "needs", "on", "ran", ">age", "~reason")
WIDE = 100
ONLY_WHERE_WIDE = frozenset({"kind", "needs", ">age"})


def deployments_table(deployments: list[Deployment], width: int) -> Table:
    """One line a deployment; on a narrow terminal (`width` in characters) with fewer columns."""
    shown = [at for at, name in enumerate(COLUMNS) if width >= WIDE or name not in ONLY_WHERE_WIDE]
    rows = [_row(each) for each in deployments]
    return table([COLUMNS[at] for at in shown], [[row[at] for at in shown] for row in rows])


def _row(deployment: Deployment) -> tuple[Cell, ...]:
    position = deployment.get("queue_position")
    return (
        deployment["id"],
        deployment["name"],
        deployment["kind"],
        state(deployment["status"]),
        deployment.get("priority_label") or deployment["priority"],
        requires(deployment),
        place(deployment) or (f"#{position} in queue" if position else ""),
        runtime_of(deployment),
        ago(deployment["created_at"]),
        _short_reason(deployment),
    )


def _short_reason(deployment: Deployment) -> str:
    """In a list: what is missing and where; `show` and `explain` have the whole sentence."""
    missing = shortfall(deployment)
    nearest = (deployment.get("reason_data") or {}).get("nearest_node")
    return f"{missing} short on {nearest}" if missing and nearest else deployment.get("reason") or ""


def shortfall(deployment: Deployment) -> str:
    data = deployment.get("reason_data") or {}
    missing = data.get("shortfall") if deployment["status"] == "QUEUED" else None
    return amounts(missing) if missing and any(missing.values()) else ""

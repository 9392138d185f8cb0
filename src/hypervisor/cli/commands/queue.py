"""`hypervisor queue`: the queue of a cluster."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.table import Table

from hypervisor.cli.core import resolve
from hypervisor.cli.core.failures import CommandFailed
from hypervisor.cli.core.formatting import ANOTHER_ORGANIZATION, duration, number
from hypervisor.cli.core.output import Cell, table_for_width
from hypervisor.cli.core.session import Session
from hypervisor.client.models import Cluster
from hypervisor.client.scheduler_models import QueueEntry

COLUMNS = (">place", ">id", "name", ">priority", ">share", ">age", ">waited", "nominated", "~reason")
ONLY_WHEN_WIDE = frozenset({">share", ">age"})


def queue(
    context: typer.Context,
    cluster: Annotated[
        str | None,
        typer.Argument(metavar="CLUSTER", help="Cluster name or id; optional with a single cluster."),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Number of entries to show.")] = 50,
) -> None:
    """Show the queue of a cluster in scheduling order, with the sort keys of each entry."""
    session = Session.of(context)
    chosen: Any = resolve.cluster(session, cluster) if cluster else _only_cluster(session)
    entries = session.client.clusters.queue(chosen["id"], limit=limit)
    session.render(
        entries,
        lambda: (
            queue_table(entries, session.console.width)
            if entries
            else f"The queue of {chosen['name']} is empty."
        ),
    )


def queue_table(entries: list[QueueEntry], width: int) -> Table:
    """One line per entry; fewer columns on a terminal that is narrow (`width` in characters)."""
    return table_for_width(COLUMNS, [_row(entry) for entry in entries], width, ONLY_WHEN_WIDE)


def _row(entry: QueueEntry) -> tuple[Cell, ...]:
    nomination = entry["nomination"]
    return (
        entry["position"],
        entry["id"],
        entry["name"] or ANOTHER_ORGANIZATION,
        entry["priority_label"],
        number(entry["share"]),
        number(entry["age_factor"]),
        duration(entry["waited_seconds"]),
        nomination["node"] if nomination else None,
        entry["reason"],
    )


def _only_cluster(session: Session) -> Cluster:
    clusters = session.client.clusters.all(organization_id=resolve.organization_id(session))
    if len(clusters) == 1:
        return clusters[0]
    if not clusters:
        raise CommandFailed("there is no cluster yet: create one with `hypervisor cluster create`")
    raise CommandFailed(f"name a cluster: {', '.join(cluster['name'] for cluster in clusters)}")

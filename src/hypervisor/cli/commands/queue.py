"""`hypervisor queue`: the queue of a cluster."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from hypervisor.cli.core import resolve
from hypervisor.cli.core.failures import CommandFailed
from hypervisor.cli.core.formatting import ANOTHER_ORGANIZATION, duration, number
from hypervisor.cli.core.listing import remark_on_more
from hypervisor.cli.core.output import Cell
from hypervisor.cli.core.session import Session
from hypervisor.cli.core.tables import Table, table
from hypervisor.client.models import Cluster
from hypervisor.client.scheduler_models import QueueEntry

COLUMNS = (">place", ">id", "name", ">priority", ">share", ">age", ">waited", "nominated", "~reason")
DROPS = ("share", "age", "nominated", "waited", "priority")


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
    queued = session.client.clusters.queue(chosen["id"], limit=limit + 1)
    entries = queued[:limit]
    session.render(
        entries,
        lambda: queue_table(entries) if entries else f"The queue of {chosen['name']} is empty.",
    )
    if len(queued) > limit:
        session.errors.print(remark_on_more(limit))


def queue_table(entries: list[QueueEntry]) -> Table:
    """One line per entry."""
    return table(COLUMNS, [_row(entry) for entry in entries], drops=DROPS)


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

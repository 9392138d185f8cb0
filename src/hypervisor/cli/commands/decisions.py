"""`hypervisor decisions`: the stored decisions of the scheduler."""

from __future__ import annotations

from typing import Annotated

import typer

from hypervisor.cli.core import resolve
from hypervisor.cli.core.arguments import ClusterName
from hypervisor.cli.core.formatting import clock
from hypervisor.cli.core.session import Session
from hypervisor.cli.core.tables import table

SHOWN_HASH_LENGTH = 12


def decisions(
    context: typer.Context,
    cluster: ClusterName,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Number of decisions to list.")] = 20,
) -> None:
    """List the scheduling passes that changed something, newest first."""
    session = Session.of(context)
    found = session.client.clusters.decisions(resolve.cluster(session, cluster)["id"], limit=limit)
    columns = [">id", "at", ">placed", ">evicted", ">nominated", ">waiting", "snapshot", "plan"]
    rows = [
        (
            decision["id"],
            clock(decision["at"]),
            decision["placements"],
            decision["evictions"],
            decision["nominations"],
            decision["waiting"],
            decision["snapshot_hash"][:SHOWN_HASH_LENGTH],
            decision["plan_hash"][:SHOWN_HASH_LENGTH],
        )
        for decision in found
    ]
    session.show(found, table(columns, rows, drops=("snapshot", "plan", "nominated")))

"""`hypervisor ps`: the list of deployments."""

from __future__ import annotations

from typing import Annotated

import typer

from hypervisor.cli.core import resolve
from hypervisor.cli.core.arguments import ClusterOption
from hypervisor.cli.core.deployments_table import deployments_table
from hypervisor.cli.core.session import Session
from hypervisor.client.states import ACTIVE
from hypervisor.client.transport import Params

MOST_PER_PAGE = 100


def ps(
    context: typer.Context,
    everything: Annotated[bool, typer.Option("--all", "-a", help="Include ended deployments.")] = False,
    state_filter: Annotated[
        list[str] | None,
        typer.Option("--state", "-s", help="Only this state, such as QUEUED or RUNNING. Repeatable."),
    ] = None,
    cluster: ClusterOption = None,
    priority: Annotated[
        str | None,
        typer.Option("--priority", "-p", help="Only LOW, MEDIUM, HIGH, CRITICAL or a number from 0 to 1000."),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option("--label", "-l", metavar="KEY[=VALUE]", help="Only with this label. Repeatable."),
    ] = None,
    name: Annotated[str | None, typer.Option("--name", "-n", help="Only with this name.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Number of deployments to list.")] = 50,
) -> None:
    """List queued and running deployments, newest first."""
    session = Session.of(context)
    states = [state.upper() for state in state_filter or []] or (None if everything else list(ACTIVE))
    filters: Params = {
        "organization_id": resolve.organization_id(session),
        "cluster_id": None if cluster is None else resolve.cluster(session, cluster)["id"],
        "state": states,
        "priority": priority,
        "label": label or None,
        "name": name,
        "limit": min(limit, MOST_PER_PAGE),
    }
    found = session.client.deployments.find(filters, limit=limit)
    if found or session.as_json:
        session.render(found, lambda: deployments_table(found))
    elif everything or state_filter:
        session.note("No deployment matches.")
    else:
        session.note("No deployment is queued or running (-a lists ended ones too).")

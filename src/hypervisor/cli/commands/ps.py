"""`hypervisor ps`: the list of deployments."""

from __future__ import annotations

from typing import Annotated

import typer

from hypervisor.cli.core import resolve
from hypervisor.cli.core.arguments import ClusterOption
from hypervisor.cli.core.deployments_table import deployments_table
from hypervisor.cli.core.listing import active_deployments, matching_deployments, remark_on_more
from hypervisor.cli.core.session import Session
from hypervisor.client.transport import Params


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
    """List running and then waiting deployments, newest first; with --all or --state by age alone."""
    session = Session.of(context)
    filters: Params = {
        "organization_id": resolve.organization_id(session),
        "cluster_id": None if cluster is None else resolve.cluster(session, cluster)["id"],
        "state": [state.upper() for state in state_filter or []] or None,
        "priority": priority,
        "label": label or None,
        "name": name,
    }
    read = matching_deployments if everything or state_filter else active_deployments
    # One more than is shown, which says whether there are more.
    matching = read(session.client, filters, limit + 1)
    found = matching[:limit]
    if found or session.as_json:
        session.render(found, lambda: deployments_table(found))
    elif everything or state_filter:
        session.note("No deployment matches.")
    else:
        session.note("No deployment is queued or running (-a lists ended ones too).")
    if len(matching) > limit:
        session.errors.print(remark_on_more(limit))

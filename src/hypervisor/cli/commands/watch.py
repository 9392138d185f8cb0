"""`hypervisor watch`: a live table of deployments."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from hypervisor.cli.core import resolve
from hypervisor.cli.core.arguments import ClusterOption
from hypervisor.cli.core.deployments_table import deployments_table
from hypervisor.cli.core.listing import active_deployments, matching_deployments
from hypervisor.cli.core.live_display import Interval, Once, show_live
from hypervisor.cli.core.session import Session
from hypervisor.client.models import Deployment

MOST_ROWS = 40


def watch(
    context: typer.Context,
    everything: Annotated[bool, typer.Option("--all", "-a", help="Include ended deployments.")] = False,
    cluster: ClusterOption = None,
    interval: Interval = 1.0,
    once: Once = False,
) -> None:
    """Show a live table of deployments; Ctrl-C ends it."""
    session = Session.of(context)
    filters = {
        "organization_id": resolve.organization_id(session),
        "cluster_id": None if cluster is None else resolve.cluster(session, cluster)["id"],
    }
    read = matching_deployments if everything else active_deployments

    def fetch() -> tuple[Any, RenderableType]:
        # One more than is shown, which says whether there are more.
        matching = read(session.client, filters, MOST_ROWS + 1)
        found = matching[:MOST_ROWS]
        return found, _display(found, more=len(matching) > MOST_ROWS) if found else _nothing(everything)

    show_live(session, fetch, interval, once=once)


def _display(found: list[Deployment], *, more: bool) -> RenderableType:
    shown = deployments_table(found)
    text = f"There are more; these are the first {MOST_ROWS}. `hypervisor ps --limit` lists more."
    return Group(shown, Text(text)) if more else shown


def _nothing(everything: bool) -> Text:
    if everything:
        return Text("There is no deployment.")
    return Text("No deployment is queued or running (-a shows ended ones too).")

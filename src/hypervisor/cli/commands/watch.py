"""`hypervisor watch`: a live table of deployments."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.console import RenderableType
from rich.text import Text

from hypervisor.cli.core import resolve
from hypervisor.cli.core.arguments import ClusterOption
from hypervisor.cli.core.deployments_table import deployments_table
from hypervisor.cli.core.live_display import Interval, Once, show_live
from hypervisor.cli.core.session import Session
from hypervisor.client.states import ACTIVE

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
        "state": None if everything else list(ACTIVE),
    }

    def fetch() -> tuple[Any, RenderableType]:
        found = session.client.deployments.find(filters, limit=MOST_ROWS)
        return found, deployments_table(found) if found else _nothing(everything)

    show_live(session, fetch, interval, once=once)


def _nothing(everything: bool) -> Text:
    if everything:
        return Text("There is no deployment.")
    return Text("No deployment is queued or running (-a shows ended ones too).")

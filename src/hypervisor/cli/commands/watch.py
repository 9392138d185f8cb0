"""watch and top: displays that follow what happens."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from hypervisor.cli.core import resolve
from hypervisor.cli.core.deployments_table import deployments_table
from hypervisor.cli.core.formatting import number
from hypervisor.cli.core.output import Cell, print_json, print_json_line, table
from hypervisor.cli.core.session import Session, is_interactive
from hypervisor.client.deployments import ACTIVE
from hypervisor.client.models import Cluster, Node

BAR = 12
"""Characters of a usage bar."""
FULL, BUSY = 0.999, 0.7
SHOWN = 40

Interval = Annotated[float, typer.Option("--interval", "-i", min=0.2, help="Seconds between two looks.")]
Once = Annotated[bool, typer.Option("--once", help="One look, then end.")]
ClusterOption = Annotated[str | None, typer.Option("--cluster", "-c", help="Name or id.")]


def watch(
    context: typer.Context,
    everything: Annotated[bool, typer.Option("--all", "-a", help="Also what has ended.")] = False,
    cluster: ClusterOption = None,
    interval: Interval = 1.0,
    once: Once = False,
) -> None:
    """Deployments as they change; Ctrl-C ends it."""
    session = Session.of(context)
    filters = {
        "organization_id": resolve.organization_id(session),
        "cluster_id": None if cluster is None else resolve.cluster(session, cluster)["id"],
        "state": None if everything else list(ACTIVE),
    }

    def look() -> tuple[Any, RenderableType]:
        found = session.client.deployments.find(filters, most=SHOWN)
        return found, deployments_table(found, session.console.width)

    _follow(session, look, interval, once=once)


def top(
    context: typer.Context, cluster: ClusterOption = None, interval: Interval = 1.0, once: Once = False
) -> None:
    """CPU, RAM and each GPU of every node; Ctrl-C ends it. Piped, it prints once."""
    session = Session.of(context)

    def look() -> tuple[Any, RenderableType]:
        found = (
            session.client.clusters.all(organization_id=resolve.organization_id(session))
            if cluster is None
            else [resolve.cluster(session, cluster)]
        )
        return found, Group(*(_usage(each) for each in found))

    _follow(session, look, interval, once=once or not is_interactive(session.console))


def _follow(
    session: Session, look: Callable[[], tuple[Any, RenderableType]], interval: float, *, once: bool
) -> None:
    """On a terminal one display that moves; elsewhere one after another, as JSON one line each."""
    if once:
        data, picture = look()
        print_json(data) if session.as_json else session.console.print(picture)
        return
    if session.as_json or not is_interactive(session.console):
        _print_again_and_again(session, look, interval)
        return
    with Live(console=session.console, auto_refresh=False) as live:
        while True:
            live.update(look()[1], refresh=True)
            time.sleep(interval)


def _print_again_and_again(
    session: Session, look: Callable[[], tuple[Any, RenderableType]], interval: float
) -> None:
    while True:
        data, picture = look()
        if session.as_json:
            print_json_line(data)
        else:
            session.console.print(picture)
            session.console.file.flush()
        time.sleep(interval)


def _usage(cluster: Cluster) -> RenderableType:
    title = f"{cluster['name']} ({cluster.get('resolved_runtime', cluster['runtime'])})"
    rows = [_node_row(node) for node in cluster.get("nodes", [])]
    return table(["node", "status", "cpu", "ram", "gpus"], rows, title=title)


def _node_row(node: Node) -> tuple[Cell, ...]:
    return (
        node["name"],
        node["status"],
        _meter(node["allocated"]["cpu_cores"], node["capacity"]["cpu_cores"], ""),
        _meter(node["allocated"]["ram_gb"], node["capacity"]["ram_gb"], " GB"),
        _devices(node),
    )


def _meter(used: float, total: float, unit: str) -> Text:
    share = used / total if total else 0.0
    return bar(share).append(f" {number(used)}/{number(total)}{unit}", style="default")


def bar(share: float, width: int = BAR) -> Text:
    """A bar for a share of 0 to 1: green, yellow when busy, red when full."""
    filled = round(min(1.0, max(0.0, share)) * width)
    style = "red" if share >= FULL else "yellow" if share >= BUSY else "green"
    return Text("█" * filled, style=style).append("░" * (width - filled), style="dim")


def _devices(node: Node) -> Text:
    line = Text()
    for device in node.get("gpus") or []:
        line.append(f"{device['index']} ").append_text(bar(device["used"], 4)).append("  ")
    return line

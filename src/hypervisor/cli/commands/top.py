"""`hypervisor top`: the usage of the nodes."""

from __future__ import annotations

from typing import Any

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from hypervisor.cli.core import resolve
from hypervisor.cli.core.arguments import ClusterOption
from hypervisor.cli.core.formatting import number
from hypervisor.cli.core.live_display import Interval, Once, show_live
from hypervisor.cli.core.output import Cell
from hypervisor.cli.core.session import Session, is_interactive
from hypervisor.cli.core.tables import table
from hypervisor.client.models import Cluster, Node

BAR_WIDTH = 12
"""Characters of a usage bar."""
DEVICE_BAR_WIDTH = 4
FULL, BUSY = 0.999, 0.7
"""Shares from which a bar is red or yellow."""


def top(
    context: typer.Context, cluster: ClusterOption = None, interval: Interval = 1.0, once: Once = False
) -> None:
    """Show the allocated CPU, RAM and GPUs of every node; Ctrl-C ends it.

    Without a terminal it prints once.
    """
    session = Session.of(context)

    def fetch() -> tuple[Any, RenderableType]:
        found = (
            session.client.clusters.all(organization_id=resolve.organization_id(session))
            if cluster is None
            else [resolve.cluster(session, cluster)]
        )
        return found, Group(*(_usage_table(cluster) for cluster in found))

    show_live(session, fetch, interval, once=once or not is_interactive(session.console))


def usage_bar(share: float, width: int = BAR_WIDTH) -> Text:
    """A bar for a share from 0 to 1: green, yellow when busy, red when full."""
    filled = round(min(1.0, max(0.0, share)) * width)
    style = "red" if share >= FULL else "yellow" if share >= BUSY else "green"
    return Text("█" * filled, style=style).append("░" * (width - filled), style="dim")


def _usage_table(cluster: Cluster) -> RenderableType:
    title = f"{cluster['name']} ({cluster.get('resolved_runtime', cluster['runtime'])})"
    rows = [_node_row(node) for node in cluster.get("nodes", [])]
    return table(["node", "status", "_cpu", "_ram", "_gpus"], rows, title=title)


def _node_row(node: Node) -> tuple[Cell, ...]:
    return (
        node["name"],
        node["status"],
        _meter(node["allocated"]["cpu_cores"], node["capacity"]["cpu_cores"], ""),
        _meter(node["allocated"]["ram_gb"], node["capacity"]["ram_gb"], " GB"),
        _device_bars(node),
    )


def _meter(used: float, total: float, unit: str) -> Text:
    share = used / total if total else 0.0
    return usage_bar(share).append(f" {number(used)}/{number(total)}{unit}", style="default")


def _device_bars(node: Node) -> Text:
    line = Text()
    for device in node.get("gpus") or []:
        line.append(f"{device['index']} ").append_text(usage_bar(device["used"], DEVICE_BAR_WIDTH)).append(
            "  "
        )
    return line

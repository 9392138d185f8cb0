"""Arguments and options that several commands declare alike."""

from __future__ import annotations

from typing import Annotated

import typer

ClusterName = Annotated[str, typer.Argument(metavar="CLUSTER", help="Cluster name or id.")]
ClusterOption = Annotated[str | None, typer.Option("--cluster", "-c", help="Cluster name or id.")]
DeploymentName = Annotated[
    str,
    typer.Argument(metavar="DEPLOYMENT", help="Deployment id, or name (the newest with that name)."),
]
DeploymentNames = Annotated[list[str], typer.Argument(metavar="DEPLOYMENT", help="Deployment ids or names.")]

"""`hypervisor start`, `stop`, `cancel` and `rm`: commands that change the state of deployments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

from hypervisor.cli.core import resolve
from hypervisor.cli.core.arguments import DeploymentNames
from hypervisor.cli.core.progress import Progress
from hypervisor.cli.core.session import Session
from hypervisor.client.deployments import has_ended
from hypervisor.client.models import Deployment

Wait = Annotated[bool, typer.Option("--wait", "-w", help="Return when the deployments have ended.")]
Command = Callable[[Session, Deployment], Deployment]


def start(context: typer.Context, deployments: DeploymentNames) -> None:
    """Queue ended deployments again."""
    _run_command(context, deployments, lambda session, found: session.client.deployments.start(found["id"]))


def stop(
    context: typer.Context,
    deployments: DeploymentNames,
    grace: Annotated[
        int | None,
        typer.Option(min=0, help="Seconds between TERM and KILL; default: the deployment's own."),
    ] = None,
    wait: Wait = False,
) -> None:
    """Stop running deployments: TERM now, KILL after the grace period."""

    def stop_one(session: Session, found: Deployment) -> Deployment:
        return session.client.deployments.stop(found["id"], grace_period_seconds=grace)

    _run_command(context, deployments, stop_one, wait=wait)


def cancel(context: typer.Context, deployments: DeploymentNames, wait: Wait = False) -> None:
    """Cancel deployments, queued or running."""
    _run_command(
        context,
        deployments,
        lambda session, found: session.client.deployments.cancel(found["id"]),
        wait=wait,
    )


def remove(
    context: typer.Context,
    deployments: DeploymentNames,
    force: Annotated[
        bool, typer.Option("--force", help="Cancel the deployments that wait for these.")
    ] = False,
) -> None:
    """Delete deployments; running ones are stopped first."""
    session = Session.of(context)
    results = []
    for name in deployments:
        found = resolve.deployment(session, name)
        deleted = session.client.deployments.delete(found["id"], force=force)
        results.append({"id": found["id"], "name": found["name"], "deleted": deleted})
    lines = [
        f"{result['name']} (id {result['id']}) is "
        f"{'deleted' if result['deleted'] else 'stopping and will be deleted'}."
        for result in results
    ]
    session.show(results, *lines)


def _run_command(context: typer.Context, names: list[str], command: Command, *, wait: bool = False) -> None:
    session = Session.of(context)
    changed: list[Any] = [command(session, resolve.deployment(session, name)) for name in names]
    if wait:
        changed = Progress(session).wait_for(changed, has_ended)
    lines = [f"{found['name']} (id {found['id']}): {found['status']}" for found in changed]
    session.show(changed if len(changed) > 1 else changed[0], *lines)

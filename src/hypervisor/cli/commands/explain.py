"""`hypervisor explain`: the reason for the state of a deployment."""

from __future__ import annotations

import typer

from hypervisor.cli.core import resolve
from hypervisor.cli.core.arguments import DeploymentName
from hypervisor.cli.core.explanation import explanation_lines
from hypervisor.cli.core.session import Session


def explain(context: typer.Context, deployment: DeploymentName) -> None:
    """Show why a deployment waits, runs or was preempted.

    The output has the missing resources, the deployments ahead in the queue, and the preemption receipts.
    """
    session = Session.of(context)
    found = resolve.deployment(session, deployment)
    explanation = session.client.deployments.explain(found["id"])
    session.show(explanation, *explanation_lines(found["name"], explanation))

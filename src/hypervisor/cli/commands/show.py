"""`hypervisor show`: the fields of a deployment."""

from __future__ import annotations

import shlex

import typer

from hypervisor.cli.core import resolve
from hypervisor.cli.core.arguments import DeploymentName
from hypervisor.cli.core.deployments_table import shortfall
from hypervisor.cli.core.formatting import checkpoint, listed, mapping, place, requires, state
from hypervisor.cli.core.output import Cell, facts
from hypervisor.cli.core.session import Session
from hypervisor.client.models import Deployment


def show(context: typer.Context, deployment: DeploymentName) -> None:
    """Show all fields of a deployment."""
    session = Session.of(context)
    found = resolve.deployment(session, deployment)
    session.render(found, lambda: facts(_facts(found)))


def _facts(deployment: Deployment) -> list[tuple[str, Cell]]:
    return [
        ("Deployment", f"{deployment['name']} (id {deployment['id']})"),
        ("Kind", deployment["kind"]),
        ("State", state(deployment["status"])),
        ("Reason", deployment.get("reason")),
        ("Queue", f"place {deployment['queue_position']}" if deployment.get("queue_position") else ""),
        ("Cluster", f"{deployment.get('cluster_name', '')} (id {deployment['cluster_id']})"),
        ("Node", place(deployment)),
        ("Replicas", _replicas(deployment)),
        ("Endpoints", " ".join(endpoint.get("url", "") for endpoint in deployment.get("endpoints") or [])),
        ("Image", deployment.get("docker_image")),
        ("Command", shlex.join(deployment.get("command") or [])),
        ("Requests", requires(deployment)),
        ("Priority", f"{deployment['priority']} {_priority_label(deployment)}".strip()),
        ("After", _dependencies(deployment)),
        ("Preemptible", "yes" if deployment.get("preemptible", True) else "no"),
        ("Safe for", _seconds(deployment.get("min_runtime_seconds"))),
        ("Ends after", _seconds(deployment.get("max_runtime_seconds"))),
        ("Grace", _seconds(deployment.get("grace_period_seconds"))),
        ("Restart", _restart(deployment)),
        ("Labels", mapping(deployment.get("labels"))),
        ("Environment", mapping(deployment.get("env"))),
        ("Node labels", mapping(deployment.get("node_selector"))),
        ("GPU models", listed(deployment.get("gpu_models"))),
        ("Attempts", deployment.get("attempts_made")),
        ("Checkpoint", _checkpoint(deployment)),
        ("Preempted", f"{deployment['preemptions']} times" if deployment.get("preemptions") else ""),
        ("Exit code", deployment.get("exit_code")),
        ("Created", deployment.get("created_at")),
        ("Started", deployment.get("started_at")),
        ("Finished", deployment.get("finished_at")),
        ("Missing", shortfall(deployment)),
    ]


def _priority_label(deployment: Deployment) -> str:
    label = deployment.get("priority_label", "")
    return "" if label.isdecimal() else f"({label})"


def _replicas(deployment: Deployment) -> str:
    count = deployment.get("replicas", 1)
    if count == 1:
        return ""
    placed = [
        f"{replica['replica']} on {replica['node_name']} {replica['state']}"
        for replica in deployment["placements"]
    ]
    return f"{count}, {deployment['placement']}" + (f": {', '.join(placed)}" if placed else "")


def _restart(deployment: Deployment) -> str:
    codes = listed(deployment.get("retry_exit_codes"))
    limit = f" on exit codes {codes}" if codes else ""
    return f"{deployment.get('restart_policy')}, {deployment.get('max_retries')} retries{limit}"


def _checkpoint(deployment: Deployment) -> str:
    reported = deployment.get("checkpoint") or {}
    return " ".join(filter(None, [checkpoint(deployment), reported.get("message"), reported.get("path")]))


def _dependencies(deployment: Deployment) -> str:
    return ", ".join(
        f"{parent['name']} {parent['condition']} ({parent['status']})"
        for parent in deployment.get("depends_on") or []
    )


def _seconds(value: int | None) -> str:
    return f"{value} s" if value else ""

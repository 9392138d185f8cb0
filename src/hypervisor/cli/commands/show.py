"""`hypervisor show`: the fields of a deployment."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

import typer

from hypervisor.cli.core import resolve
from hypervisor.cli.core.arguments import DeploymentName
from hypervisor.cli.core.deployments_table import shortfall
from hypervisor.cli.core.formatting import checkpoint, listed, location, mapping, requires, state
from hypervisor.cli.core.output import Cell, facts
from hypervisor.cli.core.session import Session
from hypervisor.client.models import Deployment, DeploymentSpec
from hypervisor.kernel.command import shell_text
from hypervisor.kernel.exit_code import code_with_meaning

_FIELDS_WITH_A_ROW = frozenset(
    {
        "organization_id",  # not shown: commands name their organization
        "cluster_id",
        "name",
        "kind",
        "docker_image",
        "command",
        "env",
        "required_cpu_cores",
        "required_ram_gb",
        "required_gpu_count",
        "priority",
        "depends_on",
        "on_failure",
        "preemptible",
        "min_runtime_seconds",
        "max_runtime_seconds",
        "grace_period_seconds",
        "restart_policy",
        "max_retries",
        "retry_exit_codes",
        "labels",
        "node_selector",
        "gpu_models",
        "replicas",
        "replica_placement",
        "gang_timeout_seconds",
    }
)
"""Specification fields with a row in `_facts`. Every other one gets a generic row."""
_OTHER_FIELDS = DeploymentSpec.__annotations__.keys() - _FIELDS_WITH_A_ROW


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
        ("Node", location(deployment)),
        ("Replicas", _replicas(deployment)),
        ("Health", _health(deployment)),
        ("Endpoints", " ".join(endpoint.get("url", "") for endpoint in deployment.get("endpoints") or [])),
        ("Image", deployment.get("docker_image")),
        _command(deployment.get("command") or []),
        ("Requests", requires(deployment)),
        ("Priority", f"{deployment['priority']} {_priority_label(deployment)}".strip()),
        ("After", _dependencies(deployment)),
        ("On failure", deployment.get("on_failure") if deployment.get("depends_on") else ""),
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
        ("Exit code", _exit_code(deployment.get("exit_code"))),
        ("Created", deployment.get("created_at")),
        ("Started", deployment.get("started_at")),
        ("Finished", deployment.get("finished_at")),
        ("Missing", shortfall(deployment)),
        *((_label(name), _plain(value)) for name, value in deployment.items() if name in _OTHER_FIELDS),
    ]


def _command(arguments: Sequence[str]) -> tuple[str, Cell]:
    """A row whose name tells the form: a text that a shell runs, or the program with its arguments."""
    text = shell_text(arguments)
    return ("Command", shlex.join(arguments)) if text is None else ("Shell command", text.rstrip("\n"))


def _label(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _plain(value: object) -> Cell:
    """The value of a generic row; empty for an empty value and for False."""
    if isinstance(value, dict):
        return mapping(value)
    if isinstance(value, list):
        return listed(value)
    return "yes" if value is True else str(value or "")


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
    terms = f"{count}, {deployment['replica_placement']}, up within {deployment['gang_timeout_seconds']} s"
    return terms + (f": {', '.join(placed)}" if placed else "")


def _health(deployment: Deployment) -> str:
    """The result of the image's health check for each replica that has one."""
    results = [replica for replica in deployment.get("placements") or [] if replica.get("health")]
    if deployment.get("replicas", 1) == 1:
        return " ".join(str(replica["health"]) for replica in results)
    return ", ".join(f"{replica['replica']} {replica['health']}" for replica in results)


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


def _exit_code(code: int | None) -> Cell:
    return None if code is None else code_with_meaning(code)


def _seconds(value: int | None) -> str:
    return f"{value} s" if value else ""

"""ps, show, attempts, start, stop, cancel, rm."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Annotated, Any

import typer

from hypervisor.cli.core import resolve
from hypervisor.cli.core.deployments_table import deployments_table, shortfall
from hypervisor.cli.core.formatting import (
    checkpoint,
    clock,
    listed,
    mapping,
    place,
    requires,
    state,
)
from hypervisor.cli.core.output import Cell, facts, table
from hypervisor.cli.core.progress import Progress
from hypervisor.cli.core.session import Session
from hypervisor.client.deployments import ACTIVE, has_ended
from hypervisor.client.models import Deployment, DeploymentSpec
from hypervisor.client.transport import Params

Wanted = Annotated[
    str, typer.Argument(metavar="DEPLOYMENT", help="Id, or name (the most recent of that name).")
]
Several = Annotated[list[str], typer.Argument(metavar="DEPLOYMENT...", help="Ids or names.")]
Wait = Annotated[bool, typer.Option("--wait", "-w", help="Return when it has happened.")]


def ps(
    context: typer.Context,
    everything: Annotated[bool, typer.Option("--all", "-a", help="Also what has ended.")] = False,
    state_filter: Annotated[
        list[str] | None, typer.Option("--state", "-s", help="QUEUED, RUNNING, ...; repeatable.")
    ] = None,
    cluster: Annotated[str | None, typer.Option("--cluster", "-c", help="Name or id.")] = None,
    priority: Annotated[
        str | None, typer.Option("--priority", "-p", help="LOW .. CRITICAL or a number.")
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option("--label", "-l", help="KEY or KEY=VALUE; repeatable.")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", "-n")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, newest first.")] = 50,
) -> None:
    """What waits and runs, newest first."""
    session = Session.of(context)
    states = [each.upper() for each in state_filter or []] or (None if everything else list(ACTIVE))
    filters: Params = {
        "organization_id": resolve.organization_id(session),
        "cluster_id": None if cluster is None else resolve.cluster(session, cluster)["id"],
        "state": states,
        "priority": priority,
        "label": label or None,
        "name": name,
        "limit": min(limit, 100),
    }
    found = session.client.deployments.find(filters, most=limit)
    session.render(found, lambda: deployments_table(found, session.console.width))
    if not found and not everything:
        session.note("Nothing waits or runs (-a shows what has ended).")


def show(context: typer.Context, deployment: Wanted) -> None:
    """Everything about one deployment."""
    session = Session.of(context)
    found = resolve.deployment(session, deployment)
    session.render(found, lambda: facts(_facts(found)))


def attempts(context: typer.Context, deployment: Wanted) -> None:
    """Each run of it: where, when, how it ended."""
    session = Session.of(context)
    found = session.client.deployments.attempts(resolve.deployment(session, deployment)["id"])
    columns = [
        ">#",
        ">replica",
        "node",
        "gpus",
        "runtime",
        "started",
        "finished",
        "outcome",
        ">exit",
        "checkpoint",
        "message",
    ]
    rows = [
        (
            each["number"],
            each.get("replica"),
            each.get("node_name"),
            listed(each.get("gpu_indices")),
            each.get("runtime"),
            clock(each.get("started_at")),
            clock(each.get("finished_at")),
            each.get("outcome"),
            each.get("exit_code"),
            checkpoint(each),
            each.get("message"),
        )
        for each in found
    ]
    session.show(found, table(columns, rows))


def start(context: typer.Context, deployments: Several) -> None:
    """Put deployments that have ended back in the queue."""
    _steer(context, deployments, lambda session, each: session.client.deployments.start(each["id"]))


def stop(
    context: typer.Context,
    deployments: Several,
    grace: Annotated[int | None, typer.Option(min=0, help="Seconds between TERM and KILL.")] = None,
    wait: Wait = False,
) -> None:
    """End what runs: TERM now, KILL after the grace period."""

    def one(session: Session, each: Deployment) -> Deployment:
        return session.client.deployments.stop(each["id"], grace_period_seconds=grace)

    _steer(context, deployments, one, wait=wait)


def cancel(context: typer.Context, deployments: Several, wait: Wait = False) -> None:
    """Take deployments out of the queue, or end them where they run."""
    _steer(
        context, deployments, lambda session, each: session.client.deployments.cancel(each["id"]), wait=wait
    )


def remove(context: typer.Context, deployments: Several) -> None:
    """Delete deployments; one that runs is stopped first."""
    session = Session.of(context)
    answers = []
    for wanted in deployments:
        found = resolve.deployment(session, wanted)
        gone = session.client.deployments.delete(found["id"])
        answers.append({"id": found["id"], "name": found["name"], "deleted": gone})
    lines = [
        f"{each['name']} (id {each['id']}) is {'deleted' if each['deleted'] else 'stopped, then deleted'}."
        for each in answers
    ]
    session.show(answers, *lines)


_WITH_A_ROW = frozenset(
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
"""Fields of the specification that a row of `_facts` words. Each other one gets a plain row."""
_OTHERS = DeploymentSpec.__annotations__.keys() - _WITH_A_ROW


def _facts(deployment: Deployment) -> list[tuple[str, Cell]]:
    return [
        ("Deployment", f"{deployment['name']} (id {deployment['id']})"),
        ("Kind", deployment["kind"]),
        ("State", state(deployment["status"])),
        ("Reason", deployment.get("reason")),
        ("Queue", f"place {deployment['queue_position']}" if deployment.get("queue_position") else ""),
        ("Cluster", f"{deployment.get('cluster_name', '')} (id {deployment['cluster_id']})"),
        ("On", place(deployment)),
        ("Replicas", _replicas(deployment)),
        ("Endpoints", " ".join(each.get("url", "") for each in deployment.get("endpoints") or [])),
        ("Image", deployment.get("docker_image")),
        ("Command", shlex.join(deployment.get("command") or [])),
        ("Needs", requires(deployment)),
        ("Priority", f"{deployment['priority']} {_named(deployment)}".strip()),
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
        ("Exit code", deployment.get("exit_code")),
        ("Created", deployment.get("created_at")),
        ("Started", deployment.get("started_at")),
        ("Finished", deployment.get("finished_at")),
        ("Missing", shortfall(deployment)),
        *((_label(name), _plain(value)) for name, value in deployment.items() if name in _OTHERS),
    ]


def _label(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _plain(value: object) -> Cell:
    """The value of a field without a wording; an empty one and False are not shown."""
    if isinstance(value, dict):
        return mapping(value)
    if isinstance(value, list):
        return listed(value)
    return "yes" if value is True else str(value or "")


def _named(deployment: Deployment) -> str:
    label = deployment.get("priority_label", "")
    return "" if label.isdecimal() else f"({label})"


def _replicas(deployment: Deployment) -> str:
    count = deployment.get("replicas", 1)
    if count == 1:
        return ""
    each = [f"{one['replica']} on {one['node_name']} {one['state']}" for one in deployment["placements"]]
    terms = f"{count}, {deployment['replica_placement']}, up within {deployment['gang_timeout_seconds']} s"
    return terms + (f": {', '.join(each)}" if each else "")


def _restart(deployment: Deployment) -> str:
    codes = listed(deployment.get("retry_exit_codes"))
    only = f" of exit codes {codes}" if codes else ""
    return f"{deployment.get('restart_policy')}, {deployment.get('max_retries')} retries{only}"


def _checkpoint(deployment: Deployment) -> str:
    said = deployment.get("checkpoint") or {}
    return " ".join(filter(None, [checkpoint(deployment), said.get("message"), said.get("path")]))


def _dependencies(deployment: Deployment) -> str:
    return ", ".join(
        f"{each['name']} {each['condition']} ({each['status']})"
        for each in deployment.get("depends_on") or []
    )


def _seconds(value: int | None) -> str:
    return f"{value} s" if value else ""


def _steer(
    context: typer.Context,
    wanted: list[str],
    act: Callable[[Session, Deployment], Deployment],
    *,
    wait: bool = False,
) -> None:
    session = Session.of(context)
    changed: list[Any] = [act(session, resolve.deployment(session, each)) for each in wanted]
    if wait:
        changed = Progress(session).wait_for(changed, has_ended)
    lines = [f"{each['name']} (id {each['id']}): {each['status']}" for each in changed]
    session.show(changed if len(changed) > 1 else changed[0], *lines)

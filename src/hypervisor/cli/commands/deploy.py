"""`hypervisor deploy`: submit one deployment from options, or several from a YAML file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import typer
from typer.core import TyperCommand

from hypervisor.cli.commands import deploy_flags
from hypervisor.cli.commands.deploy_plan import forecast_lines
from hypervisor.cli.commands.spec_file import join_environment, parse_codes, parse_dependency, read_file
from hypervisor.cli.core import resolve
from hypervisor.cli.core.failures import CommandFailed
from hypervisor.cli.core.key_values import parse_pairs
from hypervisor.cli.core.progress import Progress
from hypervisor.cli.core.session import Session
from hypervisor.client.deployments import has_settled
from hypervisor.client.models import Deployment

_COMMAND = "hypervisor.deploy.command"
_PLAIN = {
    "image": "docker_image",
    "cpu": "required_cpu_cores",
    "ram": "required_ram_gb",
    "gpu": "required_gpu_count",
    "priority": "priority",
    "on_failure": "on_failure",
    "min_runtime": "min_runtime_seconds",
    "max_runtime": "max_runtime_seconds",
    "grace": "grace_period_seconds",
    "restart": "restart_policy",
    "retries": "max_retries",
    "replicas": "replicas",
    "gang_timeout": "gang_timeout_seconds",
}
"""Options whose value is the value of an API field; `_LISTS` has the repeatable ones."""
_LISTS = {"port": "ports", "gpu_model": "gpu_models"}

app = typer.Typer(add_completion=False, rich_markup_mode=None)


class _WithCommand(TyperCommand):
    """A command with `-- COMMAND...`: everything after `--` is the workload's command."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if "--" in args:
            at = args.index("--")
            ctx.meta[_COMMAND] = args[at + 1 :]
            args = args[:at]
        return super().parse_args(ctx, args)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return [*super().collect_usage_pieces(ctx), "[-- COMMAND...]"]


@app.command(cls=_WithCommand)
def deploy(
    context: typer.Context,
    name: deploy_flags.Name = None,
    file: deploy_flags.File = None,
    cluster: deploy_flags.Cluster = None,
    image: deploy_flags.Image = None,
    job: deploy_flags.Job = False,
    cpu: deploy_flags.Cpu = None,
    ram: deploy_flags.Ram = None,
    gpu: deploy_flags.Gpu = None,
    priority: deploy_flags.Priority = None,
    env: deploy_flags.Env = None,
    secret: deploy_flags.Secret = None,
    port: deploy_flags.Port = None,
    after: deploy_flags.After = None,
    on_failure: deploy_flags.OnFailure = None,
    min_runtime: deploy_flags.MinRuntime = None,
    max_runtime: deploy_flags.MaxRuntime = None,
    grace: deploy_flags.Grace = None,
    never_preempt: deploy_flags.NeverPreempt = False,
    restart: deploy_flags.Restart = None,
    retries: deploy_flags.Retries = None,
    retry_on: deploy_flags.RetryOn = None,
    replicas: deploy_flags.Replicas = None,
    spread: deploy_flags.Spread = False,
    gang_timeout: deploy_flags.GangTimeout = None,
    label: deploy_flags.Label = None,
    node_selector: deploy_flags.NodeSelector = None,
    gpu_model: deploy_flags.GpuModel = None,
    read_only: deploy_flags.ReadOnly = False,
    plan: deploy_flags.Plan = False,
    wait: deploy_flags.Wait = False,
    timeout: deploy_flags.Timeout = None,
) -> None:
    """Submit a deployment. Everything after -- is its command.

    hypervisor deploy train --job --gpu 1 --priority HIGH -- python train.py
    """
    # The parameters declare the options. The fields of the deployment are read from `context.params`.
    session = Session.of(context)
    fields = _fields(context.params, context.meta.get(_COMMAND))
    specs = _specs(name, file, fields)
    if plan:
        _show_plan(session, specs, cluster)
        return
    submitted = _submit(session, specs, cluster)
    _report(session, submitted, wait=wait, timeout=timeout, from_file=file is not None)


def _fields(options: Mapping[str, Any], command: list[str] | None) -> dict[str, Any]:
    """The deployment fields of the options, by API name."""
    plain = {field: options[option] for option, field in _PLAIN.items()}
    plain |= {field: list(options[option] or ()) or None for option, field in _LISTS.items()}
    after = options["after"]
    return _given(
        {
            **plain,
            "kind": "job" if options["job"] else None,
            "env": join_environment(
                parse_pairs(options["env"], "--env"), parse_pairs(options["secret"], "--secret")
            ),
            "depends_on": [parse_dependency(text) for text in after] if after else None,
            "preemptible": False if options["never_preempt"] else None,
            "retry_exit_codes": parse_codes(options["retry_on"]),
            "placement": "spread" if options["spread"] else None,
            "labels": parse_pairs(options["label"]),
            "node_selector": parse_pairs(options["node_selector"], "--node-selector"),
            "read_only_root": options["read_only"] or None,
            "command": command,
        }
    )


def _specs(name: str | None, file: str | None, fields: dict[str, Any]) -> list[dict[str, Any]]:
    if file is None:
        if name is None:
            raise typer.BadParameter("set a name, or a file with -f")
        return [{"name": name, **fields}]
    if name is not None or fields:
        raise typer.BadParameter(
            "with -f set the fields in the file; only --cluster, --org, --plan, --wait apply"
        )
    return read_file(file)


def _submit(session: Session, specs: list[dict[str, Any]], cluster: str | None) -> list[Deployment]:
    requests = [_with_ids(session, spec, cluster) for spec in specs]
    if len(requests) == 1:
        return [session.client.deployments.create(requests[0])]
    return session.client.deployments.create_batch(requests)


def _show_plan(session: Session, specs: list[dict[str, Any]], cluster: str | None) -> None:
    """A forecast for each deployment, as if it alone was submitted now."""
    requests = [_with_ids(session, spec, cluster) for spec in specs]
    forecasts = [session.client.deployments.plan(request) for request in requests]
    pairs = zip(requests, forecasts, strict=True)
    lines = [line for request, forecast in pairs for line in forecast_lines(request["name"], forecast)]
    session.show(forecasts if len(forecasts) > 1 else forecasts[0], *lines)


def _with_ids(session: Session, spec: dict[str, Any], cluster: str | None) -> dict[str, Any]:
    """Replace the names of cluster and organization by ids. The file has precedence over the options."""
    fields = dict(spec)
    cluster_name = fields.pop("cluster", None) or cluster
    organization = fields.pop("organization", None)
    if cluster_name is not None and "cluster_id" not in fields:
        fields["cluster_id"] = resolve.cluster(session, str(cluster_name))["id"]
    if organization is not None:
        fields["organization_id"] = resolve.organization(session, str(organization))["id"]
    elif "cluster_id" not in fields and "organization_id" not in fields:
        fields["organization_id"] = resolve.organization_id(session)
    return _given(fields)


def _report(
    session: Session, submitted: list[Deployment], *, wait: bool, timeout: float | None, from_file: bool
) -> None:
    if not wait:
        lines = [_line(deployment) for deployment in submitted]
        session.show(submitted if from_file else submitted[0], *lines)
        return
    settled = Progress(session).wait_for(submitted, has_settled, timeout=timeout)
    lines = [_line(deployment) for deployment in settled]
    session.show(settled if from_file else settled[0], *lines)
    failed = [found["name"] for found in settled if found["status"] not in ("SUCCEEDED", "RUNNING")]
    if failed:
        raise CommandFailed(
            f"did not succeed: {', '.join(failed)} (see `hypervisor explain`, `hypervisor logs`)"
        )


def _line(deployment: Deployment) -> str:
    line = f"{deployment['name']} (id {deployment['id']}): {deployment['status']}"
    if deployment.get("queue_position") and deployment["status"] == "QUEUED":
        line += f", place {deployment['queue_position']} in the queue"
    urls = [endpoint["url"] for endpoint in deployment.get("endpoints") or [] if endpoint.get("url")]
    if urls:
        return f"{line} at {' '.join(urls)}"
    return f"{line} - {deployment['reason']}" if deployment.get("reason") else line


def _given(fields: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value is not None}

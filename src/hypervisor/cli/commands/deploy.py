"""`hypervisor deploy`: submit one deployment from options, or several from a YAML file."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from hypervisor.cli.commands import deploy_flags
from hypervisor.cli.commands.deploy_faults import placed_faults
from hypervisor.cli.commands.deploy_plan import forecast_lines
from hypervisor.cli.commands.option_values import command_of
from hypervisor.cli.core import resolve
from hypervisor.cli.core.failures import CommandFailed
from hypervisor.cli.core.progress import Progress
from hypervisor.cli.core.session import Session
from hypervisor.cli.spec_file.reader import SpecFile, read_file
from hypervisor.client.deployments import has_settled
from hypervisor.client.models import Deployment

_COMMAND = "hypervisor.deploy.command"
_OPTIONS = "hypervisor.deploy.options"

app = typer.Typer(add_completion=False, rich_markup_mode=None)


class _Deploy(TyperCommand):
    """A command with the options of `deploy_flags`. What follows `--` is the workload's command."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        parameters = deploy_flags.parameters()
        self._deployment_options = [parameter.name for parameter in parameters]
        self.params.extend(parameters)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if "--" in args:
            index = args.index("--")
            ctx.meta[_COMMAND] = args[index + 1 :]
            args = args[:index]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        ctx.meta[_OPTIONS] = {name: ctx.params.pop(name) for name in self._deployment_options}
        return super().invoke(ctx)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return [*super().collect_usage_pieces(ctx), "[-- COMMAND...]"]


@app.command(cls=_Deploy)
def deploy(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Name of the deployment.")] = None,
    file: Annotated[
        str | None,
        typer.Option("--file", "-f", help="YAML file with one or several deployments; - reads stdin."),
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option("--cluster", "-c", help="Cluster name or id; optional with a single cluster."),
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Do not submit; show the node, the start time and the evictions.")
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait", "-w", help="Wait until a job has ended or a service runs.")
    ] = False,
    timeout: Annotated[
        float | None, typer.Option(min=0.1, help="Most seconds of --wait; default: no limit.")
    ] = None,
) -> None:
    """Submit a deployment. Everything after -- is its command; one quoted text runs in a shell.

    hypervisor deploy train --job --gpu 1 --priority HIGH -- python train.py
    """
    session = Session.of(context)
    fields = deploy_flags.fields_of(context.meta[_OPTIONS])
    if (command := context.meta.get(_COMMAND)) is not None:
        fields["command"] = command_of(command)
    document = _document(name, file, fields)
    specs = document.requests if document else [{"name": name, **fields}]
    if plan:
        _show_plan(session, specs, cluster, document)
        return
    with placed_faults(document):
        submitted = _submit(session, specs, cluster)
    _report(session, submitted, wait=wait, timeout=timeout, from_file=file is not None)


def _document(name: str | None, file: str | None, fields: dict[str, Any]) -> SpecFile | None:
    if file is None:
        if name is None:
            raise typer.BadParameter("set a name, or a file with -f")
        return None
    if name is not None or fields:
        raise typer.BadParameter(
            "with -f set the fields in the file; of the options only --cluster, --org, --plan, --wait apply"
        )
    return read_file(file)


def _submit(session: Session, specs: list[dict[str, Any]], cluster: str | None) -> list[Deployment]:
    requests = [_with_ids(session, spec, cluster) for spec in specs]
    if len(requests) == 1:
        return [session.client.deployments.create(requests[0])]
    return session.client.deployments.create_batch(requests)


def _show_plan(
    session: Session, specs: list[dict[str, Any]], cluster: str | None, document: SpecFile | None
) -> None:
    """A forecast for each deployment, as if it alone was submitted now."""
    requests = [_with_ids(session, spec, cluster) for spec in specs]
    forecasts = []
    for index, request in enumerate(requests):
        with placed_faults(document, index):
            forecasts.append(session.client.deployments.plan(request))
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
    return _set_fields(fields)


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
        line += f", position {deployment['queue_position']} in the queue"
    urls = [endpoint["url"] for endpoint in deployment.get("endpoints") or [] if endpoint.get("url")]
    if urls:
        return f"{line} at {' '.join(urls)}"
    return f"{line} - {deployment['reason']}" if deployment.get("reason") else line


def _set_fields(fields: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value is not None}

"""`hypervisor deploy`: submit one deployment by flags, or any number from a YAML file."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from hypervisor.cli.commands import deploy_flags
from hypervisor.cli.commands.forecast import forecast_lines
from hypervisor.cli.commands.spec_file import read_file
from hypervisor.cli.core import resolve
from hypervisor.cli.core.failures import CommandFailed
from hypervisor.cli.core.progress import Progress
from hypervisor.cli.core.session import Session
from hypervisor.client.deployments import has_arrived
from hypervisor.client.models import Deployment

_COMMAND = "hypervisor.deploy.command"
_OPTIONS = "hypervisor.deploy.options"

app = typer.Typer(add_completion=False, rich_markup_mode=None)


class _Deploy(TyperCommand):
    """Takes the options of `deploy_flags`; everything after `--` is the workload's command, not options."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        described = deploy_flags.parameters()
        self._describing = [parameter.name for parameter in described]
        self.params.extend(described)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if "--" in args:
            at = args.index("--")
            ctx.meta[_COMMAND] = args[at + 1 :]
            args = args[:at]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        ctx.meta[_OPTIONS] = {name: ctx.params.pop(name) for name in self._describing}
        return super().invoke(ctx)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return [*super().collect_usage_pieces(ctx), "[-- COMMAND...]"]


@app.command(cls=_Deploy)
def deploy(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Its name.")] = None,
    file: Annotated[
        str | None, typer.Option("--file", "-f", help="A YAML file with one or several; - is stdin.")
    ] = None,
    cluster: Annotated[
        str | None, typer.Option("--cluster", "-c", help="Name or id; not needed where there is one.")
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Only say what would happen: when, where, who would give way.")
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait", "-w", help="Follow it until a job ended well or a service runs.")
    ] = False,
    timeout: Annotated[float | None, typer.Option(min=0.1, help="Seconds that --wait waits at most.")] = None,
) -> None:
    """Submit a deployment; everything after -- is its command.

    hypervisor deploy train --job --gpu 1 --priority HIGH -- python train.py
    """
    session = Session.of(context)
    fields = deploy_flags.fields_of(context.meta[_OPTIONS])
    if (command := context.meta.get(_COMMAND)) is not None:
        fields["command"] = command
    specs = _specs(name, file, fields)
    if plan:
        _show_plan(session, specs, cluster)
        return
    submitted = _submit(session, specs, cluster)
    _report(session, submitted, wait=wait, timeout=timeout, from_file=file is not None)


def _specs(name: str | None, file: str | None, fields: dict[str, Any]) -> list[dict[str, Any]]:
    if file is None:
        if name is None:
            raise typer.BadParameter("a name is needed, or a file with -f")
        return [{"name": name, **fields}]
    if name is not None or fields:
        raise typer.BadParameter("with -f the file says everything; only --cluster, --org, --wait go with it")
    return read_file(file)


def _submit(session: Session, specs: list[dict[str, Any]], cluster: str | None) -> list[Deployment]:
    requests = [_with_place(session, spec, cluster) for spec in specs]
    if len(requests) == 1:
        return [session.client.deployments.create(requests[0])]
    return session.client.deployments.create_batch(requests)


def _show_plan(session: Session, specs: list[dict[str, Any]], cluster: str | None) -> None:
    """Each by itself: what would become of it if it alone was submitted now."""
    requests = [_with_place(session, spec, cluster) for spec in specs]
    forecasts = [session.client.deployments.plan(request) for request in requests]
    told = zip(requests, forecasts, strict=True)
    lines = [line for request, one in told for line in forecast_lines(request["name"], one)]
    session.show(forecasts if len(forecasts) > 1 else forecasts[0], *lines)


def _with_place(session: Session, spec: dict[str, Any], cluster: str | None) -> dict[str, Any]:
    """Names of cluster and organization become ids; what the file says wins over the options."""
    fields = dict(spec)
    wanted = fields.pop("cluster", None) or cluster
    organization = fields.pop("organization", None)
    if wanted is not None and "cluster_id" not in fields:
        fields["cluster_id"] = resolve.cluster(session, str(wanted))["id"]
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
    ended = Progress(session).wait_for(submitted, has_arrived, within=timeout)
    lines = [_line(deployment) for deployment in ended]
    session.show(ended if from_file else ended[0], *lines)
    unwell = [each["name"] for each in ended if each["status"] not in ("SUCCEEDED", "RUNNING")]
    if unwell:
        raise CommandFailed(f"not well: {', '.join(unwell)} (see `hypervisor explain`, `hypervisor logs`)")


def _line(deployment: Deployment) -> str:
    line = f"{deployment['name']} (id {deployment['id']}): {deployment['status']}"
    if deployment.get("queue_position") and deployment["status"] == "QUEUED":
        line += f", place {deployment['queue_position']} in the queue"
    urls = [each["url"] for each in deployment.get("endpoints") or [] if each.get("url")]
    if urls:
        return f"{line} at {' '.join(urls)}"
    return f"{line} - {deployment['reason']}" if deployment.get("reason") else line


def _given(fields: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value is not None}

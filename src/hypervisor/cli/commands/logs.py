"""`hypervisor logs`: the output of a deployment."""

from __future__ import annotations

from typing import Annotated

import typer

from hypervisor.cli.core import resolve
from hypervisor.cli.core.arguments import DeploymentName
from hypervisor.cli.core.failures import CommandFailed
from hypervisor.cli.core.log_output import LogOutput
from hypervisor.cli.core.output import print_json_line
from hypervisor.cli.core.session import Session
from hypervisor.client.streams import LogStream
from hypervisor.kernel.log_text import split_lines


def logs(
    context: typer.Context,
    deployment: DeploymentName,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Print new lines until the attempt ends.")
    ] = False,
    tail: Annotated[
        int | None, typer.Option("--tail", min=0, help="Number of last lines to print; default: all.")
    ] = None,
    attempt: Annotated[
        int | None, typer.Option("--attempt", min=1, help="Attempt number; default: the latest.")
    ] = None,
    replica: Annotated[
        int | None, typer.Option("--replica", min=0, help="Replica number; default: 0, the first.")
    ] = None,
) -> None:
    """Print the stdout and stderr of a deployment."""
    session = Session.of(context)
    found = resolve.deployment(session, deployment)
    deployments = session.client.deployments
    if follow:
        stream = deployments.follow_logs(found["id"], tail=tail, attempt=attempt, replica=replica)
        _print_stream(session, found["name"], stream)
    elif session.as_json:
        text = deployments.logs(found["id"], tail=tail, attempt=attempt, replica=replica)
        session.show({"deployment_id": found["id"], "lines": split_lines(text)})
    else:
        with LogOutput() as output:
            for data in deployments.log_bytes(found["id"], tail=tail, attempt=attempt, replica=replica):
                output.write(data)


def _print_stream(session: Session, name: str, stream: LogStream) -> None:
    if session.as_json:
        for line in stream:
            print_json_line({"line": line})
    else:
        with LogOutput() as output:
            for piece in stream.pieces():
                output.write_text(piece)
    if stream.error:
        raise CommandFailed(f"the log stream of {name} failed: {stream.error}")
    session.note(f"{name}: {stream.final_state}")

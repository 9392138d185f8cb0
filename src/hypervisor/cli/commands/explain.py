"""explain, logs, events: why, what it wrote, what happened."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import RenderableType
from rich.text import Text

from hypervisor.cli.core import resolve
from hypervisor.cli.core.explanation import explanation_lines
from hypervisor.cli.core.failures import CommandFailed
from hypervisor.cli.core.formatting import clock, state
from hypervisor.cli.core.output import print_json_line, table
from hypervisor.cli.core.session import Session
from hypervisor.client.models import Event
from hypervisor.client.streams import LogStream

Wanted = Annotated[
    str, typer.Argument(metavar="DEPLOYMENT", help="Id, or name (the most recent of that name).")
]


def explain(context: typer.Context, deployment: Wanted) -> None:
    """Why it is where it is: what is missing, who is ahead, who gave way to whom."""
    session = Session.of(context)
    found = resolve.deployment(session, deployment)
    explanation = session.client.deployments.explain(found["id"])
    session.show(explanation, *explanation_lines(found["name"], explanation))


def logs(
    context: typer.Context,
    deployment: Wanted,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until it has ended.")] = False,
    tail: Annotated[int, typer.Option("--tail", min=0, help="The last so many lines.")] = 100,
    attempt: Annotated[
        int | None, typer.Option("--attempt", min=1, help="Of which run; else the latest.")
    ] = None,
    replica: Annotated[
        int | None, typer.Option("--replica", min=0, help="Of which replica; else the first, 0.")
    ] = None,
) -> None:
    """What it wrote to stdout and stderr."""
    session = Session.of(context)
    found = resolve.deployment(session, deployment)
    if follow:
        stream = session.client.deployments.follow_logs(
            found["id"], tail=tail, attempt=attempt, replica=replica
        )
        _follow_log(session, found["name"], stream)
        return
    text = session.client.deployments.logs(found["id"], tail=tail, attempt=attempt, replica=replica)
    if session.as_json:
        session.show({"deployment_id": found["id"], "lines": text.splitlines()})
    elif text:
        typer.echo(text, nl=not text.endswith("\n"))


def _follow_log(session: Session, name: str, stream: LogStream) -> None:
    for line in stream:
        if session.as_json:
            print_json_line({"line": line})
        else:
            typer.echo(line)
    if stream.trouble:
        raise CommandFailed(f"the log of {name} ends here: {stream.trouble}")
    if stream.final_state is None:
        raise CommandFailed(f"the stream was cut off before the end of {name}: follow it again")
    session.note(f"{name}: {stream.final_state}")


def events(
    context: typer.Context,
    deployment: Annotated[
        str | None, typer.Argument(metavar="DEPLOYMENT", help="Id or name; else the whole organization.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what happens next.")] = False,
    tail: Annotated[int, typer.Option("--tail", min=0, help="The last so many.")] = 50,
) -> None:
    """The history, oldest first."""
    session = Session.of(context)
    if deployment is None:
        organization_id = resolve.organization(session, session.options.organization)["id"]
        past = _all_events(session, organization_id)
        deployment_id = None
    else:
        found = resolve.deployment(session, deployment)
        organization_id, deployment_id = found["organization_id"], found["id"]
        past = session.client.deployments.events(deployment_id)
    shown = past[len(past) - tail :] if tail < len(past) else past
    if not follow:
        session.show(shown, _events_table(shown))
        return
    for event in shown:
        _print_event(session, event)
    last = past[-1]["id"] if past else 0
    for event in session.client.organizations.follow(organization_id, after=last):
        if deployment_id is None or event.get("deployment_id") == deployment_id:
            _print_event(session, event)


def _all_events(session: Session, organization_id: int) -> list[Event]:
    found: list[Event] = []
    while True:
        after = found[-1]["id"] if found else 0
        items = session.client.organizations.events(organization_id, after=after)["items"]
        if not items:
            return found
        found.extend(items)


def _events_table(events: list[Event]) -> RenderableType:
    rows = [
        (
            clock(each["at"]),
            each.get("deployment_id"),
            each["actor"],
            each["type"],
            _change(each),
            each["message"],
        )
        for each in events
    ]
    return table(["time", ">deployment", "by", "type", "change", "what"], rows)


def _print_event(session: Session, event: Event) -> None:
    if session.as_json:
        print_json_line(event)
        return
    subject = f" #{event['deployment_id']}" if event.get("deployment_id") else ""
    line = Text(f"{clock(event['at'])} {event['type']}{subject} ")
    line.append_text(_change(event))
    session.console.print(line.append(f" {event['message']}"), soft_wrap=True)


def _change(event: Event) -> Text:
    if not event.get("to_state"):
        return Text("")
    if not event.get("from_state"):
        return state(event["to_state"])
    return Text.assemble(state(event["from_state"]), " → ", state(event["to_state"]))

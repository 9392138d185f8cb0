"""`hypervisor events`: the history of a deployment or of an organization."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import RenderableType
from rich.text import Text

from hypervisor.cli.core import resolve
from hypervisor.cli.core.formatting import clock, state
from hypervisor.cli.core.output import print_json_line
from hypervisor.cli.core.session import Session
from hypervisor.cli.core.tables import table
from hypervisor.client.models import Event


def events(
    context: typer.Context,
    deployment: Annotated[
        str | None,
        typer.Argument(metavar="DEPLOYMENT", help="Deployment id or name; default: the whole organization."),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Print new events until Ctrl-C.")] = False,
    tail: Annotated[int, typer.Option("--tail", min=0, help="Number of last events to print.")] = 50,
) -> None:
    """Print the events of a deployment or of the organization, oldest first."""
    session = Session.of(context)
    if deployment is None:
        organization_id = resolve.organization(session, session.options.organization)["id"]
        past = _organization_events(session, organization_id)
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
    last_id = past[-1]["id"] if past else 0
    for event in session.client.organizations.follow(organization_id, after=last_id):
        if deployment_id is None or event.get("deployment_id") == deployment_id:
            _print_event(session, event)


def _organization_events(session: Session, organization_id: int) -> list[Event]:
    found: list[Event] = []
    after = 0
    while page := session.client.organizations.events(organization_id, after=after)["items"]:
        found.extend(page)
        if page[-1]["id"] <= after:
            break
        after = page[-1]["id"]
    return found


def _events_table(events: list[Event]) -> RenderableType:
    rows = [
        (
            clock(event["at"]),
            event.get("deployment_id"),
            event["actor"],
            event["type"],
            _state_change(event),
            event["message"],
        )
        for event in events
    ]
    return table(["time", ">deployment", "by", "type", "change", "=message"], rows, drops=("by",))


def _print_event(session: Session, event: Event) -> None:
    if session.as_json:
        print_json_line(event)
        return
    subject = f" #{event['deployment_id']}" if event.get("deployment_id") else ""
    line = Text(f"{clock(event['at'])} {event['type']}{subject} ")
    line.append_text(_state_change(event))
    session.console.print(line.append(f" {event['message']}"), soft_wrap=True)


def _state_change(event: Event) -> Text:
    if not event.get("to_state"):
        return Text("")
    if not event.get("from_state"):
        return state(event["to_state"])
    return Text.assemble(state(event["from_state"]), " → ", state(event["to_state"]))

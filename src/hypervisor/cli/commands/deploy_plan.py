"""What the scheduler would do: the answer of `deploy --plan`, and `hypervisor queue`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer
from rich.text import Text

from hypervisor.cli.core import resolve
from hypervisor.cli.core.failures import CommandFailed
from hypervisor.cli.core.formatting import duration, number, parse_time
from hypervisor.cli.core.output import table
from hypervisor.cli.core.session import Session
from hypervisor.client.scheduler_models import EstimatedStart, Forecast, NamedDeployment

OUTCOME_STYLES = {"fits_now": "bold green", "preempts": "cyan", "waits": "yellow", "never": "bold red"}
_STRANGER = "(another organization's)"


def forecast_lines(name: str, forecast: Forecast) -> list[Text]:
    """The outcome first; what there is nothing to say about is left out."""
    outcome = forecast["outcome"]
    heading = Text.assemble(
        (name, "bold"),
        f" on {forecast['cluster_name']}: ",
        (outcome.replace("_", " "), OUTCOME_STYLES.get(outcome, "")),
        f": {forecast['sentence']}",
    )
    return [heading, *_details(forecast)]


def _details(forecast: Forecast) -> Iterator[Text]:
    if forecast.get("blocked_by"):
        yield Text(f"  first      {forecast['blocked_by']}")
    for assignment in forecast["assignments"]:
        devices = ",".join(str(index) for index in assignment["gpu_indices"])
        yield Text(f"  place      {assignment['node']}" + (f" gpu {devices}" if devices else ""))
    for victim in forecast["victims"]:
        lost = number(round(victim["lost_work_seconds"], 1))
        yield Text(
            f"  gives way  {victim['name'] or _STRANGER} (priority {victim['priority']}, "
            f"{lost} GPU- or CPU-seconds lost)",
            style="yellow",
        )
    if forecast["outcome"] == "waits":
        yield Text(f"  queue      place {forecast['queue_position']}")
    yield from _start(forecast["estimated_start"])
    suggestion = forecast.get("suggestion")
    if suggestion:
        yield Text(f"  suggestion {suggestion['sentence']}")
    for other in forecast["other_suggestions"]:
        yield Text(f"  or         {other['sentence']}")


def _start(start: EstimatedStart) -> Iterator[Text]:
    earliest, latest = start["earliest"], start["latest"]
    if earliest is None:
        yield Text(f"  start      {start['how']}")
        return
    if latest is None:
        told = f"from {_moment(earliest)} on"
    elif latest == earliest:
        told = _moment(earliest)
    else:
        told = f"between {_moment(earliest)} and {_moment(latest)}"
    yield Text(f"  start      {told}")
    yield Text(f"  reckoned   {start['how']}", style="dim")
    if start["after"]:
        yield Text(f"  after      {', '.join(_named(one) for one in start['after'])}")


def _moment(text: str) -> str:
    """The time in the caller's own zone, with the day where it is another one."""
    return parse_time(text).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _named(one: NamedDeployment) -> str:
    return one["name"] or _STRANGER


def queue(
    context: typer.Context,
    cluster: Annotated[
        str | None, typer.Argument(metavar="CLUSTER", help="Name or id; not needed where there is one.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="The first so many.")] = 50,
) -> None:
    """Who waits for a cluster, in the scheduler's order, and what each place is made of."""
    session = Session.of(context)
    wanted = resolve.cluster(session, cluster) if cluster else _only_cluster(session)
    found = session.client.clusters.queue(wanted["id"], most=limit)
    columns = [">place", ">id", "name", ">priority", ">share", ">age", ">waited", "kept on", "~reason"]
    rows = [_row(one) for one in found]
    session.show(found, table(columns, rows) if rows else f"Nothing waits for {wanted['name']}.")


def _row(one: Mapping[str, Any]) -> tuple[Any, ...]:
    nomination = one["nomination"] or {}
    return (
        one["position"],
        one["id"],
        one["name"] or _STRANGER,
        one["priority_label"],
        number(one["share"]),
        number(one["age_factor"]),
        duration(one["waited_seconds"]),
        nomination.get("node"),
        one["reason"],
    )


def _only_cluster(session: Session) -> Any:
    mine = session.client.clusters.all(organization_id=resolve.organization_id(session))
    if len(mine) == 1:
        return mine[0]
    named = ", ".join(each["name"] for each in mine)
    raise CommandFailed(f"say which cluster: {named}" if mine else "there is no cluster yet")

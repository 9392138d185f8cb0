"""The output of `hypervisor deploy --plan`: a forecast as lines."""

from __future__ import annotations

from collections.abc import Iterator

from rich.text import Text

from hypervisor.cli.core.formatting import ANOTHER_ORGANIZATION, number, parse_time
from hypervisor.client.scheduler_models import EstimatedStart, Forecast

OUTCOME_STYLES = {"fits_now": "bold green", "preempts": "cyan", "waits": "yellow", "never": "bold red"}


def forecast_lines(name: str, forecast: Forecast) -> list[Text]:
    """The outcome first, then the details; empty details are left out."""
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
        yield Text(f"  blocked by {forecast['blocked_by']}")
    for assignment in forecast["assignments"]:
        devices = ",".join(str(index) for index in assignment["gpu_indices"])
        yield Text(f"  node       {assignment['node']}" + (f" gpu {devices}" if devices else ""))
    for victim in forecast["victims"]:
        lost = number(round(victim["lost_work_seconds"], 1))
        yield Text(
            f"  evicts     {victim['name'] or ANOTHER_ORGANIZATION} (priority {victim['priority']}, "
            f"{lost} GPU- or CPU-seconds lost)",
            style="yellow",
        )
    if forecast["outcome"] == "waits":
        yield Text(f"  queue      position {forecast['queue_position']}")
    yield from _estimated_start(forecast["estimated_start"])
    suggestion = forecast.get("suggestion")
    if suggestion:
        yield Text(f"  suggestion {suggestion['sentence']}")
    for other in forecast["other_suggestions"]:
        yield Text(f"  or         {other['sentence']}")


def _estimated_start(start: EstimatedStart) -> Iterator[Text]:
    earliest, latest = start["earliest"], start["latest"]
    if earliest is None:
        yield Text(f"  start      {start['how']}")
        return
    if latest is None:
        when = f"at {_local_time(earliest)} or later"
    elif latest == earliest:
        when = _local_time(earliest)
    else:
        when = f"between {_local_time(earliest)} and {_local_time(latest)}"
    yield Text(f"  start      {when}")
    yield Text(f"  estimate   {start['how']}", style="dim")
    if start["after"]:
        names = (deployment["name"] or ANOTHER_ORGANIZATION for deployment in start["after"])
        yield Text(f"  after      {', '.join(names)}")


def _local_time(text: str) -> str:
    return parse_time(text).astimezone().strftime("%Y-%m-%d %H:%M:%S")

"""The terminal output of a simulation: a progress bar, then a table."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from hypervisor.cli.core.tables import table
from hypervisor.simulation.engine import Progress as ProgressCallback
from hypervisor.simulation.report.figures import Figures
from hypervisor.simulation.report.number_format import count, duration
from hypervisor.simulation.report.tables import describe_run, describe_splits, headlines

_MOST_GROUPS = 15


class ProgressBars:
    """One progress bar per run."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars

    def follow(self, label: str, jobs: int) -> ProgressCallback:
        """Add a bar. Returns the callback for the engine."""
        task = self._bars.add_task(label, total=jobs, day="")

        def update(arrived: int, now: float) -> None:
            self._bars.update(task, completed=arrived, day=f"day {now / 86400:,.1f}")

        return update


@contextmanager
def progress_of(console: Console, *, visible: bool) -> Iterator[ProgressBars]:
    """Progress bars on the console; nothing unless `visible`."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[day]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not visible, transient=True) as bars:
        yield ProgressBars(bars)


def summary(figures: Figures) -> RenderableType:
    """The headline figures with a column per run, then the figures by priority and by organization."""
    runs = figures["runs"]
    parts: list[RenderableType] = [Text(f"{run['label']}: {describe_run(run)}", style="dim") for run in runs]
    columns = ["", *(f">{run['label']}" for run in runs)]
    parts.append(table(columns, [[name, *texts] for name, texts in headlines(runs)]))
    for run in runs:
        parts.append(_groups(run, "by_priority", "Priority", runs))
        parts.append(_groups(run, "by_organization", "Organization", runs))
    for run in runs:
        if splits := describe_splits(run):
            parts.append(Text(f"{run['label']}: {splits}", style="dim"))
        for rejected in run["rejected"]:
            text = (
                f"{run['label']}: {count(rejected['jobs'])} jobs ({count(rejected['gpu_hours'])} GPU-hours) "
                f"were rejected, {rejected['code'].replace('_', ' ')}: {rejected['example']}"
            )
            parts.append(Text(text, style="yellow"))
    return Group(*parts)


def _groups(run: Figures, groups: str, name: str, runs: list[Figures]) -> RenderableType:
    columns = (name, ">jobs", ">done", ">median wait", ">90 %", ">99 %", ">evictions", ">lost GPU-h")
    rows = [
        [
            group["label"],
            count(group["arrived"]),
            count(group["ended"]),
            duration(group["wait_seconds"]["p50"]),
            duration(group["wait_seconds"]["p90"]),
            duration(group["wait_seconds"]["p99"]),
            count(group["evictions"]),
            count(group["lost_gpu_hours"]),
        ]
        for group in run[groups][:_MOST_GROUPS]
    ]
    drops = ("90 %", "done", "lost GPU-h", "median wait", "evictions", "99 %")
    return table(columns, rows, title=run["label"] if len(runs) > 1 else None, drops=drops)

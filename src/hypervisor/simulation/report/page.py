"""The report as one self-contained HTML file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from html import escape
from importlib.resources import files
from itertools import accumulate

from hypervisor.simulation.report.charts import Line, Range, TimeAxis, ValueAxis, line_chart, range_chart
from hypervisor.simulation.report.figures import Figures
from hypervisor.simulation.report.number_format import count, round_ticks, short_duration
from hypervisor.simulation.report.tables import cards, groups_table, rejected_table, split_notes

_LINES = (("gpu", "GPU"), ("cpu", "CPU"), ("ram", "RAM"))
_MOST_GROUPS = 15
_Drawing = Callable[[Figures, "_SharedScales"], str]


class _SharedScales:
    """The scales of all panels, equal for all runs so that the charts can be compared."""

    def __init__(self, figures: Figures) -> None:
        runs = figures["runs"]
        workload = figures["workload"]
        self.x = TimeAxis(
            max(1.0, *(run["end_seconds"] for run in runs)), workload["span_seconds"], since(figures) or ""
        )
        self.longest = max((run["wait_seconds"]["max"] or 0.0 for run in runs), default=0.0)
        self.most_lost = max((run["gpu_hours"]["lost"] for run in runs), default=0.0)
        self._runs = runs

    def highest(self, series: str) -> float:
        """The highest value of a series in any run."""
        return max(
            (value for run in self._runs for value in run["time_series"][series] if value is not None),
            default=0.0,
        )


def render_page(figures: Figures) -> str:
    """Render the figures of `build_figures` as HTML, one run or several side by side."""
    title = f"Simulation of {figures['workload']['name']}"
    common = _SharedScales(figures)
    runs: Sequence[Figures] = figures["runs"]
    return (
        "<!doctype html>\n"
        f'<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_asset('page.css')}</style></head>"
        f'<body class="{"pair" if len(runs) > 1 else "single"}"><main>'
        f"<header><h1>{escape(title)}</h1><p>{escape(_subtitle(figures))}</p></header>"
        f"{cards(runs)}{split_notes(runs)}{rejected_table(runs)}"
        f'<div class="sections">{"".join(_sections(runs, common))}</div>'
        f"{groups_table(runs, 'by_priority', 'Priority')}"
        f"{groups_table(runs, 'by_organization', 'Organization')}"
        "<footer>Made by <code>hypervisor simulate</code>. Utilization is the mean up to the last arrival. A "
        "wait lasts from the arrival to the first start. Lost work is the work of evicted runs.</footer>"
        f'</main><div id="tip" hidden></div><script>{_asset("page.js")}</script></body></html>\n'
    )


def since(figures: Figures) -> str | None:
    """The time of the first arrival in UTC; None when it is unknown."""
    origin = figures["workload"]["origin_unix_seconds"]
    return None if origin is None else datetime.fromtimestamp(origin, UTC).strftime("%Y-%m-%d %H:%M")


def _subtitle(figures: Figures) -> str:
    workload = figures["workload"]
    span = workload["span_seconds"]
    text = f"{count(workload['jobs'])} jobs over {_long(span)}"
    return f"{text}, from {since(figures)} on" if since(figures) else text


def _long(seconds: float) -> str:
    for unit, name in ((86400.0, "days"), (3600.0, "hours"), (60.0, "minutes")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:,.0f} {name}"
    return short_duration(seconds)


def _sections(runs: Sequence[Figures], common: _SharedScales) -> list[str]:
    drawn: list[tuple[str, str, _Drawing]] = [
        ("Utilization over time", "Share of the capacity in use.", _utilization),
        (
            "Fragmentation over time",
            "Idle GPU capacity that typical GPU requests cannot use.",
            _fragmentation,
        ),
        ("Waiting jobs over time", "Mean number per bin of time.", _queue_chart("waiting", "jobs waiting")),
        (
            "Waiting for GPUs",
            "GPUs that waiting jobs request.",
            _queue_chart("waiting_gpus", "requested GPUs"),
        ),
        ("Waits by priority", _RANGES, _waits("by_priority")),
        ("Waits by organization", _RANGES, _waits("by_organization")),
    ]
    if any(run["evictions"] for run in runs):
        drawn += [
            ("Evictions", "Evicted runs per bin of time.", _evictions),
            ("Lost work", "GPU-hours lost by evictions, cumulative.", _lost),
        ]
    legends: dict[_Drawing, str] = {_utilization: _legend(_known_lines(runs))}
    return [_section(title, note, runs, common, draw, legends.get(draw, "")) for title, note, draw in drawn]


_RANGES = "● half waited at most this long   ○ 90 % of the jobs   | 99 %"


def _section(
    title: str, note: str, runs: Sequence[Figures], common: _SharedScales, draw: _Drawing, legend: str = ""
) -> str:
    panels = "".join(
        f"<figure>{_caption(number, run, runs)}{draw(run, common)}</figure>"
        for number, run in enumerate(runs)
    )
    return (
        f'<section><h2>{escape(title)}</h2><p class="note">{escape(note)}</p>{legend}'
        f'<div class="panels">{panels}</div></section>'
    )


def _caption(number: int, run: Figures, runs: Sequence[Figures]) -> str:
    if len(runs) < 2:
        return ""
    return f'<figcaption><i class="run-{number}"></i>{escape(run["label"])}</figcaption>'


def _legend(lines: Sequence[tuple[str, str]]) -> str:
    items = "".join(f'<span><i class="{style}"></i>{name}</span>' for style, name in lines)
    return f'<p class="legend">{items}</p>'


def _known_lines(runs: Sequence[Figures]) -> list[tuple[str, str]]:
    """The resources with a utilization in any run."""
    return [
        (style, name)
        for style, name in _LINES
        if any(run["time_series"]["utilization"][style] for run in runs)
    ]


def _utilization(run: Figures, common: _SharedScales) -> str:
    time_series = run["time_series"]
    lines = [
        Line(name, style, time_series["utilization"][style])
        for style, name in _LINES
        if time_series["utilization"][style]
    ]
    return line_chart(lines, time_series["bin_seconds"], common.x, _shares("in use (%)"))


def _queue_chart(name: str, title: str) -> _Drawing:
    def draw(run: Figures, common: _SharedScales) -> str:
        time_series = run["time_series"]
        y = ValueAxis(title, round_ticks(common.highest(name)), count)
        return line_chart([Line(title, "queue", time_series[name])], time_series["bin_seconds"], common.x, y)

    return draw


def _evictions(run: Figures, common: _SharedScales) -> str:
    time_series = run["time_series"]
    y = ValueAxis("evictions", round_ticks(common.highest("evictions")), count)
    line = Line("evictions", "loss", time_series["evictions"])
    return line_chart([line], time_series["bin_seconds"], common.x, y, bars=True)


def _lost(run: Figures, common: _SharedScales) -> str:
    cumulative = list(accumulate(run["time_series"]["lost_gpu_hours"]))
    y = ValueAxis("lost GPU-hours", round_ticks(common.most_lost), count)
    return line_chart(
        [Line("lost GPU-hours", "loss", cumulative)], run["time_series"]["bin_seconds"], common.x, y
    )


def _fragmentation(run: Figures, common: _SharedScales) -> str:
    time_series = run["time_series"]
    line = Line("unusable idle GPU", "pieces", time_series["fragmentation"])
    return line_chart([line], time_series["bin_seconds"], common.x, _shares("of idle GPU (%)"))


def _shares(title: str) -> ValueAxis:
    return ValueAxis(title, (0.0, 0.25, 0.5, 0.75, 1.0), lambda value: f"{100 * value:.0f}", "share")


def _waits(groups: str) -> _Drawing:
    def draw(run: Figures, common: _SharedScales) -> str:
        shown = run[groups][:_MOST_GROUPS]
        ranges = [
            Range(
                group["label"],
                f"{count(group['arrived'])} jobs",
                group["wait_seconds"]["p50"],
                group["wait_seconds"]["p90"],
                group["wait_seconds"]["p99"],
            )
            for group in shown
        ]
        more = len(run[groups]) - len(shown)
        rest = f'<p class="note">and {more} more in the table below</p>' if more else ""
        return range_chart(ranges, common.longest) + rest

    return draw


def _asset(name: str) -> str:
    return files(__package__).joinpath(name).read_text("utf-8")

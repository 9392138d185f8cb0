"""Charts as SVG text: lines over time, bars over time, and ranges of durations by group.

A chart over time has its values in `data-chart`. The script of the page shows them at the pointer.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from math import log10
from typing import Any, Literal

from hypervisor.simulation.report.number_format import LOG_TICKS, duration, short_duration, time_ticks

WIDTH = 620
_LEFT, _RIGHT, _TOP, _BOTTOM = 66, 14, 12, 42
_HEIGHT = 236
_ROW = 38
_LABELS, _FIGURES = 152, 136

Values = Sequence[float | None]


@dataclass(frozen=True, slots=True)
class Line:
    """One series: a value per bin, None for a gap. `style` is a colour class of the page."""

    name: str
    style: str
    values: Values


@dataclass(frozen=True, slots=True)
class TimeAxis:
    """From 0 to `end` seconds; `mark` is the time of the last arrival, `since` the date of time 0."""

    end: float
    mark: float
    since: str = ""


@dataclass(frozen=True, slots=True)
class ValueAxis:
    """From 0 to the highest tick. `title` has quantity and unit, `show` formats a value."""

    title: str
    ticks: Sequence[float]
    show: Callable[[float], str]
    unit: Literal["share", "count"] = "count"


@dataclass(frozen=True, slots=True)
class Range:
    """The durations of one group; `note` has their number."""

    label: str
    note: str
    p50: float | None
    p90: float | None
    p99: float | None


def line_chart(
    lines: Sequence[Line], bin_seconds: float, x: TimeAxis, y: ValueAxis, *, bars: bool = False
) -> str:
    """Lines over time, or bars."""
    frame = _Frame(x, y)
    body = [frame.grid()]
    for line in lines:
        body.append(frame.bars(line, bin_seconds) if bars else frame.line(line, bin_seconds))
    body.append(frame.mark())
    data = {
        "bin": bin_seconds,
        "end": x.end,
        "left": _LEFT,
        "right": WIDTH - _RIGHT,
        "unit": y.unit,
        "lines": [
            {"name": line.name, "style": line.style, "values": _rounded(line.values)} for line in lines
        ],
    }
    cursor = f'<line class="cursor" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}" visibility="hidden"/>'
    return _svg(_HEIGHT, "".join(body) + cursor, ", ".join(line.name for line in lines), data)


def range_chart(ranges: Sequence[Range], longest: float) -> str:
    """One row per group with the quantiles p50, p90 and p99 of its waits, on a log scale."""
    ticks = [tick for tick in LOG_TICKS if tick <= longest * 1.001] or [1.0]
    highest = next((tick for tick in LOG_TICKS if tick >= longest), LOG_TICKS[-1])
    if highest not in ticks:
        ticks.append(highest)
    right, bottom = WIDTH - _FIGURES, _TOP + _ROW * len(ranges)

    def x_of(seconds: float) -> float:
        """The x coordinate. Durations below one second are left of the log scale."""
        begin = _LABELS + 34
        if seconds < 1.0:
            return _LABELS + 6
        return begin + (right - begin) * min(1.0, log10(seconds) / max(log10(highest), 1e-9))

    body = [_text(_LABELS + 6, bottom + 18, "0", "tick middle")]
    for tick in ticks:
        at = x_of(tick)
        body.append(f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP}" y2="{bottom}"/>')
        body.append(_text(at, bottom + 18, short_duration(tick), "tick middle"))
    for number, group in enumerate(ranges):
        body.append(_range_row(group, _TOP + _ROW * number + _ROW / 2, x_of))
    body.append(
        _text((_LABELS + right) / 2, bottom + 36, "wait until the first start (log scale)", "axis middle")
    )
    body.append(_text(right + 12, _TOP - 1, "median · 90 %", "axis"))
    return _svg(int(bottom + _BOTTOM), "".join(body), "waits by group", None)


def _range_row(group: Range, y: float, x_of: Callable[[float], float]) -> str:
    right = WIDTH - _FIGURES
    label = group.label if len(group.label) <= 16 else group.label[:15] + "…"
    parts = [
        f'<line class="row" x1="{_LABELS}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>',
        _text(_LABELS - 12, y - 1, label, "label end"),
        _text(_LABELS - 12, y + 13, group.note, "tick end"),
    ]
    if group.p50 is None or group.p90 is None or group.p99 is None:
        return "".join(parts) + _text(right + 12, y + 4, "none started", "tick")
    low, middle, high = x_of(group.p50), x_of(group.p90), x_of(group.p99)
    tooltip = (
        f"{group.label}: half waited at most {duration(group.p50)}, 90 % at most {duration(group.p90)}, "
        f"99 % at most {duration(group.p99)}"
    )
    parts += [
        f"<g><title>{escape(tooltip)}</title>",
        f'<line class="span" x1="{low:.1f}" x2="{high:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>',
        f'<line class="p99" x1="{high:.1f}" x2="{high:.1f}" y1="{y - 6:.1f}" y2="{y + 6:.1f}"/>',
        f'<circle class="p90" cx="{middle:.1f}" cy="{y:.1f}" r="5"/>',
        f'<circle class="p50" cx="{low:.1f}" cy="{y:.1f}" r="5"/></g>',
        _text(right + 12, y + 4, f"{duration(group.p50)} · {duration(group.p90)}", "figure"),
    ]
    return "".join(parts)


class _Frame:
    """The plot area of a chart over time and its scales."""

    def __init__(self, x: TimeAxis, y: ValueAxis) -> None:
        self._x, self._y = x, y
        self._right, self._bottom = WIDTH - _RIGHT, _HEIGHT - _BOTTOM
        self._highest = y.ticks[-1]

    def grid(self) -> str:
        ticks, unit, name = time_ticks(self._x.end)
        middle = (_TOP + self._bottom) / 2
        parts = []
        for tick in self._y.ticks:
            y = self._down(tick)
            parts.append(f'<line class="grid" x1="{_LEFT}" x2="{self._right}" y1="{y:.1f}" y2="{y:.1f}"/>')
            parts.append(_text(_LEFT - 8, y + 4, self._y.show(tick), "tick end"))
        for tick in ticks:
            at = self._across(tick)
            parts.append(
                f'<line class="stub" x1="{at:.1f}" x2="{at:.1f}" '
                f'y1="{self._bottom}" y2="{self._bottom + 4}"/>'
            )
            parts.append(_text(at, self._bottom + 17, f"{tick / unit:g}", "tick middle"))
        since = f"{name} since {self._x.since or 'the first arrival'}"
        parts.append(_text((_LEFT + self._right) / 2, self._bottom + 35, since, "axis middle"))
        parts.append(
            f'<text class="axis middle" transform="translate(13 {middle:.0f}) rotate(-90)">'
            f"{escape(self._y.title)}</text>"
        )
        return "".join(parts)

    def mark(self) -> str:
        """A line at the last arrival, unless it is close to the end of the chart."""
        if self._x.mark > 0.97 * self._x.end:
            return ""
        at = self._across(self._x.mark)
        return f'<line class="mark" x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP}" y2="{self._bottom}"/>' + _text(
            at + 5, _TOP + 10, "last arrival", "tick halo"
        )

    def line(self, line: Line, bin_seconds: float) -> str:
        pieces: list[str] = []
        pen = "M"
        for number, value in enumerate(line.values):
            if value is None:
                pen = "M"
                continue
            at = min((number + 0.5) * bin_seconds, self._x.end)
            pieces.append(f"{pen}{self._across(at):.1f} {self._down(value):.1f}")
            pen = "L"
        return f'<path class="line {line.style}" d="{"".join(pieces)}"/>'

    def bars(self, line: Line, bin_seconds: float) -> str:
        wide = max(1.0, self._across(bin_seconds) - _LEFT - 0.5)
        parts = []
        for number, value in enumerate(line.values):
            if value:
                top = min(self._down(value), self._bottom - 1.5)
                parts.append(
                    f'<rect class="bar {line.style}" x="{self._across(number * bin_seconds):.1f}" '
                    f'y="{top:.1f}" width="{wide:.1f}" height="{self._bottom - top:.1f}"/>'
                )
        return "".join(parts)

    def _across(self, seconds: float) -> float:
        return _LEFT + (self._right - _LEFT) * min(seconds / self._x.end, 1.0)

    def _down(self, value: float) -> float:
        return self._bottom - (self._bottom - _TOP) * min(value / self._highest, 1.0)


def _text(x: float, y: float, content: str, style: str) -> str:
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}">{escape(content)}</text>'


def _svg(height: int, body: str, title: str, data: dict[str, Any] | None) -> str:
    attribute = "" if data is None else f' data-chart="{escape(json.dumps(data), quote=True)}"'
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title, quote=True)}"{attribute}>'
        f"{body}</svg>"
    )


def _rounded(values: Values) -> list[float | None]:
    return [None if value is None else round(value, 4) for value in values]

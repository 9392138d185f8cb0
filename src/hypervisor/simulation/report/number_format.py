"""Formats of numbers and durations, and ticks of axes."""

from __future__ import annotations

from math import ceil, floor, log10

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
LOG_TICKS = (1.0, 10.0, MINUTE, 10 * MINUTE, HOUR, DAY, 10 * DAY, 100 * DAY, 1000 * DAY)

_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
_TIME_STEPS = tuple(
    unit * step
    for unit, steps in (
        (1.0, (1, 2, 5, 10, 30)),
        (MINUTE, (1, 2, 5, 10, 30)),
        (HOUR, (1, 2, 3, 6, 12)),
        (DAY, (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)),
    )
    for step in steps
)


def share(value: float | None) -> str:
    """0.5 as `50.0 %`."""
    return "–" if value is None else f"{100 * value:.1f} %"


def count(value: float | None) -> str:
    """`12,345`, `12.3`, `0.12`: three digits, or all digits of a whole number."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


def counted(number: int, noun: str) -> str:
    """`1 node`, `1,234 nodes`."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def duration(seconds: float | None) -> str:
    """`42 s`, `3.5 min`, `2.1 h`, `4.0 d`."""
    if seconds is None:
        return "–"
    if seconds < MINUTE:
        return f"{seconds:.0f} s"
    for limit, unit, name in ((HOUR, MINUTE, "min"), (2 * DAY, HOUR, "h")):
        if seconds < limit:
            return f"{seconds / unit:.1f} {name}"
    return f"{seconds / DAY:.1f} d"


def short_duration(seconds: float) -> str:
    """A tick of an axis: `10s`, `1m`, `10h`, `1d`."""
    for unit, name in ((DAY, "d"), (HOUR, "h"), (MINUTE, "m")):
        if seconds >= unit:
            return f"{seconds / unit:g}{name}"
    return f"{seconds:g}s"


def round_ticks(highest: float, about: int = 4) -> list[float]:
    """About `about` round numbers from 0 to `highest` or just above it."""
    if highest <= 0:
        return [0.0, 1.0]
    raw = highest / about
    scale = 10.0 ** floor(log10(raw))
    step = next(scale * factor for factor in _STEPS if scale * factor >= raw * 0.999)
    return [step * number for number in range(ceil(highest / step - 1e-9) + 1)]


def time_ticks(end: float, about: int = 7) -> tuple[list[float], float, str]:
    """About `about` round times from 0 to `end`, with the seconds and the name of the label unit."""
    step = next(
        (seconds for seconds in _TIME_STEPS if end / seconds <= about),
        ceil(end / about / 1000 / DAY) * 1000 * DAY,
    )
    ticks = [step * number for number in range(floor(end / step + 1e-9) + 1)]
    for limit, unit, name in ((MINUTE, 1.0, "seconds"), (HOUR, MINUTE, "minutes"), (DAY, HOUR, "hours")):
        if step < limit:
            return ticks, unit, name
    return ticks, DAY, "days"

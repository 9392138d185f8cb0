"""The growth of time and memory with the size of the input."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

_KEPT = ("placed", "nominated", "pass_cpu_seconds", "placements_per_cpu_second", "peak_memory_mib")


@dataclass(frozen=True, slots=True)
class Point:
    """One size: the queue length and the number of nodes."""

    queue: int
    nodes: int


def measure_growth(
    points: Sequence[Point], run: Callable[[Point], dict[str, Any]], size: Callable[[Point], int]
) -> dict[str, Any]:
    """Run every point. The exponents are between the first and the last point; 1.0 is linear."""
    rows = []
    for point in points:
        report = run(point)
        rows.append(
            {
                "queue": point.queue,
                "nodes": point.nodes,
                **{key: report[key] for key in _KEPT if key in report},
            }
        )
    times = size(points[-1]) / size(points[0])
    return {
        "points": rows,
        "time_exponent": _exponent(rows, "pass_cpu_seconds", times),
        "memory_exponent": _exponent(rows, "peak_memory_mib", times),
    }


def run_in_process(arguments: Sequence[str]) -> dict[str, Any]:
    """Run `python -m` with these arguments and return the JSON of the last printed line.

    Each point runs in a separate process, because the peak memory of a process never falls. Raises
    CalledProcessError when the process fails.
    """
    done = subprocess.run([sys.executable, "-m", *arguments], check=True, capture_output=True, text=True)
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report


def _exponent(rows: Sequence[dict[str, Any]], key: str, times: float) -> float:
    return round(math.log(max(rows[-1][key], 1e-9) / max(rows[0][key], 1e-9)) / math.log(times), 2)

"""The report of a benchmark: the figures, the machine and the load average as one line of JSON."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def machine() -> dict[str, Any]:
    """The processor, the number of cores, the Python version and the system."""
    return {
        "cpu": _processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
    }


def load_average() -> list[float]:
    """The load average over 1, 5 and 15 minutes; empty on a system without one."""
    try:
        return [round(value, 2) for value in os.getloadavg()]
    except OSError:
        return []


def print_report(name: str, figures: Mapping[str, Any]) -> None:
    """Print the figures as one line of JSON."""
    report = {"benchmark": name, **figures, "machine": machine(), "load_average": load_average()}
    print(json.dumps(report), flush=True)


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()

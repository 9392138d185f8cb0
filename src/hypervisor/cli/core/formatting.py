"""Words and colours for states, amounts and times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.text import Text

from hypervisor.client.models import Deployment

STATE_STYLES = {
    "BLOCKED": "magenta",
    "QUEUED": "yellow",
    "STARTING": "cyan",
    "RUNNING": "bold green",
    "STOPPING": "yellow",
    "SUCCEEDED": "green",
    "FAILED": "bold red",
    "STOPPED": "dim",
    "CANCELLED": "dim",
}
MINUTE, HOUR, DAY = 60, 3600, 86400


def state(name: str | None) -> Text:
    return Text(name or "-", style=STATE_STYLES.get(name or "", ""))


def parse_time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def ago(text: str | None, now: datetime | None = None) -> str:
    """`3m` for a moment three minutes ago; "" for none."""
    if text is None:
        return ""
    passed = (now or datetime.now(UTC)) - parse_time(text)
    return duration(passed.total_seconds())


def duration(seconds: float) -> str:
    """The two largest units: 42s, 3m 5s, 2h 10m, 4d 1h."""
    whole = max(0, int(seconds))
    if whole < MINUTE:
        return f"{whole}s"
    if whole < HOUR:
        return f"{whole // MINUTE}m {whole % MINUTE}s"
    if whole < DAY:
        return f"{whole // HOUR}h {whole % HOUR // MINUTE}m"
    return f"{whole // DAY}d {whole % DAY // HOUR}h"


def runtime_of(deployment: Deployment) -> str:
    """How long it has run, or ran."""
    started = deployment.get("started_at")
    if started is None:
        return ""
    finished = deployment.get("finished_at")
    end = parse_time(finished) if finished else datetime.now(UTC)
    return duration((end - parse_time(started)).total_seconds())


def clock(text: str | None) -> str:
    """The time of day in the caller's own zone."""
    return "" if text is None else parse_time(text).astimezone().strftime("%H:%M:%S")


def deletion(gone: bool) -> str:
    return "is deleted" if gone else "will be deleted when all that runs there has ended"


def number(value: float) -> str:
    return f"{round(value, 3):g}"


def amounts(amount: Mapping[str, Any] | None) -> str:
    """`2 CPU, 4 GB, 1 GPU`; what is zero is left out."""
    if amount is None:
        return ""
    words = (("cpu_cores", "CPU"), ("ram_gb", "GB"), ("gpu_count", "GPU"))
    parts = [f"{number(amount[key])} {unit}" for key, unit in words if amount.get(key)]
    return ", ".join(parts) or "nothing"


def requires(deployment: Deployment) -> str:
    """What it asks for, in one phrase."""
    return amounts(
        {
            "cpu_cores": deployment["required_cpu_cores"],
            "ram_gb": deployment["required_ram_gb"],
            "gpu_count": deployment["required_gpu_count"],
        }
    )


def place(deployment: Deployment) -> str:
    """Node and devices of the live attempt; the nodes of several replicas."""
    node = deployment.get("node_name")
    if not node:
        return ""
    if len(replicas := deployment.get("placements") or []) > 1:
        return listed(list(dict.fromkeys(each["node_name"] for each in replicas)))
    devices = deployment.get("gpu_indices")
    return f"{node} gpu {listed(devices)}" if devices else node


def checkpoint(answer: Mapping[str, Any]) -> str:
    """`40% step 12 (3m 5s ago)`: how far a run was when it last reported; "" where it never did."""
    if not answer.get("checkpoint_at"):
        return ""
    said = answer.get("checkpoint") or {}
    parts = [f"{said['progress']:.0%}"] if "progress" in said else []
    parts += [f"step {said['step']}"] if "step" in said else []
    return " ".join([*parts, f"({ago(answer['checkpoint_at'])} ago)"])


def listed(values: Sequence[object] | None) -> str:
    return ",".join(str(value) for value in values or ())


def mapping(values: Mapping[str, Any] | None) -> str:
    return " ".join(f"{name}={value}" for name, value in (values or {}).items())

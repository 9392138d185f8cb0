"""Text for states, amounts, times and nodes."""

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
ANOTHER_ORGANIZATION = "(another organization's)"
"""The name of a deployment that the caller may not see."""


def state(name: str | None) -> Text:
    """A state in its colour."""
    return Text(name or "-", style=STATE_STYLES.get(name or "", ""))


def parse_time(text: str) -> datetime:
    """A timestamp of the API as an aware datetime."""
    return datetime.fromisoformat(text)


def ago(text: str | None, now: datetime | None = None) -> str:
    """The time since a timestamp, such as `3m 5s`; empty for None."""
    if text is None:
        return ""
    elapsed = (now or datetime.now(UTC)) - parse_time(text)
    return duration(elapsed.total_seconds())


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
    """The time since the start, up to the end or until now; empty before the start."""
    started = deployment.get("started_at")
    if started is None:
        return ""
    finished = deployment.get("finished_at")
    end = parse_time(finished) if finished else datetime.now(UTC)
    return duration((end - parse_time(started)).total_seconds())


def clock(text: str | None) -> str:
    """The local time of day; empty for None."""
    return "" if text is None else parse_time(text).astimezone().strftime("%H:%M:%S")


def deletion(deleted: bool) -> str:
    """The predicate of a deletion message."""
    return "is deleted" if deleted else "will be deleted when its deployments have ended"


def number(value: float) -> str:
    """At most three decimals, without trailing zeros."""
    return f"{round(value, 3):g}"


def amounts(amount: Mapping[str, Any] | None) -> str:
    """`2 CPU, 4 GB, 1 GPU`, without zeros; empty for None."""
    if amount is None:
        return ""
    units = (("cpu_cores", "CPU"), ("ram_gb", "GB"), ("gpu_count", "GPU"))
    parts = [f"{number(amount[key])} {unit}" for key, unit in units if amount.get(key)]
    return ", ".join(parts) or "nothing"


def requires(deployment: Deployment) -> str:
    """The requested amounts."""
    return amounts(
        {
            "cpu_cores": deployment["required_cpu_cores"],
            "ram_gb": deployment["required_ram_gb"],
            "gpu_count": deployment["required_gpu_count"],
        }
    )


def location(deployment: Deployment) -> str:
    """The node and the GPUs of the live attempt, or the nodes of its replicas; empty without one."""
    node = deployment.get("node_name")
    if not node:
        return ""
    if len(replicas := deployment.get("placements") or []) > 1:
        return listed(list(dict.fromkeys(replica["node_name"] for replica in replicas)))
    devices = deployment.get("gpu_indices")
    return f"{node} gpu {listed(devices)}" if devices else node


def checkpoint(source: Mapping[str, Any]) -> str:
    """The last report of a deployment or an attempt, such as `40% step 12 (3m 5s ago)`; empty without one."""
    if not source.get("checkpoint_at"):
        return ""
    report = source.get("checkpoint") or {}
    parts = [f"{report['progress']:.0%}"] if "progress" in report else []
    parts += [f"step {report['step']}"] if "step" in report else []
    return " ".join([*parts, f"({ago(source['checkpoint_at'])} ago)"])


def listed(values: Sequence[object] | None) -> str:
    """The values with commas between them."""
    return ",".join(str(value) for value in values or ())


def mapping(values: Mapping[str, Any] | None) -> str:
    """`name=value` pairs with blanks between them."""
    return " ".join(f"{name}={value}" for name, value in (values or {}).items())

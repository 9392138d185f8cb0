"""Reading `name=a,cpu=8,ram=32` and `KEY=VALUE` from the command line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import typer

_FIELDS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "name": ("name", str),
    "count": ("count", int),
    "cpu": ("cpu_cores", float),
    "ram": ("ram_gb", float),
    "gpu": ("gpu_count", int),
    "model": ("gpu_model", str),
    "engine": ("engine_endpoint", str),
}
_REQUIRED = ("name", "cpu", "ram")
_LABEL = "label."


def parse_node(text: str) -> dict[str, Any]:
    """`name=a,cpu=8,ram=32,gpu=2,model=A100,label.zone=b` as fields of the API. Raises a usage error."""
    node: dict[str, Any] = {}
    labels: dict[str, str] = {}
    for part in text.split(","):
        key, value = _pair(part, "--node")
        if key.startswith(_LABEL):
            labels[key.removeprefix(_LABEL)] = value
            continue
        field, read = _field(key)
        node[field] = _number(read, key, value)
    missing = [key for key in _REQUIRED if _FIELDS[key][0] not in node]
    if missing:
        raise typer.BadParameter(f"--node {text}: {', '.join(missing)} is missing")
    return {**node, "labels": labels} if labels else node


def parse_pairs(texts: Sequence[str] | None, option: str = "--label") -> dict[str, str] | None:
    """`["a=1", "b=2"]` as a dictionary, None for none."""
    return dict(_pair(text, option) for text in texts) if texts else None


def _pair(text: str, option: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise typer.BadParameter(f"{option} takes KEY=VALUE, not {text!r}")
    return key.strip(), value


def _field(key: str) -> tuple[str, Callable[[str], Any]]:
    if key not in _FIELDS:
        raise typer.BadParameter(f"--node knows {', '.join(_FIELDS)} and label.KEY, not {key!r}")
    return _FIELDS[key]


def _number(read: Callable[[str], Any], key: str, value: str) -> Any:
    try:
        return read(value)
    except ValueError:
        raise typer.BadParameter(f"--node: {key}={value} is not a number") from None

"""The --node option of `hypervisor cluster create`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer

from hypervisor.cli.core.key_values import parse_pairs

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
    """`name=a,cpu=8,ram=32,gpu=2,model=A100,label.zone=b` as fields of a request. Raises a usage error."""
    node: dict[str, Any] = {}
    labels: dict[str, str] = {}
    for key, value in (parse_pairs(text.split(","), "--node") or {}).items():
        if key.startswith(_LABEL):
            labels[key.removeprefix(_LABEL)] = value
            continue
        field, convert = _field(key)
        node[field] = _converted(convert, key, value)
    missing = [key for key in _REQUIRED if _FIELDS[key][0] not in node]
    if missing:
        raise typer.BadParameter(f"--node {text}: set {', '.join(missing)} as well")
    return {**node, "labels": labels} if labels else node


def _field(key: str) -> tuple[str, Callable[[str], Any]]:
    if key not in _FIELDS:
        raise typer.BadParameter(f"--node takes {', '.join(_FIELDS)} and label.KEY, not {key!r}")
    return _FIELDS[key]


def _converted(convert: Callable[[str], Any], key: str, value: str) -> Any:
    try:
        return convert(value)
    except ValueError:
        raise typer.BadParameter(f"--node: {key}={value} is not a number") from None

"""YAML files and option values of `hypervisor deploy` as API requests."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import typer
import yaml

from hypervisor.cli.core.failures import CommandFailed
from hypervisor.cli.core.old_flags import note_old_name

CONDITIONS = ("succeeded", "running")
SHORT_NAMES = {
    "image": "docker_image",
    "cpu": "required_cpu_cores",
    "ram": "required_ram_gb",
    "gpu": "required_gpu_count",
}
"""Short keys of a YAML file, with the API field names."""
OLD_NAMES = {"placement": "replica_placement"}
"""Old API field names, with the new ones. The server accepts both for one version."""


def read_file(path: str) -> list[dict[str, Any]]:
    """The deployments of a YAML file (`-` is stdin) with one or several documents.

    A document is a mapping, a list of mappings, or a mapping with the key `deployments`. Raises CommandFailed
    for any other document, and for a file without deployments. Prints a note for each old name of a field.
    """
    text = sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
    specs = [spec for document in yaml.safe_load_all(text) for spec in _deployments_in(document)]
    if not specs:
        raise CommandFailed(f"{path} has no deployment")
    requests = [_normalise(spec, path) for spec in specs]
    for old, new in OLD_NAMES.items():
        if any(old in request for request in requests):
            note_old_name(old, new)
    return requests


def parse_dependency(text: str) -> dict[str, Any]:
    """`train`, `12` or `train:running` as an API dependency. Raises a usage error."""
    target, colon, condition = text.rpartition(":")
    if not colon:
        target, condition = text, CONDITIONS[0]
    if condition not in CONDITIONS:
        raise typer.BadParameter(f"--after takes NAME or NAME:running, not {text!r}")
    return {"deployment": int(target) if target.isdecimal() else target, "condition": condition}


def parse_codes(text: str | None) -> list[int] | None:
    """`1,137` as a list of exit codes; None for None. Raises a usage error."""
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise typer.BadParameter(f"--retry-on takes exit codes with commas between them, not {text!r}")
    return [int(part) for part in parts]


def join_environment(
    plain: Mapping[str, str] | None, secret: Mapping[str, str] | None
) -> dict[str, Any] | None:
    """Plain and secret values in one dictionary; None without values."""
    secrets = {name: {"value": value, "secret": True} for name, value in (secret or {}).items()}
    return {**(plain or {}), **secrets} or None


def _deployments_in(document: object) -> Iterable[object]:
    if document is None:
        return []
    if isinstance(document, Mapping) and "deployments" in document:
        defaults = {key: value for key, value in document.items() if key != "deployments"}
        specs = document["deployments"] or []
        return [{**defaults, **spec} if isinstance(spec, Mapping) else spec for spec in specs]
    return document if isinstance(document, list) else [document]


def _normalise(spec: object, path: str) -> dict[str, Any]:
    if not isinstance(spec, Mapping) or "name" not in spec:
        raise CommandFailed(f"{path}: each deployment must be a mapping with at least a name")
    fields = {SHORT_NAMES.get(str(key), str(key)): value for key, value in spec.items()}
    if isinstance(fields.get("command"), str):
        fields["command"] = shlex.split(fields["command"])
    if isinstance(fields.get("command"), list):
        fields["command"] = [str(part) for part in fields["command"]]
    if isinstance(fields.get("env"), Mapping):
        fields["env"] = {str(name): _env_value(value) for name, value in fields["env"].items()}
    return fields


def _env_value(value: object) -> object:
    """The text of a value. YAML parses 1 and true as number and boolean, but an environment has only text."""
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, (Mapping, str)) else str(value)

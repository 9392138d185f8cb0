"""Option values of `hypervisor deploy` as fields of a request."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import typer

from hypervisor.cli.core.references import id_or_name

CONDITIONS = ("succeeded", "running")
_CODE = re.compile("[0-9]{1,9}")


def parse_dependency(text: str) -> dict[str, Any]:
    """`train`, `12` or `train:running` as an API dependency. Raises a usage error."""
    target, colon, condition = text.rpartition(":")
    if not colon:
        target, condition = text, CONDITIONS[0]
    if condition not in CONDITIONS:
        raise typer.BadParameter(f"--after takes NAME or NAME:running, not {text!r}")
    return {"deployment": id_or_name(target), "condition": condition}


def parse_codes(text: str | None) -> list[int] | None:
    """`1,137` as a list of exit codes; None for None. Raises a usage error."""
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(_CODE.fullmatch(part) for part in parts):
        raise typer.BadParameter(f"--retry-on takes exit codes with commas between them, not {text!r}")
    return [int(part) for part in parts]


def join_environment(
    plain: Mapping[str, str] | None, secret: Mapping[str, str] | None
) -> dict[str, Any] | None:
    """Plain and secret values together; None without any. Raises a usage error for a repeated name."""
    if both := sorted((plain or {}).keys() & (secret or {}).keys()):
        raise typer.BadParameter(f"{both[0]} is given with --env and with --secret; keep one")
    secrets = {name: {"value": value, "secret": True} for name, value in (secret or {}).items()}
    return {**(plain or {}), **secrets} or None


def command_of(words: Sequence[str]) -> str | list[str]:
    """The words after `--`. One that a shell would not leave as it is, such as 'a && b', is a text for it."""
    if len(words) == 1 and shlex.quote(words[0]) != words[0]:
        return words[0]
    return list(words)
